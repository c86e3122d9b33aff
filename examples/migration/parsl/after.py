"""Random walks on several processes, their mean, and a program that sorts them, with a manager and a pilot."""

import random
from pathlib import Path
from tempfile import TemporaryDirectory

from pilot import PilotDescription, PilotManager, TaskDescription

manager = PilotManager()


@manager.task(retries=1)
def end(seed: int, steps: int) -> int:
    walk = random.Random(seed)
    return sum(walk.choice((-1, 1)) for _ in range(steps))


@manager.task(retries=1)
def mean_square(ends: list[int]) -> float:
    return sum(one * one for one in ends) / len(ends)


if __name__ == "__main__":
    with TemporaryDirectory() as folder, manager:
        manager.submit_pilot(PilotDescription(cores_per_node=2))
        ends = [end(seed, 100) for seed in range(200)]
        print("mean square", mean_square(ends).result())
        walks = Path(folder, "walks.txt")
        walks.write_text("".join(f"{one.result()}\n" for one in ends))
        ordered = manager.submit_task(TaskDescription(executable=["sort", "-n", walks])).result().stdout.split()
        print("farthest", ordered[0], ordered[-1])
