"""Flags, their help and their checks come from a mini-app's settings; every wrong input is one line."""

import contextlib
import re
import shlex
import signal
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import pytest

from pilot import registry
from pilot.cli import interruption, qpus, run, sessions, submit
from pilot.cli import main as cli
from pilot.errors import DescriptionError, PilotError


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    grid_size: Annotated[int, msgspec.Meta(ge=1, description="points a side")] = 8
    tolerance: Annotated[float, msgspec.Meta(gt=0, description="100% of the truth")] = 0.5
    method: Annotated[Literal["fast", "exact"], msgspec.Meta(description="how")] = "fast"
    pilot: Annotated[tuple[str, ...], msgspec.Meta(description="where")] = ("ray:1",)
    plot: Annotated[bool, msgspec.Meta(description="draw it")] = True
    limit: Annotated[int | None, msgspec.Meta(description="at most")] = None


class Sample:
    """A workload that only shows its settings."""

    Settings = Settings

    def __init__(self, settings):
        self.settings = settings

    def run(self):
        outcome = self.settings.limit
        if outcome == 1:
            raise KeyboardInterrupt
        if outcome == 2:
            raise PilotError("the pilot is gone; see agent.log")
        print(self.settings)


@pytest.fixture(autouse=True)
def only_the_sample(monkeypatch):
    monkeypatch.setattr(registry, "names", lambda group: ["sample"])
    monkeypatch.setattr(registry, "load", lambda group, name: Sample)


def parsed(*flags):
    parser = run.settings_parser(Settings, prog="pilot run sample", description="")
    return run.read_settings(Settings, parser, list(flags))


def test_every_field_is_a_flag():
    assert parsed() == Settings()
    assert parsed(
        *("--grid-size", "3", "--tolerance", "0.1", "--method", "exact", "--limit", "7"),
        *("--pilot", "dask:1", "--pilot", "ray:2", "--no-plot"),
    ) == Settings(grid_size=3, tolerance=0.1, method="exact", limit=7, pilot=("dask:1", "ray:2"), plot=False)


def test_help_shows_meaning_and_default(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["run", "sample", "--help"])
    shown = capsys.readouterr().out
    assert ended.value.code == 0
    for expected in (
        "only shows its settings",
        "--grid-size SIZE",
        "points a side (default: 8)",
        "exact|fast",
    ):
        assert expected in shown


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--grid-size", "x"], "--grid-size: 'x' given. Expected `int`"),
        (["--grid-size", "0"], "--grid-size: '0' given. Expected `int` >= 1"),
        (["--method", "slow"], "--method: 'slow' given"),
        (["--gird-size", "3"], "did you mean '--grid-size'?"),
    ],
)
def test_a_wrong_flag_is_named_with_what_is_allowed(flags, message, capsys):
    with pytest.raises(DescriptionError, match="pilot run sample --help"):
        parsed(*flags)
    assert cli.main(["run", "sample", *flags]) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert shown.count("\n") == 1


def test_an_unknown_miniapp_gets_the_nearest_name(capsys):
    assert cli.main(["run", "sampel"]) == 2
    assert "did you mean 'sample'?" in capsys.readouterr().err


def test_without_a_name_the_miniapps_are_listed(capsys):
    assert cli.main(["run"]) == 0
    assert "sample" in capsys.readouterr().out


@pytest.mark.parametrize(("limit", "status", "line"), [("1", 130, "pilot: stopped"), ("2", 1, "see agent.log")])
def test_ctrl_c_and_failures_end_in_one_line(limit, status, line, capsys):
    assert cli.main(["run", "sample", "--limit", limit]) == status
    assert line in capsys.readouterr().err


def test_what_goes_wrong_after_a_signal_is_not_told(monkeypatch, capsys):
    def broken_off(self):
        try:
            signal.raise_signal(signal.SIGTERM)
        except BaseException:  # as some packages do while they are imported
            raise ModuleNotFoundError("No module named 'version'") from None

    monkeypatch.setattr(Sample, "run", broken_off)
    assert cli.main(["run", "sample"]) == 143
    assert capsys.readouterr().err == "\npilot: stopped\n"


def test_a_signal_that_was_swallowed_can_be_given_again(monkeypatch, capsys):
    def swallowing(self):
        for _ in range(2):
            with contextlib.suppress(BaseException):
                signal.raise_signal(signal.SIGTERM)
            monkeypatch.setattr(interruption, "AGAIN_SECONDS", -1.0)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("still there")

    monkeypatch.setattr(interruption, "AGAIN_SECONDS", 600.0)
    monkeypatch.setattr(Sample, "run", swallowing)
    assert cli.main(["run", "sample"]) == 143
    assert capsys.readouterr().err == "\npilot: stopped\n"


def test_other_errors_are_not_hidden(monkeypatch):
    monkeypatch.setattr(Sample, "run", lambda self: 1 / 0)
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    with pytest.raises(ZeroDivisionError):
        cli.main(["run", "sample"])
    assert before == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]


PAGE = (Path(__file__).resolve().parents[2] / "docs/command_line.md").read_text()
LINES = re.findall(r"^ {4}(?:cat \S+ \| )?pilot ([^#|\n]*)", PAGE, re.MULTILINE)
CALLS = [
    *[(run, "run_miniapp"), (submit, "submit"), (qpus, "show"), (cli, "examine")],
    *[(sessions, name) for name in ("list_all", "show", "attach", "prepare")],
]


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.split("  ")[0])
def test_the_page_has_examples_that_are_accepted(line, monkeypatch):
    called = []
    for module, name in CALLS:
        monkeypatch.setattr(module, name, lambda *arguments, name=name: called.append(name) or 0)
    assert cli.main(shlex.split(line)) == 0
    assert len(called) == 1


def test_the_page_has_an_example_of_every_command(capsys):
    for command in ([], ["sessions"]):
        with pytest.raises(SystemExit):
            cli.main([*command, "--help"])
        names = re.findall(r"^    (\w+)  ", capsys.readouterr().out, re.MULTILINE)
        assert len(names) > 3
        for name in names:
            assert any(line.split()[: len(command) + 1] == [*command, name] for line in LINES), name
