"""Random walks on several processes, their mean, and a program that sorts them, with Parsl."""

from pathlib import Path
from tempfile import TemporaryDirectory

import parsl
from parsl import bash_app, python_app
from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.providers import LocalProvider


@python_app
def end(seed: int, steps: int) -> int:
    import random

    walk = random.Random(seed)
    return sum(walk.choice((-1, 1)) for _ in range(steps))


@python_app
def mean_square(inputs: tuple = ()) -> float:
    return sum(one * one for one in inputs) / len(inputs)


@bash_app
def sort(file: str, stdout: str) -> str:
    return f"sort -n {file}"


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        executor = HighThroughputExecutor(
            address="127.0.0.1",
            max_workers_per_node=2,
            provider=LocalProvider(init_blocks=1, max_blocks=1),
        )
        with parsl.load(Config(executors=[executor], run_dir=f"{folder}/runs", retries=1)):
            ends = [end(seed, 100) for seed in range(200)]
            print("mean square", mean_square(inputs=ends).result())
            walks, ordered = Path(folder, "walks.txt"), Path(folder, "sorted.txt")
            walks.write_text("".join(f"{one.result()}\n" for one in ends))
            sort(str(walks), stdout=str(ordered)).result()
            print("farthest", ordered.read_text().split()[0], ordered.read_text().split()[-1])
