"""A Qiskit add-on as it is, with a sampler over pilots: circuit cutting, its pieces run side by side."""

from qiskit import QuantumCircuit
from qiskit.quantum_info import PauliList, Statevector
from qiskit_addon_cutting import generate_cutting_experiments, partition_problem, reconstruct_expectation_values

from pilot import PilotDescription, PilotManager
from pilot.quantum.faces import PilotSampler

circuit = QuantumCircuit(4)
for layer in range(2):
    for qubit in range(4):
        circuit.ry(0.4 + 0.2 * qubit + layer, qubit)
    circuit.cx(0, 1)
    circuit.cx(2, 3)
circuit.cz(1, 2)  # the gate that is cut
observables = PauliList(["ZZII", "IZZI", "XIIX"])

if __name__ == "__main__":
    problem = partition_problem(circuit, partition_labels="AABB", observables=observables)
    experiments, coefficients = generate_cutting_experiments(problem.subcircuits, problem.subobservables, 1000)
    with PilotManager() as manager:
        manager.submit_pilot(PilotDescription(engine="process", cores_per_node=2))
        sampler = PilotSampler(manager, default_shots=20_000, seed=3)
        jobs = {label: sampler.run(pieces) for label, pieces in experiments.items()}
        results = {label: job.result() for label, job in jobs.items()}
    values = reconstruct_expectation_values(results, coefficients, problem.subobservables)
    exact = [Statevector(circuit).expectation_value(pauli).real for pauli in observables]
    print("cut:  ", [f"{value:+.2f}" for value in values])
    print("uncut:", [f"{value:+.2f}" for value in exact])
    print("equal within errors:", all(abs(a - b) < 0.1 for a, b in zip(values, exact, strict=True)))
