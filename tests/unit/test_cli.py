"""Flags, their help and their checks come from a mini-app's settings; every wrong input is one line."""

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import pytest

from pilot import registry
from pilot.cli import (
    estimates,
    fields,
    flags,
    interruption,
    qpus,
    remote,
    report,
    run,
    serve,
    session_files,
    sessions,
    simulate,
    sites,
    submit,
)
from pilot.cli import main as cli
from pilot.errors import DescriptionError, PilotError


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    grid_size: Annotated[int, msgspec.Meta(ge=1, description="points a side")] = 8
    tolerance: Annotated[float, msgspec.Meta(gt=0, description="100% of the truth")] = 0.5
    method: Annotated[Literal["fast", "exact"], msgspec.Meta(description="how")] = "fast"
    sizes: Annotated[tuple[str, ...], msgspec.Meta(description="where")] = ("small",)
    plot: Annotated[bool, msgspec.Meta(description="draw it")] = True
    limit: Annotated[int | None, msgspec.Meta(description="at most")] = None


class Sample:
    """A workload that only shows its settings."""

    Settings = Settings
    presets = {"laptop": {}, "paper": {"grid_size": 1024}, "scaling": {"grid_size": 16}}  # noqa: RUF012
    packages = ()

    def __init__(self, settings):
        self.settings = settings

    def run(self, request):
        outcome = self.settings.limit
        if outcome == 1:
            raise KeyboardInterrupt
        if outcome == 2:
            raise PilotError("the pilot is gone; see agent.log")
        print(self.settings)
        print(request)
        return 0


@pytest.fixture(autouse=True)
def only_the_sample(monkeypatch):
    names, check, load = registry.names, registry.check, registry.load
    monkeypatch.setattr(registry, "names", lambda group: ["sample"] if group == "pilot.miniapps" else names(group))
    monkeypatch.setattr(registry, "check", lambda group, name: group == "pilot.miniapps" or check(group, name))
    monkeypatch.setattr(
        registry, "load", lambda group, name: Sample if group == "pilot.miniapps" else load(group, name)
    )


def parsed(*words):
    parser = flags.new_parser("pilot run sample", "")
    flags.add_settings(parser, "settings", Settings)
    known = [flags.flag(field.name) for field in msgspec.structs.fields(Settings)]
    return flags.read_settings(Settings, parser, ("--{}", flags.parse(parser, words, known)))


def asked(capsys, *words):
    """The settings and the request that the sample got, as text."""
    assert cli.main(["run", "sample", *words]) == 0
    return capsys.readouterr().out


def test_every_field_is_a_flag():
    assert parsed() == Settings()
    assert parsed(
        *("--grid-size", "3", "--tolerance", "0.1", "--method", "exact", "--limit", "7"),
        *("--sizes", "1", "2", "--sizes", "3", "--no-plot"),
    ) == Settings(grid_size=3, tolerance=0.1, method="exact", limit=7, sizes=("1", "2", "3"), plot=False)


def test_a_number_may_begin_with_its_point():
    assert parsed("--tolerance", ".5").tolerance == 0.5
    assert parsed("--tolerance", ".5e-3").tolerance == 0.0005


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


def test_qpus_that_cannot_exist_are_refused_before_anything_starts(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Sample, "qpus", lambda self: ["aer", self.settings.sizes[0]], raising=False)
    site = tmp_path / "site.toml"
    site.write_text('engine = "process"\ncores_per_node = 1\nqpus = ["fake:kolkatta"]\n')
    for words, message in (
        (["--sizes", "nix:a"], "there is no QPU 'nix'; known: aer, fake"),
        (["--sizes", "aer", "--pilots", str(site)], "--pilot: PilotDescription.qpus: QPU 'fake:kolkatta'"),
    ):
        assert cli.main(["run", "sample", *words, "--plan"]) == 2
        assert message in capsys.readouterr().err
    assert cli.main(["run", "sample", "--sizes", "aer"]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--grid-size", "x"], "--grid-size: 'x' is not valid; expected a whole number, at least 1"),
        (["--grid-size", "0"], "--grid-size: '0' is not valid; expected a whole number, at least 1"),
        (["--method", "slow"], "--method: 'slow' is not valid; expected one of exact, fast"),
        (["--gird-size", "3"], "did you mean '--grid-size'?"),
    ],
)
def test_a_wrong_flag_is_named_with_what_is_allowed(words, message, capsys):
    with pytest.raises(DescriptionError, match="pilot run sample --help"):
        parsed(*words)
    assert cli.main(["run", "sample", *words]) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert shown.count("\n") == 1


def test_an_unknown_miniapp_gets_the_nearest_name(capsys):
    assert cli.main(["run", "sampel"]) == 2
    assert "did you mean 'sample'?" in capsys.readouterr().err


def test_without_a_name_the_miniapps_are_listed(capsys):
    assert cli.main(["run"]) == 0
    assert "sample" in capsys.readouterr().out


def test_settings_come_from_the_preset_then_the_file_then_the_flags(tmp_path, capsys):
    (tmp_path / "c.toml").write_text('grid-size = 5\nmethod = "exact"\n')
    config = ["--config", str(tmp_path / "c.toml")]
    assert "grid_size=8," in asked(capsys)
    assert "grid_size=1024," in asked(capsys, "--preset", "paper")
    assert "grid_size=16," in asked(capsys, "--scaling", "1,2")
    assert "grid_size=8," in asked(capsys, "--scaling", "1,2", "--preset", "laptop")
    both = asked(capsys, "--preset", "paper", *config)
    assert "grid_size=5," in both
    assert "method='exact'" in both
    assert "grid_size=3," in asked(capsys, "--preset", "paper", *config, "--grid-size", "3")


def test_the_flags_of_a_run_make_a_request(tmp_path, capsys):
    (tmp_path / "site.toml").write_text('[cpu]\ncores_per_node = 3\n[gpu]\nname = "g"\ncores_per_node = 1\n')
    shown = asked(
        capsys,
        *("--pilot", "process:2", "--pilots", str(tmp_path / "site.toml"), "--output", "out"),
        *("--resume", "--plan", "--scaling", "1,2,4", "--scaling-of", "pilots"),
    )
    for part in ("name='sample'", "'cpu'", "'g'", "resume=True", "plan=True", "(1, 2, 4)", "'pilots'", "'out'"):
        assert part in shown
    assert "--scaling-of pilots'" in shown  # the command, to be repeated
    assert re.search(rf"runs/sample-\d+-\d+-{os.getpid()}\b", asked(capsys))  # others may begin in the same second


@pytest.mark.parametrize(
    "words",
    [
        ["simulate", "--swf", ""],
        ["simulate", "--json", ""],
        ["doctor", "--session="],
        ["sessions", "show", "lab", "--plot", ""],
        ["submit", "", "--shots", "1"],
        ["token", "new", "--user", ""],
        ["qpus", "fake:manila", "--estimate", ""],
        ["run", ""],
    ],
    ids=" ".join,
)
def test_an_empty_value_is_refused(words, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    assert ended.value.code == 2
    assert "'' is not valid; expected a text that is not empty" in capsys.readouterr().err


@pytest.mark.parametrize("words", ["--shots 5", "--optimization-level 1", "--prices prices.toml"])
def test_what_goes_with_an_estimate_needs_one(words, capsys):
    assert cli.main(["qpus", "fake:manila", *words.split()]) == 2
    assert f"pilot: qpus: {words}: it needs --estimate FILE" in capsys.readouterr().err


def test_the_port_of_a_page_needs_the_page(capsys):
    assert cli.main(["sessions", "show", "lab", "--port", "0"]) == 2
    assert "pilot: sessions show: --port 0: it needs --web" in capsys.readouterr().err


WRONG = {
    "no name": (["--output", ""], "--output: '' is not valid; expected a text that is not empty"),
    "preset": (
        ["--preset", "papre"],
        "--preset: 'papre' given; there are laptop, paper, scaling (did you mean 'paper'?)",
    ),
    "no file": (["--config", "/no/such.toml"], "--config: /no/such.toml cannot be read: No such file"),
    "not TOML": (["--config", "bad.toml"], "--config: bad.toml is not valid TOML"),
    "not a setting": (["--config", "other.toml"], "--config other.toml, gird-size: there is no such setting"),
    "out of bounds": (
        ["--config", "bounds.toml"],
        "--config bounds.toml, grid-size: 0 is not valid; expected a whole number",
    ),
    "not a pilot": (["--pilot", "ray"], "--pilot: "),
    "no launcher": (["--pilot", "mars://ray:2"], "--pilot: there is no launcher 'mars'"),
    "no pilots": (["--pilots", "/no/such.toml"], "--pilots: /no/such.toml cannot be read"),
    "wrong pilots": (["--pilots", "pilots.toml"], "table [one]"),
    "resume what": (["--resume"], "--resume: it needs the --output"),
    "scaling of what": (["--scaling-of", "nodes"], "--scaling-of: it needs --scaling"),
    "scaling of": (
        ["--scaling", "1,2", "--scaling-of", "cores"],
        "--scaling-of: 'cores' is not valid; expected one of nodes",
    ),
    "scaling": (["--scaling", "1,x"], "--scaling: '1,x' given; expected whole numbers"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_one_line(case, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.toml").write_text("grid = = 3")
    (tmp_path / "other.toml").write_text("gird_size = 3")
    (tmp_path / "bounds.toml").write_text("grid_size = 0")
    (tmp_path / "pilots.toml").write_text("[one]\ncores_per_node = -1\n")
    words, message = WRONG[case]
    assert cli.main(["run", "sample", *words]) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert shown.count("\n") == 1


def test_a_setting_with_the_name_of_a_flag_of_the_run_is_refused(monkeypatch, capsys):
    class Clash(msgspec.Struct, frozen=True):
        output: Annotated[str, msgspec.Meta(description="where")] = ""

    monkeypatch.setattr(Sample, "Settings", Clash)
    assert cli.main(["run", "sample"]) == 2
    assert "settings that are flags of `pilot run`: output" in capsys.readouterr().err


def test_a_missing_package_is_refused_with_the_extra(monkeypatch, capsys):
    monkeypatch.setattr(Sample, "packages", ("json", "no_such_package", "no_such.module"))
    monkeypatch.setattr(registry, "extras", lambda group, name: ("qml",))
    assert cli.main(["run", "sample"]) == 2
    assert "needs no_such_package, no_such.module, which is not installed" in (shown := capsys.readouterr().err)
    assert "pip install 'quantum-pilot[qml]'" in shown


@pytest.mark.parametrize(("limit", "status", "line"), [("1", 130, "pilot: stopped"), ("2", 1, "see agent.log")])
def test_ctrl_c_and_failures_end_in_one_line(limit, status, line, capsys):
    assert cli.main(["run", "sample", "--limit", limit]) == status
    assert line in capsys.readouterr().err


def test_what_goes_wrong_after_a_signal_is_not_told(monkeypatch, capsys):
    def broken_off(self, request):
        try:
            signal.raise_signal(signal.SIGTERM)
        except BaseException:  # as some packages do while they are imported
            raise ModuleNotFoundError("No module named 'version'") from None

    monkeypatch.setattr(Sample, "run", broken_off)
    assert cli.main(["run", "sample"]) == 143
    assert capsys.readouterr().err == "\npilot: stopped\n"


def test_a_signal_that_was_swallowed_can_be_given_again(monkeypatch, capsys):
    def swallowing(self, request):
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
    monkeypatch.setattr(Sample, "run", lambda self, request: 1 / 0)
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    with pytest.raises(ZeroDivisionError):
        cli.main(["run", "sample"])
    assert before == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]


ROOT = Path(__file__).resolve().parents[2]
COMMAND = re.compile(r"^(?: {4}|\$ )(?:cat \S+ \| )?pilot (?!=)([^#|\n]*)", re.MULTILINE)
PAGE = (ROOT / "docs/command_line.md").read_text()
LINES = COMMAND.findall(PAGE)
#: Of the other pages.
FURTHER = sorted(
    {
        line.strip().replace("…", "0").removesuffix(" &")
        for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
        for line in COMMAND.findall(page.read_text())
    }
    - {line.strip() for line in LINES}
)
CALLS = [
    *[(run, "list_all"), (run, "run_miniapp"), (report, "compare")],
    *[
        (submit, "submit"),
        (qpus, "show"),
        (estimates, "show"),
        (cli, "examine"),
        (fields, "show"),
        (simulate, "simulate"),
    ],
    *[(sessions, name) for name in ("list_all", "show", "plot", "show_page", "attach", "prepare")],
    *[(session_files, name) for name in ("logs", "stop", "clean")],
    *[(sites, name) for name in ("list_all", "show", "check")],
    *[(serve, name) for name in ("serve", "new_token", "list_tokens", "revoke_token")],
    *[(remote, name) for name in ("status", "result", "cancel", "explain")],
]


@pytest.mark.parametrize("line", [*LINES, *FURTHER], ids=lambda line: line.split("  ")[0])
def test_pages_have_examples_that_are_accepted(line, monkeypatch):
    called = []
    for module, name in CALLS:
        monkeypatch.setattr(module, name, lambda *arguments, name=name: called.append(name) or 0)
    assert cli.main(shlex.split(line)) == 0
    assert len(called) == 1


def test_the_page_has_an_example_of_every_command(capsys):
    for command in ([], ["sessions"], ["sites"]):
        with pytest.raises(SystemExit):
            cli.main([*command, "--help"])
        names = re.findall(r"^    (\w+)(?:  |$)", capsys.readouterr().out, re.MULTILINE)
        assert len(names) >= 3
        for name in names:
            assert re.search(rf"\b{' '.join(['pilot', *command, name])}\b", PAGE), name


@pytest.mark.parametrize("settings", [None, dict, Settings()])
def test_settings_that_are_no_struct_are_named(settings, monkeypatch, capsys):
    monkeypatch.setattr(Sample, "Settings", settings)
    assert cli.main(["run", "sample"]) == 2
    assert "the mini-app 'sample': Settings is " in capsys.readouterr().err


def test_commands_are_imported_where_ctrl_c_is_taken():
    code = "import sys, pilot.cli.main; print([name for name in sys.modules if name == 'pilot.cli.run'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "submit bell.qasm --shot 10",
            r"^usage: pilot submit .*unrecognized arguments: --shot 10 \(did you mean '--shots'",
        ),
        ("sessions show lab --jsn", r"^usage: pilot sessions show .*--jsn \(did you mean '--json'\?\)"),
        ("sessions show lab extra", r"^usage: pilot sessions show .*unrecognized arguments: extra$"),
        ("--versoin", r"^usage: pilot .*"),
    ],
)
def test_an_unknown_argument_is_refused_by_its_command(line, said, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(line.split())
    assert re.search(said, capsys.readouterr().err.strip(), re.DOTALL)


@pytest.mark.parametrize("flag", ["--token-file", "--ca"])
def test_flags_of_a_service_need_one(flag, tmp_path, capsys):
    file = tmp_path / "bell.qasm"
    file.write_text("OPENQASM 2.0;")
    assert cli.main(["submit", str(file), flag, "token"]) == 2
    assert capsys.readouterr().err == f"pilot: submit: {flag} token: it needs --server URL\n"


def test_no_sites_are_told(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("QUANTUM_PILOT_SITES", str(tmp_path))
    for command in ("ls", "check"):
        assert cli.main(["sites", command]) == 0
        assert f"no sites in {tmp_path}" in capsys.readouterr().err
