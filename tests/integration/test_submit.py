"""`pilot submit`: files and standard input, what is wrong with them, and how it is stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from circuit_cases import SOON, Eventually, Leftovers

from pilot.cli import main as cli

pytestmark = pytest.mark.timeout(120)


BELL = 'OPENQASM 2.0; include "qelib1.inc"; qreg q[2]; creg c[2]; h q[0]; cx q[0],q[1]; measure q -> c;'


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "bell.qasm").write_text(BELL)
    (tmp_path / "state.qasm").write_text(BELL.replace("measure q -> c;", ""))
    (tmp_path / "bad.qasm").write_text("QINIT 2\nH q[0\n")
    (tmp_path / "bytes").write_bytes(b"\xff\x00\xfe")
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "words, code, said",
    [
        ("nonesuch.qasm", 2, "nonesuch.qasm cannot be read: No such file or directory\n"),
        ("folder", 2, "folder cannot be read"),
        ("bytes", 2, "bytes cannot be read"),
        ("bell.qasm bad.qasm", 2, "bad.qasm: OriginIR, line 2"),
        ("- -", 2, "can be read once"),
        ("bell.qasm --json nonesuch/x", 2, "--json nonesuch/x: no file can be written"),
        ("bell.qasm --json folder", 2, "no file can be written"),
        ("bell.qasm --json ./bell.qasm", 2, "--json ./bell.qasm: this is a file to read"),
        ("bell.qasm --shots 0", 2, "shots: 0 is not valid"),
        ("bell.qasm --format foo", 2, "format: 'foo' is not valid"),
        ("bell.qasm --pilot foo", 2, "pilot: 'foo' is not valid"),
        ("bell.qasm --qpu fake: --shots 5", 2, "which device"),
        ("bell.qasm --qpu nonesuch:x --shots 5", 2, "no QPU 'nonesuch'"),
        ("bell.qasm --shots 5 --qpu fake:lima --mitigation magic", 2, "'magic' is not one of them"),
        ("bell.qasm --shots 5 --share-qpu", 2, "--share-qpu needs a QPU"),
        ("bell.qasm state.qasm --pilot process:1", 2, "state.qasm measures nothing"),
    ],
)
def test_submit_says_what_is_wrong(
    files: Path, capsys: pytest.CaptureFixture[str], words: str, code: int, said: str
) -> None:
    assert cli.main(["submit", *words.split()]) == code
    assert said in capsys.readouterr().err


def test_submit_from_standard_input_and_files(files: Path) -> None:
    import json

    command = [sys.executable, "-m", "pilot.cli", "submit", "--pilot", "process:1", "--seed", "1", "--json", "-"]
    options = ["--shots", "500", "--qpu", "fake:manila"]
    results = subprocess.run(
        [*command, "-", "bell.qasm", *options, "--mitigation", "readout", "--share-qpu"],
        input=BELL,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    first, second = json.loads(results.stdout)
    assert (first["file"], second["file"], first["qpu"]) == ("-", "bell.qasm", "fake:manila")
    for counts in (first["counts"], second["counts"]):
        assert sum(counts.values()) == pytest.approx(500)


def test_submit_is_stopped(files: Path, leftovers: Leftovers, eventually: Eventually) -> None:
    before = {process.pid for process in leftovers()}
    process = subprocess.Popen(
        [sys.executable, "-m", "pilot.cli", "submit", "bell.qasm", "--shots", "5", "--qpu", "fake:manila?queue=60"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "HOME": str(files)},
    )
    eventually(lambda: list(files.glob(".quantum-pilot/**/*.job")), timeout=SOON)
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    eventually(lambda: {one.pid for one in leftovers()} <= before, timeout=60)
    assert not list(files.glob(".quantum-pilot/**/*.job"))
