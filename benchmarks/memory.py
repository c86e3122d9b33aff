"""Many no-ops in one session: does the rate hold, and what does the manager keep for a finished task?

The bytes are the growth of the manager's resident memory while the caller holds every task; `--tracemalloc`
counts Python's own allocations in a run of its own, which is slower.
"""

from __future__ import annotations

import gc
import tracemalloc
from time import perf_counter
from typing import Any

import _bench
import psutil


def noop(number: int) -> int:
    return number


def measure(contestant: Any, few: int, many: int, trace: bool) -> _bench.Figures:
    process = psutil.Process()
    with contestant as engine:
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


def main() -> None:
    parser = _bench.arguments(__doc__, engines=["process"], repeat=1)
    parser.add_argument("--few", type=int, default=16_384)
    parser.add_argument("--many", type=int, default=200_000)
    parser.add_argument("--tracemalloc", action="store_true", help="count Python's allocations too")
    options = parser.parse_args()

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
