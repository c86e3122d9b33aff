"""The command `pilot` with what shells, batch systems and people put around it: streams that are closed, full or read
no further, encodings without our signs, signals. The oracle is the file of ``--json`` and the exit code."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

pytestmark = pytest.mark.timeout(180)

PILOT = [sys.executable, "-m", "pilot.cli"]
HEAD = 'OPENQASM 2.0; include "qelib1.inc"; qreg q[{0}]; creg c[{0}];\n'
#: A name in Latin-1, which is no UTF-8.
NAME = os.fsdecode(b"caf\xe9.qasm")
SUBMIT = f"submit {NAME} --pilot process:1 --shots 50"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A circuit that takes a moment, one without measurements, and one that takes minutes."""
    folder = tmp_path_factory.mktemp("files")
    bell = HEAD.format(2) + "h q[0]; cx q[0],q[1];\n"
    (folder / "bell.qasm").write_text(bell + "measure q->c;\n")
    (folder / NAME).write_text(bell + "measure q->c;\n")
    (folder / "state.qasm").write_text(bell)
    slow = "".join(
        f"ry(0.{gate + 1}) q[{gate % 24}]; cx q[{gate % 24}],q[{(gate + 1) % 24}];\n" for gate in range(3000)
    )
    (folder / "slow.qasm").write_text(HEAD.format(24) + slow + "measure q->c;\n")
    return folder


def shell(folder: Path, words: str, redirection: str = "", **environment: str) -> tuple[int, str, str]:
    """Exit code of ``pilot``, and what came through."""
    command = f'exec 3>&1; {{ "$@"; echo "code $?" >&3; }} {redirection}'
    done = subprocess.run(
        ["bash", "-c", command, "bash", *PILOT, *words.split()],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    shown, _, code = done.stdout.rpartition("code ")
    return int(code), shown, done.stderr


def read(folder: Path) -> Any:
    """The file of ``--json``, which is gone then."""
    text = (folder / "r.json").read_text()
    (folder / "r.json").unlink()
    return json.loads(text)


@pytest.mark.parametrize(
    ("redirection", "code", "said"),
    [
        ("| true", 0, ""),
        ("> /dev/full", 1, "pilot: No space left on device\n"),
        ("<&- >&- 2>&-", 0, ""),
    ],
)
def test_the_file_is_written_whatever_happens_to_the_streams(
    folder: Path, redirection: str, code: int, said: str
) -> None:
    assert shell(folder, f"{SUBMIT} --json r.json", redirection)[::2] == (code, said)
    (record,) = read(folder)
    assert record["file"] == NAME
    assert sum(record["counts"].values()) == 50


@pytest.mark.parametrize("name", ["/dev/stdout", "./r.json"])
def test_the_table_is_not_written_over_a_file_that_is_standard_output(folder: Path, name: str) -> None:
    code, _, errors = shell(folder, f"{SUBMIT} --json {name}", "> r.json")
    assert (code, errors) == (0, "")
    assert sum(read(folder)[0]["counts"].values()) == 50


def test_signs_that_the_encoding_lacks_are_written_in_plain_ones(folder: Path) -> None:
    words = "submit state.qasm --pilot process:1 --observable ZZ --json r.json"
    code, shown, said = shell(folder, words, PYTHONIOENCODING="ascii")
    assert (code, said) == (0, "")
    assert "+1.000000 +- 0.000000" in shown
    assert read(folder)[0]["values"] == pytest.approx([1.0])


def test_results_whose_file_cannot_be_written_go_to_standard_output(folder: Path) -> None:
    code, shown, said = shell(folder, f"{SUBMIT} --json /dev/full")
    assert code == 1
    assert said.count("\n") == 1
    assert "--json /dev/full cannot be written: No space left on device; the results follow" in said
    assert sum(json.loads(shown)[0]["counts"].values()) == 50


@pytest.mark.parametrize(
    ("words", "good"), [("qpus", 0), ("doctor --site nonesuch.toml", 2), ("run --help", 0), ("nonesuch", 2)]
)
def test_no_command_ends_in_a_traceback(folder: Path, words: str, good: int) -> None:
    more = ["> /dev/full", "2>&1 | true"] if words in ("qpus", "nonesuch") else []
    for redirection in ("| true", "<&- >&- 2>&-", *more):
        unbuffered = "1" if redirection == "| true" else ""
        code, _, said = shell(folder, words, redirection, PYTHONUNBUFFERED=unbuffered)
        assert code in ((good, 141) if "true" in redirection else (good, 1)), redirection
        assert "Traceback" not in said, redirection
        assert "Exception" not in said, redirection


@pytest.mark.parametrize(("redirection", "number"), [("| true", 32), ("> /dev/full", 28), (">&-", 0)])
def test_a_mini_app_goes_on_when_nobody_takes_what_it_shows(folder: Path, redirection: str, number: int) -> None:
    code = """
import errno, sys
from pilot.cli import streams
streams.prepare()
try:
    with streams.lasting():
        for _ in range(100):
            print("± word" * 1000, flush=True)
        open("done", "w").close()
except OSError as error:
    streams.give_up_output()
    sys.exit(error.errno)
"""
    command = f'set -o pipefail; "$@" {redirection}'
    done = subprocess.run(["bash", "-c", command, "bash", sys.executable, "-c", code], cwd=folder, timeout=60)
    assert done.returncode == number
    (folder / "done").unlink()


def test_a_reader_that_goes_away_ends_the_table_of_qpus(folder: Path) -> None:
    assert shell(folder, "qpus fake:manila", "| true")[::2] == (141, "")


@pytest.mark.parametrize(
    ("words", "redirection", "said"),
    [
        ("submit - --shots 9", "<&-", "- cannot be read: it stands for standard input, which is closed"),
        ("qpus aer --estimate -", "<&-", "- cannot be read: it stands for standard input, which is closed"),
        (f"{SUBMIT} --json -", ">&-", "--json -: standard output is closed; name a file"),
    ],
)
def test_streams_that_are_needed_are_asked_for_first(folder: Path, words: str, redirection: str, said: str) -> None:
    code, _, line = shell(folder, words, redirection)
    assert code == 2
    assert said in line
    assert line.count("\n") == 1


@pytest.mark.parametrize("words", ["run dispatch --output /proc/nope", "run dispatch --output /dev/null/x"])
def test_a_folder_that_cannot_be_made_is_told_in_a_line(folder: Path, words: str) -> None:
    code, _, said = shell(folder, words)
    assert code == 1
    assert words.split()[-1].rpartition("/")[0] in said
    assert said.count("\n") == 1


# ---- signals --------------------------------------------------------------------------------------------------------


class Terminal:
    """``pilot submit`` with its standard error on a terminal, where the progress is shown."""

    def __init__(self, folder: Path, *words: str) -> None:
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [*PILOT, "submit", *words, "--pilot", "process:1", "--shots", "50", "--json", "r.json"],
            cwd=folder,
            env={**os.environ, "TERM": "xterm", "TMPDIR": str(folder), "COLUMNS": "100"},
            stdout=subprocess.PIPE,
            stderr=theirs,
            text=True,
        )
        os.close(theirs)
        self.shown = b""

    def read_until(self, text: bytes) -> None:
        """Until the terminal shows the text, or the process has ended."""
        try:
            while text not in self.shown:
                self.shown += os.read(self._ours, 10_000)
        except OSError:  # the other end is closed
            assert text == b"never"

    def end(self) -> str:
        """Wait for the end of the process; what it wrote to standard output."""
        self.read_until(b"never")
        os.close(self._ours)
        return self.process.communicate(timeout=60)[0]


@pytest.mark.parametrize(
    "numbers",
    [
        [signal.SIGINT] * 4,
        [signal.SIGHUP, signal.SIGTERM, signal.SIGHUP],
    ],
    ids=["SIGINT four times", "SIGHUP, SIGTERM and SIGHUP"],
)
def test_what_is_done_is_written_when_a_signal_ends_it(
    folder: Path,
    numbers: list[int],
    leftovers: Callable[[], list[psutil.Process]],
    eventually: Callable[..., Any],
) -> None:
    before = {process.pid for process in leftovers()}
    terminal = Terminal(folder, "bell.qasm", "slow.qasm")
    terminal.read_until(b"1/2 tasks")
    for number in numbers:
        terminal.process.send_signal(number)
    shown = terminal.end()
    assert terminal.process.returncode == 128 + numbers[0]  # of those that wait together, the lowest comes first
    assert b"pilot: stopped" in terminal.shown
    assert b"Traceback" not in terminal.shown
    bell, slow = read(folder)
    assert sum(bell["counts"].values()) == 50
    assert (slow["file"], slow["error"]) == ("slow.qasm", "cancelled")
    assert "counts" not in slow
    assert "bell.qasm on pilot-1" in shown
    eventually(lambda: {process.pid for process in leftovers()} <= before, timeout=60)
    assert not list(folder.glob("pilot-*"))


def test_a_mini_app_that_is_told_to_end_leaves_nothing_over(
    folder: Path, leftovers: Callable[[], list[psutil.Process]], eventually: Callable[..., Any]
) -> None:
    before = {process.pid for process in leftovers()}
    process = subprocess.Popen(
        [*PILOT, "run", "dispatch", "--pilot", "process:1", "--seconds", "1", "--output", "report"],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    eventually(lambda: {one.pid for one in leftovers()} - before, timeout=60)
    for number in (signal.SIGTERM, signal.SIGTERM):
        process.send_signal(number)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + signal.SIGTERM
    resume = "pilot run dispatch --pilot process:1 --seconds 1 --output report --resume"
    assert f"to continue: {resume}\n\npilot: stopped\n" in said
    assert "Traceback" not in said
    eventually(lambda: {one.pid for one in leftovers()} <= before, timeout=60)


def test_nohup_is_respected(folder: Path) -> None:
    command = ["bash", "-c", 'trap "" HUP; "$@" & kill -HUP $!; wait $!', "bash", *PILOT, "qpus"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


# ---- files ----------------------------------------------------------------------------------------------------------


def test_names_of_files_are_told_as_they_were_given(folder: Path) -> None:
    (folder / "other").mkdir()
    (folder / "other" / "bell.qasm").write_bytes((folder / "state.qasm").read_bytes())
    code, _, said = shell(folder, "submit bell.qasm other/bell.qasm --pilot process:1 --shots 5")
    assert code == 2
    assert "other/bell.qasm measures nothing" in said


def test_the_current_folder_was_removed(folder: Path) -> None:
    (folder / "gone").mkdir()
    command = 'cd gone && rmdir ../gone && exec "$@"'
    done = subprocess.run(
        ["bash", "-c", command, "bash", *PILOT, "submit", str(folder / "bell.qasm"), "--pilot", "process:1"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2
    assert (
        "working_directory: None is not valid; expected a folder: the current one, the default, was removed"
        in done.stderr
    )
    assert done.stderr.count("\n") == 1
