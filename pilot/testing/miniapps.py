"""The contract suite of mini-apps."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Sequence
from pathlib import Path

import msgspec
import psutil
import pytest

from pilot import registry
from pilot.cli.main import main
from pilot.wire.marks import MARK

#: In the environment of all that a test starts.
OWN = "PILOT_CONTRACT_TEST"


class MiniAppContract:
    """What every mini-app promises, as tests, through ``pilot run NAME``.

    A plugin's author subclasses it::

        class TestMyApp(MiniAppContract):
            miniapp = "my-app"
            flags = ("--size", "10")
    """

    #: The mini-app's name in the group ``pilot.miniapps``.
    miniapp: str
    #: With these it runs for seconds, on this host.
    flags: Sequence[str] = ()

    def run(self, *flags: str) -> int:
        """The exit status of ``pilot run NAME`` with these flags."""
        try:
            return main(["run", self.miniapp, *flags])
        except SystemExit as ended:  # of argparse, after the help
            return int(ended.code or 0)

    def test_it_is_listed(self, capsys: pytest.CaptureFixture[str]) -> None:
        """With the first line of its docstring."""
        assert main(["run", "--list"]) == 0
        about = (inspect.getdoc(registry.load("pilot.miniapps", self.miniapp)) or "").partition("\n")[0]
        assert about, "the class has no docstring"
        assert re.search(rf"^{re.escape(self.miniapp)} +{re.escape(about)}$", capsys.readouterr().out, re.MULTILINE)

    def test_every_setting_is_a_flag_with_a_help(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert self.run("--help") == 0
        shown = capsys.readouterr().out
        settings: type[msgspec.Struct] = registry.load("pilot.miniapps", self.miniapp).Settings
        for field in msgspec.structs.fields(settings):
            assert f"--{field.name.replace('_', '-')}" in shown
            info = msgspec.inspect.type_info(field.type)
            about = (info.extra_json_schema or {}) if isinstance(info, msgspec.inspect.Metadata) else {}
            assert about.get("description"), f"{field.name} has no msgspec.Meta(description=...)"

    def test_every_preset_is_valid(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """``--plan`` shows what would run, and starts nothing; what cannot be done here is refused in a line."""
        presets = registry.load("pilot.miniapps", self.miniapp).presets
        assert "laptop" in presets
        for preset in presets:
            status = self.run("--preset", preset, "--plan", "--output", str(tmp_path / preset))
            shown = capsys.readouterr()
            if status == 2 and preset != "laptop":  # too little memory, or no data
                assert shown.err.count("\n") == 1, shown.err
            else:
                assert (status, shown.err) == (0, "")
                assert "nothing is started" in shown.out
            assert not (tmp_path / preset).exists()

    def test_a_flag_that_it_does_not_have(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert self.run("--no-such-flag") == 2
        assert "unknown argument '--no-such-flag'" in capsys.readouterr().err

    def test_it_runs_and_leaves_a_report(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Report, metrics and plots in the folder ``--output``; no pilot is left; the folder is not used twice."""
        output = tmp_path / "output"
        monkeypatch.setenv(OWN, str(tmp_path))
        assert self.run(*self.flags, "--output", str(output)) == 0
        report = json.loads((output / "report.json").read_text())
        assert report["oracle"]["passed"] is True
        assert report["name"] == self.miniapp
        assert (output / "metrics.csv").read_text().count("\n") == report["tasks"] + 1
        assert (output / "timeline.pdf").read_bytes().startswith(b"%PDF")
        _, left = psutil.wait_procs(agents(str(tmp_path)), timeout=60)
        assert not left
        capsys.readouterr()
        assert self.run(*self.flags, "--output", str(output)) == 2
        assert "has a run already" in capsys.readouterr().err
        assert self.run(*self.flags, "--output", str(output), "--resume") == 0
        assert "nothing runs" in capsys.readouterr().err


def agents(own: str) -> list[psutil.Process]:
    """The processes of the pilots that this test has started, not those of others on this host."""
    found = []
    for process in psutil.process_iter():
        try:
            environment = process.environ()
            if MARK in environment and environment.get(OWN) == own and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:  # of another user, or gone
            continue
    return found
