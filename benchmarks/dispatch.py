"""No-op tasks a second through one pilot of two slots, against the bare engine, and its start.

    python benchmarks/dispatch.py [--engine ray] [--json FILE]
    python benchmarks/dispatch.py --base COMMIT [--json FILE]   # against this library at another commit
    python benchmarks/dispatch.py --varied [--json FILE]        # each task with another duration, timeout or memory
    python benchmarks/dispatch.py --map [--json FILE]           # in chunks, against ProcessPoolExecutor.map
    python benchmarks/dispatch.py --executables [--json FILE]   # /bin/true, against two loops of posix_spawn

Every task is its own `submit_task` call, its own future and its own `result()`. With ``--base`` the ratios are of
processor time: what a task costs in all processes together, at the base over here, for a function that workers import
(`plain`) and for one of the script (`main`), of many at once and of single ones, each waited for. `described_ratio` is
about the submission alone: processor time of the thread that makes a `TaskDescription` and submits it, at the base over
here; `described_over_plain` is that time over the same of a plain submission, here. The rows have rates and the single
tasks' median times by the clock as well.

With ``--varied`` one field of each of 10,000 tasks has another value: `varied_duration_per_s` and so on are tasks per
second of processor time of the process that takes most of it, which is the rate on a machine with nothing else to do;
the rows have the rates by the clock as well.

With ``--map`` the ratios are of processor time in all processes for 262,144 inputs: ProcessPoolExecutor.map with the
same chunks over `map(chunksize="auto")`, and our submission one by one over it. With ``--executables`` it is the same
for a program: two processes that only call posix_spawn and wait, over tasks with an ``executable``, the programs' own
time included.
"""

from __future__ import annotations

import gc
import os
import statistics
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from time import perf_counter, process_time, thread_time
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
#: Inputs of a map.
MAPPED = 262_144
#: A program that does nothing, and how often it runs.
PROGRAM = ("/bin/true",)
PROGRAMS = 2000


def noop(number: int) -> int:
    return number


def measure(
    contestant: Any,
    tasks: list[int],
    versions: bool = False,
    varied: str = "",
    mapped: bool = False,
    programs: bool = False,
) -> _bench.Figures:
    began = perf_counter()
    with contestant as engine:
        engine.gather([engine.submit(noop, 0)])
        figures = {"start": perf_counter() - began}
        engine.gather([engine.submit(noop, number) for number in range(500)])  # both workers are warm
        if varied:
            return measure_varied(engine, varied)
        if versions:
            return measure_costs(engine, tasks[-1])
        if mapped:
            return measure_map(engine)
        if programs:
            return measure_programs(engine)
        for count in tasks:
            began = perf_counter()
            values = engine.gather([engine.submit(noop, number) for number in range(count)])
            figures[str(count)] = count / (perf_counter() - began)
            assert values == list(range(count))
    return figures


def measure_costs(engine: Any, count: int) -> _bench.Figures:
    """What a task costs, and how long a single one takes."""
    figures = measure_submissions(engine, count)
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


def measure_submissions(engine: Any, count: int) -> _bench.Figures:
    """Processor time of the submitting thread for a plain task and for a described one, in us."""
    from pilot import TaskDescription

    ways: dict[str, Callable[[int], Any]] = {
        "plain submit us": lambda number: engine.submit(_bench.noop, number),
        "described submit us": lambda number: engine.submit(TaskDescription(function=_bench.noop, args=(number,))),
    }
    figures = {}
    for _ in range(2):  # the first round is to get warm
        for name, submit in ways.items():
            gc.collect()  # else the pass over all objects falls to one of them by chance
            began = thread_time()
            tasks = [submit(number) for number in range(count)]
            figures[name] = 1e6 * (thread_time() - began) / count
            engine.gather(tasks)
    return figures


def measure_map(engine: Any) -> _bench.Figures:
    """Processor time of all processes for an input of a map, in us: ours, ProcessPoolExecutor's, one by one."""
    inputs = range(MAPPED)
    engine.gather([engine.submit(_bench.noop, number) for number in range(500)])  # the workers have imported it
    processes = _processes.marked()
    began, spent = perf_counter(), _processes.cpu_seconds(processes)
    mapped = engine.manager.map(_bench.noop, inputs, chunksize="auto")
    assert list(mapped) == list(inputs)
    figures = {
        "ours us": 1e6 * (_processes.cpu_seconds(processes) - spent) / MAPPED,
        "ours /s": MAPPED / (perf_counter() - began),
        "chunksize": float(-(-MAPPED // len(mapped.tasks))),
    }
    spent = _processes.cpu_seconds(processes)
    engine.gather([engine.submit(_bench.noop, number) for number in range(MAPPED // 8)])
    figures["submit us"] = 1e6 * (_processes.cpu_seconds(processes) - spent) / (MAPPED // 8)
    others = set(psutil.Process().children())
    with ProcessPoolExecutor(_bench.WORKERS) as pool:
        list(pool.map(_bench.noop, range(1000)))
        processes = [one for one in psutil.Process().children() if one not in others]
        began, spent = perf_counter(), _processes.cpu_seconds(processes)
        assert list(pool.map(_bench.noop, inputs, chunksize=int(figures["chunksize"]))) == list(inputs)
        figures["pool us"] = 1e6 * (_processes.cpu_seconds(processes) - spent) / MAPPED
        figures["pool /s"] = MAPPED / (perf_counter() - began)
    return figures


def measure_programs(engine: Any) -> _bench.Figures:
    """Processor time of all processes for a program, in us, and programs per second: tasks, and a plain loop."""
    from pilot import TaskDescription

    def run(count: int) -> None:
        engine.gather(engine.manager.submit_tasks(TaskDescription(executable=PROGRAM) for _ in range(count)))

    run(PROGRAMS // 10)
    processes = _processes.marked()
    began, spent = perf_counter(), _with_children(processes)
    run(PROGRAMS)
    figures = {
        "ours us": 1e6 * (_with_children(processes) - spent) / PROGRAMS,
        "ours /s": PROGRAMS / (perf_counter() - began),
    }
    spent = sum(os.times()[2:4])
    with ProcessPoolExecutor(_bench.WORKERS) as pool:
        shares = [PROGRAMS // _bench.WORKERS] * _bench.WORKERS
        list(pool.map(abs, range(100)))
        began = perf_counter()
        list(pool.map(spawn, shares))
        figures["loop /s"] = PROGRAMS / (perf_counter() - began)
    figures["loop us"] = 1e6 * (sum(os.times()[2:4]) - spent) / PROGRAMS
    return figures


def spawn(count: int) -> None:
    """Run a program so many times, as plainly as it can be done."""
    for _ in range(count):
        pid = os.posix_spawn(PROGRAM[0], PROGRAM, os.environ)
        assert os.waitpid(pid, 0)[1] == 0


def _with_children(processes: list[psutil.Process]) -> float:
    """Processor time of this process and these, with that of the processes that they have started and waited for."""
    return process_time() + sum(sum(process.cpu_times()[:4]) for process in processes)


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


def show_map(options: Any) -> None:
    runs = [_bench.measured("our process", tasks=[], mapped=True) for _ in range(options.repeat)]
    figures: dict[str, Any] = {
        "map_ratio_executor": ([run["pool us"] / run["ours us"] for run in runs], _bench.Bar(">=", 0.5)),
        "map_ratio_submit": ([run["submit us"] / run["ours us"] for run in runs], _bench.Bar(">=", 4)),
        "map_us": ([run["ours us"] for run in runs], None),
        "map_chunksize": ([run["chunksize"] for run in runs], None),
    }
    configuration = {"inputs": MAPPED, "repeat": options.repeat}
    _bench.report("dispatch.map", figures, rows=list(runs), configuration=configuration, file=options.json)


def show_programs(options: Any) -> None:
    runs = [_bench.measured("our process", tasks=[], programs=True) for _ in range(options.repeat)]
    figures: dict[str, Any] = {
        "executables_ratio": ([run["loop us"] / run["ours us"] for run in runs], _bench.Bar(">=", 0.7)),
        "executables_us": ([run["ours us"] for run in runs], None),
        "executables_loop_us": ([run["loop us"] for run in runs], None),
    }
    configuration = {"programs": PROGRAMS, "repeat": options.repeat}
    _bench.report("dispatch.executables", figures, rows=list(runs), configuration=configuration, file=options.json)


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

    limits = {"plain": _bench.Bar(">=", 1.0), "main": _bench.Bar(">=", 0.7)}
    figures: dict[str, Any] = {f"{name}_ratio": (ratios(f"{name} us"), bar) for name, bar in limits.items()}
    figures |= {f"{name}_single_ratio": (ratios(f"{name} single us"), bar) for name, bar in limits.items()}
    figures |= {f"{name}_latency_ratio": (ratios(f"{name} ms"), None) for name in limits}
    figures |= {f"{name}_us": ([one[f"{name} us"] for one in now], None) for name in limits}
    figures["described_ratio"] = (ratios("described submit us"), _bench.Bar(">=", 2))
    over = [one["described submit us"] / one["plain submit us"] for one in now]
    figures["described_over_plain"] = (over, _bench.Bar("<=", 2))
    configuration = {"base": base, "tasks": options.tasks[-1], "repeat": options.repeat}
    _bench.report("dispatch", figures, rows=rows, configuration=configuration, file=options.json)


def main() -> None:
    parser = _bench.arguments(__doc__)
    parser.add_argument("--tasks", type=int, nargs="+", default=[4096, 16384], help="how many no-ops at once")
    parser.add_argument("--base", metavar="COMMIT", help="compare with this library at another commit instead")
    parser.add_argument("--varied", action="store_true", help="tasks that differ in one field instead")
    parser.add_argument("--map", action="store_true", help="a map in chunks instead")
    parser.add_argument("--executables", action="store_true", help="programs instead")
    options = parser.parse_args()
    if options.varied:
        show_varied(options)
    elif options.map:
        show_map(options)
    elif options.executables:
        show_programs(options)
    elif options.base:
        compare_with(options.base, options)
    else:
        compare_with_bare(options)


def compare_with_bare(options: Any) -> None:
    """The rates and the starts of the bare engines and of ours."""
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
