"""Circuits are tasks: sampled, asked for expectation values, swept over parameters, on a simulator and on a QPU."""

import numpy as np
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter

from pilot import PilotDescription, PilotManager, TaskDescription

bell = QuantumCircuit(2)
bell.h(0)
bell.cx(0, 1)
measured = bell.copy()
measured.measure_all()

angle = Parameter("angle")
turned = QuantumCircuit(1)
turned.ry(angle, 0)

if __name__ == "__main__":
    with PilotManager() as manager:
        # fake:… is a snapshot of one of IBM's QPUs, with its gates, coupling and noise
        pilot = manager.submit_pilot(PilotDescription(engine="process", cores_per_node=2, qpus=["fake:manila"]))

        ideal = manager.submit_task(TaskDescription(circuit=measured, shots=1000, qpu="aer", seed=1))
        noisy = manager.submit_task(TaskDescription(circuit=measured, shots=1000, qpu="fake:manila", seed=1))
        exact = manager.submit_task(TaskDescription(circuit=bell, observables=["ZZ", "XX", "ZI"]))
        angles = np.linspace(0, np.pi, 5).reshape(-1, 1)
        sweep = manager.submit_task(TaskDescription(circuit=turned, observables=["Z"], parameters=angles))

        print("simulated:", dict(sorted(ideal.result().get_counts().items())))
        print("with noise:", dict(sorted(noisy.result().get_counts().items())))
        print("expectation values of ZZ, XX, ZI:", exact.result().values.round(6))
        print("the sweep is a cosine:", np.allclose(sweep.result().values[:, 0], np.cos(angles[:, 0])))

        pilot.wait()
        (qpu,) = manager.qpus.values()
        print(f"{qpu.name} has {qpu.qubits} qubits and {', '.join(qpu.gates)}; error of a CX: {qpu.error_2q:.1%}")
