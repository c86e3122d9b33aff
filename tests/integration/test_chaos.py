"""Three short schedules of benchmarks/chaos.py, and what its invariants say of made-up evidence."""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
CHAOS = [sys.executable, str(BENCHMARKS / "chaos.py")]
SEED = 7


@pytest.fixture(scope="module")
def chaos() -> Iterator[dict[str, ModuleType]]:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        parts = {name: importlib.import_module(f"_chaos_{name}") for name in ("plan", "tasks", "evidence", "checks")}
        yield {**parts, "command": importlib.import_module("chaos")}
    finally:
        sys.path.remove(str(BENCHMARKS))


def test_short_schedules_violate_nothing() -> None:
    """Workers, a fork server, an agent and a manager are killed, and a disk is full; all at once, since they wait."""
    running = [
        subprocess.Popen([*CHAOS, "--seeds", seed, "--tasks", "40", "--deeds", "2"], stdout=subprocess.PIPE, text=True)
        for seed in ("10", "52", "80")
    ]
    outputs = [one.communicate(timeout=300)[0] for one in running]
    assert [one.returncode for one in running] == [0, 0, 0], outputs
    assert all("violations = 0 " in output for output in outputs)


@pytest.mark.parametrize("seeds", ["9-7", "x", "-3", "1-x", ""])
def test_seeds_that_are_none_are_refused(chaos: dict[str, ModuleType], seeds: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is not valid; expected a seed such as 7, or A-B"):
        chaos["command"].seeds(seeds)


def test_a_seed_is_a_schedule(chaos: dict[str, ModuleType]) -> None:
    plan = chaos["plan"].plan
    schedules = [plan(seed, engine) for seed in range(50) for engine in ("process", "ray", "dask")]
    assert schedules == [plan(seed, engine) for seed in range(50) for engine in ("process", "ray", "dask")]
    assert all(300 <= one.tasks <= 900 and 4 <= len(one.faults) <= 10 for one in schedules)
    assert all(one.first <= one.tasks and sorted(fault.at for fault in one.faults) for one in schedules)
    deeds = {fault.deed for one in schedules for fault in one.faults}
    assert {"kill worker", "stop agent", "fill disk", "kill manager", "kill raylet", "stop fork_server"} <= deeds


@pytest.fixture
def evidence(chaos: dict[str, ModuleType]) -> Any:
    """Of a schedule in which all went well: a worker was killed, and one task ran again."""
    plan, tasks = chaos["plan"], chaos["tasks"]
    kill = plan.Fault(at=5, deed="kill worker", pick=0.0, seconds=1.0)
    schedule = plan.Schedule(SEED, "process", "local", 40, 40, (2,), (kill,), closes_early=False, reopens=False)
    found = chaos["evidence"].Evidence(schedule, done=[(104.5, kill)])
    for number in range(1, 41):
        found.ends[number] = tasks.right_end(SEED, number)
        wanted = tasks.spec(SEED, number)
        begin = 100.0 + number
        for _ in range(wanted.raises):
            found.notes += [tasks.Note("b", number, 1, begin), tasks.Note("x", number, 1, begin + 0.1)]
            found.attempts.setdefault(number, []).append(("it raised", begin + 0.1))
            begin += 0.2
        found.notes += [tasks.Note("b", number, 1, begin), tasks.Note("e", number, 1, begin + 0.1)]
    found.notes.insert(0, tasks.Note("b", 4, 9, 104.4))
    found.notes.sort(key=lambda note: note.time)
    found.attempts.setdefault(4, []).append(("worker w was killed by signal 9", 104.5))
    found.notes = [note for note in found.notes if not (note.number == 4 and note.pid == 1 and note.time < 104.4)]
    found.notes += [tasks.Note("b", 4, 2, 104.6), tasks.Note("e", 4, 2, 104.7)]
    return found


def violated(chaos: dict[str, ModuleType], evidence: Any) -> set[str]:
    return {invariant for invariant, _ in chaos["checks"].violations(evidence)}


def test_nothing_is_violated_where_all_went_well(chaos: dict[str, ModuleType], evidence: Any) -> None:
    assert chaos["checks"].violations(evidence) == []


def plain(chaos: dict[str, ModuleType]) -> int:
    """The number of a task that always returns a number, after the kill."""
    return next(n for n in range(6, 41) if chaos["tasks"].spec(SEED, n).kind == "plain")


DEFECTS = {
    "a task without an end": ("one_end", lambda seen, n, tasks: seen.ends.update({n: ("open", "queued")})),
    "a task that is gone": ("one_end", lambda seen, n, tasks: seen.ends.pop(n)),
    "an end that is reported twice": ("one_end", lambda seen, n, tasks: seen.twice.append(n)),
    "a wrong value": ("right_value", lambda seen, n, tasks: seen.ends.update({n: ("done", "17")})),
    "a loss that is the task's error": (
        "right_value",
        lambda seen, n, tasks: seen.ends.update({n: ("failed", "WorkerDied")}),
    ),
    "a cancelled task that nobody cancelled": (
        "right_value",
        lambda seen, n, tasks: seen.ends.update({n: ("cancelled", "")}),
    ),
    "a result that is lost at an attach": (
        "no_result_lost",
        lambda seen, n, tasks: seen.attached.append((set(range(1, 41)), {}, {n: ("done", "1")})),
    ),
    "a task that is lost at an attach": (
        "no_result_lost",
        lambda seen, n, tasks: seen.attached.append((set(range(2, 41)), {}, {})),
    ),
    "a task that runs again though nothing was lost": (
        "runs_again_with_cause",
        lambda seen, n, tasks: seen.notes.append(tasks.Note("b", n, 3, 150.0)),
    ),
    "a task that runs again before the first deed": (
        "runs_again_with_cause",
        lambda seen, n, tasks: seen.done.clear(),
    ),
    "a task that runs twice at once": (
        "never_twice_at_once",
        lambda seen, n, tasks: seen.notes.extend(
            [tasks.Note("b", 4, 3, 104.65), tasks.Note("e", 4, 3, 104.75)],
        ),
    ),
    "a retry for a loss": (
        "retries_for_errors_only",
        lambda seen, n, tasks: seen.attempts.update({n: [("it raised", 140.0)]}),
    ),
    "a loss before any deed": (
        "losses_have_causes",
        lambda seen, n, tasks: seen.attempts.update({n: [("worker w is gone", 99.0)]}),
    ),
    "a process that is left": ("nothing_left", lambda seen, n, tasks: seen.processes.append("1 python")),
    "a file that is left": ("nothing_left", lambda seen, n, tasks: seen.files.append("pilot-1")),
    "a manager that grows": ("bounded_manager", lambda seen, n, tasks: setattr(seen, "memory_growth", 1000.0)),
    "a close that takes long": ("bounded_manager", lambda seen, n, tasks: setattr(seen, "close_s", 100.0)),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_each_defect_is_seen(chaos: dict[str, ModuleType], evidence: Any, defect: str) -> None:
    invariant, happen = DEFECTS[defect]
    happen(evidence, plain(chaos), chaos["tasks"])
    assert invariant in violated(chaos, evidence)
