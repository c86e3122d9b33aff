"""What `pilot.qubit` measures on a QPU: every operator and measurement of ``default.qubit``, with and without shots."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from here import Here

from pilot.errors import DescriptionError, PilotError

qml = pytest.importorskip("pennylane")

from pilot.quantum.faces.pennylane import PilotQubit, sets, simulators  # noqa: E402

SHOTS = 400
RNG = np.random.default_rng(7)


def hermitian(wires: int) -> Any:
    matrix = RNG.normal(size=(1 << wires, 1 << wires)) + 1j * RNG.normal(size=(1 << wires, 1 << wires))
    return (matrix + matrix.conj().T) / 2


STATE = np.array([0.5, 0.5j, -0.1, 0.7])
OBSERVABLES = {
    "word": lambda a, b, c: qml.X(a) @ qml.Y(b) @ qml.Z(c),
    "identity": lambda a, b, c: qml.I(b),
    "hadamard": lambda a, b, c: qml.Z(a) @ qml.Hadamard(b) @ qml.Y(c),
    "hermitian": lambda a, b, c: qml.Hermitian(MATRICES[1], [c, a]),
    "product": lambda a, b, c: qml.Hermitian(MATRICES[0], a) @ qml.Z(b) @ qml.Hermitian(MATRICES[0], c),
    "projector": lambda a, b, c: qml.Projector([1, 0], [b, c]),
    "state projector": lambda a, b, c: qml.Projector(STATE / np.linalg.norm(STATE), [c, a]),
    "sparse": lambda a, b, c: qml.SparseHamiltonian((qml.X(0) + qml.Z(1)).sparse_matrix([0, 1]), [a, b]),
    "sum": lambda a, b, c: qml.Hamiltonian([0.5, -1.2, 0.3], [qml.X(a) @ qml.Y(b), qml.Z(c), qml.I(a)]),
    "one basis": lambda a, b, c: 0.5 * qml.X(a) @ qml.Y(b) - 1.2 * qml.X(a) @ qml.Z(c),
    "any sum": lambda a, b, c: qml.Hermitian(MATRICES[0], a) + 0.5 * qml.Hadamard(b) - 2 * qml.X(a) @ qml.Z(c),
    "factor": lambda a, b, c: -1.7 * qml.Hadamard(b),
    "overlapping": lambda a, b, c: (qml.X(a) + qml.Z(a)) @ qml.Y(c),
    "twice": lambda a, b, c: qml.X(a) @ qml.Z(b) @ qml.X(a),
}
MATRICES = [hermitian(1), hermitian(2)]
MEASUREMENTS = {
    "expval": qml.expval,
    "var": qml.var,
    "probs": lambda operator: qml.probs(op=operator),
    "sample": qml.sample,
    "counts": qml.counts,
    "all outcomes": lambda operator: qml.counts(operator, all_outcomes=True),
}
ORDERS = {"ascending": [0, 1, 2], "other order": [2, 0, 1], "names": ["b", 7, "a"]}


def gates(wires: list[Any], seed: int = 1) -> list[Any]:
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(4):
        first, second, third = rng.permutation(3)
        made += [
            qml.Rot(*rng.uniform(0, 6, 3), wires[first]),
            qml.RY(rng.uniform(0, 6), wires[third]),
            qml.CNOT([wires[first], wires[second]]),
        ]
    return made


def run(device: Any, wires: list[Any], measurements: list[Any], shots: Any = None) -> Any:
    script = qml.tape.QuantumScript(gates(wires), measurements, shots=shots)
    (result,) = qml.execute([script], device, diff_method=None)
    return result


def circuits(**options: Any) -> Any:
    return PilotQubit(manager=Here(), qpu="aer", seed=5, **options)


def exact(wires: list[Any], measurement: Any) -> Any:
    return run(qml.device("default.qubit"), wires, [measurement])


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize("name", OBSERVABLES)
def test_exact_values_are_pennylanes(name: str, order: list[Any]) -> None:
    observable = OBSERVABLES[name](*order)
    matrix = qml.matrix(observable, wire_order=order) if observable.has_matrix else None
    given = run(circuits(), order, [qml.expval(observable), qml.var(observable), qml.probs()])
    np.testing.assert_allclose(given[0], exact(order, qml.expval(observable)), atol=1e-9)
    np.testing.assert_allclose(given[2], exact(order, qml.probs()), atol=1e-9)
    if matrix is not None:
        state = qml.matrix(qml.tape.QuantumScript(gates(order)), wire_order=order)[:, 0]
        square = np.vdot(state, matrix @ matrix @ state).real - np.vdot(state, matrix @ state).real ** 2
        assert given[1] == pytest.approx(square, abs=1e-9)


@pytest.mark.filterwarnings("ignore:Using qp.probs with a Hermitian")
@pytest.mark.parametrize("kind", MEASUREMENTS)
@pytest.mark.parametrize("name", OBSERVABLES)
def test_samples_are_distributed_as_pennylanes(name: str, kind: str) -> None:
    order = ORDERS["other order"]
    observable = OBSERVABLES[name](*order)
    if kind == "probs" and name in ("sum", "sparse"):  # PennyLane has no probabilities of these
        return
    given = run(circuits(), order, [MEASUREMENTS[kind](observable)], SHOTS)
    if kind == "probs":
        wanted = exact(order, qml.probs(op=observable))
        np.testing.assert_allclose(given, wanted, atol=6 * 0.5 / np.sqrt(SHOTS))
        return
    mean = float(np.real(exact(order, qml.expval(observable))))
    matrix = qml.matrix(observable) if observable.has_matrix else observable.sparse_matrix().toarray()
    eigenvalues = np.linalg.eigvalsh(matrix)
    spread = np.ptp(eigenvalues) + 1e-9
    if kind == "var":
        assert 0 <= given <= spread**2 / 4 * (1 + 1e-9)
        return
    if kind == "expval":  # of sums: each of up to three terms is estimated for itself
        assert given == pytest.approx(mean, abs=6 * 3 * spread / np.sqrt(SHOTS))
        return
    values = given if kind == "sample" else np.repeat(list(given), [int(one) for one in given.values()])
    assert len(values) == SHOTS
    assert np.abs(values[:, None] - eigenvalues).min(axis=1).max() < 1e-9, "only eigenvalues come"
    assert values.mean() == pytest.approx(mean, abs=6 * spread / 2 / np.sqrt(SHOTS))
    if kind == "all outcomes":
        np.testing.assert_allclose(sorted(given), np.unique(eigenvalues.round(9)), atol=1e-8)


def test_measurements_in_one_basis_share_a_circuit() -> None:
    manager = Here()
    device = PilotQubit(manager=manager, qpu="aer")
    bases = [qml.X(0), qml.X(0) @ qml.Z(1), qml.Z(1), qml.Hadamard(2)]
    run(device, [0, 1, 2], [qml.counts(one) for one in bases], 10)
    (task,) = manager.submitted
    assert task.circuit.num_clbits == 3
    run(device, [0, 1, 2], [qml.counts(qml.X(0)), qml.sample(qml.Y(0)), qml.probs(wires=[1]), qml.var(qml.X(0))], 10)
    assert len(manager.submitted) == 3, "X and wire 1 in one, Y in another"


def test_shared_shots_agree() -> None:
    sample, counts, mean = run(
        circuits(), [0, 1, 2], [qml.sample(qml.Z(0)), qml.counts(qml.Z(0)), qml.expval(0.5 * qml.Z(0))], 50
    )
    assert counts.get(1.0, 0) == (sample == 1).sum()
    assert mean == pytest.approx(sample.mean() / 2)


class Parity(qml.measurements.SampleMeasurement):
    """A measurement of the user's own."""

    def process_samples(self, samples: Any, wire_order: Any, shot_range: Any = None, bin_size: Any = None) -> Any:
        places = [list(wire_order).index(wire) for wire in self.wires]
        return (samples[..., places].sum(axis=-1) % 2).mean()

    def process_counts(self, counts: Any, wire_order: Any) -> Any:
        raise NotImplementedError


def test_ones_own_measurement() -> None:
    script = qml.tape.QuantumScript([qml.X("b"), qml.I("a")], [Parity(wires=["a", "b"]), Parity(wires=["a"])], shots=9)
    assert qml.execute([script], circuits(), diff_method=None) == ((1.0, 0.0),)


def test_classical_shadows() -> None:
    wires = [2, 0, 1]
    bits, recipes = run(circuits(), wires, [qml.classical_shadow(wires=[2, 0], seed=3)], 3000)
    _, wanted = run(qml.device("default.qubit", seed=1), wires, [qml.classical_shadow(wires=[2, 0], seed=3)], 3000)
    assert (recipes == wanted).all(), "the seed says the bases"
    for number, wire in enumerate([2, 0]):
        for basis, operator in enumerate((qml.X, qml.Y, qml.Z)):
            chosen = recipes[:, number] == basis
            mean = (1 - 2.0 * bits[chosen, number]).mean()
            assert mean == pytest.approx(float(exact(wires, qml.expval(operator(wire)))), abs=6 / np.sqrt(900))
    observable = qml.X(2) @ qml.Z(0)
    value = run(circuits(), wires, [qml.shadow_expval(observable, seed=4)], 3000)
    assert value == pytest.approx(float(exact(wires, qml.expval(observable))), abs=6 * 3 / np.sqrt(3000))


@pytest.mark.parametrize(
    ("measurement", "shots"),
    [
        (qml.state(), None),
        (qml.purity([0]), None),
        (qml.mutual_info([0], [1]), None),
        (qml.vn_entropy([0]), None),
        (qml.density_matrix([0]), None),
        (qml.state(), 10),
        (qml.counts(qml.Z(0)), None),
        (qml.sample(wires=[0]), None),
        (Parity(wires=[0]), None),
        (qml.expval(1j * qml.Z(0)), None),
        (qml.expval(1j * qml.Z(0)), 10),
        (qml.expval(1j * qml.Hadamard(0)), 10),
        (qml.var(qml.X(0) @ qml.Z(0)), 10),
        (qml.expval(qml.X(0) @ qml.Z(0)), None),
        (qml.var(qml.sum(*(qml.X(wire) @ qml.Z((wire + 1) % 12) for wire in range(12)))), 10),
    ],
    ids=str,
)
def test_what_circuits_cannot_give_is_refused_where_it_is_asked(measurement: Any, shots: int | None) -> None:
    manager = Here()
    with pytest.raises(PilotError) as refusal:
        run(PilotQubit(manager=manager, qpu="aer"), [0, 1, 2], [measurement], shots)
    assert isinstance(refusal.value, DescriptionError | qml.exceptions.DeviceError)
    assert not manager.submitted


def test_what_a_simulator_does_not_take_is_refused_in_words() -> None:
    device = PilotQubit(manager=Here())
    for measurement, shots in ((qml.expval(qml.X(0) ** 2), None), (qml.var(qml.X(0) + qml.Z(0)), 10)):
        with pytest.raises(PilotError, match=r"lightning\.qubit: .*simulator='default.qubit' or a QPU may take it"):
            run(device, [0, 1, 2], [measurement], shots)


# ---- many sets of values ------------------------------------------------------------------------------------------

SETS = np.linspace(0.1, 2.9, 5)
SWEEPS = {
    "rotations": lambda x: [qml.RY(x, 0), qml.CNOT([0, 1]), qml.Rot(x, 0.3, 2 * x, 1)],
    "controlled": lambda x: [qml.Hadamard(0), qml.ctrl(qml.RX(x, 1), 0), qml.CRY(x, [1, 0])],
    "matrices": lambda x: [qml.QubitUnitary(qml.RY.compute_matrix(x), 0), qml.MultiRZ(x, [0, 1]), qml.Hadamard(0)],
    "states": lambda x: [qml.StatePrep(np.stack([np.cos(x), np.sin(x)], -1), 0), qml.CNOT([0, 1])],
    "phases": lambda x: [qml.Hadamard(0), qml.ctrl(qml.GlobalPhase(x), 0), qml.Hadamard(0)],
    "one set": lambda x: [qml.RY(x[:1], 0)],
}
KINDS: dict[str, dict[str, Any]] = {"lightning": {}, "default": {"simulator": "default.qubit"}, "aer": {"qpu": "aer"}}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("amplitudes", [1 << 20, 8], ids=["together", "in parts"])
@pytest.mark.parametrize("name", SWEEPS)
def test_many_sets_of_values(name: str, amplitudes: int, kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sets, "AMPLITUDES", amplitudes)
    measured = [qml.expval(qml.Z(0) @ qml.X(1)), qml.probs(wires=[1, 0]), qml.var(qml.Hadamard(0))]
    script = qml.tape.QuantumScript(SWEEPS[name](SETS), measured)
    (given,) = qml.execute([script], PilotQubit(wires=2, manager=Here(), **kind), diff_method=None)
    (wanted,) = qml.execute([script], qml.device("default.qubit", wires=2), diff_method=None)
    for one, other in zip(given, wanted, strict=True):
        assert np.shape(one) == np.shape(other)
        np.testing.assert_allclose(one, other, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("amplitudes", [1 << 20, 8], ids=["together", "in parts"])
def test_samples_of_many_sets_have_pennylanes_form(kind: Any, amplitudes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sets, "AMPLITUDES", amplitudes)
    angles = np.array([0, np.pi, 0, np.pi, 0])
    kinds = [qml.counts(wires=[0]), qml.sample(wires=[0]), qml.sample(qml.Z(0)), qml.expval(qml.Z(0)), qml.probs()]
    for measured, shots in ((kinds, 6), (kinds, [6, 7]), (kinds[:1], 6), (kinds[3:4], [6, 7])):
        script = qml.tape.QuantumScript([qml.RY(angles, 0)], measured, shots=shots)
        (given,) = qml.execute([script], PilotQubit(wires=1, manager=Here(), **kind), diff_method=None)
        (wanted,) = qml.execute([script], qml.device("default.qubit", wires=1), diff_method=None)
        np.testing.assert_equal(given, wanted)  # nothing is left to chance


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_many_sets_are_one_task(kind: Any) -> None:
    manager = Here()
    qnode = qml.QNode(lambda x: (qml.RY(x, 0), qml.expval(qml.Z(0)))[1], PilotQubit(wires=1, manager=manager, **kind))
    angles = np.linspace(0, 3, 1000)
    np.testing.assert_allclose(qnode(angles), np.cos(angles), atol=1e-9)
    assert len(manager.submitted) == 1


def test_many_tapes_share_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulators, "MAX_TASKS", 4)
    manager = Here()
    angles = np.linspace(0, 3, 10)
    tapes = [qml.tape.QuantumScript([qml.RY(angle, 0)], [qml.expval(qml.Z(0))]) for angle in angles]
    results = qml.execute(tapes, PilotQubit(wires=1, manager=manager), diff_method=None)
    np.testing.assert_allclose(results, np.cos(angles), atol=1e-9)
    assert len(manager.submitted) == 4
