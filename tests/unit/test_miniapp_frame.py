"""The frame of mini-apps: bars, folders, memory, scaling, tables. Nothing is started."""

from __future__ import annotations

import csv
import math
import random
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import msgspec
import pytest
from pilot_miniapps.dispatch import Dispatch, Settings
from pilot_miniapps.frame import (
    Bar,
    Figure,
    MiniApp,
    Oracle,
    Outcome,
    Run,
    execution,
    folder,
    metrics,
    needs,
    report,
    scaling,
)
from pilot_miniapps.frame.figures import is_time, judged

from pilot import DescriptionError, NoPilotError, PilotDescription, PilotError, TaskState
from pilot.cli.main import main
from pilot.interfaces.miniapps import RunRequest

PILOT = PilotDescription(engine="process", cores_per_node=2, name="p")
REMOTE = PilotDescription(resource="slurm://", engine="ray", cores_per_node=4, name="r")


# ---- bars -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_a_bar_in_time_grows_with_the_machine_and_one_in_rate_falls(seed: int) -> None:
    dice = random.Random(seed)
    limit, reference, share = dice.uniform(0.1, 100), dice.uniform(10, 200), dice.uniform(0.5, 1.5)
    slower = reference / 40
    for unit, here in (("s", limit * slower), ("tasks/s", limit / slower), ("ratio", limit), ("1", limit)):
        assert Bar("<=", limit, unit).is_met(here * share, reference) == (share <= 1)
        figure = judged(Figure(here * share, unit, f">= {limit!r}"), reference)
        assert figure.met == (share >= 1)
        assert figure.bar == f">= {limit!r}"
        assert (figure.scaled_bar is not None) == is_time(unit)


@pytest.mark.parametrize("text", ["", "1.6", "<=", "=< 2", "<= two", "<= 1 s", "<= nan <= 2"])
def test_a_text_that_is_no_bar_is_refused(text: str) -> None:
    with pytest.raises(DescriptionError, match="expected an operator and a number"):
        Bar.from_text(text)


def test_times_of_a_resumed_run_are_not_comparable(tmp_path: Path) -> None:
    manager: Any = None
    for resumed in (False, True):
        run = Run(manager, [], tmp_path, resumed)
        run.figure("seconds", 5.0, "s", "<= 1")
        run.figure("speedup", 1.0, "ratio", ">= 2", timed=True)
        run.figure("fidelity", 0.5, "", ">= .9")
        found = run.judged(40.0)
        assert found["fidelity"].met is False
        for key in ("seconds", "speedup"):
            assert found[key].met is (None if resumed else False)
            assert found[key].comparable is not resumed
        assert run.untimed() == {"fidelity": 0.5}


# ---- the folder -----------------------------------------------------------------------------------------------------


def begun(**changes: Any) -> folder.Beginning:
    request = RunRequest(name=changes.pop("name", "dispatch"), output=Path("x"), command="pilot run dispatch")
    versions = changes.pop("versions", {"ray": "2.60.0"})
    pilots = changes.pop("pilots", [PILOT])
    request = msgspec.structs.replace(request, scaling=changes.pop("scaling", ()))
    return folder.beginning(request, Settings(**changes), pilots, versions)


def test_a_folder_is_for_one_run(tmp_path: Path) -> None:
    path = tmp_path / "new" / "run"
    with pytest.raises(DescriptionError, match="holds no run to continue"), folder.opened(path, begun(), resume=True):
        pass
    assert not path.exists()
    with folder.opened(path, begun(), resume=False):
        for resume in (False, True):
            with (
                pytest.raises(DescriptionError, match="is used by process"),
                folder.opened(path, begun(), resume=resume),
            ):
                pass
    with (
        pytest.raises(DescriptionError, match=r"has a run already \(run.json\): --resume continues it"),
        folder.opened(path, begun(), resume=False),
    ):
        pass
    with folder.opened(path, begun(), resume=True):
        pass


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(DescriptionError, match="is a file; give a folder"),
        folder.opened(tmp_path / "file", begun(), resume=False),
    ):
        pass


@pytest.mark.parametrize("name", ["report.json", "metrics.csv", "session"])
def test_what_another_run_has_left_is_not_written_over(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(DescriptionError, match=name), folder.opened(tmp_path, begun(), resume=False):
        pass
    assert (tmp_path / name).read_text() == "mine"


DIFFERENT: dict[str, tuple[dict[str, Any], str]] = {
    "a setting": ({"seconds": 2.0}, "--seconds: 0.0, now 2.0"),
    "the mini-app": ({"name": "other"}, "the mini-app: dispatch, now other"),
    "a version": ({"versions": {"ray": "2.61.0"}}, "the version of ray: 2.60.0, now 2.61.0"),
    "a package": ({"versions": {"jax": "1"}}, "the version of ray: 2.60.0, now none"),
    "the pilots": (
        {"pilots": [msgspec.structs.replace(PILOT, cores_per_node=3)]},
        r"the pilots: \[.*cores_per_node=2.*\], now \[.*cores_per_node=3",
    ),
    "the series": ({"scaling": (1, 2)}, r"--scaling: none, now \[1, 2\]"),
}


@pytest.mark.parametrize("case", DIFFERENT)
def test_a_run_is_resumed_with_what_it_was_begun_with(case: str, tmp_path: Path) -> None:
    changes, message = DIFFERENT[case]
    with folder.opened(tmp_path, begun(), resume=False):
        pass
    with (
        pytest.raises(DescriptionError, match=f"{message}.*It was: pilot run dispatch"),
        folder.opened(tmp_path, begun(**changes), resume=True),
    ):
        pass


def test_a_damaged_beginning_is_told(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(DescriptionError, match="is damaged"), folder.opened(tmp_path, begun(), resume=True):
        pass


# ---- what it needs --------------------------------------------------------------------------------------------------


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    qubits: Annotated[tuple[int, ...], msgspec.Meta(min_length=1)] = (20,)
    copies: Annotated[int, msgspec.Meta(ge=1)] = 1
    text: str = "x"


class Sized(MiniApp):
    """An app that needs 16 bytes an amplitude."""

    Settings = Sizes

    def memory(self) -> int:
        return self.settings.copies * 16 * 2 ** max(self.settings.qubits)

    def work(self, run: Run) -> Outcome:
        return Outcome(oracle=Oracle(True, 0.0, "", "nothing"))


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (Sizes(qubits=(30, 50)), "make --qubits smaller \\(it is 30 50\\)"),
        (Sizes(qubits=(20,), copies=10**9), "make --copies smaller"),
        (Sizes(qubits=(60,)), "choose a smaller preset"),
    ],
)
def test_too_little_memory_is_refused_with_what_to_change(settings: Sizes, named: str) -> None:
    with pytest.raises(DescriptionError, match=f"need .* GiB of memory, and this machine has .* GiB free: {named}"):
        needs.check_memory(Sized(settings), [PILOT])
    needs.check_memory(Sized(settings), [REMOTE])  # nobody here knows that machine


def test_pilots_get_names_and_must_say_how_large_they_are() -> None:
    names = [one.name for one in needs.pilots_of(Sized(Sizes()), ())]
    assert names == ["ray-0", "dask-1"]
    with pytest.raises(DescriptionError, match="cores_per_node"):
        needs.pilots_of(Sized(Sizes()), [PilotDescription(resource="slurm://")])
    with pytest.raises(DescriptionError, match="a name that no other pilot of this run has"):
        needs.pilots_of(Sized(Sizes()), [PILOT, PILOT])
    whole = PilotDescription()  # of local://, where it is the machine that says so
    assert folder.described(whole)["cores_per_node"] == whole.cores


# ---- scaling --------------------------------------------------------------------------------------------------------


def asked(*counts: int, of: Any = None) -> RunRequest:
    return RunRequest(name="dispatch", output=Path("x"), scaling=counts, scaling_of=of)


@pytest.mark.parametrize(
    ("request_", "pilots", "sizes"),
    [
        (asked(1, 2, 4), [PILOT], [(1, 1), (2, 1), (4, 1)]),
        (asked(1, 2, 4), [REMOTE], [(4, 1), (4, 2), (4, 4)]),
        (asked(2, 3, of="pilots"), [PILOT], [(2, 1), (2, 1)]),
        (asked(1, 3, of="slots"), [REMOTE], [(1, 1), (3, 1)]),
    ],
)
def test_what_a_series_counts(request_: RunRequest, pilots: list[PilotDescription], sizes: Any) -> None:
    steps = [step for step in scaling.steps(Dispatch(Settings()), request_, pilots) if step.mode == "strong"]
    assert [(step.pilots[0].cores, step.pilots[0].number_of_nodes) for step in steps] == sizes
    for step in steps:
        assert len(step.pilots) == (step.count if request_.scaling_of == "pilots" else 1)
        assert len({one.name for one in step.pilots}) == len(step.pilots)


@pytest.mark.parametrize("counts", [(1,), (2, 1), (1, 1), (0, 1), (-1, 2)])
def test_what_is_no_series_is_refused(counts: tuple[int, ...]) -> None:
    with pytest.raises(DescriptionError, match="expected two or more numbers that grow"):
        scaling.steps(Dispatch(Settings()), asked(*counts), [PILOT])


def test_one_machine_has_no_more_nodes() -> None:
    with pytest.raises(DescriptionError, match="is on this machine, which is one node"):
        scaling.steps(Dispatch(Settings()), asked(1, 2, of="nodes"), [PILOT])


def test_weak_scaling_gives_each_step_as_many_times_the_work() -> None:
    steps = scaling.steps(Dispatch(Settings(tasks=(8, 16))), asked(2, 3, 4), [PILOT])
    assert {(step.count, step.app.settings.tasks) for step in steps if step.mode == "weak"} == {(4, (16, 32))}
    assert all(step.mode == "strong" for step in scaling.steps(Sized(Sizes()), asked(1, 2), [PILOT]))


@pytest.mark.parametrize("seed", range(2))
def test_efficiencies_are_those_of_the_textbook(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a serial part s: T(N) = s + w / N, so strong efficiency is Amdahl's, (s + w) / (N s + w)."""
    dice = random.Random(seed)
    serial, work = dice.uniform(0, 3), dice.uniform(1, 9)

    ran: list[Path] = []

    def rest() -> dict[str, Any]:
        oracle = {"passed": True, "deviation": 0, "unit": "tasks", "text": ""}
        return {"tasks": 1, "resumed": False, "oracle": oracle, "pilots": [], "results": {}}

    def execute(app: Dispatch, path: Path, pilots: Any, resume: bool, name: str) -> dict[str, Any]:
        ran.append(path)
        slots = sum(one.cores for one in pilots)
        times = app.settings.tasks[0] / 8
        return {"makespan": serial + work * times / slots, **rest()}

    monkeypatch.setattr(scaling, "execute", execute)
    monkeypatch.setattr(scaling, "reference_ms", lambda: 40.0)
    request = msgspec.structs.replace(asked(1, 2, 4), output=tmp_path)
    found = scaling.scale(Dispatch(Settings(tasks=(8,), seconds=1.0)), request, [PILOT])
    figures = {key: figure["value"] for key, figure in found["figures"].items()}
    for count in (2, 4):
        assert figures[f"efficiency_{count}"] == pytest.approx((serial + work) / (count * serial + work))
        assert figures[f"speedup_{count}"] == pytest.approx(count * figures[f"efficiency_{count}"])
        assert figures[f"weak_efficiency_{count}"] == pytest.approx(1.0)
    assert [path.name for path in sorted(ran)] == ["strong-1", "strong-2", "strong-4", "weak-2", "weak-4"]
    (tmp_path / "strong-2").mkdir()
    report.write(tmp_path / "strong-2", {"makespan": 1e9, **rest()})  # that was finished before
    ran.clear()
    (tmp_path / "report.json").unlink()
    again = scaling.scale(Dispatch(Settings(tasks=(8,), seconds=1.0)), request, [PILOT])
    assert "strong-2" not in {path.name for path in ran}
    assert again["figures"]["speedup_2"]["value"] < 1e-6
    assert found["figures"]["efficiency_4"]["met"] == (figures["efficiency_4"] >= 0.9)
    assert (tmp_path / "scaling.pdf").read_bytes().startswith(b"%PDF")


# ---- tables ---------------------------------------------------------------------------------------------------------


def task(number: int, submitted: float, started: float | None, seconds: float | None, state: TaskState) -> Any:
    info = SimpleNamespace(
        id=number,
        name=f"t{number}",
        pilot="p",
        host="h",
        node="n",
        worker="w",
        submitted=submitted,
        started=started,
        seconds=seconds,
        finished=None if started is None else started + (seconds or 0),
        attempts=(),
    )
    return SimpleNamespace(info=info, state=state, exception=lambda: ValueError("no, not this"))


def test_metrics_have_pilot_quantums_columns_first_and_times_in_utc(tmp_path: Path) -> None:
    dice = random.Random(5)
    tasks = [task(n, 1.8e9 + dice.uniform(0, 9), 1.8e9 + dice.uniform(9, 20), 1.5, TaskState.DONE) for n in range(9)]
    tasks += [task(9, 1.8e9, None, None, TaskState.CANCELLED), task(10, 1.8e9, 1.8e9 + 9, 0.5, TaskState.FAILED)]
    rows = [metrics.row(one) for one in tasks]
    metrics.write(tmp_path / "metrics.csv", rows)
    with (tmp_path / "metrics.csv").open() as file:
        read = list(csv.DictReader(file))
    assert tuple(read[0])[:10] == metrics.PILOT_QUANTUM_COLUMNS
    for one, line in zip(tasks[:9], read, strict=False):
        completed = datetime.fromisoformat(line["completion_time"])
        assert completed.utcoffset() == timedelta(0)
        assert completed.timestamp() == pytest.approx(one.info.finished, abs=1e-5)
        assert float(line["wait_time_secs"]) == pytest.approx(one.info.started - one.info.submitted, abs=1e-5)
    assert [line["status"] for line in read[8:]] == ["SUCCESS", "CANCELLED", "FAILED"]
    assert read[10]["error_msg"] == "ValueError: no, not this"
    last = max(one.info.finished for one in tasks if one.info.finished)
    assert metrics.makespan(rows) == pytest.approx(last - 1.8e9)
    assert metrics.makespan([]) == 0.0


def test_a_report_holds_arrays_and_refuses_what_is_none_of_json(tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    content = {"a": numpy.arange(3), "b": numpy.float64(0.5), "c": {1: (2, math.nan)}}
    assert report.write(tmp_path, report.builtins(content)) == {"a": [0, 1, 2], "b": 0.5, "c": {"1": [2, None]}}
    assert report.read(tmp_path) == report.builtins({"a": [0, 1, 2], "b": 0.5, "c": {"1": [2, None]}})
    assert report.read(tmp_path / "none") is None
    with pytest.raises(TypeError, match="a report cannot hold a complex"):
        report.builtins({"z": 1j})


def test_a_key_is_for_one_figure_and_a_spread_may_be_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(SimpleNamespace(), [], Path(), resumed=False)  # type: ignore[arg-type]
    run.figure("circuits", 3.0, "")
    with pytest.raises(ValueError, match="figure: 'circuits' was reported before"):
        run.figure("circuits", 4.0, "")
    figures = {"ratio": {"value": 2.0, "unit": "ratio", "spread": [None, None]}}
    written = {"name": "x", "rows": [], "figures": figures, "seconds": {"work": 1.0}}
    oracle = {"passed": True, "deviation": None, "unit": "", "text": "fine"}
    report.show({**written, "oracle": oracle}, Path())
    shown = [line.replace("│", "").split() for line in capsys.readouterr().out.splitlines()]
    assert ["ratio", "2", "ratio"] in shown and ["time:", "work", "1.00", "s"] in shown


def test_a_plot_that_cannot_be_drawn_leaves_the_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(app: Any, written: Any) -> Any:
        raise TypeError("None is no number")

    monkeypatch.setattr(Sized, "draw", broken)
    written = {"name": "x", "oracle": {"passed": True}, "figures": {}}
    undrawn = report.draw(Sized(Sizes()), tmp_path, written)
    assert report.failures({**written, **undrawn}) == ["its plots cannot be drawn: TypeError: None is no number"]
    assert 'raise TypeError("None is no number")' in capsys.readouterr().err


def test_what_failed_is_named() -> None:
    figures = {
        "slow": {"value": 3.0, "unit": "s", "bar": "<= 1", "scaled_bar": "<= 2", "met": False},
        "fine": {"value": 1.0, "unit": "s", "bar": "<= 1", "met": True},
        "resumed": {"value": 9.0, "unit": "s", "bar": "<= 1", "met": None, "comparable": False},
    }
    oracle = {"passed": False, "deviation": 1, "unit": "", "text": "two values were compared"}
    found = report.failures({"oracle": oracle, "figures": figures})
    assert found == ["the result is wrong: two values were compared", "slow is 3 s; its bar is <= 2"]


def test_rows_of_a_table_may_have_different_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written = {"name": "x", "rows": [{"width": 1}, {"gain": 2}], "figures": {}, "seconds": {}}
    oracle = {"passed": True, "deviation": 0, "unit": "", "text": "fine"}
    report.show({**written, "oracle": oracle}, tmp_path)
    head, first, second = [line for line in capsys.readouterr().out.splitlines() if "┃" in line or "│" in line][:3]
    assert head.index("width") < first.index("1") < head.index("gain") < second.index("2")


@pytest.mark.parametrize("error", [DescriptionError("qubits: 9 is too many"), NoPilotError("p is done")])
def test_what_the_work_finds_wrong_is_a_failure_that_other_settings_or_a_resumed_run_mend(
    error: PilotError,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def execute(app: Any, path: Path, *rest: Any, **more: Any) -> None:
        (path / "pilots.json").write_text("[]")
        raise error

    monkeypatch.setattr(execution, "execute", execute)
    assert main(["run", "dispatch", "--pilot", "process:1", "--output", str(tmp_path / "run")]) == 1
    said = capsys.readouterr().err
    assert f"pilot: {error}\n" in said
    assert ("to continue: pilot run dispatch" in said) is isinstance(error, NoPilotError)
    assert ("with other settings begin a run in another folder" in said) is isinstance(error, DescriptionError)


@pytest.mark.parametrize(
    "words, expected",
    [
        ("dispatch --output FILE", "FILE is a file; give a folder"),
        ("dispatch --output FILE/run", "FILE/run: no files can be written to FILE"),
        ("dispatch --output OLD", "OLD has a run already (report.json)"),
        ("dispatch --output NEW --resume", "NEW holds no run to continue"),
        (
            "dispatch --pilot srun://process:1",
            "'srun://' is not valid; expected srun:// inside a Slurm allocation only",
        ),
        ("variational --pilot process:2", "qpu: no pilot has 'fake:manila"),
        ("error-mitigation --pilot process:2", "qpus: no pilot has 'fake:manila'"),
        ("circuit-execution --devices fake:manila --pilot process:1", "no pilot has the QPU 'fake:manila'"),
        ("state-vector --ranks 4 --pilot process:2", "ranks: 4 are wanted, and the largest pilot has 2 cores"),
        ("qml-compression --slots 8", "slots: 8 are wanted, and the pilots have 2"),
        ("qml-classifier --platform gpu --pilot process:2", "platform: gpu, and no pilot has GPUs"),
        ("qos-pipeline --trace NEW", "trace: NEW cannot be read: No such file or directory"),
        ("qos-scheduler --trace SHORT", "trace: it lasts 2 hours; expected more than 24"),
        ("qos-estimator --study drift --calibrations NEW", "NEW cannot be read: No such file or directory"),
        ("qos-estimator --study drift --calibrations EMPTY", "calibrations: EMPTY has 0 calibrations; expected 31"),
        ("qos-estimator --study runtime --pilot process:2", "qpus: no pilot has 'fake:manila?clock=0.05&setup=3'"),
        (
            "qos-estimator --study ladder --ladder-snapshots manila lima",
            "fake:manila has 5 qubits, and the circuits of",
        ),
        (
            "qos-mitigator --study harm --choice-snapshots kolkata manila lima",
            "choice_snapshots: fake:lima has 5 qubits, and the circuits of the study harm have 6",
        ),
        (
            "qos-mitigator --study cost --snapshots manila",
            "the circuits of the study cost have 12: make qubits smaller",
        ),
        ("qos-scheduler --snapshots manila lima", "snapshots: fake:manila has 5 qubits, and the circuits of the"),
        (
            "qos-scheduler --rate 1 --hours 0.001",
            "rate: 1 is not valid with hours 0.001: that is 0.001 jobs; expected 10",
        ),
        ("qos-scheduler --batch 8", "batch: 8 is not valid with 8 snapshots: no circuit would wait"),
        ("qos-scheduler --study joint --trace LONG", "trace: QPU 'fake:q': there is no snapshot 'q'"),
        ("qos-pipeline --trace LONG", "trace: QPU 'fake:q': there is no snapshot 'q'"),
        ("qos-multiprogramming --snapshot guadalupe", "snapshot: fake:guadalupe has 16 qubits, and the circuits of"),
        ("error-mitigation --qubits 6", "qpus: fake:manila has 5 qubits, and the circuits of this run have 6"),
        ("circuit-execution --devices fake:manila", "devices: fake:manila has 5 qubits, and the circuits of QPUs"),
        ("variational --qpu fake:armonk", "qpu: fake:armonk has 1 qubit, and the circuits of H2 have 2"),
        ("variational --mitigation foo", "mitigation: ['foo'] is not valid"),
    ],
)
def test_a_plan_refuses_what_a_run_would_refuse(
    words: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FILE").touch()
    (tmp_path / "OLD").mkdir()
    (tmp_path / "OLD/report.json").touch()
    (tmp_path / "SHORT").write_text("q,2023-11-16T13:00:00,5,1\nq,2023-11-16T15:00:00,0,1\n")
    (tmp_path / "LONG").write_text("q,2023-11-16T13:00:00,5,1\nq,2023-11-18T15:00:00,0,1\n")
    (tmp_path / "EMPTY").write_text("day,last_update,what,where,property,value,unit\n")
    assert main(["run", *words.split(), "--plan"]) == 2
    assert expected in capsys.readouterr().err.replace(f"{tmp_path}/", "")
    assert {one.name for one in tmp_path.iterdir()} == {"FILE", "OLD", "SHORT", "LONG", "EMPTY"}


@pytest.mark.parametrize(
    "words, expected",
    [
        ("", "the mini-app's own pilot: PilotDescription.number_of_nodes: 2 is not valid"),
        ("--pilot srun://process:1 --scaling 1,2", "--scaling: PilotDescription.number_of_nodes: 2 is not valid"),
        ("--pilot srun://process:1:2", "--pilot: PilotDescription.number_of_nodes: 2 is not valid"),
    ],
)
def test_pilots_that_their_launcher_cannot_start_are_refused_whoever_names_them(
    words: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "1", "PATH": f"{tmp_path}:/bin"}.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "srun").touch(0o755)
    monkeypatch.setattr(Dispatch, "pilots", lambda self: ("srun://process:1:2",))
    assert main(["run", "dispatch", "--plan", *words.split()]) == 2
    assert expected in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, where", [("--scaling 1,100000 --pilot process:1", "--scaling"), ("--pilot process:100000", "--pilot")]
)
def test_more_workers_than_this_host_allows_are_refused(
    words: str, where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "dispatch", "--plan", *words.split()]) == 2
    expected = f"{where}: PilotDescription.cores_per_node: 100000 is not valid; expected at most "
    assert expected in capsys.readouterr().err


@pytest.mark.parametrize("slots, is_said", [(3, True), (2, False)])
def test_a_plan_says_how_many_slots_share_the_cores_of_this_host(
    slots: int, is_said: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(needs, "cores", lambda: 2)
    assert main(["run", "dispatch", "--plan", "--pilot", "process:1", "--scaling", f"1,{slots}"]) == 0
    assert (f"2 on this host, which up to {slots} slots share" in capsys.readouterr().out) == is_said


def test_a_series_that_has_not_begun_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "run" / "strong-1" / "session").mkdir(parents=True)
    (tmp_path / "run" / "run.json").touch()
    assert folder.abandoned(tmp_path / "run") and not (tmp_path / "run").exists()
    (tmp_path / "run" / "strong-1" / "session").mkdir(parents=True)
    (tmp_path / "run" / "strong-1" / "pilots.json").touch()
    assert not folder.abandoned(tmp_path / "run")


def test_a_miniapp_without_pilots_wants_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sized, "pilots", lambda self: ())
    with pytest.raises(DescriptionError, match="--pilot: this mini-app has no pilot of its own"):
        needs.pilots_of(Sized(Sizes()), ())
