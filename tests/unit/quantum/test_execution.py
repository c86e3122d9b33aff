"""What workers run for circuits: jobs of a device, their size, their failures; compiled circuits that are kept."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from qiskit import QuantumCircuit
from qiskit.circuit import ClassicalRegister, Clbit, Gate, Parameter, QuantumRegister
from qiskit.providers.fake_provider import GenericBackendV2
from qiskit.quantum_info import Kraus, SparsePauliOp
from qiskit.transpiler import InstructionProperties, Target

from pilot.errors import DescriptionError, QPUCancelled, QPUError
from pilot.interfaces import QPU, Run
from pilot.quantum import compilation
from pilot.quantum.aer import run_circuit
from pilot.quantum.answers import run_on
from pilot.quantum.compilation import Compiler, expected_fidelity, structure
from pilot.quantum.execution import DeviceRun, ExactValues, Simulation, compiler_of, only
from pilot.quantum.joint_simulation import JointSimulation
from pilot.quantum.outcomes import Outcomes
from pilot.quantum.packing import pack
from pilot.resources import QPUInfo
from pilot.worker import device


class Bench(QPU):
    """A QPU that records its jobs; circuits with five bits fail the job that they are in."""

    def __init__(self, most: int = 3) -> None:
        super().__init__("bench:5", "5")
        self.backend = GenericBackendV2(5, coupling_map=[[0, 1], [1, 2], [2, 3], [3, 4]], seed=1)
        self.most = most
        self.jobs: list[tuple[list[str], int | None]] = []
        self.calibrated = 1.0
        self.error: Exception | None = None

    def info(self) -> QPUInfo:
        return QPUInfo(name=self.name, qubits=5, calibrated=self.calibrated, max_circuits=self.most, max_shots=10_000)

    def target(self) -> Any:
        return self.backend.target

    def run(self, run: Run) -> list[Outcomes]:
        self.jobs.append(([circuit.name for circuit in run.circuits], run.shots))
        run.on_job("job 1")
        if self.error is not None:
            raise self.error
        if any(circuit.num_clbits == 5 for circuit in run.circuits):
            raise QPUError("bench:5: the third gate is unknown")
        return [run_circuit(circuit, run.shots, seed) for circuit, seed in zip(run.circuits, run.seeds, strict=True)]


@pytest.fixture
def qpu(monkeypatch: pytest.MonkeyPatch) -> Bench:
    made = Bench()
    held = SimpleNamespace(open=lambda: made, job_began=lambda job: None, job_ended=lambda: None)
    monkeypatch.setattr(device, "held", held)
    return made


def bell(name: str = "bell") -> QuantumCircuit:
    circuit = QuantumCircuit(2, name=name)
    circuit.h(0)
    circuit.cx(0, 1)
    circuit.measure_all()
    return circuit


def bad() -> QuantumCircuit:
    circuit = QuantumCircuit(5)
    circuit.measure_all()
    return circuit


def call(*circuits: QuantumCircuit) -> tuple[Any, ...]:
    return pack(circuits), tuple(range(len(circuits))), only if len(circuits) == 1 else None


def test_tasks_share_jobs_of_the_size_that_the_device_takes(qpu: Bench) -> None:
    results = DeviceRun(shots=100).run_together([call(bell(str(number))) for number in range(7)])
    assert [len(names) for names, _ in qpu.jobs] == [3, 3, 1]
    assert all(set(outcome.get_counts()) == {"00", "11"} for outcome in results)


def test_a_task_may_have_several_circuits(qpu: Bench) -> None:
    several, one = DeviceRun(shots=100).run_together([call(bell(), bell()), call(bell())])
    assert len(several) == 2
    assert one.shots == 100


def test_of_tasks_in_one_job_only_the_one_to_blame_fails(qpu: Bench) -> None:
    good, failed, fine = DeviceRun(shots=100).run_together([call(bell()), call(bad()), call(bell())])
    assert isinstance(failed, QPUError)
    assert "the third gate is unknown" in str(failed)
    assert sum(good.get_counts().values()) == sum(fine.get_counts().values()) == 100


def test_a_circuit_that_cannot_be_compiled_fails_alone(qpu: Bench) -> None:
    wide = QuantumCircuit(6)
    wide.measure_all()
    failed, good = DeviceRun(shots=100).run_together([call(wide), call(bell())])
    assert isinstance(failed, DescriptionError)
    assert "6 qubits, bench:5 has 5: cut it" in str(failed)
    assert isinstance(good, Outcomes)


def looping() -> QuantumCircuit:
    circuit = QuantumCircuit(1, 1)
    circuit.h(0)
    circuit.measure(0, 0)
    with circuit.while_loop((circuit.clbits[0], 0)):
        circuit.h(0)
        circuit.measure(0, 0)
    return circuit


def channel() -> QuantumCircuit:
    circuit = QuantumCircuit(1)
    circuit.append(Kraus([np.diag([1, 0]), np.diag([0, 1])]).to_instruction(), [0])
    circuit.measure_all()
    return circuit


@pytest.mark.parametrize("circuit", [looping(), channel()], ids=["a loop", "a channel"])
def test_what_a_device_cannot_do_is_refused_in_words(qpu: Bench, circuit: QuantumCircuit) -> None:
    failed, good = DeviceRun(shots=100).run_together([call(circuit), call(bell())])
    assert isinstance(failed, QPUError)
    assert f"circuit {circuit.name!r} cannot be compiled for bench:5" in str(failed)
    assert isinstance(good, Outcomes)


def test_an_opaque_gate_has_no_exact_value_and_says_so() -> None:
    circuit = QuantumCircuit(1)
    circuit.append(Gate("unknown", 1, []), [0])
    with pytest.raises(QPUError, match="unknown"):
        ExactValues()(pack(circuit), [SparsePauliOp("Z")])


@pytest.mark.filterwarnings("ignore:Duration is rounded")
@pytest.mark.parametrize("unit, free", [("ns", 500.0), ("dt", 1600)])
def test_delays_with_free_durations_run_on_a_device(qpu: Bench, unit: str, free: float) -> None:
    duration, angle = Parameter("d"), Parameter("a")
    circuit = QuantumCircuit(1)
    circuit.rx(angle, 0)
    circuit.delay(duration, 0, unit)
    circuit.measure_all()
    run = DeviceRun(program=pack(circuit), shots=100)
    outcomes = run(np.array([[0.0, free], [np.pi, free], [np.pi, 2 * free]]), (1, 2, 3), None)
    assert [one.get_counts() for one in outcomes] == [{"0": 100}, {"1": 100}, {"1": 100}]


def test_boxes_run_on_a_device(qpu: Bench) -> None:
    circuit = QuantumCircuit(2)
    with circuit.box():
        circuit.x(0)
        with circuit.box():
            circuit.cx(0, 1)
    circuit.measure_all()
    assert DeviceRun(shots=10)(*call(circuit)).get_counts() == {"11": 10}


def test_a_cancelled_job_is_not_tried_again(qpu: Bench) -> None:
    qpu.error = QPUCancelled("cancelled")
    results = DeviceRun(shots=100).run_together([call(bell()), call(bell())])
    assert [type(result) for result in results] == [QPUCancelled, QPUCancelled]
    assert len(qpu.jobs) == 1


def test_called_for_one_task_it_raises(qpu: Bench) -> None:
    with pytest.raises(QPUError, match="the third gate is unknown"):
        DeviceRun(shots=10)(*call(bad()))


def test_one_program_is_compiled_once_for_all_its_values(qpu: Bench) -> None:
    angle, phase = Parameter("b"), Parameter("a")  # the order of values is that of circuit.parameters: a, b
    circuit = QuantumCircuit(2)
    circuit.rx(angle, 0)
    circuit.rz(phase, 0)
    circuit.measure_all()
    run = DeviceRun(program=pack(circuit), shots=1000)
    values = np.array([[0.3, 0.0], [0.3, np.pi], [0.3, 0.0]])  # a, b
    outcomes = run(values, (1, 2, 3), None)
    assert [one.get_counts() for one in outcomes] == [{"00": 1000}, {"01": 1000}, {"00": 1000}]
    assert compiler_of(qpu).misses == 1


def test_registers_stay_as_they_are_on_a_device(qpu: Bench) -> None:
    from qiskit.circuit import ClassicalRegister, QuantumRegister

    circuit = QuantumCircuit(QuantumRegister(4), ClassicalRegister(1, "b"), ClassicalRegister(2, "a"))
    circuit.x(3)
    circuit.cx(3, 0)
    circuit.measure([3, 0, 1], [2, 0, 1])
    outcome = DeviceRun(shots=50, level=3)(*call(circuit))
    assert outcome.get_counts() == {"10 1": 50}
    assert outcome.get_counts("a") == {"10": 50}


def test_equal_structures_are_compiled_once_a_calibration(qpu: Bench) -> None:
    compiler = Compiler(qpu)
    first = compiler.compile(bell("one"), 1)
    assert compiler.compile(bell("two"), 1) is first
    assert (compiler.hits, compiler.misses) == (1, 1)
    assert compiler.compile(bell(), 2) is not first
    compiler.refresh()
    assert compiler.compile(bell(), 1) is first
    qpu.calibrated = 2.0
    compiler.refresh()
    assert compiler.compile(bell(), 1) is not first


def half_dead() -> Any:
    """Five qubits in a line, of which the first reads what it likes."""
    target = GenericBackendV2(5, coupling_map=[[0, 1], [1, 0], [1, 2], [2, 1], [2, 3], [3, 4]], seed=1).target
    target.update_instruction_properties("measure", (0,), InstructionProperties(error=0.5))
    return target


def test_a_circuit_is_compiled_onto_the_qubits_with_the_least_errors(qpu: Bench) -> None:
    qpu.backend = SimpleNamespace(target=half_dead())
    (outcomes,) = DeviceRun(shots=10, min_fidelity=0.9).run_together([call(bell())])
    assert outcomes.shots == 10
    (refused,) = DeviceRun(shots=10, min_fidelity=0.9, level=1).run_together([call(bell())])
    assert isinstance(refused, QPUError)
    assert re.search(r"bench:5 has a fidelity of about 0\.500 for circuit 'bell', but 0.9 is needed", str(refused))


def test_a_device_that_reports_medians_only_runs_what_was_judged_by_them(qpu: Bench, monkeypatch: Any) -> None:
    monkeypatch.setattr(qpu, "target", lambda: None)
    (refused,) = DeviceRun(shots=10, min_fidelity=0.9).run_together([call(bell())])
    assert "reports no errors for circuit 'bell', but 0.9 is needed" in str(refused)
    info = msgspec.structs.replace(qpu.info(), error_2q=0.01, error_readout=0.02)
    monkeypatch.setattr(qpu, "info", lambda: info)
    (outcomes,) = DeviceRun(shots=10, min_fidelity=0.9).run_together([call(bell())])
    assert outcomes.shots == 10


def test_the_expected_fidelity_is_that_of_the_qubits_used() -> None:
    target = half_dead()
    circuit = QuantumCircuit(5, 1)
    circuit.cx(1, 2)
    with circuit.if_test((circuit.clbits[0], 1)):
        circuit.x(3)
    circuit.measure(0, 0)
    expected = (1 - target["cx"][1, 2].error) * (1 - target["x"][3,].error) * 0.5
    assert expected_fidelity(circuit, target) == pytest.approx(expected)
    assert expected_fidelity(circuit, None) is None
    assert expected_fidelity(circuit, Target.from_configuration(["cx", "x"], 5)) is None


def test_only_so_many_instructions_are_kept(qpu: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compilation, "KEPT_INSTRUCTIONS", 40)
    compiler = Compiler(qpu)
    first = compiler.compile(rotated(0.0), 1)
    for angle in range(1, 20):
        compiler.compile(rotated(float(angle)), 1)
    assert compiler.compile(rotated(19.0), 1) is not None
    assert compiler.hits == 1
    assert compiler.compile(rotated(0.0), 1) is not first


def rotated(angle: float) -> QuantumCircuit:
    circuit = QuantumCircuit(1)
    circuit.rx(angle, 0)
    return circuit


def test_a_circuit_with_delays_of_its_own_is_scheduled() -> None:
    from pilot.registry import make

    qpu = make("fake:kolkata")
    qpu.open()
    circuit = QuantumCircuit(2)
    circuit.x(0)
    circuit.delay(100, 0, "us")
    circuit.cx(0, 1)
    circuit.measure_all()
    compiled = Compiler(qpu).compile(circuit, 1)
    (outcome,) = run_on(qpu, Run(circuits=[compiled], shots=2000, seeds=[1]))
    assert outcome.get_counts().get("11", 0) < 1600  # the first qubit relaxes meanwhile


def test_structure_leaves_the_circuit_alone() -> None:
    circuit = bell("mine")
    circuit.metadata = {"for": "me"}
    assert structure(circuit) == structure(bell("another"))
    assert (circuit.name, circuit.metadata) == ("mine", {"for": "me"})


def test_sets_of_values_give_what_each_gives_alone() -> None:
    angle, phase = Parameter("b"), Parameter("a")
    circuit = QuantumCircuit(2, 3)
    circuit.rx(angle, 0)
    circuit.measure(0, 2)
    circuit.rz(phase, 0)
    circuit.rx(2 * angle, 0)
    circuit.cx(0, 1)
    circuit.measure([1, 0], [0, 1])
    values = np.random.default_rng(7).uniform(0, 6, (5, 2))
    together = Simulation(program=pack([circuit, circuit]), shots=300)(values, tuple(range(10)), None)
    alone = [
        run_circuit(circuit.assign_parameters(row), 300, seed) for seed, row in enumerate(np.repeat(values, 2, axis=0))
    ]
    assert [one.get_counts() for one in together] == [one.get_counts() for one in alone]
    exact = Simulation(program=pack([circuit]))(values[:1], (0,), None)
    truth = run_circuit(circuit.assign_parameters(values[0]), None, 0).get_counts()
    assert exact[0].get_counts() == pytest.approx(truth)


def test_tasks_that_run_together_give_what_each_gives_alone() -> None:
    """With counts, exactly, and when what is made of the outcomes fails for one of them."""
    circuit = QuantumCircuit(2)
    circuit.ry(Parameter("a"), 0)
    circuit.cx(0, 1)
    circuit.measure_all()
    values = np.random.default_rng(7).uniform(0, 6, (4, 1))
    for shots in (300, None):
        joint = JointSimulation(program=pack([circuit, circuit]), shots=shots)
        calls = [(values[:1], (0, 1), None), (values[1:3], (2, 3, 4, 5), len), (values[3:], (6, 7), only)]
        first, number, error = joint.run_together(calls)
        for one, seed in zip(first, (0, 1), strict=True):
            alone = run_circuit(circuit.assign_parameters(values[0]), shots, seed)
            assert one.get_counts() == pytest.approx(alone.get_counts())
        assert number == 4 and isinstance(error, ValueError)
        with pytest.raises(ValueError, match="unpack"):
            joint(*calls[2])


def test_a_set_that_cannot_run_does_not_spoil_those_that_run_together() -> None:
    circuit = QuantumCircuit(1)
    circuit.ry(Parameter("a"), 0)
    circuit.measure_all()
    joint = JointSimulation(program=pack([circuit]), shots=10)
    good, bad = joint.run_together([(np.array([[0.0]]), (1,), only), (np.array([[0.0, 1.0]]), (1,), only)])
    assert good.get_counts() == {"0": 10} and isinstance(bad, Exception)


def test_exact_values_of_sets_are_those_of_each() -> None:
    from qiskit.quantum_info import SparsePauliOp, Statevector

    angle = Parameter("a")
    circuit = QuantumCircuit(2)
    circuit.ry(angle, 0)
    circuit.cx(0, 1)
    observables = [SparsePauliOp("ZZ"), SparsePauliOp(["XX", "IZ"], [0.5, 2.0])]
    values = np.array([[0.1], [2.0], [-1.0]])
    found = ExactValues(program=pack([circuit]))(values, observables)
    truth = [
        [Statevector(circuit.assign_parameters(row)).expectation_value(one).real for one in observables]
        for row in values
    ]
    assert found == pytest.approx(np.array(truth), abs=1e-12)


def test_equal_functions_are_the_same() -> None:
    assert hash(DeviceRun(shots=5)) == hash(DeviceRun(shots=5))
    assert Simulation(shots=5) == Simulation(shots=5) != Simulation(shots=6)


def test_delays_leave_bits_outside_registers_where_they_are(qpu: Bench) -> None:
    circuit = QuantumCircuit(QuantumRegister(2), ClassicalRegister(1, "c"), [Clbit()], ClassicalRegister(2, "d"))
    circuit.x([0, 1])
    circuit.delay(30, 0)
    circuit.measure([0, 1], [3, 1])
    assert DeviceRun(shots=20)(*call(circuit)).get_counts() == {"10 1 0": 20}
    circuit.data.pop()  # the bit is idle then
    assert DeviceRun(shots=20)(*call(circuit)).get_counts() == {"10 0 0": 20}


@pytest.mark.parametrize("length", [(30, "dt"), (17, "dt"), (100, "ns"), (1.5, "us")], ids=str)
def test_delays_beside_conditions_are_compiled(monkeypatch: pytest.MonkeyPatch, length: tuple[float, str]) -> None:
    made = Bench()
    made.backend = GenericBackendV2(5, control_flow=True, seed=1)
    made.backend.target.pulse_alignment = made.backend.target.acquire_alignment = 16
    held = SimpleNamespace(open=lambda: made, job_began=lambda job: None, job_ended=lambda: None)
    monkeypatch.setattr(device, "held", held)
    circuit = QuantumCircuit(2, 2)
    circuit.x(0)
    circuit.delay(length[0], 0, length[1])
    circuit.measure(0, 0)
    with circuit.if_test((circuit.clbits[0], 1)):
        circuit.delay(length[0], 1, length[1])
        circuit.x(1)
    circuit.measure(1, 1)
    assert DeviceRun(shots=20)(*call(circuit)).get_counts() == {"11": 20}


class Counting(QPU):
    """A QPU as an outside package writes it: it gives counts."""

    def __init__(self, counts: list[Any]) -> None:
        super().__init__("counting", "")
        self.counts = counts

    def info(self) -> QPUInfo:
        return QPUInfo(name=self.name, qubits=3)

    def target(self) -> None: ...

    def run(self, run: Run) -> list[Any]:
        return self.counts


def registers() -> QuantumCircuit:
    """Two registers of two bits and one, and a bit between them that is in no register."""
    first, bit, second = ClassicalRegister(2, "first"), Clbit(), ClassicalRegister(1, "second")
    circuit = QuantumCircuit(3)
    circuit.add_register(first)
    circuit.add_bits([bit])
    circuit.add_register(second)
    circuit.measure([0, 1, 2], [*first, *second])
    return circuit


@pytest.mark.parametrize(
    ("shots", "given", "shown"),
    [
        pytest.param(9, {"1 01": 6, "0 10": 3}, {"1 0 01": 6, "0 0 10": 3}, id="by registers"),
        pytest.param(9, {"1101": 9}, {"1 1 01": 9}, id="all bits"),
        pytest.param(9, {"0xd": 9.0}, {"1 1 01": 9}, id="hexadecimal"),
        pytest.param(None, {"1 01": 0.25, "0 00": 0.75}, {"1 0 01": 0.25, "0 0 00": 0.75}, id="probabilities"),
        pytest.param(9, SimpleNamespace(get_counts=lambda: {"0 11": 9}), {"0 0 11": 9}, id="an object with counts"),
    ],
)
def test_a_qpu_may_give_counts(shots: int | None, given: Any, shown: dict[str, float]) -> None:
    run = Run(circuits=[registers()], shots=shots, seeds=[1])
    (outcomes,) = run_on(Counting([given]), run)
    assert outcomes.get_counts() == shown
    assert outcomes.shots == shots


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "gave 0 results for 1 circuits"),
        ([{"0": 9}], "has 4 bits, its counts have the key '0'"),
        ([{"0 0a": 9}], "the key '0 0a'"),
        ([{"0 00": 0.5}], "not whole numbers"),
        ([{"0 00": -1, "0 11": 10}], "not whole numbers of at least 0"),
        ([{"0 00": 8}], "gave the counts of 8 shots, but 9 were asked for"),
        ([{"0 00": 8, "0 11": 2}], "gave the counts of 10 shots, but 9 were asked for"),
        ([{}], "or none"),
        ([{"0 00": 0}], "or none"),
        ([{0: 9}], "the key '0'"),
        ([None], "gave None for a circuit; expected counts by bit string"),
        (None, "gave NoneType; expected a list of results"),
        ({"0 00": 9}, "gave dict; expected a list of results"),
    ],
)
def test_counts_that_cannot_be_are_refused(given: list[Any], message: str) -> None:
    with pytest.raises(QPUError, match=message):
        run_on(Counting(given), Run(circuits=[registers()], shots=9, seeds=[1]))
