"""No-op tasks a second through one pilot of two slots, against the bare engine, and its start.

    python benchmarks/dispatch.py [--engine ray] [--json FILE]
    python benchmarks/dispatch.py --base COMMIT [--json FILE]   # against this library at another commit
    python benchmarks/dispatch.py --varied [--json FILE]        # each task with another duration, timeout or memory

Every task is its own `submit_task` call, its own future and its own `result()`. With ``--base`` the ratios are of
processor time: what a task costs in all processes together, at the base over here, for a function that workers import
(`plain`) and for one of the script (`main`), of many at once and of single ones, each waited for. The rows have rates
and the single tasks' median times by the clock as well.

With ``--varied`` one field of each of 10,000 tasks has another value: `varied_duration_per_s` and so on are tasks per
second of processor time of the process that takes most of it, which is the rate on a machine with nothing else to do;
the rows have the rates by the clock as well.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from time import perf_counter, process_time
from typing import Any

import _bench
import _processes
import psutil

#: Tasks that are waited for one by one.
SINGLE = 2000
#: What is varied: a value for each number of a task, and the least rate.
VARIED: dict[str, tuple[Callable[[int], dict[str, Any]], int]] = {
    "duration": (lambda number: {"expected_duration": 60 + number / 1000}, 10_000),
    "timeout": (lambda number: {"timeout": 60 + number / 1000}, 10_000),
    "memory": (lambda number: {"memory": (1 << 20) + number * 100_003 % (1 << 30)}, 3_000),
}
VARIED_TASKS = 10_000


def noop(number: int) -> int:
    return number


def measure(contestant: Any, tasks: list[int], versions: bool = False, varied: str = "") -> _bench.Figures:
    began = perf_counter()
    with contestant as engine:
        engine.gather([engine.submit(noop, 0)])
        figures = {"start": perf_counter() - began}
        engine.gather([engine.submit(noop, number) for number in range(500)])  # both workers are warm
        if varied:
            return measure_varied(engine, varied)
        if versions:
            return measure_costs(engine, tasks[-1])
        for count in tasks:
            began = perf_counter()
            values = engine.gather([engine.submit(noop, number) for number in range(count)])
            figures[str(count)] = count / (perf_counter() - began)
            assert values == list(range(count))
    return figures


def measure_costs(engine: Any, count: int) -> _bench.Figures:
    """What a task costs, and how long a single one takes."""
    figures = {}
    processes = _processes.marked()
    for name, function in (("plain", _bench.noop), ("main", noop)):
        engine.gather([engine.submit(function, number) for number in range(500)])
        began, spent = perf_counter(), _processes.cpu_seconds(processes)
        engine.gather([engine.submit(function, number) for number in range(count)])
        figures[f"{name} /s"] = count / (perf_counter() - began)
        figures[f"{name} us"] = 1e6 * (_processes.cpu_seconds(processes) - spent) / count
        times, spent = [], _processes.cpu_seconds(processes)
        for number in range(SINGLE):
            began = perf_counter()
            engine.gather([engine.submit(function, number)])
            times.append(1000 * (perf_counter() - began))
        figures[f"{name} single us"] = 1e6 * (_processes.cpu_seconds(processes) - spent) / SINGLE
        figures[f"{name} ms"] = statistics.median(times)
    return figures


def measure_varied(engine: Any, what: str) -> _bench.Figures:
    """Tasks per second of processor time of the busiest process, and by the clock."""
    from pilot import TaskDescription

    fields, _ = VARIED[what]
    wanted = [TaskDescription(function=_bench.noop, args=(number,), **fields(number)) for number in range(VARIED_TASKS)]
    processes = _processes.marked()
    before = {one.pid: _own_seconds(one) for one in processes}
    began, here = perf_counter(), process_time()
    values = engine.gather(engine.manager.submit_tasks(wanted))
    seconds = perf_counter() - began
    assert values == list(range(VARIED_TASKS))
    here = process_time() - here
    there = [_own_seconds(one) - before.get(one.pid, 0.0) for one in _processes.marked()]
    return {
        "per cpu s": VARIED_TASKS / max(here, *there),
        "per s": VARIED_TASKS / seconds,
        "manager us": 1e6 * here / VARIED_TASKS,
    }


def _own_seconds(process: psutil.Process) -> float:
    return sum(process.cpu_times()[:2])


def show_varied(options: Any) -> None:
    """Measure each in fresh processes."""
    figures: dict[str, Any] = {}
    rows = []
    for what, (_, least) in VARIED.items():
        runs = [_bench.measured("our process", tasks=[], varied=what) for _ in range(options.repeat)]
        figures[f"varied_{what}_per_s"] = ([run["per cpu s"] for run in runs], _bench.Bar(">=", least, "tasks/s"))
        rows += [{"varied": what, **run} for run in runs]
    configuration = {"tasks": VARIED_TASKS, "repeat": options.repeat}
    _bench.report("dispatch.varied", figures, rows=rows, configuration=configuration, file=options.json)


def compare_with(base: str, options: Any) -> None:
    """This library at another commit and here, in alternating order."""
    before: list[_bench.Figures] = []
    now: list[_bench.Figures] = []
    with _bench.checked_out(base) as tree:
        for attempt in range(options.repeat):
            sides = [(before, tree), (now, None)]
            for runs, where in sides if attempt % 2 == 0 else reversed(sides):
                runs.append(_bench.measured("our process", where, tasks=options.tasks, versions=True))
    rows = [
        {"of": of, "base": one[of], "here": other[of]} for one, other in zip(before, now, strict=True) for of in one
    ]

    def ratios(of: str) -> list[float]:
        return [one[of] / other[of] for one, other in zip(before, now, strict=True)]

    limits = {"plain": _bench.Bar(">=", 0.97), "main": _bench.Bar(">=", 0.7)}
    figures: dict[str, Any] = {f"{name}_ratio": (ratios(f"{name} us"), bar) for name, bar in limits.items()}
    figures |= {f"{name}_single_ratio": (ratios(f"{name} single us"), bar) for name, bar in limits.items()}
    figures |= {f"{name}_latency_ratio": (ratios(f"{name} ms"), None) for name in limits}
    figures |= {f"{name}_us": ([one[f"{name} us"] for one in now], None) for name in limits}
    configuration = {"base": base, "tasks": options.tasks[-1], "repeat": options.repeat}
    _bench.report("dispatch", figures, rows=rows, configuration=configuration, file=options.json)


def main() -> None:
    parser = _bench.arguments(__doc__)
    parser.add_argument("--tasks", type=int, nargs="+", default=[4096, 16384], help="how many no-ops at once")
    parser.add_argument("--base", metavar="COMMIT", help="compare with this library at another commit instead")
    parser.add_argument("--varied", action="store_true", help="tasks that differ in one field instead")
    options = parser.parse_args()
    if options.varied:
        show_varied(options)
        return
    if options.base:
        compare_with(options.base, options)
        return

    rates, starts = [], []
    for engine in options.engine:
        bare, ours = _bench.compare(engine, repeat=options.repeat, tasks=options.tasks)
        for count in map(str, options.tasks):
            ratio = ours[count] / bare[count]
            rates.append(
                {
                    "engine": engine,
                    "no-ops": int(count),
                    "bare /s": bare[count],
                    "ours /s": ours[count],
                    "ratio": ratio,
                }
            )
        late = ours["start"] - bare["start"]
        starts.append({"engine": engine, "bare s": bare["start"], "ours s": ours["start"], "more s": late})

    _bench.show("No-op tasks a second, two workers", rates, options.json)
    _bench.show("Start to first result", starts, options.json and options.json.with_suffix(".start.json"))


if __name__ == "__main__":
    _bench.run(main, measure)
