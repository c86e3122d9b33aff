"""What the tests of QPUs share beyond their contract suite."""

from __future__ import annotations

from qiskit import QuantumCircuit
from qpu_server import API_KEY, BACKEND, CRN


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


def ladder(qubits: int) -> QuantumCircuit:
    """Ten layers of rotations and CX gates on neighbours."""
    circuit = QuantumCircuit(qubits)
    for layer in range(10):
        circuit.ry(0.1 + layer, range(qubits))
        for qubit in range(layer % 2, qubits - 1, 2):
            circuit.cx(qubit, qubit + 1)
    circuit.measure_all()
    return circuit
