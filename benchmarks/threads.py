"""The same NumPy tasks on each engine, over a process pool whose workers have one thread each.

A worker whose BLAS has as many threads as the machine has cores is many times slower than that. All of them are up at
the same time and take turns, round by round; the ratio of a round is that of its two walls.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import _bench
from _bare import WORKERS

TASKS = 30
BAR = 1.2


def powers(seed: int) -> float:
    """400 products of matrices of 120 rows."""
    import numpy as np

    matrix = np.random.default_rng(seed).normal(size=(120, 120))
    for _ in range(400):
        matrix = np.tanh(matrix @ matrix)
    return float(matrix.sum())


def pool() -> Executor:
    """A process pool with one thread a worker: only its workers see the variables, and import NumPy after that."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.pop(name, None) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    executor = ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn"))
    list(executor.map(powers, range(4 * WORKERS)))
    for name, value in before.items():
        del os.environ[name]
        if value is not None:
            os.environ[name] = value
    return executor


def seconds(run: Callable[[Callable[[int], float], Iterable[int]], Any]) -> float:
    began = time.perf_counter()
    assert len(list(run(powers, range(TASKS)))) == TASKS
    return time.perf_counter() - began


def main() -> None:
    from pilot import PilotDescription, PilotExecutor, PilotManager

    parser = _bench.arguments(__doc__, repeat=7)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with pool() as executor, PilotManager() as manager:
        sides = {"pool": executor.map}
        for engine in options.engine:
            manager.submit_pilot(PilotDescription(engine=engine, cores_per_node=WORKERS, name=engine)).wait()
            sides[engine] = PilotExecutor(manager, pilot=engine).map
            seconds(sides[engine])  # its workers are warm
        for number in range(options.repeat):
            order = list(sides) if number % 2 == 0 else list(reversed(sides))
            walls = {side: seconds(sides[side]) for side in order}
            rows.append({"round": number} | {f"{side} s": walls[side] for side in sides})
    ratios = {engine: [row[f"{engine} s"] / row["pool s"] for row in rows] for engine in options.engine}
    figures: dict[str, tuple[float | list[float], _bench.Bar | None]] = {
        "pool_s": (statistics.median(row["pool s"] for row in rows), None)
    }
    figures |= {f"ratio_{engine}": (values, _bench.Bar("<=", BAR, "ratio")) for engine, values in ratios.items()}
    configuration = {"tasks": TASKS, "workers": WORKERS, "rounds": options.repeat}
    _bench.report("threads", figures, rows=rows, configuration=configuration, file=options.json)


if __name__ == "__main__":
    main()
