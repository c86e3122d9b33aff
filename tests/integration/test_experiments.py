"""Programs for IBM's devices on a pilot's QPU, beside Qiskit's own simulator of that device.

They need the extra `experiments` and take minutes: ``make test-slow``.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from qiskit import QuantumCircuit, transpile
from qiskit.quantum_info import SparsePauliOp
from qiskit_aer import AerSimulator
from qiskit_ibm_runtime import Batch, EstimatorV2, SamplerV2, Session
from qiskit_ibm_runtime.fake_provider import FakeManilaV2

from pilot import PilotDescription, PilotManager
from pilot.quantum import PilotBackend

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore"),  # other packages' own
]


@pytest.fixture(scope="module")
def manager() -> Iterator[PilotManager]:
    with PilotManager() as manager:
        manager.submit_pilot(PilotDescription(cores_per_node=1, qpus=["fake:manila"]))
        yield manager


@pytest.fixture(scope="module")
def backends(manager: PilotManager) -> dict[str, Any]:
    """Ours, which waits for its pilot, and Qiskit's simulator."""
    return {"ours": PilotBackend(manager, "fake:manila"), "aer": AerSimulator.from_backend(FakeManilaV2())}


def same(values: dict[str, Any], sigmas: float = 5) -> None:
    """The two numbers with their errors agree."""
    ours, aer = values["ours"], values["aer"]
    print({side: f"{value.n:.4g} ± {value.s:.2g}" for side, value in values.items()})
    assert abs(ours.n - aer.n) <= sigmas * np.hypot(ours.s, aer.s)


def test_quantum_volume(backends: dict[str, Any]) -> None:
    library = pytest.importorskip("qiskit_experiments.library")
    found = {}
    for side, backend in backends.items():
        experiment = library.QuantumVolume([0, 1, 2], trials=40, seed=1, simulation_backend=AerSimulator())
        experiment.set_transpile_options(optimization_level=1, seed_transpiler=1)
        data = experiment.run(backend, shots=1000).block_for_results()
        assert data.errors() == ""
        found[side] = data.analysis_results("mean_HOP").value
    same(found)


def test_randomized_benchmarking(backends: dict[str, Any]) -> None:
    library = pytest.importorskip("qiskit_experiments.library")
    found = {}
    for side, backend in backends.items():
        experiment = library.StandardRB([0], lengths=[1, 100, 300, 700, 1200], num_samples=4, seed=2)
        data = experiment.run(backend, shots=1000).block_for_results()
        assert data.errors() == ""
        found[side] = data.analysis_results("alpha").value
    same(found)


def test_t1(backends: dict[str, Any]) -> None:
    library = pytest.importorskip("qiskit_experiments.library")
    found = {}
    for side, backend in backends.items():
        experiment = library.T1([1], delays=np.linspace(1e-6, 4e-4, 10))
        data = experiment.run(backend, shots=2000).block_for_results()
        assert data.errors() == ""
        found[side] = data.analysis_results("T1").value
    same(found)
    assert abs(found["ours"].n / FakeManilaV2().target.qubit_properties[1].t1 - 1) < 0.2


def ghz(backend: Any) -> QuantumCircuit:
    circuit = QuantumCircuit(3)
    circuit.h(0)
    circuit.cx(0, 1)
    circuit.cx(1, 2)
    return transpile(circuit, backend, initial_layout=[1, 2, 3], seed_transpiler=1)


@pytest.mark.parametrize("mode", [Session, Batch])
def test_a_session_program_with_options(backends: dict[str, Any], mode: Any) -> None:
    shots = 4000
    values: dict[str, Any] = {}
    counts: dict[str, Any] = {}
    for side, backend in backends.items():
        circuit = ghz(backend)
        operator = SparsePauliOp(["ZZI", "IZZ", "XXX"], [0.5, 0.25, 1.0]).apply_layout(circuit.layout)
        with warnings.catch_warnings(), mode(backend=backend) as session:
            estimator = EstimatorV2(mode=session, options={"default_precision": 0.01})
            estimator.options.simulator.seed_simulator = 3
            (result,) = estimator.run([(circuit, operator)]).result()
            values[side] = result.data
            measured = circuit.copy()
            measured.measure_all()
            sampler = SamplerV2(mode=session)
            sampler.options.default_shots = shots
            sampler.options.simulator.seed_simulator = 3
            counts[side] = sampler.run([measured]).result()[0].data.meas.get_counts()
    ours, aer = values["ours"], values["aer"]
    print({side: f"{float(one.evs):.4f} ± {float(one.stds):.4f}" for side, one in values.items()})
    assert abs(ours.evs - aer.evs) <= 5 * np.hypot(ours.stds, aer.stds)
    for key in counts["aer"]:
        one, other = (counts[side].get(key, 0) for side in ("ours", "aer"))
        assert abs(one - other) <= 5 * (one + other + 1) ** 0.5
    assert sum(counts["ours"].values()) == shots
