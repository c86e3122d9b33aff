"""The simulator beside queueing theory and walks through traces by hand."""

from __future__ import annotations

import json
import lzma
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pilot.cli.main import main
from pilot.errors import DescriptionError
from pilot.interfaces import QueuedTask
from pilot.qos.simulation import jobs, scenarios, swf, traces
from pilot.qos.simulation.log import DONE, REFUSED
from pilot.qos.simulation.simulator import Simulator
from pilot.qos.simulation.sites import SimulatedQPU
from pilot.resources import Resources, Terms
from pilot.scheduling.policies import FirstComeFirstServed

#: Ships with the package.
EXCERPT = Path(traces.__file__).parent / "data" / "queues.csv.xz"


def test_one_qpu_waits_as_the_formula_of_pollaczek_and_khinchine_says() -> None:
    """M/D/1: the mean wait is rho s / (2 (1 - rho))."""
    kind = jobs.circuits("one", ["q"], np.array([0.9]), np.array([2.0]))
    simulator = Simulator(qpu_policy=scenarios.named("least-wait"))
    simulator.add(SimulatedQPU("q"))
    log = simulator.run(jobs.poisson([kind], 0.7 / 2.0, 5_000, 3))
    waits = log.waits(1e9)
    expected = 0.7 * 2.0 / (2 * (1 - 0.7))
    assert waits.mean() == pytest.approx(expected, rel=0.12)
    assert (log.state == DONE).all()
    assert log.busy()[0] == pytest.approx(10_000.0)
    assert np.allclose(log.ended_at - log.began_at, 2.0)


@pytest.mark.parametrize("policy", ["best-fidelity", "least-wait", "formula", "dual-prices"])
def test_nothing_overlaps_and_nothing_is_lost_when_qpus_fail(policy: str) -> None:
    settings = scenarios.Settings(jobs=250, qpus=3, kinds=4, outages=(200.0, 50.0), drift=300.0, seed=1)
    log = scenarios.simulate(settings, None, scenarios.named(policy))
    assert (log.state == DONE).all()
    assert (log.began_at >= log.submitted_at).all()
    for place in range(3):
        mine = np.flatnonzero(log.place == place)
        order = mine[np.argsort(log.began_at[mine])]
        assert (log.began_at[order[1:]] >= log.ended_at[order[:-1]] - 1e-9).all()
    again = scenarios.simulate(settings, None, scenarios.named(policy))
    assert again.sha256() == log.sha256()
    other = scenarios.simulate(scenarios.Settings(**{**_fields(settings), "seed": 2}), None, scenarios.named(policy))
    assert other.sha256() != log.sha256()


def _fields(settings: scenarios.Settings) -> dict[str, object]:
    return {name: getattr(settings, name) for name in settings.__struct_fields__}


def starts_by_hand(trace: traces.QueueTrace, now: float) -> float:
    """Sample by sample: as many jobs leave as were pending, and the QPU is active if it was not."""
    at = max(place for place, time in enumerate(trace.times) if time <= now)
    left, time, active = int(trace.pending[at]), now, bool(trace.active[at])
    while left > 0 or not active:
        if at + 1 == len(trace.times):
            return float("inf")
        at += 1
        left -= max(0, int(trace.pending[at - 1] - trace.pending[at]))
        time, active = float(trace.times[at]), active or bool(trace.active[at])
    return time


def test_a_job_waits_for_as_many_departures_as_jobs_were_pending() -> None:
    dice = random.Random(2)
    pending = [20]
    for _ in range(300):
        pending.append(max(0, pending[-1] + dice.choice([-3, -2, -1, 1, 2])))
    times = np.cumsum([dice.choice([10.0, 10.0, 40.0]) for _ in pending])
    active = np.array([dice.random() < 0.9 for _ in pending])
    trace = traces.QueueTrace("q", times - times[0], np.array(pending), active)
    waits = traces.Waits(trace)
    for now in np.linspace(0.0, float(trace.times[-1]), 500).tolist():
        assert waits.start(now) == starts_by_hand(trace, now)


def test_a_trace_in_which_own_jobs_come_after_each_other() -> None:
    """An empty queue: each job of 60 s waits for those before it, which come every 30 s."""
    times = np.array([0.0, 100_000.0])
    trace = traces.QueueTrace("q", times, np.array([0, 0]), np.array([True, True]))
    kind = jobs.circuits("long", ["q"], np.ones(1), np.array([60.0]))
    log = scenarios.on_trace({"q": trace}, scenarios.named("least-wait"), 30.0, [kind])
    done = log.state == DONE
    assert done.sum() == len(done) == 454  # the last one comes a day before the end
    assert np.allclose(log.began_at, 60.0 * np.arange(len(done)))


def test_the_excerpt_and_policies_on_it() -> None:
    recorded = traces.read(EXCERPT)
    end = scenarios.end_of(recorded)
    shortest = scenarios.on_trace(recorded, scenarios.named("shortest-queue"), 300.0)
    moving = scenarios.on_trace(recorded, scenarios.named("least-wait", moves=True), 300.0)
    queues = [traces.Waits(trace) for trace in recorded.values()]
    best = [min(min(queue.start(time) for queue in queues), end) - time for time in moving.submitted_at.tolist()]
    assert np.mean(best) <= moving.waits(end).mean() <= shortest.waits(end).mean()


#: id: (lines, words of the error)
BAD_TRACES = {
    "no number": ("q,2023-11-16T13:59:48,x,1", "line 1 of .* is 'q,2023-11-16T13:59:48,x,1'; expected qpu,time_utc"),
    "no time": ("q,yesterday,1,1", "expected qpu,time_utc"),
    "negative": ("q,2023-11-16T13:59:48,-1,1", "line 1"),
    "backwards": ("q,2023-11-16T13:59:48,1,1\nq,2023-11-16T13:59:40,1,1", "line 2"),
    "another state": ("q,2023-11-16T13:59:48,1,2", "line 1"),
    "nothing": ("qpu,time_utc,pending_jobs,active", "has no samples"),
}


@pytest.mark.parametrize("lines, words", BAD_TRACES.values(), ids=BAD_TRACES)
def test_what_is_no_trace(lines: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "trace.csv"
    file.write_text(lines)
    with pytest.raises(DescriptionError, match=words):
        traces.read(file)


def test_waits_of_jobs_that_do_not_begin_last_to_the_end(tmp_path: Path) -> None:
    """A job each hour of the first two of three days; the QPU never takes one."""
    file = tmp_path / "trace.csv"
    file.write_text("".join(f"q,2023-11-{day}T00:00:00,5,0\n" for day in (16, 17, 18, 19)))
    figures = scenarios.simulate(scenarios.Settings(trace=str(file), interval=3600.0)).summary()
    assert (figures["jobs"], figures["unfinished"]) == (48, 48)
    assert figures["wait_mean"] == pytest.approx(3 * 86_400 - 3600 * 23.5)
    assert figures["makespan"] == 3 * 86_400


def test_a_trace_may_be_of_a_spreadsheet(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_bytes(b"\xef\xbb\xbfqpu,time_utc,pending_jobs,active\r\nq,2031-01-01T00:00:00,5,1\r\n")
    assert traces.read(file)["q"].pending.tolist() == [5]


def test_times_of_a_trace_may_have_an_offset(tmp_path: Path) -> None:
    file = tmp_path / "trace.csv"
    file.write_text("q,2023-11-16T02:00:00+02:00,5,1\nq,2023-11-16T01:00:00,4,1\nq,2023-11-16T00:00:00-02:00,3,1\n")
    assert traces.read(file)["q"].times.tolist() == [0.0, 3600.0, 7200.0]


@pytest.mark.parametrize("times", ["0 -1 nan", "nan -1 5", "1700000000 -1 5", "inf -1 5", "0"])
def test_a_line_that_is_no_job(times: str, tmp_path: Path) -> None:
    file = tmp_path / "log.swf"
    file.write_text(f"1 {times} 1 -1 -1 1" + 10 * " -1" + "\n")
    with pytest.raises(DescriptionError, match=r"line 1 of .* expected 18 numbers, with seconds of at most 1e\+08"):
        swf.read(file)


def test_seconds_of_a_job_hold_on_a_qpu() -> None:
    """Beside the recursion of Lindley."""
    random = np.random.default_rng(7)
    times, seconds = np.cumsum(random.exponential(1.25, 500)), random.exponential(1.0, 500)
    kind = jobs.circuits("kind", ["q"], np.array([0.9]), np.array([1.0]))
    simulator = Simulator()
    simulator.add(SimulatedQPU("q"))
    log = simulator.run([jobs.Job(time, kind, its) for time, its in zip(times.tolist(), seconds.tolist(), strict=True)])
    free, begun = 0.0, []
    for time, its in zip(times, seconds, strict=True):
        begun.append(max(time, free))
        free = begun[-1] + its
    assert log.began_at == pytest.approx(begun)


def by_hand(rows: list[tuple[float, int, float]], cores: int) -> list[float]:
    """Starts of jobs (time, processors, seconds) one after another, none before an earlier one."""
    running: list[tuple[float, int]] = []
    starts, earliest = [], 0.0
    for time, needed, seconds in rows:
        now = max(time, earliest)
        while cores - sum(count for end, count in running if end > now) < needed:
            now = min(end for end, _ in running if end > now)
        earliest = now
        starts.append(now)
        running.append((now + seconds, needed))
    return starts


def test_strict_first_come_first_served(tmp_path: Path) -> None:
    dice = random.Random(4)
    rows = [(float(10 * at), dice.choice([1, 2, 4, 7]), float(dice.randint(1, 120))) for at in range(200)]
    lines = [
        f"{at} {time:g} -1 {seconds:g} {needed} -1 -1 {needed}" + 10 * " -1"
        for at, (time, needed, seconds) in enumerate(rows)
    ]
    log_file = tmp_path / "log.swf"
    log_file.write_text("; a comment\n" + "\n".join(lines) + "\n999 5000 -1 -1 1 -1 -1 1" + 10 * " -1" + "\n")
    found = swf.read(log_file)
    assert len(found) == len(rows)  # the last one has no run time
    log = scenarios.on_nodes(found, 4, 2, scenarios.named("fcfs", strict=True))
    assert np.allclose(log.began_at, by_hand(rows, 8))
    loose = scenarios.on_nodes(found, 4, 2, scenarios.named("fcfs"))
    assert loose.waits(1e9).mean() < log.waits(1e9).mean()


@pytest.mark.parametrize("policy", ["balanced", "makespan", "fcfs"])
def test_jobs_wider_than_the_pilot_are_refused_and_change_nothing(policy: str) -> None:
    dice = random.Random(5)
    kinds = {count: mpi(count) for count in (1, 2, 4, 7, 9, 100)}
    wide = [jobs.Job(10.0 * at, kinds[dice.choice([*kinds])], dice.randint(1, 120)) for at in range(200)]
    fits = np.array([job.kind not in (kinds[9], kinds[100]) for job in wide])
    log = scenarios.on_nodes(wide, 4, 2, scenarios.named(policy))
    assert np.array_equal(log.state == REFUSED, ~fits)
    assert any("jobs refused: nodes has room for 8 such ranks, but 100 are needed" in one for one in log.remarks())
    without = scenarios.on_nodes(
        [job for job, one in zip(wide, fits, strict=True) if one], 4, 2, scenarios.named(policy)
    )
    assert np.array_equal(log.began_at[fits], without.began_at)
    assert without.remarks() == []


def mpi(ranks: int) -> jobs.Kind:
    return jobs.Kind(name=f"{ranks} ranks", terms=Terms(Resources(num_cpus=1.0, ranks=ranks)))


def test_jobs_that_never_begin_wait_to_the_end_of_the_simulation(capsys: pytest.CaptureFixture[str]) -> None:
    """The QPUs fail and are back when the simulation is over."""
    log = scenarios.simulate(scenarios.Settings(jobs=100, outages=(5.0, 1e9)))
    figures = log.summary()
    assert figures["done"] + figures["unfinished"] == 100
    assert figures["makespan"] == pytest.approx(1e8)
    assert figures["wait_p99"] == pytest.approx(1e8)
    assert 0 < figures["lost_attempts"] <= 8  # what ran on each QPU when it failed
    assert main(["simulate", "--jobs", "100", "--load", "1e-9"]) == 0
    assert "jobs that come later than 1e+08 s are left out" in capsys.readouterr().err


def test_figures_that_cannot_be_written_follow_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--jobs", "10", "--json", "/dev/full"]) == 1
    shown = capsys.readouterr()
    assert json.loads(shown.out)["figures"]["done"]["value"] == 10
    assert "--json /dev/full cannot be written: No space left on device; the results follow" in shown.err


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text('[cores]\npolicy = "fcfs"\n[qpus]\npolicy = "formula"\nc = 0.8\n')
    files = [tmp_path / f"{number}.json" for number in range(2)]
    for file in files:
        words = ["simulate", "--jobs", "200", "--bursty", "--policy", str(policy), "--json", str(file)]
        assert main(words) == 0
    first, second = (json.loads(file.read_text())["figures"] for file in files)
    assert first["sha256"] == second["sha256"]
    assert first["done"]["value"] == 200
    assert "wait_mean" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words, expected",
    [
        (["--jobs", "0"], "--jobs: 0 is not valid; expected a whole number, at least 1"),
        (["--seed", "-1"], "--seed: -1 is not valid; expected a whole number, at least 0"),
        (["--load", "inf"], "--load: inf is not valid; expected a number, above 0"),
        (["--swf", "f", "--queue-wait", "inf"], "--queue-wait: inf is not valid; expected a number, at least 0"),
        (["--outages", "1e-9,5"], "--outages: '1e-9,5' is not valid; expected 2 numbers: a number, at least 1 and"),
        (["--drift", "1e-9"], "--drift: 1e-09 is not valid; expected a number, at least 1 and"),
        (["--trace", "f", "--interval", "1e-9"], "--interval: 1e-09 is not valid; expected a number, at least 1 and"),
        (["--qpus", "1000000", "--kinds", "11"], "qpus: 1000000 given, with 11 kinds of circuits; expected at most"),
        (["--json", "/"], "--json /: no file can be written there"),
        (["--plots", "/dev/null/plots"], "--plots /dev/null/plots: no files can be written there"),
        (["--swf", "f", "--outages", "5,5"], "outages: (5.0, 5.0) given, which is for circuits that are made up"),
        (["--trace", "f", "--load", "0.5"], "load: 0.5 given, which is for circuits that are made up: leave out trace"),
        (["--journal", "f", "--jobs", "5"], "jobs: 5 given, which is for circuits that are made up: leave out journal"),
        (["--interval", "5"], "interval: 5.0 given, which is for the queues of a trace"),
        (
            ["--swf", "f", "--nodes", "1000000000"],
            "--nodes: 1000000000 is not valid; expected a whole number, at least 1",
        ),
        (["--trace", "/none"], "trace: /none cannot be read"),
        (["--set", "c"], "--set: 'c' is not valid; expected NAME=VALUE"),
        (["--outages", "5"], "--outages: '5' is not valid; expected two numbers"),
        (["--policy", "none.toml"], "policy: none.toml cannot be read"),
    ],
)
def test_wrong_words(words: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", *words]) == 2
    assert expected in capsys.readouterr().err


def test_a_study_of_a_trace_needs_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", "qos-scheduler", "--study", "trace", "--output", str(tmp_path / "run")]
    assert main(words) == 2
    assert "trace: None is not valid: trace needs a file, give --trace FILE" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("read", [swf.read, traces.read])
def test_an_archive_without_its_end_is_refused(read: Callable[[Path], object], tmp_path: Path) -> None:
    path = tmp_path / "log.xz"
    path.write_bytes(lzma.compress(b"")[:-20])
    with pytest.raises(DescriptionError, match="cannot be read: Compressed file ended"):
        read(path)


@pytest.mark.parametrize("name", ["log.swf", "log.swf.xz"])
def test_a_log_that_begins_with_a_mark_is_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    text = ("1 100 -1 50 4 -1 -1 4" + 10 * " -1" + "\r\n").encode("utf-8-sig")
    path.write_bytes(lzma.compress(text) if path.suffix == ".xz" else text)
    (job,) = swf.read(path)
    assert (job.time, job.seconds) == (100.0, 50.0)


def test_a_log_whose_jobs_are_all_refused_takes_no_time(tmp_path: Path) -> None:
    path = tmp_path / "wide.swf"
    path.write_text("1 100 -1 50 1000 -1 -1 1000 -1 -1 1 1 1 1 1 -1 -1 -1\n")
    summary = scenarios.simulate(scenarios.Settings(swf=str(path))).summary()
    assert (summary["refused"], summary["makespan"]) == (1, 0.0)


def test_jobs_that_no_pilot_can_run_are_named_before_the_simulation(tmp_path: Path) -> None:
    path, said = tmp_path / "wide.swf", list[str]()
    why = "nodes has room for 8 such ranks, but 9 are needed"
    path.write_text(
        "".join(f"{at} {at} -1 5 {width} -1 -1 {width}" + 10 * " -1" + "\n" for at, width in enumerate((1, 9)))
    )

    class Policy(FirstComeFirstServed):
        def order(self, task: QueuedTask, now: float) -> Any:
            assert said == [f"1 of 2 jobs will be refused: {why}; give more nodes or cores"]
            return super().order(task, now)

    log = scenarios.simulate(scenarios.Settings(swf=str(path), nodes=4, cores=2), Policy(), warn=said.append)
    assert log.state.tolist() == [DONE, REFUSED]


def test_calibrations_of_one_simulation_do_not_change_the_next() -> None:
    """Where both have the same kinds."""
    kinds = jobs.synthetic(["a", "b"], 3, seed=1)
    settings = scenarios.Settings(jobs=300, drift=30.0)
    first, second = (scenarios.on_qpus(settings, scenarios.named("best-fidelity"), kinds).sha256() for _ in range(2))
    assert first == second
