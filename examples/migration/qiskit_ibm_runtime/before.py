"""Counts and values of a Bell pair on a QPU, in a session of qiskit-ibm-runtime (here in its local mode)."""

from qiskit import QuantumCircuit
from qiskit.quantum_info import SparsePauliOp
from qiskit.transpiler import generate_preset_pass_manager
from qiskit_ibm_runtime import EstimatorV2, SamplerV2, Session
from qiskit_ibm_runtime.fake_provider import FakeManilaV2

bell = QuantumCircuit(2)
bell.h(0)
bell.cx(0, 1)
measured = bell.measure_all(inplace=False)
observable = SparsePauliOp.from_list([("ZZ", 1.0), ("XX", 1.0)])

if __name__ == "__main__":
    backend = FakeManilaV2()  # QiskitRuntimeService().backend("ibm_fez")
    compiler = generate_preset_pass_manager(optimization_level=2, backend=backend, seed_transpiler=1)
    with Session(backend=backend) as session:
        sampler = SamplerV2(mode=session)
        sampler.options.default_shots = 4000
        sampler.options.simulator.seed_simulator = 1
        (result,) = sampler.run([compiler.run(measured)]).result()
        counts = result.data.meas.get_counts()
        print(f"equal bits {(counts['00'] + counts['11']) / 4000:.3f}")

        estimator = EstimatorV2(mode=session)
        estimator.options.default_precision = 0.01
        estimator.options.simulator.seed_simulator = 1
        compiled = compiler.run(bell)
        (result,) = estimator.run([(compiled, observable.apply_layout(compiled.layout))]).result()
        print(f"value {result.data.evs:.3f}")
