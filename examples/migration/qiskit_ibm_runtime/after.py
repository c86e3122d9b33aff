"""Counts and values of a Bell pair on a QPU of a pilot."""

from qiskit import QuantumCircuit
from qiskit.quantum_info import SparsePauliOp

from pilot import PilotDescription, PilotManager
from pilot.quantum import PilotEstimator, PilotSampler

bell = QuantumCircuit(2)
bell.h(0)
bell.cx(0, 1)
measured = bell.measure_all(inplace=False)
observable = SparsePauliOp.from_list([("ZZ", 1.0), ("XX", 1.0)])

if __name__ == "__main__":
    qpu = "fake:manila"  # "ibm:ibm_fez?mode=session"
    with PilotManager() as manager:
        manager.submit_pilot(PilotDescription(cores_per_node=1, qpus=[qpu]))
        sampler = PilotSampler(manager, qpu=qpu, default_shots=4000, seed=1)
        (result,) = sampler.run([measured]).result()
        counts = result.data.meas.get_counts()
        print(f"equal bits {(counts['00'] + counts['11']) / 4000:.3f}")

        estimator = PilotEstimator(manager, qpu=qpu, default_precision=0.01, seed=1)
        (result,) = estimator.run([(bell, observable)]).result()
        print(f"value {result.data.evs:.3f}")
