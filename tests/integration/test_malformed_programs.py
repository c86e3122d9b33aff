"""Untrusted programs: mutated ones, bombs, and the processes that parse them."""

import importlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
from qiskit.quantum_info import Operator

from pilot.errors import DescriptionError, ProgramError
from pilot.quantum import load
from pilot.quantum.programs import child, sandbox
from pilot.quantum.programs.problems import NAMES


@pytest.fixture(scope="module")
def formats():
    sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
    try:
        module = importlib.import_module("formats")
    finally:
        del sys.path[0]
    return module


@pytest.fixture(scope="module", autouse=True)
def ended():
    """No process stays behind."""
    yield
    sandbox.close()


def the_child():
    load("QINIT 1", untrusted=True)
    return psutil.Process(sandbox._pool._idle[-1].process.pid)


def test_mutated_programs(formats):
    """A fifth of what benchmarks/formats.py runs, with another seed."""
    chance = random.Random(21)
    programs = formats.valid_programs()
    wrong = 0
    for count in range(240):
        format, text = programs[count % len(programs)]
        text = formats.mutated(text, chance)
        try:
            load(text, format, untrusted=True)
        except ProgramError as error:
            wrong += 1
            assert error.line, str(error)
            assert 1 <= error.line <= text.count("\n") + 2
            assert str(error).startswith(f"{NAMES[format]}, line ")
            assert "stopped" not in str(error)
    assert wrong > 150


def doubling(opening, gate, closing):
    """Definitions that become 10^11 gates."""
    text = gate.format(0, "x a;" if "{{" in gate else "X a")
    for number in range(1, 12):
        call = f"g{number - 1} a" + (";" if "{{" in gate else "\n")
        text += gate.format(number, call * 10)
    return opening + text + closing


BOMBS = {
    "openqasm2": doubling('OPENQASM 2.0;\ninclude "qelib1.inc";\n', "gate g{} a {{ {} }}\n", "qreg q[1];\ng11 q[0];"),
    "originir": doubling("QINIT 1\n", "QGATE g{} a\n{}\nENDQGATE\n", "g11 q[0]"),
}


@pytest.mark.parametrize("format", BOMBS)
def test_bombs_are_stopped(format):
    stopped = r"longer than (4 s and|60 s by the clock)|MiB of memory|too long|more than 1000000 gates"
    with pytest.raises(ProgramError, match=stopped):
        load(BOMBS[format], format, untrusted=True)
    assert load("QINIT 1", untrusted=True).format == "originir", "the next one is served"


def nested(depth):
    """A gate that is two of another one, and so on: a short text, and a large program."""
    gates = [f"gate g{one} a {{ g{one - 1} a; g{one - 1} a; }}" for one in range(1, depth + 1)]
    lines = ['OPENQASM 2.0;\ninclude "qelib1.inc";', "gate g0 a { x a; }", *gates, f"qreg q[1];\ng{depth} q[0];"]
    return "\n".join(lines)


LARGE = {
    "cannot be read": (
        'OPENQASM 3.0;\ninclude "stdgates.inc";\nqubit[40] q;\nctrl(39) @ x '
        + ", ".join(f"q[{number}]" for number in range(40))
        + ";",
        {},
        "cannot be written as QPY and read again: .*at most 31",
    ),
    "size": (nested(8), {"MAX_ANSWER": 10_000}, "the parsed program has [0-9]+ bytes; at most 10000 are taken"),
    "time": (nested(8), {"READ_SECONDS": 1e-6}, "the parsed program takes .* s to read; at most 1e-06 s"),
    "memory": (nested(12), {"READ_MEMORY": 1 << 20}, "the parsed program takes [0-9]+ MiB of memory; at most 1 are"),
}


@pytest.mark.parametrize(("text", "limits", "said"), LARGE.values(), ids=LARGE)
def test_what_a_parsed_program_takes_is_limited(text, limits, said, monkeypatch):
    """In the process that parses it, before it comes back."""
    monkeypatch.setattr(child.resource, "setrlimit", lambda *limit: None)  # this process parses it
    for name, value in limits.items():
        monkeypatch.setattr(child, name, value)
    kind, answer = child._answer(text, "openqasm3" if "OPENQASM 3" in text else "openqasm2", 60.0)
    assert kind == b"E", answer[:200]
    assert re.search(said, json.loads(answer)["message"])
    assert json.loads(answer)["kind"] == "ProgramError"


def test_a_program_that_cannot_be_read_again_is_an_error():
    with pytest.raises(ProgramError, match="OpenQASM 3: the parsed program cannot be written as QPY"):
        load(LARGE["cannot be read"][0], untrusted=True)


@pytest.mark.parametrize(
    "text",
    [
        "QINIT 3\nCONTROL q[2]\nCU q[0],q[1],(1,2,3,4)\nU3 q[0],(1,2,3) controlled_by (q[1])\nENDCONTROL",
        'OPENQASM 3.0; include "stdgates.inc"; qubit[3] q; ctrl @ cu(1,2,3,4) q[0], q[1], q[2]; delay[100ns] q[0];',
    ],
)
def test_gates_and_delays_that_qpy_loses_come_through(text):
    ours, theirs = load(text).to_qiskit(), load(text, untrusted=True).to_qiskit()
    assert [one.operation.name for one in theirs.data] == [one.operation.name for one in ours.data]
    assert Operator(theirs).equiv(Operator(ours))


def test_memory_is_limited(monkeypatch):
    limit = the_child().rlimit(psutil.RLIMIT_AS)[1]
    assert the_child().memory_info().vms < limit <= the_child().memory_info().vms + sandbox.MEMORY
    text = "QINIT 1\n" + "CNOT q[0],q[0]\n" * 250_000
    monkeypatch.setattr(sandbox, "MEMORY", 32 << 20)
    sandbox.close()
    try:
        with pytest.raises(ProgramError, match="MiB of memory"):
            load(text, untrusted=True)
    finally:
        monkeypatch.undo()
        sandbox.close()


def test_a_killed_process_is_replaced():
    first = the_child()
    os.kill(first.pid, signal.SIGKILL)
    first.wait(60)
    assert load("QINIT 3", untrusted=True).to_qiskit().num_qubits == 3
    assert the_child().pid != first.pid


def test_a_crash_is_an_error():
    """The process is stopped, so that it cannot answer, and then killed."""
    child = the_child()
    child.suspend()
    timer = threading.Timer(0.2, child.kill)
    timer.start()
    with pytest.raises(ProgramError, match=r"OriginIR: the parser crashed \(SIGKILL\)"):
        load("QINIT 1", untrusted=True)
    timer.join()


def test_a_hang_is_an_error(monkeypatch):
    child = the_child()
    monkeypatch.setattr(sandbox, "CLOCK_SECONDS", 0.3)
    child.suspend()
    with pytest.raises(ProgramError, match=r"longer than 0\.3 s by the clock and was stopped"):
        load("QINIT 1", untrusted=True)
    assert not psutil.pid_exists(child.pid)


def test_time_is_that_of_the_processor(monkeypatch):
    """A parser that others keep from working, here by stopping it, has not used its time up."""
    child = the_child()
    child.suspend()
    timer = threading.Timer(1.0, child.resume)
    timer.start()
    assert sandbox.parse_apart("QINIT 1", "originir", seconds=0.9).num_qubits == 1
    timer.join()
    assert child.is_running()


def test_several_at_once():
    found = []
    threads = [
        threading.Thread(target=lambda size: found.append(load(f"QINIT {size}", untrusted=True)), args=(size,))
        for size in range(1, 9)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(program.to_qiskit().num_qubits for program in found) == list(range(1, 9))
    assert len(sandbox._pool._idle) <= sandbox.MAX_CHILDREN


@pytest.mark.parametrize("ending", ["exit", "kill"])
def test_nothing_stays_behind(ending, eventually):
    code = (
        "import sys, os, signal; from pilot.quantum import load; from pilot.quantum.programs import sandbox\n"
        "load('QINIT 1', untrusted=True)\n"
        "print(sandbox._pool._idle[0].process.pid, flush=True)\n"
        + ("" if ending == "exit" else "os.kill(os.getpid(), signal.SIGKILL)")
    )
    parent = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=ending == "exit")
    pid = int(parent.stdout)
    eventually(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)


def test_the_process_knows_no_secrets(monkeypatch):
    sandbox.close()
    monkeypatch.setenv("MY_API_TOKEN", "secret")
    assert "MY_API_TOKEN" not in the_child().environ()
    assert the_child().cwd() == "/"


def test_untrusted_text_is_no_path(tmp_path):
    path = tmp_path / "circuit.qasm"
    path.write_text("QINIT 1")
    with pytest.raises(ProgramError, match="its format is not recognised"):
        load(str(path), untrusted=True)
    with pytest.raises(DescriptionError, match="expected a text, since it is untrusted"):
        load(path, untrusted=True)
    with pytest.raises(ProgramError, match="line 2, column 9: unable to find"):
        load(f'OPENQASM 2.0;\ninclude "{path}";', untrusted=True)


def test_long_texts_are_refused():
    with pytest.raises(ProgramError, match="at most 4194304"):
        load("QINIT 1\n" * 1_000_000, untrusted=True)


def test_errors_come_back_whole():
    with pytest.raises(ProgramError) as caught:
        load("QINIT 2\nX q[2]", untrusted=True)
    error = caught.value
    assert (error.line, error.column, error.expected, error.format) == (2, 3, "q[0] to q[1]", "originir")


def test_a_program_is_parsed_where_many_files_are_open():
    sandbox.close()
    code = (
        "import os, resource; from pilot.quantum import load\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))\n"
        "files = [os.open('/dev/null', os.O_RDONLY) for _ in range(1100)]\n"
        "print(load('QINIT 3', untrusted=True).to_qiskit().num_qubits)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "3\n"
