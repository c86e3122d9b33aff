"""What every QPU promises (`QPUContract`): aer, fake, ibm, qrmi, qiskit and pennylane.

IBM's service and QRMI's resource are a server on a loopback port that speaks their protocol (`qpu_server`); the clients
are the vendors' own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence

import pytest
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qpu_cases import ladder
from qpu_server import QuantumService

from pilot.errors import QPUError
from pilot.interfaces import QPU, Run
from pilot.registry import make
from pilot.resources import QPUInfo
from pilot.testing import QPUContract
from pilot.testing.qpus import bell, cancel_ends, compiled, run_job

Job = tuple[Sequence[QuantumCircuit], int]


class TestAer(QPUContract):
    name = "aer"
    seeded = True


class TestAerStatevector(QPUContract):
    name = "aer:statevector"
    seeded = True

    def long_job(self) -> Job:
        return [ladder(15)] * 2000, 100


class TestAerDensityMatrix(QPUContract):
    name = "aer:density_matrix"
    seeded = True


class TestAerMatrixProductState(QPUContract):
    name = "aer:matrix_product_state?threads=2"
    seeded = True


class Calibrated(QPUContract):
    """A device whose calibration is known."""

    def test_calibration(self, qpu: QPU) -> None:
        info = qpu.info()
        assert (0, 1) in (info.coupling or ())
        assert info.accepts_jobs is True
        assert info.calibrated is not None and 1.5e9 < info.calibrated < time.time()
        for value, most in ((info.error_1q, 0.01), (info.error_2q, 0.1), (info.error_readout, 0.3)):
            assert value is not None and 0 < value < most
        assert info.t1 is not None and info.t2 is not None and 1e-6 < info.t2 < info.t1 * 2 < 1e-2
        assert info.max_shots


class TestFake(Calibrated):
    name = "fake:manila"
    noisy = seeded = jobs_have_ids = True


class Service(Calibrated):
    """One whose jobs are those of the server."""

    jobs_have_ids = True

    def long_job(self) -> Job:
        return [bell()], 10

    @pytest.fixture(autouse=True)
    def held(self, service: QuantumService, request: pytest.FixtureRequest) -> Iterator[None]:
        """Jobs that take long: the server holds them."""
        if "cancel" in request.node.name:
            service.held.set()
        yield
        service.held.clear()

    def test_cancel_from_another_thread_ends_the_job(self, service: QuantumService) -> None:
        super().test_cancel_from_another_thread_ends_the_job()
        assert list(service.jobs.values())[-1]["status"] == "Cancelled"


@pytest.mark.usefixtures("service")
class TestIbm(Service):
    name = "ibm:ibm_manila"


@pytest.mark.usefixtures("service")
class TestQrmi(Service):
    name = "qrmi:ibm_manila"


class TestQiskitBackend(QPUContract):
    name = "qiskit:qpu_objects:generic()"
    noisy = jobs_have_ids = True


class TestQiskitAer(QPUContract):
    name = "qiskit:qiskit_aer:AerSimulator()"
    seeded = jobs_have_ids = True


class TestQiskitSampler(QPUContract):
    name = "qiskit:qpu_objects:sampler()"
    jobs_have_ids = True


class TestPennylaneDefault(QPUContract):
    name = "pennylane:default.qubit"
    seeded = True


class TestPennylaneLightning(QPUContract):
    name = "pennylane:lightning.qubit"
    seeded = True

    def long_job(self) -> Job:
        return [ladder(12)] * 5000, 100


# ---- further jobs that take long --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "circuits", "shots"),
    [
        ("fake:manila?queue=60", [bell()], 10),
        ("fake:manila?shot_time=0.1", [bell()], 1000),
        ("fake:guadalupe", [ladder(8)] * 200, 2000),
    ],
)
def test_cancel_of_a_snapshot(name: str, circuits: list[QuantumCircuit], shots: int) -> None:
    qpu = make(name)
    qpu.open()
    cancel_ends(qpu, circuits, shots)
    qpu.close()


def test_cancel_of_a_vendors_job() -> None:
    qpu = make("qiskit:qpu_objects:Provider():slow")
    qpu.open()
    cancel_ends(qpu, [bell()], 10)
    assert all(job.asked_to_end.is_set() for job in qpu._device.jobs.values())  # type: ignore[attr-defined]
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


def free() -> QuantumCircuit:
    circuit = QuantumCircuit(1)
    circuit.rx(Parameter("theta"), 0)
    circuit.measure_all()
    return circuit


def deaf() -> QuantumCircuit:
    circuit = QuantumCircuit(1, 1)
    with circuit.if_test((0, 1)):
        circuit.x(0)
    return circuit


#: What a device of five qubits, 100 shots and two circuits is given, and what is wrong with that.
WRONG: dict[str, tuple[list[QuantumCircuit], int | None, str]] = {
    "qubits": ([QuantumCircuit(6, 1)], 10, "has 5 qubits, circuit .* has 6"),
    "silent": ([QuantumCircuit(1)], 10, "measures nothing"),
    "reads only": ([deaf()], 10, "measures nothing"),
    "free": ([free()], 10, "without a value: theta"),
    "exact": ([bell()], None, "give a number of shots"),
    "no shots": ([bell()], 0, "takes 1 shot or more"),
    "shots": ([bell()], 101, "takes 100 shots a circuit, not 101"),
    "circuits": ([bell()] * 3, 10, "takes 2 circuits a job, not 3"),
}


@pytest.mark.parametrize(("circuits", "shots", "words"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_with_a_job(circuits: list[QuantumCircuit], shots: int | None, words: str) -> None:
    run = Run(circuits=circuits, shots=shots, seeds=[1] * len(circuits))
    with pytest.raises(QPUError, match=words):
        run.check(QPUInfo(name="mine", qubits=5, max_shots=100, max_circuits=2))
