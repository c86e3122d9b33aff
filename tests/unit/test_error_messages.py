"""What a mistake of a newcomer says: the field, what was given, what is valid, what to do next."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from qiskit import QuantumCircuit

from pilot import PilotDescription, PilotError, PilotManager, TaskDescription
from pilot.cli.main import main
from pilot.interfaces import TaskEnded


def bell(measured: bool = True) -> QuantumCircuit:
    circuit = QuantumCircuit(2, name="bell")
    circuit.h(0)
    circuit.cx(0, 1)
    if measured:
        circuit.measure_all()
    return circuit


#: id: (what is called with a manager without pilots, the start of its message)
CALLS: dict[str, tuple[Callable[[PilotManager], Any], str]] = {
    "an unknown field of a pilot": (
        lambda _: PilotDescription(cores=2),  # type: ignore[call-arg]
        "PilotDescription has no field 'cores' (did you mean 'cores_per_node'?); it has: resource, engine, ",
    ),
    "an unknown field of a task": (
        lambda _: TaskDescription(function=abs, num_cpu=2),  # type: ignore[call-arg]
        "TaskDescription has no field 'num_cpu' (did you mean 'num_cpus'?)",
    ),
    "an unknown key of a dict": (
        lambda manager: manager.submit_task({"function": abs, "retrys": 2}),
        "TaskDescription has no field 'retrys' (did you mean 'retries'?)",
    ),
    "a field without its name": (
        lambda _: TaskDescription(abs),  # type: ignore[misc]
        "TaskDescription takes its fields by name: TaskDescription(function=…)",
    ),
    "a walltime": (
        lambda _: PilotDescription(walltime="an hour"),
        "PilotDescription.walltime: 'an hour' is not valid; expected seconds above 0, a timedelta, or a text such as "
        '"1:30:00"',
    ),
    "a file that is not there": (
        lambda manager: manager.submit_task(TaskDescription(circuit="bell.qsm", shots=3)),
        "circuit: 'bell.qsm' is neither a program nor the name of a file that is there",
    ),
    "a site that there is not": (
        lambda _: PilotDescription(site="nosuch"),
        "PilotDescription.site: 'nosuch' is not valid; expected ",
    ),
    "a QPU without its kind": (
        lambda manager: manager.submit_pilot(PilotDescription(qpus=("kolkata",))),
        "there is no QPU 'kolkata'; expected KIND or KIND:NAME, such as fake:kolkata; kinds: aer, fake, ",
    ),
    "a snapshot that there is not": (
        lambda manager: manager.submit_pilot(PilotDescription(qpus=("fake:kolkatta",))),
        "PilotDescription.qpus: QPU 'fake:kolkatta': there is no snapshot 'kolkatta' (did you mean 'kolkata'?); there "
        "are aachen, ",
    ),
    "a part of a shot": (
        lambda _: TaskDescription(circuit=bell(), shots=1.5),  # type: ignore[arg-type]
        "TaskDescription.shots: 1.5 is not valid; expected a whole number of at least 1",
    ),
    "a word that is none of two": (
        lambda _: TaskDescription(circuit=bell(), fallback="simulate"),  # type: ignore[arg-type]
        "TaskDescription.fallback: 'simulate' is not valid; expected 'simulator', 'wait' or None",
    ),
    "a priority": (
        lambda _: TaskDescription(function=abs, priority="high"),  # type: ignore[arg-type]
        "TaskDescription.priority: 'high' is not valid; expected a whole number",
    ),
    "a size": (
        lambda _: TaskDescription(function=abs, memory=[8]),  # type: ignore[arg-type]
        "TaskDescription.memory: [8] is not valid; expected bytes, or a number with a unit, such as",
    ),
    "one kind of events": (
        lambda manager: manager.subscribe(print, kinds=TaskEnded),  # type: ignore[arg-type]
        "is not valid; expected a list of classes of events: AttemptEnded, ",
    ),
    "no kind of events": (
        lambda manager: manager.subscribe(print, kinds=[]),
        "kinds: [] is not valid; expected a list of classes of events: ",
    ),
    "no pilot yet": (
        lambda manager: manager.submit_task(pow, 2, 3),
        "no pilot can run this task: there is no pilot yet: call submit_pilot first",
    ),
}


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with PilotManager(tmp_path_factory.mktemp("session")) as manager:
        yield manager


@pytest.mark.parametrize("name", CALLS)
def test_calls(manager: PilotManager, name: str) -> None:
    call, text = CALLS[name]
    with pytest.raises(PilotError, match=re.escape(text)):
        call(manager)


def test_a_circuit_is_told_where_it_belongs(manager: PilotManager) -> None:
    manager.submit_pilot(PilotDescription(cores_per_node=1))
    with pytest.raises(PilotError, match=r"for a circuit TaskDescription\(circuit=…\)$"):
        manager.submit_task(bell())  # type: ignore[call-overload]


def test_whole_numbers_may_be_floats() -> None:
    assert TaskDescription(circuit=bell(), shots=1e3).shots == 1000  # type: ignore[arg-type]
    assert type(TaskDescription(function=abs, retries=2.0).retries) is int  # type: ignore[arg-type]
    assert TaskDescription(function=abs, memory=4e9).memory == 4_000_000_000  # type: ignore[arg-type]


#: The flags after a file's name, what the file has, and the message.
COMMANDS = [
    (["--mitigation", "readout"], True, "--mitigation needs a QPU: add --qpu fake:kolkata, or another one"),
    ([], False, "measures nothing: measure in the file, or add --observable ZZ"),
    (["--qpu", "fake:kolkata"], True, "a device has no exact results: add --shots 1000"),
    (["--qpu", "kolkata", "--shots", "9"], True, "there is no QPU 'kolkata'; expected KIND or KIND:NAME"),
    (["--qpu", "fake:kolkatta", "--shots", "9"], True, "there is no snapshot 'kolkatta' (did you mean 'kolkata'?)"),
]


@pytest.mark.parametrize(("flags", "measured", "text"), COMMANDS)
def test_commands_speak_of_their_flags(
    flags: list[str], measured: bool, text: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from qiskit import qasm2

    file = tmp_path / "bell.qasm"
    file.write_text(qasm2.dumps(bell(measured)))
    assert main(["submit", str(file), "--pilot", "process:1", *flags]) == 2
    assert text in capfd.readouterr().err


def test_a_problem_of_a_qpu_names_it_once(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["qpus", "ibm:ibm_fez"]) == 1
    assert capfd.readouterr().err.count("ibm:ibm_fez") == 1
