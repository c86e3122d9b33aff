"""Many no-ops in one session: does the rate hold, what does the manager keep, and what does a later manager need?

    python benchmarks/memory.py --many 1000000 [--json FILE]

`rate_ratio`: tasks per second of that many tasks in one go, until all is on disk, over those of 10,000 (the median of
nine times), while the caller holds every task. `burst_ratio` is the same until the last result is there: of 10,000
tasks most are not on disk then, which is work that the many cannot put off. `attach_s` and `attach_rss_mib`: after
that, a new process attaches to the session, counts the tasks and reads 1,000 results; the seconds, and its resident
memory then. `cpu_ratio` and `attach_cpu_s` are the same in the manager's processor time, for machines that are shared.
The bytes are the growth of the manager's resident memory while the caller holds every task; `--tracemalloc` counts
Python's own allocations in a run of its own,
which is slower.

With `--forget` the tasks come as a stream, and are forgotten when they are done: by how much does the manager's
resident memory grow after the 100,000th task?

    python benchmarks/memory.py --many 1000000 --forget [--json FILE]

With `--map` a generator of that many inputs goes through `PilotManager.map(window=)` and through
`PilotExecutor.map(buffersize=)`: seconds until the first result is there, the pilots being up, and the growth of the
manager's resident memory from then on, the larger one of the two.

    python benchmarks/memory.py --map 1000000 [--json FILE]
"""

from __future__ import annotations

import argparse
import gc
import random
import statistics
import tracemalloc
from collections import deque
from time import perf_counter, process_time
from typing import Any

import _bench
import psutil


def noop(number: int) -> int:
    return number


#: Tasks of a stream that are submitted before the oldest ones are forgotten, and those of one call.
AHEAD, BATCH = 4000, 1000
#: Tasks after which the growth counts.
SETTLED = 100_000
#: Inputs of a map that are unread at most.
WINDOW = 1000
#: How often the few tasks are run, and results that a manager that attaches reads.
FEW_TIMES, READ = 9, 1000


def measure(
    contestant: Any,
    many: int = 0,
    few: int = 0,
    trace: bool = False,
    forget: bool = False,
    attach: str | None = None,
    mapped: str = "",
) -> _bench.Figures:
    process = psutil.Process()
    if attach is not None:
        return attached(attach, process, many)
    with contestant as engine:
        if forget:
            return stream(engine, process, many)
        if mapped:
            return read_map(engine, process, many, mapped)
        engine.gather([engine.submit(noop, number) for number in range(500)])  # both workers are warm
        few_runs = [run(engine, process, few, trace)[0] for _ in range(FEW_TIMES)]
        figures = {f"few {what}": statistics.median(one[what] for one in few_runs) for what in few_runs[0]}
        many_run, held = run(engine, process, many, trace)
        figures |= {f"many {what}": value for what, value in many_run.items()}
        if not trace:
            engine.manager.close()
            figures |= _bench.measured("our process", many=many, attach=str(engine.manager.session_dir))
        assert len(held) == many
    return figures


def run(engine: Any, process: psutil.Process, count: int, trace: bool) -> tuple[_bench.Figures, list[Any]]:
    """Tasks per second until all is on disk, and until the last result is there; bytes and microseconds of the
    manager's processor time for each of them; and the tasks."""
    gc.collect()
    if trace:
        tracemalloc.start()
    before = process.memory_info().rss
    began, spent = perf_counter(), process_time()
    tasks = [engine.submit(noop, number) for number in range(count)]
    engine.gather(tasks)
    burst = count / (perf_counter() - began)
    engine.manager.flush()
    rate, spent = count / (perf_counter() - began), process_time() - spent
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] if trace else process.memory_info().rss - before
    tracemalloc.stop()
    return {"/s": rate, "burst /s": burst, "bytes": grown / count, "us": 1e6 * spent / count}, tasks


def attached(session: str, process: psutil.Process, many: int) -> _bench.Figures:
    """Seconds and resident memory of a manager that attaches, counts its tasks, and reads some of their results."""
    from pilot import PilotManager

    began, spent = perf_counter(), process_time()
    manager = PilotManager.attach(session)
    count = len(manager.tasks)
    first = count - many + 1
    for id in random.Random(1).sample(range(first, count + 1), READ):
        assert manager.tasks[id].result(0) == id - first
    seconds, spent = perf_counter() - began, process_time() - spent
    memory = process.memory_info().rss / 2**20
    began = perf_counter()
    assert sum(task.done() for task in manager.tasks.values()) == count
    figures = {"attach": seconds, "attach cpu": spent, "attach mib": memory, "all handles": perf_counter() - began}
    manager.close()
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


def read_map(engine: Any, process: psutil.Process, count: int, how: str) -> _bench.Figures:
    """Read the results of a map over a generator."""
    from pilot import PilotExecutor

    assert engine.gather([engine.submit(noop, number) for number in range(500)]) == list(range(500))
    inputs = (number for number in range(count))
    began = perf_counter()
    if how == "manager":
        results = engine.manager.map(noop, inputs, window=WINDOW)
    else:
        results = PilotExecutor(engine.manager).map(noop, inputs, buffersize=WINDOW)
    total, first = next(results), perf_counter() - began
    before = most = process.memory_info().rss
    for number, result in enumerate(results, 1):
        total += result
        if number % (count // 20) == 0:
            most = max(most, process.memory_info().rss)
    assert total == count * (count - 1) // 2
    return {"first s": first, "mib": (most - before) / 2**20, "per s": count / (perf_counter() - began)}


def forget(engine: Any, open: deque[Any]) -> None:
    """Wait for the oldest tasks, and forget them."""
    tasks = [open.popleft() for _ in range(min(BATCH, len(open)))]
    engine.gather(tasks)
    engine.manager.forget(tasks)


def main() -> None:
    parser = _bench.arguments(__doc__, engines=["process"], repeat=1)
    parser.add_argument("--few", type=int, default=10_000)
    parser.add_argument("--many", type=int, default=200_000)
    parser.add_argument("--tracemalloc", action="store_true", help="count Python's allocations too")
    parser.add_argument("--forget", action="store_true", help="a stream of tasks that are forgotten")
    parser.add_argument("--map", type=int, metavar="COUNT", help="a generator of so many inputs through map")
    options = parser.parse_args()

    if options.map:
        show_map(options)
        return
    if options.forget:
        rows = [_bench.measured("our process", many=options.many, forget=True) for _ in range(options.repeat)]
        growth = [max(row[str(options.many)], row["end"]) - row[str(SETTLED)] for row in rows]
        figures: dict[str, Any] = {"rss_growth_mib_after_100k": (growth, _bench.Bar("<=", 50, "MiB"))}
        configuration = {"many": options.many, "repeat": options.repeat}
        _bench.report("memory-forget", figures, rows=rows, configuration=configuration, file=options.json)
        return
    measure_kept(options)


def show_map(options: argparse.Namespace) -> None:
    """The two bounded maps, each in a process of its own."""
    rows = []
    for how in ("manager", "executor"):
        runs = [_bench.measured("our process", many=options.map, mapped=how) for _ in range(options.repeat)]
        rows += [{"map": how, **run} for run in runs]
    figures: dict[str, Any] = {
        "first_result_s": (max(row["first s"] for row in rows), _bench.Bar("<=", 0.2, "s")),
        "rss_growth_mib": (max(row["mib"] for row in rows), _bench.Bar("<=", 50, "MiB")),
    }
    configuration = {"inputs": options.map, "window": WINDOW, "repeat": options.repeat}
    _bench.report("memory.map", figures, rows=rows, configuration=configuration, file=options.json)


def measure_kept(options: argparse.Namespace) -> None:
    """The rate with all tasks held, and an attach."""
    rows = []
    figures: dict[str, Any] = {}
    for engine in options.engine:
        settings = {"few": options.few, "many": options.many}
        runs = [_bench.measured(f"our {engine}", trace=False, **settings) for _ in range(options.repeat)]
        ours = _bench.median(runs)
        row = {
            "engine": engine,
            f"{options.few:,} /s": ours["few /s"],
            f"{options.many:,} /s": ours["many /s"],
            "ratio": ours["many /s"] / ours["few /s"],
            "bytes a task": ours["many bytes"],
            "us of the manager, few": ours["few us"],
            "many": ours["many us"],
            "all handles after an attach, s": ours["all handles"],
        }
        if options.tracemalloc:
            row["of which Python's"] = _bench.measured(f"our {engine}", trace=True, **settings)["many bytes"]
        rows.append(row)
        prefix = "" if engine == "process" else f"{engine}_"
        ratios = {of: [one[f"many {of}"] / one[f"few {of}"] for one in runs] for of in ("/s", "burst /s")}
        figures[f"{prefix}rate_ratio"] = (ratios["/s"], _bench.Bar(">=", 0.9, "ratio"))
        figures[f"{prefix}burst_ratio"] = (ratios["burst /s"], None)
        figures[f"{prefix}cpu_ratio"] = ([one["few us"] / one["many us"] for one in runs], None)
        figures[f"{prefix}attach_cpu_s"] = ([one["attach cpu"] for one in runs], None)
        figures[f"{prefix}attach_s"] = ([one["attach"] for one in runs], _bench.Bar("<=", 8, "s"))
        figures[f"{prefix}attach_rss_mib"] = ([one["attach mib"] for one in runs], _bench.Bar("<=", 600, "MiB"))
    configuration = {"few": options.few, "many": options.many, "repeat": options.repeat}
    _bench.report("memory", figures, rows=rows, configuration=configuration, file=options.json)


if __name__ == "__main__":
    _bench.run(main, measure)
