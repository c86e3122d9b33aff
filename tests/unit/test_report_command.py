"""`pilot report`: figures of runs side by side, and what else is different."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from pilot.cli import main as cli

REPORT: dict[str, Any] = {
    "name": "dispatch",
    "configuration": {"tasks": [64], "seconds": 1.0},
    "versions": {"ray": "2.60.0"},
    "host": {"cpus": 2, "load": 0.5, "python": "3.11.7", "reference_ms": 41.5},
    "commit": "abc",
    "pilots": [{"name": "p", "description": {"resource": "local://", "engine": "ray", "cores_per_node": 2}}],
    "oracle": {"passed": True, "deviation": 0.0, "unit": "tasks", "text": "compared"},
    "figures": {
        "efficiency_4": {"value": 0.95, "unit": "ratio", "bar": ">= .9", "met": True, "spread": [0.9, 0.97]},
        "rate": {"value": 4000.0, "unit": "tasks/s"},
    },
    "seconds": {"work": 3.0},
    "rows": [],
}


def run(folder: Path, **changes: Any) -> str:
    """A folder with the report, changed."""
    folder.mkdir()
    (folder / "report.json").write_text(json.dumps({**copy.deepcopy(REPORT), **changes}))
    return str(folder)


def test_brackets_and_colons_of_a_folder_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run(tmp_path / "[old] :smile:[", configuration={"[/]": 1})
    assert cli.main(["report", folder, run(tmp_path / "b")]) == 0
    shown = capsys.readouterr().out
    assert "[old] :smile:[" in shown and "configuration: [/]" in shown


def test_figures_stand_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slower = {"efficiency_4": {"value": 0.5, "unit": "ratio", "bar": ">= .9", "met": False}}
    folders = [run(tmp_path / "a"), run(tmp_path / "b", figures=slower, resumed=True)]
    assert cli.main(["report", *folders]) == 0
    shown = capsys.readouterr().out
    for part in ("0.95 ratio (0.9 to 0.97)", ">= .9 met", ">= .9 MISSED", "4000 tasks/s", "resumed", "passed"):
        assert part in shown


def test_a_run_that_is_given_twice_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run(tmp_path / "a")
    for other in (folder, f"{folder}/", f"{folder}/../a/report.json"):
        assert cli.main(["report", folder, other]) == 2
        assert "one run is given twice" in capsys.readouterr().err


def test_a_bar_in_time_is_shown_as_it_holds_on_the_machine_of_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rate = {"value": 60.0, "unit": "tasks/s", "bar": ">= 100", "scaled_bar": ">= 50", "met": True}
    assert cli.main(["report", run(tmp_path / "a", figures={"rate": rate})]) == 0
    assert "60 tasks/s; >= 100, there >= 50 met" in " ".join(capsys.readouterr().out.replace("│", "").split())


def test_equal_runs_are_said_to_be_equal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load = {**REPORT["host"], "load": 9.0, "reference_ms": 55.0}
    assert cli.main(["report", run(tmp_path / "a"), run(tmp_path / "b", host=load)]) == 0
    assert "The runs have the same settings, versions, machine and commit." in capsys.readouterr().out


DIFFERENT: dict[str, dict[str, Any]] = {
    "configuration: seconds": {"configuration": {"tasks": [64], "seconds": 2.0}},
    "configuration: repeat": {"configuration": {"tasks": [64], "seconds": 1.0, "repeat": 2}},
    "versions: ray": {"versions": {"ray": "2.61.0"}},
    "host: cpus": {"host": {**REPORT["host"], "cpus": 4}},
    "commit": {"commit": "abc-dirty"},
    "mini-app": {"name": "circuit-cutting"},
    "pilots": {"pilots": []},
}


@pytest.mark.parametrize("key", DIFFERENT)
def test_what_is_different_is_said(key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [run(tmp_path / "a"), run(tmp_path / "b", **DIFFERENT[key])]
    assert cli.main(["report", *folders, "--json", str(tmp_path / "c.json")]) == 0
    assert key in capsys.readouterr().out
    written = json.loads((tmp_path / "c.json").read_text())
    assert list(written["differences"]) == [key]
    assert list(written["runs"]) == folders
    assert cli.main(["report", *folders, "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out) == written


def test_a_folder_without_a_report_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = run(tmp_path / "good")
    for name, content in (("empty", None), ("killed", {"run.json": "{}"}), ("bad", {"report.json": '{"name": 3}'})):
        (tmp_path / name).mkdir()
        for file, text in (content or {}).items():
            (tmp_path / name / file).write_text(text)
    for folder, said in (
        (tmp_path / "empty", "has no report.json: `pilot run` writes one"),
        (tmp_path / "killed", "its run has not finished: --resume continues it"),
        (tmp_path / "bad", "is not a report"),
        (tmp_path / "none", "has no report.json"),
    ):
        assert cli.main(["report", good, str(folder)]) == 2
        shown = capsys.readouterr().err
        assert said in shown
        assert shown.count("\n") == 1


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", run(tmp_path / "a"), "--json", str(tmp_path / "no" / "c.json")]) == 1
    shown = capsys.readouterr()
    assert "c.json cannot be written: No such file or directory" in shown.err
    assert "figures" in shown.out
