"""The contract suite of mini-apps."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import msgspec
import psutil
import pytest

from pilot import registry
from pilot.cli.main import main
from pilot.wire.marks import MARK


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
        assert main(["run"]) == 0
        assert self.miniapp in capsys.readouterr().out

    def test_every_setting_is_a_flag_with_a_help(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert self.run("--help") == 0
        shown = capsys.readouterr().out
        settings: type[msgspec.Struct] = registry.load("pilot.miniapps", self.miniapp).Settings
        for field in msgspec.structs.fields(settings):
            assert f"--{field.name.replace('_', '-')}" in shown
            info = msgspec.inspect.type_info(field.type)
            about = (info.extra_json_schema or {}) if isinstance(info, msgspec.inspect.Metadata) else {}
            assert about.get("description"), f"{field.name} has no msgspec.Meta(description=...)"

    def test_a_flag_that_it_does_not_have(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert self.run("--no-such-flag") == 2
        assert "unknown argument '--no-such-flag'" in capsys.readouterr().err

    def test_it_runs_and_leaves_a_report(self, tmp_path: Path) -> None:
        """``report.json`` in the folder ``--output``; and no pilot is left."""
        before = set(agents())
        assert self.run(*self.flags, "--output", str(tmp_path / "output")) == 0
        assert isinstance(json.loads((tmp_path / "output/report.json").read_text()), dict)
        psutil.wait_procs(left := [one for one in agents() if one not in before], timeout=60)
        assert not [one for one in left if one.is_running()]


def agents() -> list[psutil.Process]:
    """The processes of pilots on this host that this process may look at."""
    found = []
    for process in psutil.process_iter():
        try:
            if MARK in process.environ() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:  # of another user, or gone
            continue
    return found
