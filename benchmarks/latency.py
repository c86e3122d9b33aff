"""One task at a time: from submit to result, against the bare engine.

    python benchmarks/latency.py [--engine ray] [--json FILE]
    python benchmarks/latency.py --against pool [--trace] [--json FILE]   # a process pilot and ProcessPoolExecutor

With ``--against pool`` both are in one process and have their turn, 50 tasks each, so that they see the same machine:
`latency_ratio_pool` is the ratio of the medians. With ``--trace`` a further run prints where the time of a task goes,
as medians in us of the steps between its messages; `trace_us` is their sum.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import _bench

#: Tasks before the measurement.
WARM = 500
#: Tasks of each side before it is the other's turn.
TURN = 50
#: What happens to a task, in order, and what the time until then is called.
STEPS = (
    ("submit", ""),
    ("manager sends RunBatch", "submit, wake the manager's thread, decide, encode"),
    ("agent takes RunBatch", "to the agent"),
    ("agent sends RunBatch", "the agent finds a worker"),
    ("worker takes RunBatch", "to the worker"),
    ("worker sends OutcomesReport", "the task, and a change of threads before it"),
    ("agent takes OutcomesReport", "to the agent"),
    ("agent sends OutcomesReport", "the agent takes note"),
    ("manager takes OutcomesReport", "to the manager"),
    ("result", "settle, wake the user's thread, unpickle"),
)


def noop(number: int) -> int:
    return number


def measure(contestant: Any, tasks: int, pool: bool = False, trace: str = "") -> _bench.Figures:
    with contestant as engine:
        engine.gather([engine.submit(noop, number) for number in range(WARM)])  # both workers are warm
        if pool:
            return measure_in_turn(engine, tasks)
        if trace:
            return measure_steps(engine, tasks, Path(trace))
        times = [one_task(engine, number) for number in range(tasks)]
    return {"median": 1000 * statistics.median(times), "p95": 1000 * statistics.quantiles(times, n=20)[-1]}


def one_task(engine: Any, number: int) -> float:
    """Seconds from submit to result."""
    began = perf_counter()
    engine.gather([engine.submit(noop, number)])
    return perf_counter() - began


def measure_in_turn(engine: Any, tasks: int) -> _bench.Figures:
    """Tasks here and in a process pool, in turn: the medians in ms."""
    with _bench.contestant("bare process") as pool:
        pool.gather([pool.submit(noop, number) for number in range(WARM)])
        times: dict[Any, list[float]] = {engine: [], pool: []}
        while len(times[pool]) < tasks:
            for one, its in times.items():
                its += [one_task(one, number) for number in range(TURN)]
    ours, theirs = (1000 * statistics.median(its) for its in times.values())
    return {"ours": ours, "pool": theirs, "ratio": ours / theirs}


def measure_steps(engine: Any, tasks: int, file: Path) -> _bench.Figures:
    """Median us of each step."""
    file.write_text("")  # what came before was to get warm
    lines: list[tuple[float, str]] = []
    for number in range(tasks):
        lines.append((perf_counter(), "submit"))
        engine.gather([engine.submit(noop, number)])
        lines.append((perf_counter(), "result"))
    lines += [(float(time), what) for time, _, what in (line.partition(" ") for line in file.read_text().splitlines())]
    wanted = [what for what, _ in STEPS]
    trips: list[list[float]] = []
    for time, what in sorted(lines):
        if what == "submit":
            trips.append([])
        if what in wanted[len(trips[-1]) : len(trips[-1]) + 1]:
            trips[-1].append(time)
    whole = [trip for trip in trips if len(trip) == len(STEPS)]
    assert len(whole) > 0.9 * tasks, f"of {tasks} tasks {len(whole)} have all messages in the trace"
    return {
        f"{place} {what}": 1e6 * statistics.median(trip[place] - trip[place - 1] for trip in whole)
        for place, (_, what) in enumerate(STEPS)
        if place
    }


def traced(tasks: int) -> _bench.Figures:
    """The steps, measured in a process of its own with the tracing on its path."""
    with tempfile.TemporaryDirectory(prefix="pilot-bench-") as folder:
        os.environ["PILOT_BENCHMARK_TRACE"] = str(Path(folder, "trace"))
        os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parent / "_tracing")
        return _bench.measured("our process", tasks=tasks, trace=os.environ["PILOT_BENCHMARK_TRACE"])


def against_pool(options: Any) -> None:
    runs = [_bench.measured("our process", tasks=options.tasks, pool=True) for _ in range(options.repeat)]
    figures: dict[str, Any] = {
        "latency_ratio_pool": ([run["ratio"] for run in runs], _bench.Bar("<=", 2.5)),
        "latency_us": ([1000 * run["ours"] for run in runs], None),
        "latency_pool_us": ([1000 * run["pool"] for run in runs], None),
    }
    rows: list[dict[str, Any]] = [{"run": number, **run} for number, run in enumerate(runs, 1)]
    if options.trace:
        steps = traced(options.tasks)
        figures["trace_us"] = (sum(steps.values()), None)
        for what, us in steps.items():
            sys.stdout.write(f"{us:6.0f} us  {what.partition(' ')[2]}\n")
        rows += [{"step": what, "us": us} for what, us in steps.items()]
    configuration = {"tasks": options.tasks, "repeat": options.repeat}
    _bench.report("latency.pool", figures, rows=rows, configuration=configuration, file=options.json)


def main() -> None:
    parser = _bench.arguments(__doc__)
    parser.add_argument("--tasks", type=int, default=300, help="how many round trips")
    parser.add_argument("--against", choices=["pool"], help="compare with the standard library's process pool instead")
    parser.add_argument("--trace", action="store_true", help="with --against: print where the time goes")
    options = parser.parse_args()
    if options.against:
        against_pool(options)
        return

    rows = []
    for engine in options.engine:
        bare, ours = _bench.compare(engine, repeat=options.repeat, tasks=options.tasks)
        for what in ("median", "p95"):
            ratio = ours[what] / bare[what]
            rows.append({"engine": engine, "of": what, "bare ms": bare[what], "ours ms": ours[what], "ratio": ratio})
    _bench.show("One task, submit to result", rows, options.json)


if __name__ == "__main__":
    _bench.run(main, measure)
