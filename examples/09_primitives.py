"""Qiskit's primitives over pilots: an estimator in SciPy's optimizer (VQE), a sampler, and a backend."""

import numpy as np
from qiskit import QuantumCircuit, transpile
from qiskit.circuit.library import efficient_su2
from qiskit.quantum_info import SparsePauliOp
from scipy.optimize import minimize

from pilot import PilotDescription, PilotManager
from pilot.quantum.faces import PilotBackend, PilotEstimator, PilotSampler

# H2 at 0.735 Å on two qubits: its ground state has energy -1.857275 Hartree
HYDROGEN = SparsePauliOp.from_list(
    [("II", -1.052373), ("IZ", 0.397937), ("ZI", -0.397937), ("ZZ", -0.011280), ("XX", 0.180931)]
)

if __name__ == "__main__":
    with PilotManager() as manager:
        manager.submit_pilot(PilotDescription(engine="process", cores_per_node=2))
        ansatz = efficient_su2(2, reps=1)
        estimator = PilotEstimator(manager)

        def energy(values: np.ndarray) -> float:
            return float(estimator.run([(ansatz, HYDROGEN, values)]).result()[0].data.evs)

        found = minimize(energy, np.full(ansatz.num_parameters, 0.1), method="SLSQP")
        print(f"VQE: {found.fun:.5f} Hartree after {found.nfev} evaluations")

        measured = ansatz.measure_all(inplace=False)
        (sample,) = PilotSampler(manager, seed=1).run([(measured, found.x)], shots=2000).result()
        print("most likely:", max(sample.data.meas.get_counts().items(), key=lambda one: one[1])[0])

        ghz = QuantumCircuit(3)
        ghz.h(0)
        ghz.cx(0, [1, 2])
        ghz.measure_all()
        backend = PilotBackend(manager)
        print("backend:", sorted(backend.run(transpile(ghz, backend), shots=100).result().get_counts()))
