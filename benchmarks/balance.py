"""How near does the makespan come to its lower bound: two unequal pilots, one of them late, and other uneven work?

    python benchmarks/balance.py [--only late 2 4b 5 5b] [--json FILE]
    python benchmarks/balance.py --optimum [--json FILE]

All tasks sleep, on real pilots. `late`: 300 tasks of 5 to 200 ms; one pilot has one slot, one with two slots is
submitted five seconds after the tasks. `2`: one function, 200 times 10 ms and 8 times 2 s, shuffled, on 4 cores.
`4b`: 8 tasks of 3 cores before 8 of one core, 0.5 s each, on 4 cores. `5`: 8 tasks that need 4 GiB each, before 24 that
need none, 1 s each, on 4 cores and 4 GiB. `5b`: 9 tasks of 4 GiB and 1 s on a pilot of 4 cores and 4 GiB, and one of 2
cores and 8 GiB. Nothing is known of how long they take.

The bound of the late pilot is the longest task, or the moment at which the slots that were there, each counted from
when its pilot became active, have had time for all the work. The others' is the work over what there is of the resource
that is short.

With ``--optimum`` small instances are run by the controller on a virtual clock, and compared with the optimum of a
mixed-integer program (`_balance_optimum`).
"""

from __future__ import annotations

import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import _bench

#: The limit of each scenario's makespan over its bound.
LIMIT = 1.10


def sleep(seconds: float) -> None:
    time.sleep(seconds)


def nothing() -> None:
    """What runs before: nothing is known of `sleep` when it is measured."""


def lower_bound(lengths: list[float], slots: list[tuple[float, int]]) -> float:
    """Seconds that the tasks need at least.

    Args:
        lengths: each task's length in seconds.
        slots: for each pilot, seconds from the start at which it became active, and its slots.
    """
    work, now, width = sum(lengths), 0.0, 0
    for joined, more in sorted(slots):
        done = width * (joined - now)
        if done >= work:
            break
        work, now, width = work - done, joined, width + more
    return max(max(lengths), now + work / width)


def late(engine: str, dice: random.Random, count: int = 300, seconds: float = 5.0) -> dict[str, Any]:
    """A pilot of two slots comes late to one of one slot."""
    from pilot import PilotDescription, PilotManager

    def describe(slots: int) -> PilotDescription:
        return PilotDescription(resource="local://", engine=engine, cores_per_node=slots, name=f"{slots} slots")

    lengths = [dice.uniform(0.005, 0.2) for _ in range(count)]
    with tempfile.TemporaryDirectory() as folder, PilotManager(folder) as manager:
        manager.submit_pilot(describe(1)).wait()
        manager.submit_task(sleep, 0.0).result()
        joined = 0.0
        began = time.perf_counter()

        def join_late() -> None:
            nonlocal joined
            time.sleep(seconds)
            manager.submit_pilot(describe(2)).wait()
            joined = time.perf_counter() - began

        second = threading.Thread(target=join_late)
        second.start()
        tasks = [manager.submit_task(sleep, length) for length in lengths]
        manager.get_results(tasks)
        makespan = time.perf_counter() - began
        second.join()
        on_second = sum(task.info.pilot == manager.pilots[1].name for task in tasks)
    bound = lower_bound(lengths, [(0.0, 1), (joined, 2)])
    return {"makespan s": makespan, "bound s": bound, "second pilot at s": joined, "its tasks": on_second}


def shuffled(dice: random.Random) -> list[dict[str, Any]]:
    """Scenario 2: short and long calls of one function."""
    lengths = [0.01] * 200 + [2.0] * 8
    dice.shuffle(lengths)
    return [{"seconds": length} for length in lengths]


def wide_first(dice: random.Random) -> list[dict[str, Any]]:
    """Scenario 4b."""
    return [{"seconds": 0.5, "num_cpus": 3}] * 8 + [{"seconds": 0.5}] * 8


def memory_first(dice: random.Random) -> list[dict[str, Any]]:
    """Scenario 5."""
    return [{"seconds": 1.0, "memory": "4 GiB"}] * 8 + [{"seconds": 1.0}] * 24


def memory_only(dice: random.Random) -> list[dict[str, Any]]:
    """Scenario 5b."""
    return [{"seconds": 1.0, "memory": "4 GiB"}] * 9


#: The tasks, the pilots (cores, memory), and the bound in seconds.
Scenario = tuple[Callable[[random.Random], list[dict[str, Any]]], list[tuple[int, str | None]], float]
SCENARIOS: dict[str, Scenario] = {
    "2": (shuffled, [(4, None)], (200 * 0.01 + 8 * 2.0) / 4),
    "4b": (wide_first, [(4, None)], 8 * 0.5),
    "5": (memory_first, [(4, "4 GiB")], 8 * 1.0),
    "5b": (memory_only, [(4, "4 GiB"), (2, "8 GiB")], 3 * 1.0),
}


def at_once(engine: str, scenario: str, dice: random.Random) -> dict[str, Any]:
    """The makespan of tasks that are submitted at once, by when the last one has ended. One of each kind has run
    before, so that its workers are there."""
    from pilot import PilotDescription, PilotManager, TaskDescription

    make, pilots, bound = SCENARIOS[scenario]
    wanted = make(dice)
    needs = [{name: value for name, value in one.items() if name != "seconds"} for one in wanted]
    described = [
        TaskDescription(function=sleep, args=(one["seconds"],), **need) for one, need in zip(wanted, needs, strict=True)
    ]
    kinds = {tuple(need.items()) for need in needs}
    with tempfile.TemporaryDirectory() as folder, PilotManager(folder) as manager:
        for number, (cores, memory) in enumerate(pilots):
            pilot = PilotDescription(engine=engine, cores_per_node=cores, memory=memory, name=f"p{number}")
            manager.submit_pilot(pilot).wait()
            first = [TaskDescription(function=nothing, pilot=f"p{number}", **dict(kind)) for kind in kinds]
            manager.get_results(manager.submit_tasks(first))
        began = time.perf_counter()
        manager.get_results(manager.submit_tasks(described))
        makespan = time.perf_counter() - began
    return {"makespan s": makespan, "bound s": bound}


def runs(only: list[str], engines: list[str], repeat: int, seed: int) -> Iterator[dict[str, Any]]:
    """A row for each run."""
    for scenario in only:
        for engine in engines:
            for attempt in range(repeat):
                sys.stderr.write(f"  scenario {scenario} on {engine}\n")
                dice = random.Random(f"{seed} {scenario} {attempt}")
                row = late(engine, dice) if scenario == "late" else at_once(engine, scenario, dice)
                ratio = row["makespan s"] / row["bound s"]
                yield {"scenario": scenario, "engine": engine, **row, "ratio": ratio}


def main() -> None:
    names = ["late", *SCENARIOS]
    parser = _bench.arguments(__doc__, engines=["process"], repeat=5)
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="what to measure")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--optimum", action="store_true", help="small instances against their optimum")
    parser.add_argument("--instances", type=int, default=50, help="with --optimum")
    options = parser.parse_args()
    if options.optimum:
        import _balance_optimum

        _balance_optimum.report(options.instances, options.seed, options.json)
        return
    rows = list(runs(options.only, options.engine, options.repeat, options.seed))
    figures: dict[str, Any] = {}
    for scenario in options.only:
        for engine in options.engine:
            key = f"makespan_over_bound_{scenario}" + ("" if engine == "process" else f"_{engine}")
            ratios = [row["ratio"] for row in rows if (row["scenario"], row["engine"]) == (scenario, engine)]
            figures[key] = (ratios, _bench.Bar("<=", LIMIT, "ratio"))
    configuration = {"only": options.only, "repeat": options.repeat, "seed": options.seed}
    _bench.report("balance", figures, rows=rows, configuration=configuration, file=options.json)


if __name__ == "__main__":
    main()
