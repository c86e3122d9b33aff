"""What every QPU promises: one suite over aer, fake, ibm, qrmi, qiskit and pennylane.

IBM's service and QRMI's resource are a server on a loopback port that speaks their protocol (`qpu_server`); the clients
are the vendors' own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qpu_cases import (
    NOISY,
    QPUS,
    SEEDED,
    WITH_JOBS,
    asymmetric,
    bell,
    compiled,
    make,
    run,
    run_job,
    share,
)
from qpu_server import QuantumService

from pilot.errors import QPUCancelled, QPUError
from pilot.interfaces import QPU


@pytest.fixture(scope="module", params=QPUS)
def qpu(request: pytest.FixtureRequest, service: QuantumService) -> Iterator[QPU]:
    qpu = make(request.param)
    qpu.open()
    yield qpu
    qpu.close()


def test_a_bell_state_is_correlated(qpu: QPU) -> None:
    (outcomes,) = run(qpu, bell())
    assert outcomes.shots == 400 and outcomes.weights.sum() == 400
    assert share(outcomes, "00", "11") > (0.85 if qpu.name.startswith(NOISY) else 0.999)
    assert 0.35 < share(outcomes, "00") < 0.65
    assert set(outcomes.get_counts("meas")) <= {"00", "01", "10", "11"}


def test_registers_and_bits_are_in_qiskits_order(qpu: QPU) -> None:
    """Also a qubit that is measured twice, into two bits."""
    (outcomes,) = run(qpu, asymmetric())
    least = 0.6 if qpu.name.startswith(NOISY) else 1.0
    assert share(outcomes, "110 01") >= least
    assert share(outcomes, "01", register="low") >= least
    assert share(outcomes, "110", register="high") >= least
    assert [register.name for register in outcomes.registers] == ["low", "high"]
    assert outcomes.num_bits == 5


def test_circuits_of_one_job_keep_their_order(qpu: QPU) -> None:
    circuits = []
    for number in range(3):
        circuit = QuantumCircuit(2, 2)
        for qubit in range(2):
            if number >> qubit & 1:
                circuit.x(qubit)
        circuit.measure([0, 1], [0, 1])
        circuits.append(circuit)
    for number, outcomes in enumerate(run(qpu, *circuits)):
        assert share(outcomes, f"{number:02b}") > 0.8


def test_measurements_in_the_middle(qpu: QPU) -> None:
    """Measure a 1, reset it, measure a 0, and again a 1 that follows another qubit."""
    circuit = QuantumCircuit(2, 3)
    circuit.x([0, 1])
    circuit.measure(0, 0)
    circuit.reset(0)
    circuit.measure(0, 1)
    circuit.cx(1, 0)
    circuit.measure(0, 2)
    (outcomes,) = run(qpu, circuit)
    assert share(outcomes, "101") > (0.7 if qpu.name.startswith(NOISY) else 0.999)


def test_exact_probabilities_or_a_clear_no(qpu: QPU) -> None:
    circuit = QuantumCircuit(1)
    circuit.ry(1.0, 0)  # sin²(1/2) = 0.229849
    circuit.measure_all()
    if qpu.info().simulator:
        (outcomes,) = run(qpu, circuit, shots=None)
        assert outcomes.shots is None
        assert outcomes.get_counts()["1"] == pytest.approx(0.22984884706593, abs=1e-12)
    else:
        with pytest.raises(QPUError, match="number of shots"):
            run(qpu, circuit, shots=None)


def test_the_same_seed_gives_the_same_counts(qpu: QPU) -> None:
    if not qpu.name.startswith(SEEDED):
        pytest.skip("what measures has no seed")
    first, again, other = (run(qpu, bell(), seed=seed)[0].get_counts() for seed in (7, 7, 8))
    assert first == again != other


def test_jobs_have_names(qpu: QPU) -> None:
    jobs: list[str] = []
    run_job(qpu, [compiled(qpu, bell())], 10, [1], jobs.append)
    assert len(jobs) == (1 if qpu.name.startswith(WITH_JOBS) else 0)
    assert all(jobs)


def test_what_it_says_of_itself(qpu: QPU) -> None:
    info, target = qpu.info(), qpu.target()
    assert info.name == qpu.name and info.qubits >= 5
    assert info.asked is not None and abs(info.asked - time.time()) < 60
    if target is not None and target.num_qubits is not None:
        assert info.qubits == target.num_qubits
        assert set(info.gates) == set(target.operation_names)
    if qpu.name.startswith(("fake", "ibm", "qrmi")):
        assert (0, 1) in (info.coupling or ())
        assert info.accepts_jobs is True
        assert info.calibrated is not None and 1.5e9 < info.calibrated < time.time()
        for value, most in ((info.error_1q, 0.01), (info.error_2q, 0.1), (info.error_readout, 0.3)):
            assert value is not None and 0 < value < most
        assert info.t1 is not None and info.t2 is not None and 1e-6 < info.t2 < info.t1 * 2 < 1e-2
        assert info.max_shots


def test_jobs_that_it_does_not_take(qpu: QPU) -> None:
    info = qpu.info()
    wide = QuantumCircuit(info.qubits + 1, 1)
    wide.measure(0, 0)
    with pytest.raises(QPUError, match=rf"{info.qubits} qubits.* has {info.qubits + 1}"):
        run_job(qpu, [wide], 10, [1])
    silent = QuantumCircuit(1)
    with pytest.raises(QPUError, match="measures nothing"):
        run_job(qpu, [silent], 10, [1])
    free = QuantumCircuit(1)
    free.rx(Parameter("theta"), 0)
    free.measure_all()
    with pytest.raises(QPUError, match="without a value: theta"):
        run_job(qpu, [free], 10, [1])
    with pytest.raises(QPUError, match="1 shot or more"):
        run_job(qpu, [compiled(qpu, bell())], 0, [1])
    if info.max_shots is not None:
        with pytest.raises(QPUError, match=f"takes {info.max_shots} shots"):
            run_job(qpu, [compiled(qpu, bell())], info.max_shots + 1, [1])
    if info.max_circuits is not None:
        many = [compiled(qpu, bell())] * (info.max_circuits + 1)
        with pytest.raises(QPUError, match=f"takes {info.max_circuits} circuits"):
            run_job(qpu, many, 10, [1] * len(many))


def test_closing_twice_and_opening_again(qpu: QPU) -> None:
    qpu.close()
    qpu.close()
    qpu.open()
    assert share(run(qpu, bell())[0], "00", "11") > 0.85


def ladder(qubits: int) -> QuantumCircuit:
    circuit = QuantumCircuit(qubits)
    for layer in range(10):
        circuit.ry(0.1 + layer, range(qubits))
        for qubit in range(layer % 2, qubits - 1, 2):
            circuit.cx(qubit, qubit + 1)
    circuit.measure_all()
    return circuit


LONG: dict[str, Callable[[], tuple[list[QuantumCircuit], int]]] = {
    "aer:statevector": lambda: ([ladder(15)] * 2000, 100),
    "fake:manila?queue=60": lambda: ([bell()], 10),
    "fake:manila?shot_time=0.1": lambda: ([bell()], 1000),
    "fake:guadalupe": lambda: ([ladder(8)] * 200, 2000),
    "ibm:ibm_manila": lambda: ([bell()], 10),
    "qrmi:ibm_manila": lambda: ([bell()], 10),
    "qiskit:qpu_objects:Provider():slow": lambda: ([bell()], 10),
    "pennylane:lightning.qubit": lambda: ([ladder(12)] * 5000, 100),
}


@pytest.mark.parametrize("name", LONG)
def test_cancel_from_another_thread_ends_the_job(name: str, service: QuantumService) -> None:
    qpu = make(name)
    qpu.open()
    circuits, shots = LONG[name]()
    first = compiled(qpu, circuits[0])
    started, ended, found = threading.Event(), threading.Event(), []

    def job() -> None:
        try:
            run_job(qpu, [first] * len(circuits), shots, list(range(len(circuits))), lambda job: started.set())
        except BaseException as error:
            found.append(error)
        ended.set()

    service.held.set()
    try:
        threading.Thread(target=job, daemon=True).start()
        started.wait(0.5)  # not each has jobs with a name
        assert not ended.wait(0.1), found
        qpu.cancel()
        assert ended.wait(60)
        assert isinstance(found[0], QPUCancelled), found
        if name.startswith(("ibm", "qrmi")):
            assert list(service.jobs.values())[-1]["status"] == "Cancelled"
        if "slow" in name:
            assert all(job.asked_to_end.is_set() for job in qpu._device.jobs.values())  # type: ignore[attr-defined]
    finally:
        service.held.clear()
        qpu.close()


@pytest.mark.parametrize("name", ["ibm:ibm_manila", "qrmi:ibm_manila", "qiskit:qpu_objects:Provider():slow"])
def test_a_job_whose_process_died_is_cancelled_by_its_name(name: str, service: QuantumService) -> None:
    first, other = make(name), make(name)
    first.open()
    other.open()
    if "slow" in name:
        other._device = first._device  # type: ignore[attr-defined] - the vendor's, seen from another process
    circuit = compiled(first, bell())
    jobs: list[str] = []
    known, ended = threading.Event(), threading.Event()

    def told(job: str) -> None:
        jobs.append(job)
        known.set()

    def work() -> None:
        with pytest.raises(QPUError):
            run_job(first, [circuit], 10, [1], told)
        ended.set()

    service.held.set()
    try:
        threading.Thread(target=work, daemon=True).start()
        assert known.wait(60)
        other.cancel_job(jobs[0])
        assert ended.wait(60)
        other.cancel_job(jobs[0])  # over: nothing happens
    finally:
        service.held.clear()
        first.close()
        other.close()
