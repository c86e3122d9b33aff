"""mitiq over pilots: zero-noise extrapolation, all its folded circuits in one batch on a noisy QPU."""

from mitiq import Executor, zne
from qiskit import QuantumCircuit

from pilot import PilotDescription, PilotManager
from pilot.quantum.faces import mitiq_executor

circuit = QuantumCircuit(3)
for _ in range(3):  # there and back: <ZZZ> is 1 without noise
    circuit.h(0)
    circuit.cx(0, 1)
    circuit.cx(1, 2)
    circuit.cx(1, 2)
    circuit.cx(0, 1)
    circuit.h(0)

if __name__ == "__main__":
    with PilotManager() as manager:
        manager.submit_pilot(PilotDescription(engine="process", cores_per_node=2, qpus=["fake:manila"]))
        executor = Executor(mitiq_executor(manager, "ZZZ", qpu="fake:manila", precision=0.005, seed=5))
        (noisy,) = executor.evaluate([circuit])
        factory = zne.inference.RichardsonFactory([1.0, 2.0, 3.0])
        mitigated = zne.execute_with_zne(circuit, executor, factory=factory, scale_noise=zne.scaling.fold_global)
        print(f"with noise {noisy.real:.2f}, extrapolated {mitigated:.2f}, without noise 1.00")
        print("closer:", abs(1 - mitigated) < abs(1 - noisy.real))
        print("batches:", executor.calls_to_executor)
