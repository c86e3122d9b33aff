"""Many no-ops in one session: does the rate hold, and what does the manager keep for a finished task?

The bytes are the growth of the manager's resident memory while the caller holds every task; `--tracemalloc`
counts Python's own allocations in a run of its own, which is slower.

With `--forget` the tasks come as a stream, and are forgotten when they are done: by how much does the manager's
resident memory grow after the 100,000th task?

    python benchmarks/memory.py --many 1000000 --forget [--json FILE]
"""

from __future__ import annotations

import gc
import tracemalloc
from collections import deque
from time import perf_counter
from typing import Any

import _bench
import psutil


def noop(number: int) -> int:
    return number


#: Tasks of a stream that are submitted before the oldest ones are forgotten, and those of one call.
AHEAD, BATCH = 4000, 1000
#: Tasks after which the growth counts.
SETTLED = 100_000


def measure(contestant: Any, many: int, few: int = 0, trace: bool = False, forget: bool = False) -> _bench.Figures:
    process = psutil.Process()
    with contestant as engine:
        if forget:
            return stream(engine, process, many)
        engine.gather([engine.submit(noop, number) for number in range(500)])  # both workers are warm
        figures = {}
        held = []
        for name, count in (("few", few), ("many", many)):
            gc.collect()
            if trace:
                tracemalloc.start()
            before = process.memory_info().rss
            began = perf_counter()
            tasks = [engine.submit(noop, number) for number in range(count)]
            engine.gather(tasks)
            figures[name] = count / (perf_counter() - began)
            held.append(tasks)
            gc.collect()
            grown = tracemalloc.get_traced_memory()[0] if trace else process.memory_info().rss - before
            tracemalloc.stop()
            figures[f"{name} bytes"] = grown / count
    return figures


def stream(engine: Any, process: psutil.Process, count: int) -> _bench.Figures:
    """Resident memory (MiB) after each tenth of the tasks, and after the first `SETTLED`."""
    figures, began = {}, perf_counter()
    open: deque[Any] = deque()
    for number in range(count):
        open.append(engine.submit(noop, number))
        if len(open) >= AHEAD:
            forget(engine, open)
        if (number + 1) % (count // 10) == 0 or number + 1 == SETTLED:
            figures[str(number + 1)] = process.memory_info().rss / 2**20
    while open:
        forget(engine, open)
    engine.manager.flush(60)
    assert not engine.manager.tasks
    return {**figures, "/s": count / (perf_counter() - began), "end": process.memory_info().rss / 2**20}


def forget(engine: Any, open: deque[Any]) -> None:
    """Wait for the oldest tasks, and forget them."""
    tasks = [open.popleft() for _ in range(min(BATCH, len(open)))]
    engine.gather(tasks)
    engine.manager.forget(tasks)


def main() -> None:
    parser = _bench.arguments(__doc__, engines=["process"], repeat=1)
    parser.add_argument("--few", type=int, default=16_384)
    parser.add_argument("--many", type=int, default=200_000)
    parser.add_argument("--tracemalloc", action="store_true", help="count Python's allocations too")
    parser.add_argument("--forget", action="store_true", help="a stream of tasks that are forgotten")
    options = parser.parse_args()

    if options.forget:
        rows = [_bench.measured("our process", many=options.many, forget=True) for _ in range(options.repeat)]
        growth = [max(row[str(options.many)], row["end"]) - row[str(SETTLED)] for row in rows]
        figures: dict[str, Any] = {"rss_growth_mib_after_100k": (growth, _bench.Bar("<=", 50, "MiB"))}
        configuration = {"many": options.many, "repeat": options.repeat}
        _bench.report("memory-forget", figures, rows=rows, configuration=configuration, file=options.json)
        return
    rows = []
    for engine in options.engine:
        settings = {"few": options.few, "many": options.many}
        runs = [_bench.measured(f"our {engine}", trace=False, **settings) for _ in range(options.repeat)]
        ours = _bench.median(runs)
        row = {
            "engine": engine,
            f"{options.few:,} /s": ours["few"],
            f"{options.many:,} /s": ours["many"],
            "ratio": ours["many"] / ours["few"],
            "bytes a task": ours["many bytes"],
        }
        if options.tracemalloc:
            row["of which Python's"] = _bench.measured(f"our {engine}", trace=True, **settings)["many bytes"]
        rows.append(row)
    _bench.show("Many no-ops in one session", rows, options.json)


if __name__ == "__main__":
    _bench.run(main, measure)
