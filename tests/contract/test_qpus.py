"""What every QPU promises: one suite over aer, fake, ibm, qrmi, qiskit and pennylane; then what each one adds.

IBM's service and QRMI's resource are a server on a loopback port that speaks their protocol (`qpu_server`); the clients
are the vendors' own.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pilot_plugins.qpus.aer import AerQPU
from pilot_plugins.qpus.fake import FakeQPU
from pilot_plugins.qpus.ibm import IbmQPU
from pilot_plugins.qpus.pennylane import PennylaneQPU
from pilot_plugins.qpus.qiskit import QiskitQPU
from pilot_plugins.qpus.qrmi import QrmiQPU
from qiskit import ClassicalRegister, QuantumCircuit, QuantumRegister, generate_preset_pass_manager
from qiskit.circuit import Parameter

from pilot.errors import DescriptionError, QPUCancelled, QPUError, QPUUnavailable
from pilot.interfaces import QPU
from pilot.quantum.outcomes import Outcomes

sys.path.insert(0, str(Path(__file__).parent))  # also how qiskit: finds `qpu_objects`

from qpu_server import API_KEY, BACKEND, CRN, QuantumService

PLUGINS: dict[str, type[QPU]] = {
    "aer": AerQPU,
    "fake": FakeQPU,
    "ibm": IbmQPU,
    "qrmi": QrmiQPU,
    "qiskit": QiskitQPU,
    "pennylane": PennylaneQPU,
}
QPUS = [
    "aer",
    "aer:statevector",
    "aer:density_matrix",
    "aer:matrix_product_state?threads=2",
    "fake:manila",
    "ibm:ibm_manila",
    "qrmi:ibm_manila",
    "qiskit:qpu_objects:generic()",
    "qiskit:qiskit_aer:AerSimulator()",
    "qiskit:qpu_objects:sampler()",
    "pennylane:default.qubit",
    "pennylane:lightning.qubit",
]
SEEDED = ("aer", "fake", "pennylane", "qiskit:qiskit_aer")
WITH_JOBS = ("fake", "ibm", "qrmi", "qiskit")
NOISY = ("fake", "qiskit:qpu_objects:generic")


def make(name: str) -> QPU:
    kind, _, address = name.partition(":")
    return PLUGINS[kind](name, address)


@pytest.fixture(scope="module")
def service() -> Iterator[QuantumService]:
    service = QuantumService()
    with pytest.MonkeyPatch.context() as patch:
        for key, value in environment(service.address).items():
            patch.setenv(key, value)
        yield service
    service.close()


def environment(address: str) -> dict[str, str]:
    """As a user of IBM's service, and as Slurm's plugin for QPUs, would have it."""
    prefix = f"{BACKEND}_QRMI_IBM_QRS_"
    return {
        "QISKIT_IBM_URL": f"{address}/experimental/v1",  # qiskit-ibm-runtime takes such an address as it is
        "QISKIT_FUNCTIONS_EXPERIMENTAL": "1",  # … and does not ask IBM's catalogue for instances
        "QISKIT_IBM_TOKEN": API_KEY,
        "QISKIT_IBM_INSTANCE": CRN,
        "IAM_URL": address,
        "QRMI_JOB_QPU_RESOURCES": BACKEND,
        "QRMI_JOB_QPU_TYPES": "qiskit-runtime-service",
        f"{prefix}ENDPOINT": f"{address}/v1",
        f"{prefix}IAM_ENDPOINT": address,
        f"{prefix}IAM_APIKEY": API_KEY,
        f"{prefix}SERVICE_CRN": CRN,
    }


@pytest.fixture(scope="module", params=QPUS)
def qpu(request: pytest.FixtureRequest, service: QuantumService) -> Iterator[QPU]:
    qpu = make(request.param)
    qpu.open()
    yield qpu
    qpu.close()


def compiled(qpu: QPU, circuit: QuantumCircuit) -> QuantumCircuit:
    target = qpu.target()
    if target is None:
        return circuit
    manager = generate_preset_pass_manager(1, target=target, seed_transpiler=5, scheduling_method=None)
    return manager.run(circuit)


def run(qpu: QPU, *circuits: QuantumCircuit, shots: int | None = 400, seed: int = 1) -> list[Outcomes]:
    seeds = [seed + number for number in range(len(circuits))]
    return qpu.run([compiled(qpu, circuit) for circuit in circuits], shots, seeds)


def bell() -> QuantumCircuit:
    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.cx(0, 1)
    circuit.measure_all()
    return circuit


def asymmetric() -> QuantumCircuit:
    """Qubits 0 and 2 are 1; bits are written crosswise into two registers: low = 01 (bit 0 is 1), high = 110."""
    qubits, low, high = QuantumRegister(5, "q"), ClassicalRegister(2, "low"), ClassicalRegister(3, "high")
    circuit = QuantumCircuit(qubits, low, high)
    circuit.x([0, 2])
    circuit.measure([2, 1, 3, 0, 2], [low[0], low[1], high[0], high[1], high[2]])
    return circuit


def share(outcomes: Outcomes, *texts: str, register: str | None = None) -> float:
    counts = outcomes.get_counts(register)
    return sum(counts.get(text, 0) for text in texts) / sum(counts.values())


# ---- every QPU ------------------------------------------------------------------------------------------------


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
    qpu.run([compiled(qpu, bell())], 10, [1], jobs.append)
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
        qpu.run([wide], 10, [1])
    silent = QuantumCircuit(1)
    with pytest.raises(QPUError, match="measures nothing"):
        qpu.run([silent], 10, [1])
    free = QuantumCircuit(1)
    free.rx(Parameter("theta"), 0)
    free.measure_all()
    with pytest.raises(QPUError, match="without a value: theta"):
        qpu.run([free], 10, [1])
    with pytest.raises(QPUError, match="1 shot or more"):
        qpu.run([compiled(qpu, bell())], 0, [1])
    if info.max_shots is not None:
        with pytest.raises(QPUError, match=f"takes {info.max_shots} shots"):
            qpu.run([compiled(qpu, bell())], info.max_shots + 1, [1])
    if info.max_circuits is not None:
        many = [compiled(qpu, bell())] * (info.max_circuits + 1)
        with pytest.raises(QPUError, match=f"takes {info.max_circuits} circuits"):
            qpu.run(many, 10, [1] * len(many))


def test_closing_twice_and_opening_again(qpu: QPU) -> None:
    qpu.close()
    qpu.close()
    qpu.open()
    assert share(run(qpu, bell())[0], "00", "11") > 0.85


# ---- cancelling -----------------------------------------------------------------------------------------------


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
            qpu.run([first] * len(circuits), shots, list(range(len(circuits))), lambda job: started.set())
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
            first.run([circuit], 10, [1], told)
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


# ---- errors ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("aer:state_vector", "did you mean 'statevector'"),
        ("aer:statevector?device=TPU", "one of CPU, GPU"),
        ("aer:?threads=0", "at least 1"),
        ("aer:?threds=2", "did you mean 'threads'"),
        ("aer:?threads", "option=value"),
        ("aer:?threads=1&threads=2", "twice"),
        ("aer:stabilizer?device=GPU", "runs on no GPU"),
        ("fake:kolkatta", "did you mean 'kolkata'"),
        ("fake:", "which device"),
        ("fake:manila?queue=-1", "seconds that each job waits"),
        ("fake:manila?speed=2", "options: queue"),
        ("ibm:", "which backend"),
        ("ibm:ibm_fez?mode=turbo", "batch, session, job"),
        ("qrmi:", "which resource"),
        ("qrmi:ibm_fez?mode=batch", "options: none"),
        ("qiskit:qiskit_aer", "qiskit:module:object"),
        ("qiskit:qiskit_aer:AerSimulater()", "did you mean 'AerSimulator'"),
        ("qiskit:qpu_objects:number()", "cannot be called"),
        ("qiskit:qpu_objects:Provider()", "there are slow, broken"),
        ("qiskit:qpu_objects:Provider():slw", "did you mean 'slow'"),
        ("pennylane:", "which device"),
        ("pennylane:default.qubit?wires=none", "whole number"),
        ("pennylane:default.qubit?colour=red", "colour"),
    ],
)
def test_addresses_that_cannot_be(name: str, said: str) -> None:
    with pytest.raises(DescriptionError, match=said) as caught:
        make(name).open()
    assert caught.value.field == "qpus" and caught.value.given == name


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ibm:ibm_atlantis", "it has: ibm_manila"),
        ("qrmi:ibm_atlantis", "was not given 'ibm_atlantis', but ibm_manila"),
        ("qiskit:no_such_vendor:Provider()", "no_such_vendor cannot be imported"),
        ("qiskit:qpu_objects:number", "is a int, not a BackendV2"),
        ("qiskit:qpu_objects:generic", r"write qpu_objects:generic\(\)"),
        ("pennylane:default.qbit", "default.qbit does not exist"),
        ("aer:statevector?device=GPU", "sees no GPU here"),
        ("aer:tensor_network", "no method 'tensor_network'"),
    ],
)
def test_qpus_that_are_not_there(name: str, said: str, service: QuantumService) -> None:
    if name.startswith("aer"):
        from qiskit_aer import AerSimulator

        if "GPU" in AerSimulator().available_devices():
            pytest.skip("this machine has a GPU")
    with pytest.raises(QPUError, match=said) as caught:
        make(name).open()
    assert not caught.value.transient


@pytest.mark.filterwarnings("ignore:Unable to retrieve IBM Cloud access token")
@pytest.mark.parametrize("name", ["ibm:ibm_manila", "qrmi:ibm_manila", "qiskit:qpu_objects:lost()"])
def test_qpus_that_cannot_be_reached(name: str, service: QuantumService, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in environment("http://127.0.0.1:9").items():  # the discard port: nothing listens
        monkeypatch.setenv(key, value)
    with pytest.raises(QPUUnavailable):
        make(name).open()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ibm:ibm_manila", "Out of helium"),
        ("qrmi:ibm_manila", "Out of helium"),
        ("qiskit:qpu_objects:Provider():broken", "the laser is off"),
    ],
)
def test_a_failed_job_says_so_in_the_vendors_words(name: str, words: str, service: QuantumService) -> None:
    qpu = make(name)
    qpu.open()
    jobs: list[str] = []
    service.failure = "Out of helium"
    try:
        with pytest.raises(QPUError, match=words) as caught:
            qpu.run([compiled(qpu, bell())], 10, [1], jobs.append)
    finally:
        service.failure = None
        qpu.close()
    assert caught.value.job == jobs[0] and caught.value.qpu == name
    assert not caught.value.transient


# ---- aer ------------------------------------------------------------------------------------------------------


def test_aer_takes_a_tableau_for_wide_clifford_circuits() -> None:
    circuit = QuantumCircuit(200)
    circuit.h(0)
    for qubit in range(199):
        circuit.cx(qubit, qubit + 1)
    circuit.measure_all()
    qpu = AerQPU("aer", "")
    assert qpu.simulator(circuit, 100).method == "stabilizer"
    assert set(run(qpu, circuit, shots=100)[0].get_counts()) == {"0" * 200, "1" * 200}


def test_aer_takes_a_matrix_product_state_for_wide_circuits_of_low_entanglement() -> None:
    circuit = QuantumCircuit(40)
    for qubit in range(39):
        circuit.ry(0.3, qubit)
        circuit.cx(qubit, qubit + 1)
    circuit.measure_all()
    qpu = AerQPU("aer", "")
    assert qpu.simulator(circuit, 100).method == "matrix_product_state"
    assert run(qpu, circuit, shots=100)[0].weights.sum() == 100


def test_aer_says_what_a_circuit_would_need_that_fits_by_no_method() -> None:
    circuit = QuantumCircuit(60)
    for layer in range(60):
        circuit.ry(0.3 + layer, range(60))
        for qubit in range(layer % 2, 59, 2):
            circuit.cx(qubit, qubit + 1)
    circuit.measure_all()
    with pytest.raises(QPUError, match=r"fits by no method .* statevector .* GiB"):
        run(AerQPU("aer", ""), circuit)


def test_aer_runs_circuits_that_act_on_outcomes() -> None:
    circuit = QuantumCircuit(2, 2)
    circuit.x(0)
    circuit.measure(0, 0)
    with circuit.if_test((circuit.clbits[0], 1)):
        circuit.x(1)
    circuit.measure(1, 1)
    qpu = AerQPU("aer", "")
    assert run(qpu, circuit, shots=50)[0].get_counts() == {"11": 50}
    with pytest.raises(QPUError, match="acts on measured bits"):
        run(qpu, circuit, shots=None)


# ---- fake -----------------------------------------------------------------------------------------------------


def test_every_snapshot_has_a_name() -> None:
    from pilot_plugins.qpus.fake import _snapshots
    from qiskit_ibm_runtime import fake_provider

    assert len(_snapshots()) == len({name for name in dir(fake_provider) if name.startswith("Fake")}) - 1 == 68
    for name in ("FakeKolkataV2", "fake_kolkata", "ibm_kolkata", "Kolkata", "kolkata"):
        assert FakeQPU("fake", name).snapshot == "kolkata"
    assert FakeQPU("fake", "fractional").snapshot in _snapshots()


def idle(microseconds: float) -> QuantumCircuit:
    """Qubit 0 is excited and waits."""
    circuit = QuantumCircuit(1)
    circuit.x(0)
    if microseconds:
        circuit.delay(microseconds, 0, "us")
    circuit.measure_all()
    return circuit


def scheduled(qpu: QPU, circuit: QuantumCircuit, layout: list[int]) -> QuantumCircuit:
    manager = generate_preset_pass_manager(
        1, target=qpu.target(), seed_transpiler=5, initial_layout=layout, scheduling_method="alap"
    )
    return manager.run(circuit)


@pytest.mark.filterwarnings("ignore:Duration is rounded")
def test_fake_a_long_delay_relaxes_as_t1_says() -> None:
    import numpy as np

    qpu = FakeQPU("fake:manila", "manila")
    qpu.open()
    t1 = qpu.target().qubit_properties[2].t1  # type: ignore[union-attr]
    short, long = (share(qpu.run([scheduled(qpu, idle(delay), [2])], 4000, [3])[0], "1") for delay in (0, 1e6 * t1))
    readout = qpu._backend.properties().qubit_property(2)
    wrong_0, wrong_1 = readout["prob_meas1_prep0"][0], readout["prob_meas0_prep1"][0]
    left = np.exp(-1)
    assert short == pytest.approx(1 - wrong_1, abs=0.02)
    assert long == pytest.approx(left * (1 - wrong_1) + (1 - left) * wrong_0, abs=0.03)


def test_fake_idle_qubits_relax_while_others_work() -> None:
    """Qubit 0 waits for a long ladder on qubits 1 and 2, with no delay in the circuit itself."""
    qpu = FakeQPU("fake:manila", "manila")
    qpu.open()
    waiting = QuantumCircuit(3, 1)
    waiting.x(0)
    waiting.barrier()
    for _ in range(200):
        waiting.cx(1, 2)
        waiting.sx(1)
    waiting.barrier()
    waiting.x(0)
    waiting.measure(0, 0)
    busy = compiled(qpu, waiting)
    assert "delay" not in busy.count_ops()
    quiet = QuantumCircuit(3, 1)
    quiet.x(0)
    quiet.barrier()
    quiet.x(0)
    quiet.measure(0, 0)
    late, early = (share(qpu.run([each], 2000, [3])[0], "1") for each in (busy, compiled(qpu, quiet)))
    assert early < 0.1 < 0.25 < late


def test_fake_noise_on_the_used_qubits_is_that_of_the_whole_device() -> None:
    """Against Aer's own model of all 27 qubits, on a circuit that is scheduled the same way."""
    from pilot_plugins.qpus.noise import NoisyDevice
    from qiskit_aer import AerSimulator
    from qiskit_aer.noise import NoiseModel
    from qiskit_ibm_runtime.fake_provider import FakeKolkataV2

    backend = FakeKolkataV2()
    circuit = QuantumCircuit(3)
    circuit.h(0)
    for _ in range(6):
        circuit.cx(0, 1)
        circuit.cx(1, 2)
        circuit.sx(2)
    circuit.measure_all()
    device = NoisyDevice(backend.target)
    physical = generate_preset_pass_manager(
        1, backend=backend, initial_layout=[12, 13, 14], seed_transpiler=5, scheduling_method="alap"
    ).run(circuit)
    ours = device.run(physical, 40_000, 1, lambda: None).get_counts()
    model = NoiseModel.from_backend(backend)
    simulator = AerSimulator(method="density_matrix", noise_model=model, max_parallel_threads=1)
    theirs = simulator.run(physical, shots=40_000, seed_simulator=2).result().get_counts()
    distance = sum(abs(ours.get(key, 0) - theirs.get(key, 0)) for key in ours.keys() | theirs.keys()) / 80_000
    assert distance < 0.012  # two samples of 40,000 of one distribution over 8 outcomes: 0.005 on average


#: Without durations of measurements and a unit of time; without that of a reset; without resets.
WITH_HOLES = ("almaden", "essex", "london", "singapore", "vigo", "boeblingen", "melbourne", "armonk")


@pytest.mark.parametrize("snapshot", WITH_HOLES)
def test_fake_snapshots_with_holes_in_their_calibration_run(snapshot: str) -> None:
    """A pair, a reset, and decoupling; the thinned form of all 68."""
    from pilot.quantum.mitigation import Device, stages

    qpu = FakeQPU(f"fake:{snapshot}", snapshot)
    qpu.open()
    wide = min(2, qpu.info().qubits)
    again = QuantumCircuit(wide, 2)
    again.x(0)
    again.measure(0, 0)
    again.reset(0)
    for qubit in range(1, wide):
        again.cx(0, qubit)
        again.x(0)
        again.cx(0, qubit)
        again.x(0)
    again.measure(0, 1)
    circuit = compiled(qpu, again)
    (outcomes,) = qpu.run([circuit], 400, [1])
    assert share(outcomes, "01") > 0.7
    planned = stages(["dd"]).stage.plan([circuit], 400, Device(target=qpu.target(), name=qpu.name))
    (decoupled,) = planned.combine(qpu.run(list(planned.circuits), 400, [1]))
    assert share(decoupled, "01") > 0.7
    if wide > 1:
        (outcomes,) = run(qpu, compiled(qpu, bell()))
        assert share(outcomes, "00", "11") > 0.7


def test_fake_noise_without_durations_is_that_of_aer() -> None:
    from pilot_plugins.qpus.noise import NoisyDevice
    from qiskit_aer import AerSimulator
    from qiskit_aer.noise import NoiseModel
    from qiskit_ibm_runtime.fake_provider import FakeLondonV2

    backend = FakeLondonV2()
    circuit = QuantumCircuit(2, 2)
    circuit.h(0)
    for _ in range(4):
        circuit.cx(0, 1)
        circuit.reset(1)
        circuit.cx(0, 1)
    circuit.measure([0, 1], [0, 1])
    device = NoisyDevice(backend.target)
    physical = generate_preset_pass_manager(0, backend=backend, initial_layout=[0, 1]).run(circuit)
    small, active = device.reduce(physical)
    scheduled = device.schedule(small, active)  # the other one has no idle times unless they are in the circuit
    ours = device.run(physical, 40_000, 1, lambda: None).get_counts()
    model = NoiseModel.from_backend(backend)
    simulator = AerSimulator(method="density_matrix", noise_model=model, max_parallel_threads=1)
    theirs = simulator.run(scheduled, shots=40_000, seed_simulator=2).result().get_counts()
    assert sum(abs(ours.get(key, 0) - theirs.get(key, 0)) for key in ours.keys() | theirs.keys()) / 80_000 < 0.012


def test_fake_simulates_the_used_qubits_of_156_alone() -> None:
    qpu = FakeQPU("fake:fez", "fez")
    qpu.open()
    circuit = compiled(qpu, bell())
    assert circuit.num_qubits == 156
    begin = time.process_time()
    (outcomes,) = qpu.run([circuit], 1000, [1])
    assert time.process_time() - begin < 2  # 0.05 s here; with the whole device's model 5 s
    assert 0.8 < share(outcomes, "00", "11") < 0.999


def test_fake_reads_ones_and_zeros_as_they_were_calibrated() -> None:
    """The snapshot's two readout errors of a qubit differ; each is met within four standard errors."""
    qpu = FakeQPU("fake:manila", "manila")
    qpu.open()
    properties = qpu._backend.properties().qubit_property(0)
    wrong_0, wrong_1 = properties["prob_meas1_prep0"][0], properties["prob_meas0_prep1"][0]
    assert wrong_1 > wrong_0 * 1.2
    nothing = QuantumCircuit(1, 1)
    nothing.measure(0, 0)
    measured = share(qpu.run([scheduled(qpu, nothing, [0])], 20_000, [1])[0], "1")
    assert measured == pytest.approx(wrong_0, abs=4 * (wrong_0 / 20_000) ** 0.5)


def busy_circuit(seed: int) -> QuantumCircuit:
    """Gates, delays, resets and measurements in any order, each measurement into a bit of its own."""
    import numpy as np

    random = np.random.default_rng(seed)
    circuit = QuantumCircuit(3, 12)
    free = 3
    for _ in range(12):
        first, second = random.permutation(3)[:2].tolist()
        kind = random.integers(7)
        if kind == 0:
            circuit.cx(first, second)
        elif kind == 1:
            circuit.barrier(first, second)
        elif kind == 2 and free < 12:
            circuit.measure(first, free)
            free += 1
        elif kind == 3:
            circuit.reset(first)
        elif kind == 4:
            circuit.delay(160 * int(random.integers(1, 200)), first, "dt")
        else:
            circuit.ry(random.uniform(0, 3), first)
    circuit.measure(range(3), range(3))
    return circuit


@pytest.mark.parametrize("seed", range(4))
def test_fake_distributions_are_those_of_aer_with_the_same_noise(seed: int) -> None:
    import numpy as np
    from qiskit_aer import AerSimulator

    qpu = FakeQPU("fake:manila", "manila")
    qpu.open()
    device = qpu._device
    assert device is not None
    circuit = compiled(qpu, busy_circuit(seed))
    small, active = device.reduce(circuit)
    scheduled = device.schedule(small, active)
    ours = qpu.run([circuit], 100_000, [1])[0].get_counts()
    model = device.noise(scheduled, active)
    simulator = AerSimulator(method="density_matrix", noise_model=model, max_parallel_threads=1)
    theirs = simulator.run(scheduled, shots=4_000, seed_simulator=2).result().get_counts()
    shares = {key: (ours.get(key, 0) / 100_000, theirs.get(key, 0) / 4_000) for key in ours.keys() | theirs.keys()}
    distance = sum(abs(one - other) for one, other in shares.values()) / 2
    assert distance < 1.5 * sum(np.sqrt(one / 4_000) for one, _ in shares.values()) / 2


@pytest.mark.parametrize("seed", range(4))
def test_fake_schedules_as_qiskit_does(seed: int) -> None:
    from qiskit import QuantumRegister
    from qiskit.transpiler import PassManager
    from qiskit.transpiler.passes import ALAPScheduleAnalysis, PadDelay, TimeUnitConversion

    from pilot.quantum.durations import timed

    qpu = FakeQPU("fake:manila", "manila")
    qpu.open()
    device = qpu._device
    assert device is not None
    small, active = device.reduce(compiled(qpu, busy_circuit(seed)))
    ours = device.schedule(small, active)
    target = timed(device.target, active)
    physical = QuantumCircuit(QuantumRegister(len(active), "q"), small.clbits, *small.cregs)
    physical.compose(small, physical.qubits, physical.clbits, inplace=True)
    passes = [TimeUnitConversion(target=target), ALAPScheduleAnalysis(target=target)]
    theirs = PassManager([*passes, PadDelay(target=target, fill_very_end=False)]).run(physical)
    assert idle_times(ours) == idle_times(theirs)


def idle_times(circuit: QuantumCircuit) -> list[list[tuple[str, int]]]:
    """Of each qubit from its first instruction to its last: their names, each with the idle time before it in dt."""
    found: list[list[tuple[str, int]]] = [[] for _ in circuit.qubits]
    waited = dict.fromkeys(circuit.qubits, 0)
    for entry in circuit.data:
        for qubit in entry.qubits:
            if entry.name == "delay":
                waited[qubit] += entry.operation.duration
            elif entry.name != "barrier":
                own = found[circuit.find_bit(qubit).index]
                own.append((entry.name, waited[qubit] if own else 0))
                waited[qubit] = 0
    return found


def test_fake_a_seed_gives_the_same_counts_alone_and_in_company() -> None:
    qpu = FakeQPU("fake:manila", "manila")
    qpu.open()
    dynamic = QuantumCircuit(2, 2)
    dynamic.h(0)
    dynamic.measure(0, 0)
    with dynamic.if_test((dynamic.clbits[0], 1)):
        dynamic.x(1)
    dynamic.measure(1, 1)
    circuits = [compiled(qpu, each) for each in (bell(), dynamic, *map(busy_circuit, range(3)))]
    seeds = [11, 12, 13, 14, 11]
    together = [outcomes.get_counts() for outcomes in qpu.run(circuits, 300, seeds)]
    alone = [qpu.run([circuit], 300, [seed])[0].get_counts() for circuit, seed in zip(circuits, seeds, strict=True)]
    backwards = [outcomes.get_counts() for outcomes in qpu.run(circuits[::-1], 300, seeds[::-1])]
    assert together == alone == backwards[::-1]
    assert together[0] != qpu.run(circuits[:1], 300, [15])[0].get_counts()


@pytest.mark.parametrize("room", [None, 0])
def test_fake_takes_registers_of_any_name_with_room_for_probabilities_and_without(
    room: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without room for exact probabilities Aer follows single shots."""
    from pilot_plugins.qpus import noise as noisy_devices
    from qiskit import ClassicalRegister, QuantumRegister

    if room is not None:
        monkeypatch.setattr(noisy_devices, "_MAX_VALUES", room)
    qpu = FakeQPU("fake:manila", "manila")
    qpu.open()
    circuit = QuantumCircuit(QuantumRegister(2, "x"), ClassicalRegister(1, "q"), ClassicalRegister(2, "y"))
    circuit.x(0)
    circuit.cz(0, 1)
    circuit.measure([0, 1], circuit.cregs[1])
    (outcomes,) = qpu.run([compiled(qpu, circuit)], 400, [1])
    assert share(outcomes, "01 0") > 0.8
    assert outcomes.shots == 400


def test_fake_runs_dynamic_circuits() -> None:
    qpu = FakeQPU("fake:fez", "fez")
    qpu.open()
    circuit = QuantumCircuit(2, 2)
    circuit.x(0)
    circuit.measure(0, 0)
    with circuit.if_test((circuit.clbits[0], 1)):
        circuit.x(1)
    circuit.measure(1, 1)
    (outcomes,) = qpu.run([compiled(qpu, circuit)], 400, [1])
    assert 0.8 < share(outcomes, "11") < 1


def test_fake_refuses_circuits_that_are_not_compiled_for_it() -> None:
    qpu = FakeQPU("fake:manila", "manila")
    with pytest.raises(QPUError, match=r"has h on \[0\], which the device has not: compile it"):
        qpu.run([bell()], 10, [1])


def test_fake_takes_the_time_that_it_is_told_to() -> None:
    qpu = FakeQPU("fake:manila?queue=0.3&shot_time=1e-3", "manila?queue=0.3&shot_time=1e-3")
    qpu.open()
    assert qpu.info().expected_wait == 0.3
    circuit = compiled(qpu, bell())
    qpu.run([circuit], 1, [1])
    begin = time.monotonic()
    qpu.run([circuit, circuit], 100, [1, 2])
    assert time.monotonic() - begin >= 0.5


# ---- ibm ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "kind"), [("batch", "batch"), ("session", "dedicated"), ("job", None)])
def test_ibm_runs_its_jobs_in_one_session_and_closes_it(mode: str, kind: str | None, service: QuantumService) -> None:
    service.sessions.clear()
    qpu = make(f"ibm:ibm_manila?mode={mode}")
    qpu.open()
    for _ in range(2):
        assert run(qpu, bell(), shots=20)[0].shots == 20
    assert [session["mode"] for session in service.sessions.values()] == ([kind] if kind else [])
    qpu.close()
    assert all(not session["accepting_jobs"] for session in service.sessions.values())


def test_ibm_opens_a_new_session_when_the_service_has_closed_it(service: QuantumService) -> None:
    service.sessions.clear()
    qpu = make("ibm:ibm_manila")
    run(qpu, bell(), shots=20)
    next(iter(service.sessions.values()))["accepting_jobs"] = False
    assert run(qpu, bell(), shots=20)[0].shots == 20
    assert len(service.sessions) == 2
    qpu.close()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_ibm_works_with_the_newer_sampler_alone(service: QuantumService, monkeypatch: pytest.MonkeyPatch) -> None:
    """The deprecated one will go: what is sent then is a quantum program, whose results are put together here."""
    import qiskit_ibm_runtime

    qpu = make("ibm:ibm_manila")
    qpu.open()
    monkeypatch.delattr(qiskit_ibm_runtime, "SamplerV2")
    first, second = run(qpu, bell(), asymmetric(), shots=200)
    assert share(first, "00", "11") == 1 and first.shots == 200
    assert share(second, "110 01") == 1
    assert list(service.jobs.values())[-1]["body"]["program_id"] == "executor"
    qpu.close()


def test_ibm_says_when_the_device_takes_no_jobs(service: QuantumService) -> None:
    qpu = make("ibm:ibm_manila")
    qpu.open()
    service.operational = False
    try:
        info = qpu.info()
    finally:
        service.operational = True
    assert info.accepts_jobs is False
    assert qpu.info().expected_wait is None  # three jobs wait: nobody says how long


def test_ibm_without_credentials_says_where_they_go(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for key in list(os.environ):
        if key.startswith("QISKIT_IBM"):
            monkeypatch.delenv(key)
    monkeypatch.setattr(
        "qiskit_ibm_runtime.accounts.management._DEFAULT_ACCOUNT_CONFIG_JSON_FILE", str(tmp_path / "none.json")
    )
    with pytest.raises(QPUError, match="QISKIT_IBM_TOKEN and QISKIT_IBM_INSTANCE"):
        make("ibm:ibm_fez").open()


# ---- qrmi -----------------------------------------------------------------------------------------------------


def names(service: QuantumService, family: str, lists: tuple[str, str], kind: str) -> dict[str, str]:
    found = {}
    for key, value in environment(service.address).items():
        if "QRMI" in key and not key.startswith("QRMI_JOB"):
            found[key.replace("IBM_QRS", family)] = value
    return found | {lists[0]: BACKEND, lists[1]: kind}


@pytest.mark.parametrize("family", ["IBM_QRS", "IBM_QCS"])
@pytest.mark.parametrize("kind", ["qiskit-runtime-service", "ibm-quantum-compute-service"])
@pytest.mark.parametrize("prefix", ["QRMI", "SLURM"])
def test_qrmi_reads_old_and_new_names(
    family: str, kind: str, prefix: str, service: QuantumService, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in environment(""):
        monkeypatch.delenv(key)
    lists = (f"{prefix}_JOB_QPU_RESOURCES", f"{prefix}_JOB_QPU_TYPES")
    for key, value in names(service, family, lists, kind).items():
        monkeypatch.setenv(key, value)
    qpu = make("qrmi:ibm_manila")
    qpu.open()
    assert qpu.info().qubits == 5
    qpu.close()


def test_qrmi_says_what_it_looked_for(service: QuantumService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(f"{BACKEND}_QRMI_IBM_QRS_IAM_APIKEY")
    with pytest.raises(QPUError, match=f"{BACKEND}_QRMI_IBM_QRS_IAM_APIKEY .*IBM_QCS"):
        make("qrmi:ibm_manila").open()
    monkeypatch.setenv("QRMI_JOB_QPU_TYPES", "pasqal-cloud")
    with pytest.raises(QPUError, match="type 'pasqal-cloud', which runs no Qiskit circuits"):
        make("qrmi:ibm_manila").open()
    monkeypatch.delenv("QRMI_JOB_QPU_TYPES")
    with pytest.raises(QPUError, match="neither QRMI_JOB_QPU_TYPES nor SLURM_JOB_QPU_TYPES"):
        make("qrmi:ibm_manila").open()


def test_qrmi_releases_what_it_acquired_and_leaves_what_the_job_holds(
    service: QuantumService, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.sessions.clear()
    qpu = make("qrmi:ibm_manila")
    qpu.open()
    (session,) = service.sessions.values()
    assert session["accepting_jobs"]
    qpu.close()
    assert not session["accepting_jobs"]
    monkeypatch.setenv(f"{BACKEND}_QRMI_JOB_ACQUISITION_TOKEN", session["id"])
    qpu.open()
    qpu.close()
    assert list(service.sessions) == [session["id"]]


# ---- qiskit and pennylane -------------------------------------------------------------------------------------


def test_qiskit_tells_the_limits_of_a_backend() -> None:
    info = make("qiskit:qpu_objects:Provider():broken").info()
    assert (info.max_circuits, info.max_shots, info.qubits) == (2, 1000, 3)


def test_pennylane_gates_are_qiskits() -> None:
    """All standard gates on random states, against Qiskit's own probabilities."""
    import numpy as np
    from qiskit.circuit.library import get_standard_gate_name_mapping
    from qiskit.quantum_info import Statevector

    qpu = make("pennylane:default.qubit")
    circuits, expected = [], []
    generator = np.random.default_rng(5)
    for name, gate in get_standard_gate_name_mapping().items():
        if name in ("measure", "reset", "delay", "global_phase"):
            continue
        circuit = QuantumCircuit(max(gate.num_qubits, 2))
        for qubit in range(circuit.num_qubits):
            circuit.u(*generator.uniform(0, 3, 3), qubit)
        bound = gate.base_class(*generator.uniform(0.2, 2.9, len(gate.params))) if gate.params else gate
        circuit.append(bound, range(gate.num_qubits))
        for qubit in range(circuit.num_qubits):
            circuit.u(*generator.uniform(0, 3, 3), qubit)
        expected.append(Statevector(circuit).probabilities())
        circuit.measure_all()
        circuits.append(circuit)
    for circuit, probabilities, outcomes in zip(circuits, expected, run(qpu, *circuits, shots=None), strict=True):
        found = np.zeros(len(probabilities))
        for text, probability in outcomes.get_counts().items():
            found[int(text, 2)] = probability
        assert found == pytest.approx(probabilities, abs=1e-9), circuit.name


def test_pennylane_samples_what_it_cannot_list() -> None:
    circuit = QuantumCircuit(16)
    circuit.x([0, 15])
    circuit.measure_all()
    (outcomes,) = run(make("pennylane:lightning.qubit"), circuit, shots=20)
    assert outcomes.get_counts() == {"1" + "0" * 14 + "1": 20}


def test_pennylane_refuses_circuits_that_act_on_outcomes() -> None:
    circuit = QuantumCircuit(2, 1)
    circuit.measure(0, 0)
    with circuit.if_test((circuit.clbits[0], 1)):
        circuit.x(1)
    with pytest.raises(QPUError, match="acts on measured bits"):
        run(make("pennylane:default.qubit"), circuit)
