"""What goes wrong for somebody new with circuits: wrong fields, QPUs that misbehave, processes that are killed.

Each mistake ends in an error that says so, nothing hangs, and the pilot goes on.
"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.circuit.random import random_circuit
from qiskit.quantum_info import SparsePauliOp

from pilot import (
    DescriptionError,
    NoPilotError,
    PilotDescription,
    PilotManager,
    PilotState,
    SessionError,
    Task,
    TaskDescription,
    registry,
)
from pilot.cli import main as cli
from pilot.errors import DependencyFailed, PilotError, QPUError, QPUUnavailable, TaskTimeout
from pilot.worker import device

pytestmark = pytest.mark.timeout(120)

Eventually = Callable[..., Any]
Leftovers = Callable[[], list[psutil.Process]]

#: Seconds for what takes a moment; a test that gets here has found something that hangs.
SOON = 60.0


def bell(measured: bool = True) -> QuantumCircuit:
    circuit = QuantumCircuit(2, name="bell")
    circuit.h(0)
    circuit.cx(0, 1)
    if measured:
        circuit.measure_all()
    return circuit


def describe(circuit: Any, **wishes: Any) -> TaskDescription:
    return TaskDescription(circuit=circuit, **wishes)


def total(task: Task) -> float:
    """Samples of the task's result."""
    return float(sum(task.result(timeout=SOON).get_counts().values()))


# ---- a plugin that misbehaves as its address says -------------------------------------------------------------------

PLUGIN = '''
import os, threading, time
from pilot.errors import QPUCancelled, QPUUnavailable
from pilot.interfaces import QPU, QPUInfo
from pilot.quantum.circuits import run_circuit


class Moody(QPU):
    """moody:KIND[/FILE]: what is wrong with it, and where it counts what it did."""

    def __init__(self, name, address):
        super().__init__(name, address)
        self.kind, _, self.notes = address.partition("/")
        self.ended = threading.Event()

    def _count(self):
        with open("/" + self.notes, "a") as file:
            file.write("x")
        return os.path.getsize("/" + self.notes)

    def open(self):
        if self.kind == "raises":
            raise RuntimeError("the crystals are empty")
        if self.kind == "exits":
            os._exit(3)
        if self.kind == "hangs":
            time.sleep(300)

    def info(self):
        if self.kind == "info":
            raise KeyError("qubits")
        return QPUInfo(name=self.name, qubits=5)

    def target(self):
        return None

    def run(self, run):
        circuits = run.circuits
        if self.kind == "run":
            raise ZeroDivisionError("half a qubit")
        if self.kind == "few":
            circuits = circuits[:-1]
        if self.kind == "away" and self._count() % 2:
            raise QPUUnavailable("it is being calibrated", qpu=self.name)
        if self.kind == "order":
            with open("/" + self.notes, "a") as file:
                file.write("".join(circuit.name + "\\n" for circuit in circuits))
        run.on_job("job")
        if self.ended.wait({"slow": 1, "waits": 60}.get(self.kind, 0)):
            raise QPUCancelled("it was cancelled", qpu=self.name)
        return [run_circuit(circuit, run.shots, seed) for circuit, seed in zip(circuits, run.seeds)]

    def cancel(self):
        self.ended.set()
'''


@pytest.fixture(scope="module", autouse=True)
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The plugin, as if it were installed."""
    folder = tmp_path_factory.mktemp("plugins")
    (folder / "moody.py").write_text(PLUGIN)
    info = folder / "made_up-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: made-up\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[pilot.qpus]\nmoody = moody:Moody\n")
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    registry._group.cache_clear()
    yield folder
    sys.path.remove(str(folder))
    registry._group.cache_clear()
    device.is_device.cache_clear()


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory, plugin: Path, eventually: Eventually) -> Iterator[PilotManager]:
    """Two cores without devices, and a small fake QPU of another pilot."""
    with PilotManager(tmp_path_factory.mktemp("session") / "s") as manager:
        manager.submit_pilot(PilotDescription(cores_per_node=2, name="cpu"))
        manager.submit_pilot(PilotDescription(cores_per_node=1, qpus=["fake:manila"], name="devices"))
        eventually(lambda: manager.qpus, timeout=60)
        yield manager


@pytest.fixture(autouse=True)
def pilots_go_on(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each mistake the pilots still take tasks."""
    yield
    if "manager" in request.fixturenames:
        manager: PilotManager = request.getfixturevalue("manager")
        assert manager.submit_task(pow, 2, 3).result(timeout=SOON) == 8
        assert total(manager.submit_task(describe(bell(), shots=7, qpu="fake:manila"))) == 7


# ---- wrong fields ---------------------------------------------------------------------------------------------------


def with_angle(angle: Any, **more: Any) -> QuantumCircuit:
    circuit = QuantumCircuit(1, **more)
    circuit.rx(angle, 0)
    circuit.measure_all()
    return circuit


def named(name: str) -> QuantumCircuit:
    circuit = bell()
    circuit.name = name
    return circuit


state = bell(measured=False)
free = with_angle(Parameter("t"))
two = with_angle(Parameter("t"), global_phase=Parameter("u"))
wide = QuantumCircuit(10**6, 1)
wide.measure(0, 0)
DEVICE = {"shots": 5, "qpu": "fake:manila"}

#: The circuit, its fields, words of the error (with the field first, what was given and what is allowed).
WRONG: dict[str, tuple[Any, dict[str, Any], str]] = {
    "a number": (5, {}, "a circuit is wanted: .* int was given"),
    "two circuits": ([bell(), bell()], {}, "a circuit is wanted: .* list was given"),
    "an empty text": ("", {}, "the program is empty"),
    "no qubits": (QuantumCircuit(0), {"observables": [""]}, "circuit: circuit .* has no qubits"),
    "an angle that is none": (with_angle(float("nan")), {}, "circuit: .* gate 'rx' with the angle nan; finite"),
    "an endless angle": (with_angle(float("inf")), DEVICE, "circuit: .* the angle inf"),
    "a name that is no text": (named("caf\udce9"), {"shots": 5}, "circuit: its name .* no Unicode"),
    "a free global phase": (two, {"shots": 5}, r"parameters: None was given; .* 2 free parameters"),
    "half a shot": (bell(), {"shots": 1.5}, "shots: 1.5 was given"),
    "shots below 0": (bell(), {"shots": -1}, "shots: -1 was given"),
    "shots as text": (bell(), {"shots": "10"}, "shots: '10' was given"),
    "more shots than numbers": (bell(), {"shots": 2**63}, r"shots: 9223372036854775808 was given; .* at most 2\*\*62"),
    "observables that are no list": (state, {"observables": 5}, "observables: 5 was given; allowed: a list of Pauli"),
    "no observables": (state, {"observables": None}, "observables: None was given"),
    "an observable too wide": (state, {"observables": ["ZZZ"]}, "observables: 'ZZZ' is on 3 qubits, the circuit has 2"),
    "an imaginary one": (state, {"observables": [SparsePauliOp("ZZ", 1j)]}, "observables: .* not real and finite"),
    "a coefficient in words": (state, {"observables": [{"ZZ": "x"}]}, "observables: coefficient 'x' of 'ZZ'"),
    "tomography of a number": (state, {"tomography": 1}, "tomography: 1 was given; allowed: True, or a list"),
    "tomography by truth": (state, {"tomography": [True]}, r"tomography: \[True\] was given"),
    "tomography of all": (state, {"tomography": "all"}, "tomography: 'all' was given"),
    "a qubit twice": (state, {"tomography": [0, 0]}, r"tomography: qubits \[0, 0\] given"),
    "a qubit that is none": (state, {"tomography": [7]}, r"tomography: qubits \[7\] given; .* 0 to 1"),
    "tomography of nine": (QuantumCircuit(9), {"tomography": True}, r"tomography: 9 qubits take 3\*\*9 circuits"),
    "ragged values": (free, {"parameters": [[1.0], [2.0, 3.0]]}, "parameters: .* was given; allowed: real numbers"),
    "ragged columns": (two, {"parameters": {"t": [1, 2], "u": [1, 2, 3]}}, "parameters: .* as many numbers as"),
    "values in words": (free, {"parameters": {"t": "x"}}, "parameters: {'t': 'x'} was given"),
    "values that are none": (free, {"parameters": [float("nan")]}, r"parameters: \[nan\] was given; .* \(1,\)"),
    "no sets": (free, {"parameters": np.zeros((0, 1))}, "parameters: .* n_sets at least 1"),
    "values without parameters": (bell(), {"parameters": [1.0]}, "parameters: .* none are free"),
    "a stage that is none": (state, {"observables": ["ZZ"], "mitigation": 5, **DEVICE}, r"mitigation: \[5\] given"),
    "an object as stage": (
        state,
        {"observables": ["ZZ"], "mitigation": [int], **DEVICE},
        "mitigation: .* none of them",
    ),
    "no QPU": (bell(), {"shots": 5, "qpu": ""}, "qpu: '' was given"),
    "a QPU without a name": (bell(), {"shots": 5, "qpu": "fake:"}, "qpu: QPU 'fake:': which device"),
    "a level": (bell(), {"optimization_level": 4, **DEVICE}, "optimization_level: 4 was given; allowed: 0, 1, 2 or 3"),
    "a seed below 0": (bell(), {"seed": -1}, "seed: -1 was given"),
    "a fidelity above 1": (bell(), {"shots": 5, "min_fidelity": 2}, "min_fidelity: 2 was given"),
    "arguments": (bell(), {"args": (1,)}, r"args: \(1,\) was given; .* in parameters"),
    "an environment": (bell(), {"environment": {"A": "b"}}, "environment: .* none with a circuit"),
    "cores of a device": (bell(), {"num_cpus": 2, **DEVICE}, "num_cpus: .* none for a device"),
}


@pytest.mark.parametrize("circuit, fields, words", WRONG.values(), ids=WRONG)
def test_wrong_fields_are_named_where_they_are_submitted(
    circuit: Any, fields: Any, words: str, manager: PilotManager
) -> None:
    before = len(manager.tasks)
    with pytest.raises(DescriptionError, match=f"(?s){words}"):
        manager.submit_task({"circuit": circuit, **fields})
    assert len(manager.tasks) == before


@pytest.mark.parametrize("field", ["circuit", "parameters", "observables", "shots"])
def test_a_task_is_no_value_of_a_circuits_fields(manager: PilotManager, field: str) -> None:
    task = manager.submit_task(pow, 2, 3)
    with pytest.raises(DescriptionError, match=r"was given|given;"):
        manager.submit_task({"circuit": free, "shots": 5, field: task})


def test_what_no_pilot_has(manager: PilotManager) -> None:
    for wishes, words in (
        ({"qpu": "fake:oslo"}, "devices has no device 'fake:oslo' .it has: fake:manila."),
        ({"qpu": "fake:manila", "pilot": "cpu"}, "cpu has no device 'fake:manila'"),
        ({"qpu": "fake:manila", "shots": 2**40}, "takes at most 100000 shots, 1099511627776 are asked for"),
    ):
        with pytest.raises(NoPilotError, match=words):
            manager.submit_task({"circuit": bell(), "shots": 5, **wishes})
    with pytest.raises(NoPilotError, match="has 5 qubits, 1000000 are needed"):
        manager.submit_task(describe(wide, **DEVICE))
    task = manager.submit_task(describe(bell(), shots=5, pilot="cpu"))
    assert total(task) == 5  # that pilot has no devices: it is simulated there
    assert task.info.qpu is None


def test_strange_names_and_no_values_do_no_harm(manager: PilotManager) -> None:
    for name in ("../..\n\0 '\"; rm -rf", "ü€𝄞", "x" * 5000):
        assert total(manager.submit_task(describe(named(name), shots=5, qpu="fake:manila"))) == 5
    for nothing in ({}, []):
        assert total(manager.submit_task(describe(bell(), shots=5, parameters=nothing, qpu="aer"))) == 5


def test_many_shots_take_no_memory(manager: PilotManager) -> None:
    assert total(manager.submit_task(describe(bell(), shots=2**62, qpu="aer"))) == 2**62
    sixteen = QuantumCircuit(16)
    sixteen.h(range(16))
    sixteen.measure_all()
    task = manager.submit_task(describe(sixteen, shots=2**40, qpu="aer"))
    worker = eventual_worker(manager, task)
    until = time.monotonic() + 2
    while time.monotonic() < until:
        assert worker.memory_info().rss < 2 << 30
        assert not task.done()
        time.sleep(0.05)
    assert task.cancel()


def eventual_worker(manager: PilotManager, task: Task) -> psutil.Process:
    """The process that runs this task, once it does: by the file that takes its output."""
    until = time.monotonic() + SOON
    while time.monotonic() < until:
        name = task.info.worker if task.running() else None
        for process in psutil.Process().children(recursive=True) if name else ():
            try:
                if any(Path(file.path).name.startswith(f"{name}.") for file in process.open_files()):
                    return process
            except psutil.Error:
                continue
        time.sleep(0.01)
    raise AssertionError(f"no process runs {task}: {manager.explain(task)}")


# ---- large circuits -------------------------------------------------------------------------------------------------


def test_a_circuit_that_fits_nowhere_says_what_it_takes(manager: PilotManager) -> None:
    large = random_circuit(40, 40, max_operands=2, seed=1)
    for wishes in ({"observables": ["Z0"]}, {"tomography": [0], "shots": 5, "qpu": "aer"}):
        with pytest.raises(NoPilotError, match=r"\(40 qubits\) takes statevector .* GiB.*; cut it .*cutting.plan"):
            manager.submit_task(describe(large, **wishes))
    large.measure_all()
    with pytest.raises(
        DescriptionError, match="40 bits, the outcomes of 26 at most are listed; give a number of shots"
    ):
        manager.submit_task(describe(large))


def test_large_circuits_that_are_easy_run(manager: PilotManager) -> None:
    clifford = QuantumCircuit(35)
    generator = np.random.default_rng(1)
    for _ in range(400):
        first, second = generator.choice(35, 2, replace=False).tolist()
        clifford.h(first)
        clifford.cx(first, second)
        clifford.s(second)
    chain = QuantumCircuit(60)
    for qubit in range(59):
        chain.ry(0.1 * qubit, qubit)
        chain.cx(qubit, qubit + 1)
    tasks = [manager.submit_task(describe(clifford, observables=["Z0"]))]
    tasks.append(manager.submit_task(describe(chain, observables=["Z0", "Z59"])))
    assert tasks[0].result(timeout=SOON).values[0] in (-1.0, 0.0, 1.0)
    assert tasks[1].result(timeout=SOON).values[0] == pytest.approx(1.0)
    for circuit in (clifford, chain):
        circuit.measure_all()
        assert total(manager.submit_task(describe(circuit, shots=200, qpu="aer"))) == 200


# ---- QPUs that misbehave --------------------------------------------------------------------------------------------

#: Name, and words of the error.
UNUSABLE = {
    "moody:raises": "RuntimeError: the crystals are empty",
    "moody:info": "KeyError: 'qubits'",
    "moody:exits": r"its worker has ended 3 times before it was open \(the last one .* code 3",
    "qiskit:nonesuch_of_nobody:x": "the module nonesuch_of_nobody cannot be imported where the pilot runs",
    "ibm:ibm_fez": "there are no credentials: set QISKIT_IBM_TOKEN",
}


def test_devices_that_cannot_be_used_say_why_and_the_rest_goes_on(
    tmp_path: Path, eventually: Eventually, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("QISKIT_IBM")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    with PilotManager(tmp_path / "s", wait_for_pilot=0) as manager:
        manager.submit_pilot(PilotDescription(cores_per_node=1, qpus=[*UNUSABLE, "moody:fine"], name="moody"))
        early = {name: manager.submit_task(describe(bell(), shots=5, qpu=name)) for name in UNUSABLE}
        assert total(manager.submit_task(describe(bell(), shots=5, qpu="moody:fine"))) == 5
        assert manager.submit_task(pow, 2, 3).result(timeout=SOON) == 8
        eventually(lambda: len(manager.qpus) == len(UNUSABLE) + 1, timeout=60)
        for name, words in UNUSABLE.items():
            with pytest.raises(NoPilotError, match=f"{name} of moody cannot be used: .*{words}"):
                early[name].result(timeout=SOON)
            assert words.split(r"\(")[0] in manager.explain(early[name])
            info = manager.qpus[name]
            assert info.problem and info.accepts_jobs is False and info.qubits == 0
            with pytest.raises(NoPilotError, match=words):
                manager.submit_task(describe(bell(), shots=5, qpu=name)).result(timeout=SOON)
        assert total(manager.submit_task(describe(bell(), shots=5))) == 5  # on the one that works
    assert cli.main(["qpus", "moody:raises", "moody:info", "moody:fine"]) == 1
    shown = capsys.readouterr()
    assert "moody:fine" in shown.out
    assert "moody:raises: RuntimeError: the crystals" in shown.err and "moody:info: KeyError" in shown.err


def test_devices_whose_jobs_go_wrong(tmp_path: Path, eventually: Eventually) -> None:
    away, order = f"moody:away{tmp_path}/away", f"moody:order{tmp_path}/order"
    with PilotManager(tmp_path / "s") as manager:
        names = ["moody:run", "moody:few", "moody:slow", "moody:hangs", away, order]
        pilot = manager.submit_pilot(PilotDescription(cores_per_node=1, qpus=names, name="moody"))
        held = manager.submit_task(describe(bell(), shots=5, qpu="moody:hangs"))
        with pytest.raises(ZeroDivisionError, match="half a qubit"):
            manager.submit_task(describe(bell(), shots=5, qpu="moody:run")).result(timeout=SOON)
        with pytest.raises(QPUError, match="moody:few gave 0 results for 1 circuits"):
            manager.submit_task(describe(bell(), shots=5, qpu="moody:few")).result(timeout=SOON)
        # tries again, and not
        with pytest.raises(QPUUnavailable, match="calibrated"):
            manager.submit_task(describe(bell(), shots=5, qpu=away)).result(timeout=SOON)
        Path(f"{tmp_path}/away").unlink()
        again = manager.submit_task(describe(bell(), shots=5, qpu=away, retries=1))
        assert total(again) == 5
        # higher priorities first, and after what they depend on
        first = manager.submit_task(time.sleep, 1)
        wishes: dict[str, Any] = {"shots": 5, "qpu": order, "depends_on": [first]}
        tasks = [manager.submit_task(describe(named(f"p{level}"), priority=level, **wishes)) for level in (0, 2, 1)]
        last = manager.submit_task(describe(named("last"), shots=5, qpu=order, depends_on=tasks))
        assert total(last) == 5
        assert Path(f"{tmp_path}/order").read_text().split() == ["p2", "p1", "p0", "last"]
        # too slow
        late = [manager.submit_task(describe(bell(), shots=5, qpu="moody:slow", timeout=0.3)) for _ in range(2)]
        fine = manager.submit_task(describe(bell(), shots=5, qpu="moody:slow"))
        for task in late:
            with pytest.raises(TaskTimeout):
                task.result(timeout=SOON)
        assert total(fine) == 5
        # what never opens
        assert "moody:hangs" not in manager.qpus
        assert "has not reported yet" in manager.explain(held)
        assert held.cancel()
        manager.submit_task(describe(bell(), shots=5, qpu="moody:hangs"))
        began = time.monotonic()
        pilot.cancel()
        assert time.monotonic() - began < 60


def test_results_travel_on(manager: PilotManager) -> None:
    outcome = manager.submit_task(describe(bell(), shots=50, qpu="fake:manila"))
    value = manager.submit_task(describe(state, observables=["ZZ"]))
    added = manager.submit_task(
        lambda one, other: (sum(one.get_counts().values()), float(other.values[0])), outcome, value
    )
    assert added.result(timeout=SOON) == (50, pytest.approx(1.0))
    failing = manager.submit_task(fails)
    with pytest.raises(DependencyFailed):
        manager.submit_task(describe(bell(), shots=5, depends_on=failing, qpu="aer")).result(timeout=SOON)


def fails() -> None:
    raise ValueError("it fails")


def test_what_has_no_exact_result_is_refused_at_submit(manager: PilotManager) -> None:
    for wanted, what in (
        ({"observables": ["Z"]}, "expectation values"),
        ({}, "probabilities"),
        ({"tomography": True}, "probab"),
    ):
        with pytest.raises(DescriptionError, match=f"no exact {what}.*give a number of shots"):
            manager.submit_task(describe(random_midway(), **wanted))


def random_midway() -> QuantumCircuit:
    """Something of which there are no exact values."""
    circuit = QuantumCircuit(1, 1)
    circuit.h(0)
    circuit.measure(0, 0)
    with circuit.if_test((circuit.clbits[0], 1)):
        circuit.x(0)
    return circuit


def test_pilots_that_come_late_leave_and_have_too_little_time(tmp_path: Path, eventually: Eventually) -> None:
    wanted = describe(bell(), shots=5, qpu="moody:fine")
    with PilotManager(tmp_path / "s", wait_for_pilot=0) as manager:
        with pytest.raises(NoPilotError, match="submit_pilot first"):
            manager.submit_task(wanted)
        manager.submit_pilot(PilotDescription(cores_per_node=1, name="cpu"))
        with pytest.raises(NoPilotError, match="cpu has no device 'moody:fine'"):
            manager.submit_task(wanted)
        late = manager.submit_pilot(PilotDescription(cores_per_node=1, name="late", qpus=["moody:fine"]))
        assert total(manager.submit_task(wanted)) == 5  # asked for before the pilot was there
        late.drain()
        eventually(lambda: late.state in (PilotState.DRAINING, PilotState.DONE), SOON)
        with pytest.raises(NoPilotError, match=r"late is (draining|done)"):
            manager.submit_task(wanted).result(timeout=SOON)
        short = PilotDescription(cores_per_node=1, name="short", qpus=["moody:fine"], walltime=300, drain=0)
        manager.submit_pilot(short)
        with pytest.raises(NoPilotError, match="short has 300 s of walltime left, 1000 s are needed"):
            manager.submit_task(describe(bell(), shots=5, qpu="moody:fine", expected_duration=1000))
        assert total(manager.submit_task(describe(bell(), shots=5, qpu="moody:fine", expected_duration=10))) == 5
    with pytest.raises(DescriptionError, match=r"qpus: .* each one once"), PilotManager(tmp_path / "t") as manager:
        manager.submit_pilot(PilotDescription(qpus=["moody:fine", "moody:fine"]))


# ---- processes that are killed --------------------------------------------------------------------------------------


def test_the_agent_and_the_devices_worker_are_killed(tmp_path: Path, eventually: Eventually) -> None:
    with PilotManager(tmp_path / "s") as manager:
        manager.submit_pilot(PilotDescription(cores_per_node=1, qpus=["moody:slow"]))
        task = manager.submit_task(describe(bell(), shots=10))
        for _ in range(2):
            worker = eventual_worker(manager, task)
            worker.kill()
            eventually(lambda number=worker.pid: not psutil.pid_exists(number), timeout=SOON)
        assert total(task) == 10
        assert [one.number for one in task.info.attempts] == [1, 2]
        task = manager.submit_task(describe(bell(), shots=10))
        agent = eventual_worker(manager, task)
        while "pilot.agent" not in " ".join(agent.cmdline()):
            agent = agent.parent() or pytest.fail("no agent")
        while "pilot.agent" in " ".join((agent.parent() or agent).cmdline()):
            agent = agent.parent() or agent
        agent.kill()
        assert total(task) == 10
        assert len(task.info.attempts) == 1
        assert not list(manager.session_dir.glob("pilots/*/*.job"))


SCRIPT = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from qiskit import QuantumCircuit
from pilot import PilotManager, TaskDescription

bell = QuantumCircuit(2)
bell.h(0)
bell.cx(0, 1)
with PilotManager(sys.argv[1]) as manager:
    manager.submit_pilot({"cores_per_node": 1, "qpus": [sys.argv[2]]})
    whole = manager.submit_task(TaskDescription(circuit=bell, tomography=True, shots=2000, qpu=sys.argv[2], seed=1))
    while not any(task.running() or task.done() for task in whole.parts):
        time.sleep(0.01)
    print("ready", flush=True)
    manager.wait_tasks()
"""


@pytest.fixture
def script(tmp_path: Path, plugin: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Runs the script until it says that it is ready."""
    started: list[subprocess.Popen[str]] = []

    def run(*words: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
            env={**os.environ, "PYTHONPATH": os.pathsep.join((str(plugin), *sys.path))},
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def test_the_manager_is_killed_during_a_tomography(
    tmp_path: Path, script: Callable[..., subprocess.Popen[str]], leftovers: Leftovers
) -> None:
    session = tmp_path / "s"
    process = script(str(session), "moody:slow")
    process.kill()
    process.wait()
    with PilotManager.attach(session) as manager:
        whole = list(manager.tasks.values())[-1]
        assert len(manager.tasks) == 10
        result = whole.result(timeout=SOON)
        assert result.fidelity(state) > 0.99
        assert np.trace(result.density_matrix).real == pytest.approx(1.0)
        for task in list(manager.tasks.values())[:-1]:
            assert task.done() and task.exception() is None


def test_ctrl_c_while_jobs_of_a_device_wait(
    tmp_path: Path, script: Callable[..., subprocess.Popen[str]], leftovers: Leftovers, eventually: Eventually
) -> None:
    before = {process.pid for process in leftovers()}
    process = script(str(tmp_path / "s"), "moody:waits")
    began = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=SOON)
    assert process.returncode == -signal.SIGINT and "KeyboardInterrupt" in err
    eventually(lambda: {one.pid for one in leftovers()} <= before, timeout=60)
    assert time.monotonic() - began < 60
    assert not list((tmp_path / "s").glob("pilots/*/*.job"))


# ---- engines --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["ray", "dask"])
def test_devices_over_other_engines(tmp_path: Path, engine: str, eventually: Eventually) -> None:
    pytest.importorskip({"dask": "distributed"}.get(engine, engine))
    qpus = ["moody:fine", "moody:waits"]
    with PilotManager(tmp_path / "s") as manager:
        pilot = manager.submit_pilot(PilotDescription(engine=engine, cores_per_node=1, qpus=qpus))
        assert pilot.wait(60) is PilotState.ACTIVE
        counts = manager.submit_task(describe(bell(), shots=100, qpu="moody:fine"))
        values = manager.submit_task(describe(state, observables=["ZZ"], shots=2000, qpu="moody:fine"))
        angles = np.array([[0.0], [np.pi]])
        sweep = manager.submit_task(describe(free, parameters=angles, shots=100, qpu="moody:fine"))
        exact = manager.submit_task(describe(state, observables=["ZZ", "XX"]))
        waits = manager.submit_task(describe(bell(), shots=10, qpu="moody:waits"))
        assert total(counts) == 100
        assert values.result(timeout=SOON).values[0] == 1.0
        assert [outcome.get_counts() for outcome in sweep.result(timeout=SOON)] == [{"0": 100}, {"1": 100}]
        assert exact.result(timeout=SOON).values == pytest.approx([1.0, 1.0])
        eventually(waits.running, timeout=SOON)
        assert waits.cancel()
        with pytest.raises(CancelledError):
            waits.result()
        assert total(manager.submit_task(describe(bell(), shots=10, qpu="moody:fine"))) == 10


# ---- many -----------------------------------------------------------------------------------------------------------


def test_a_thousand_small_circuits(manager: PilotManager) -> None:
    circuits = [random_circuit(4, 4, measure=True, max_operands=2, seed=seed) for seed in range(20)]
    spent = time.process_time()
    tasks = manager.submit_tasks(
        describe(circuits[number % 20], shots=10, qpu="aer", seed=number) for number in range(1000)
    )
    manager.wait_tasks(tasks, timeout=60)
    assert {sum(task.result(timeout=0).get_counts().values()) for task in tasks} == {10}
    assert time.process_time() - spent < 5  # measured: 0.8 s, of which a half reads and packs the circuits


# ---- pilot submit ---------------------------------------------------------------------------------------------------

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
        ("nonesuch.qasm", 2, "nonesuch.qasm cannot be read"),
        ("folder", 2, "folder cannot be read"),
        ("bytes", 2, "bytes cannot be read"),
        ("bell.qasm bad.qasm", 2, "bad.qasm: OriginIR, line 2"),
        ("- -", 2, "can be read once"),
        ("bell.qasm --json nonesuch/x", 2, "--json nonesuch/x: no file can be written"),
        ("bell.qasm --json folder", 2, "no file can be written"),
        ("bell.qasm --json ./bell.qasm", 2, "--json ./bell.qasm: this is a file to read"),
        ("bell.qasm --shots 0", 2, "shots: 0 was given"),
        ("bell.qasm --format foo", 2, "format: 'foo' was given"),
        ("bell.qasm --pilot foo", 2, "pilot: 'foo' given"),
        ("bell.qasm --qpu fake: --shots 5", 2, "which device"),
        ("bell.qasm --qpu nonesuch:x --shots 5", 1, "no QPU is called 'nonesuch'"),
        ("bell.qasm --shots 5 --mitigation magic", 2, "'magic' is none of them"),
        ("bell.qasm state.qasm --pilot process:1", 2, "circuit 'state.qasm' measures nothing"),
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
        [*command, "-", "bell.qasm", *options, "--mitigation", "readout"],
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


# ---- primitives -----------------------------------------------------------------------------------------------------


def test_primitives_misused(manager: PilotManager, tmp_path: Path) -> None:
    from pilot.quantum import PilotEstimator, PilotSampler

    closed = PilotManager(tmp_path / "s")
    closed.close()
    with pytest.raises((SessionError, PilotError), match="closed"):
        PilotSampler(closed).run([bell()], shots=5).result()
    with pytest.raises((SessionError, PilotError), match="closed"):
        PilotEstimator(closed).run([(state, "ZZ")]).result()
    with pytest.raises(DescriptionError, match="no option 'qubits'"):
        PilotSampler(manager, qubits=5)
    job = PilotSampler(manager, qpu="aer").run([bell()], shots=2**40)
    job.cancel()
    assert job.in_final_state()
    with pytest.raises(DescriptionError, match="no exact expectation values"):
        PilotEstimator(manager, qpu="aer").run([(state, "ZZ"), (random_midway(), "Z")])
    assert PilotEstimator(manager).run([(state, "ZZ")]).result()[0].data.evs == pytest.approx(1.0, abs=0.2)
