"""What the suites of QPUs share: their names, circuits, and how a job runs."""

from __future__ import annotations

from collections.abc import Callable

from pilot_plugins.qpus.aer import AerQPU
from pilot_plugins.qpus.fake import FakeQPU
from pilot_plugins.qpus.ibm import IbmQPU
from pilot_plugins.qpus.pennylane import PennylaneQPU
from pilot_plugins.qpus.qiskit import QiskitQPU
from pilot_plugins.qpus.qrmi import QrmiQPU
from qiskit import ClassicalRegister, QuantumCircuit, QuantumRegister, generate_preset_pass_manager
from qpu_server import API_KEY, BACKEND, CRN

from pilot.interfaces import QPU, Run
from pilot.quantum.execution import run_on
from pilot.quantum.outcomes import Outcomes

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


def compiled(qpu: QPU, circuit: QuantumCircuit) -> QuantumCircuit:
    target = qpu.target()
    if target is None:
        return circuit
    manager = generate_preset_pass_manager(1, target=target, seed_transpiler=5, scheduling_method=None)
    return manager.run(circuit)


def run(qpu: QPU, *circuits: QuantumCircuit, shots: int | None = 400, seed: int = 1) -> list[Outcomes]:
    seeds = [seed + number for number in range(len(circuits))]
    return run_job(qpu, [compiled(qpu, circuit) for circuit in circuits], shots, seeds)


def run_job(
    qpu: QPU,
    circuits: list[QuantumCircuit],
    shots: int | None,
    seeds: list[int],
    on_job: Callable[[str], None] = lambda job: None,
) -> list[Outcomes]:
    """Run one job of compiled circuits, as the library does."""
    return run_on(qpu, Run(circuits=circuits, shots=shots, seeds=seeds, on_job=on_job))


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
