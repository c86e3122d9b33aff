"""Stages against real noise: that of snapshots of IBM's devices, and readout errors that are known exactly.

All that needs mthree and qiskit-ibm-runtime stands here: importing them takes seconds.
"""

import pickle
import sys
from functools import lru_cache

import numpy as np
import pytest
from qiskit import QuantumCircuit, generate_preset_pass_manager
from qiskit.quantum_info import Statevector
from qiskit_aer import AerSimulator

from pilot.errors import DescriptionError, PluginError
from pilot.quantum import expectation
from pilot.quantum.aer import run_circuit
from pilot.quantum.mitigation import Calibrations, Device, Readout, Twirling, ZeroNoise, stages
from pilot.quantum.mitigation.stage import merged
from pilot.quantum.observables import operators
from pilot.quantum.outcomes import Outcomes, QuasiOutcomes, Register, registers_of

if sys.version_info >= (3, 13):
    pytest.skip("mthree has no wheels for Python 3.13 yet", allow_module_level=True)

#: `P(read | prepared)` of four qubits, each different and none symmetric.
MATRICES = {
    0: np.array([[0.97, 0.08], [0.03, 0.92]]),
    1: np.array([[0.99, 0.02], [0.01, 0.98]]),
    2: np.array([[0.90, 0.15], [0.10, 0.85]]),
    3: np.array([[0.95, 0.20], [0.05, 0.80]]),
}
KNOWN = Device(name="known", calibrated=1.0)


def calibrated():
    return Calibrations({("known", 1.0, qubit): matrix for qubit, matrix in MATRICES.items()})


def misread(outcome, qubits):
    """Exact outcomes of `qubits`, bit `j` that of the `j`-th, as devices with `MATRICES` read them."""
    n = len(qubits)
    probabilities = np.zeros(2**n)
    probabilities[outcome.bits() @ (1 << np.arange(n))] = outcome.weights
    for bit, qubit in enumerate(qubits):
        tensor = probabilities.reshape(2 ** (n - 1 - bit), 2, 2**bit)
        probabilities = np.einsum("ab,xby->xay", MATRICES[qubit], tensor).reshape(-1)
    bits = (np.arange(2**n)[:, None] >> np.arange(n) & 1).astype(bool)
    return Outcomes.from_bits(bits, probabilities, registers=outcome.registers, shots=None)


def drawn(outcome, shots, rng):
    counts = rng.multinomial(shots, outcome.weights)
    bits = outcome.bits().astype(bool)[counts > 0]
    return Outcomes.from_bits(bits, counts[counts > 0], registers=outcome.registers, shots=shots)


def entangled(qubits):
    circuit = QuantumCircuit(4, len(qubits))
    for qubit in range(4):
        circuit.ry(0.4 + 0.6 * qubit, qubit)
    circuit.cx(0, 1)
    circuit.cx(2, 3)
    circuit.cx(1, 2)
    circuit.measure(qubits, range(len(qubits)))
    return circuit


# ---- readout errors that are known -----------------------------------------------------------------------------


@pytest.mark.parametrize("qubits", [[0, 1, 2], [3, 0], [2, 3, 0, 1]])
def test_known_errors_are_undone(qubits):
    """Bits and qubits in any order; to mthree's single precision."""
    circuit = entangled(qubits)
    exact = run_circuit(circuit, None, 0)
    planned = Readout(calibrated()).plan([circuit], None, KNOWN)
    assert planned.circuits == (circuit,)
    (corrected,) = planned.combine([misread(exact, qubits)])
    counts = corrected.get_counts()
    assert corrected.shots is None
    assert max(abs(counts.get(key, 0) - weight) for key, weight in exact.get_counts().items()) < 2e-6


def test_calibration_finds_the_errors():
    circuit = entangled([3, 0, 2])
    calibrations = Calibrations()
    planned = Readout(calibrations).plan([circuit], None, KNOWN)
    exact = [run_circuit(each, None, 0) for each in planned.circuits]
    (corrected,) = planned.combine([misread(exact[0], [3, 0, 2]), *(misread(each, [0, 2, 3]) for each in exact[1:])])
    for qubit in (0, 2, 3):
        assert calibrations.known(KNOWN)[qubit] == pytest.approx(MATRICES[qubit])
    assert sum(corrected.get_counts().values()) == pytest.approx(1)
    again = Readout(calibrations).plan([entangled([0, 3])], 10, KNOWN)
    assert len(again.circuits) == 1
    other = Readout(calibrations).plan([entangled([0, 1, 3])], 10, KNOWN)
    assert [circuit.num_clbits for circuit in other.circuits[1:]] == [1, 1]


def test_errors_of_corrected_values_are_their_scatter():
    planned = expectation.plan(entangled([0]), [{"ZZZZ": 1.0, "IZIZ": -0.5, "ZIII": 0.3}, "IIIZ", "ZZII"])
    (circuit,) = planned.circuits
    stage = Readout(calibrated()).plan([circuit], 2000, KNOWN)
    exact = run_circuit(circuit, None, 0)
    noisy = misread(exact, [0, 1, 2, 3])
    rng = np.random.default_rng(4)
    results = [planned.combine(stage.combine([drawn(noisy, 2000, rng)])) for _ in range(150)]
    deviations = [(each.values - planned.combine([exact]).values) / each.standard_errors for each in results]
    assert np.abs(np.mean(deviations, axis=0)).max() < 3 / 150**0.5
    assert np.abs(np.std(deviations, axis=0) - 1).max() < 3 / 300**0.5
    plain = planned.combine([drawn(noisy, 2000, rng)])
    assert (results[0].standard_errors > plain.standard_errors).all()


def test_weights_are_real_and_add_up_to_the_shots():
    circuit = QuantumCircuit(4, 3)
    circuit.measure([0, 1, 2], [0, 1, 2])
    noisy = drawn(misread(run_circuit(circuit, None, 0), [0, 1, 2]), 500, np.random.default_rng(1))
    (quasi,) = Readout(calibrated()).plan([circuit], 500, KNOWN).combine([noisy])
    quasi = pickle.loads(pickle.dumps(quasi))
    assert isinstance(quasi, QuasiOutcomes)
    assert quasi.weights.sum() == pytest.approx(500)
    assert quasi.weights.min() < 0
    assert quasi.measured.weights.sum() == 500
    (nearest,) = Readout(calibrated(), nearest=True).plan([circuit], 500, KNOWN).combine([noisy])
    assert nearest.weights.min() > 0
    assert nearest.weights.sum() == pytest.approx(500)
    assert nearest.get_counts()["000"] > noisy.get_counts()["000"] + 30


def test_nearest_weights_leave_values_and_their_errors_as_they_are():
    planned = expectation.plan(entangled([0]), ["ZZZZ", {"IZIZ": -0.5, "ZIII": 0.3}])
    (circuit,) = planned.circuits
    noisy = drawn(misread(run_circuit(circuit, None, 0), [0, 1, 2, 3]), 500, np.random.default_rng(1))
    plain, nearest = (
        planned.combine(Readout(calibrated(), nearest=which).plan([circuit], 500, KNOWN).combine([noisy]))
        for which in (False, True)
    )
    assert (nearest.values == plain.values).all()
    assert (nearest.standard_errors == plain.standard_errors).all()


def test_a_readout_that_tells_nothing_is_refused():
    circuit = QuantumCircuit(1, 1)
    circuit.measure(0, 0)
    planned = Readout().plan([circuit], None, Device(name="dead"))
    deaf = Outcomes.from_bits(
        np.array([[0], [1]], dtype=bool), np.array([0.5, 0.5]), registers=(Register("readout", (0,)),), shots=None
    )
    with pytest.raises(DescriptionError, match=r"qubit 0 reads 1 as often .* 0 \(0.500\) as in 1 \(0.500\)"):
        planned.combine([run_circuit(circuit, None, 0), deaf, deaf])


def test_without_mthree_its_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "mthree", None)
    circuit = QuantumCircuit(17)
    circuit.measure_all()
    known = Calibrations({("known", 1.0, qubit): MATRICES[0] for qubit in range(17)})
    planned = Readout(known).plan([circuit], None, KNOWN)
    with pytest.raises(PluginError, match=r"pip install 'quantum-pilot\[mitigation\]'"):
        planned.combine([run_circuit(circuit, None, 0)])


def test_narrow_values_of_wide_circuits_are_unbiased():
    """Nearly every string was seen once: correcting these alone would leave the mean 30 errors off."""
    n, shots, p0, p1, rng = 16, 20_000, 0.10, 0.20, np.random.default_rng(0)
    circuit = QuantumCircuit(n)
    circuit.ry(1.159, range(n))
    planned = expectation.plan(circuit, [{f"Z{qubit}": 1 / n for qubit in range(n)}, "Z0"])
    (measured,) = planned.circuits
    matrix = np.array([[1 - p0, p1], [p0, 1 - p1]])
    known = Calibrations({("known", 1.0, qubit): matrix for qubit in range(n)})
    true = rng.random((shots, n)) < 0.3
    read = true ^ (rng.random((shots, n)) < np.where(true, p1, p0))
    bits, counts = np.unique(read, axis=0, return_counts=True)
    seen = Outcomes.from_bits(bits, counts, registers=registers_of(measured), shots=shots)
    (corrected,) = Readout(known).plan([measured], shots, KNOWN).combine([seen])
    result = planned.combine([corrected])
    assert np.abs((result.values - 0.4) / result.standard_errors).max() < 3
    one = corrected.bits()[:, 0]
    assert corrected.weights @ (1.0 - 2.0 * one) / shots == pytest.approx(result.values[1])


def test_errors_of_corrected_values_contain_those_of_the_calibration():
    rng, p0, p1, shots = np.random.default_rng(8), 0.08, 0.18, 100_000
    circuit = QuantumCircuit(1)
    circuit.ry(1.159, 0)
    planned = expectation.plan(circuit, ["Z"])
    (measured,) = planned.circuits
    stage, true, deviations = Readout(), np.cos(1.159), []

    def drawn_ones(outcome_registers, rate, number):
        ones = rng.binomial(number, rate)
        return Outcomes.from_bits(
            np.array([[False], [True]]), np.array([number - ones, ones]), registers=outcome_registers, shots=number
        )

    for _ in range(300):
        to_run = stage.plan([measured], shots, Device(name="anew"))
        read = (1 + true) / 2 * p0 + (1 - true) / 2 * (1 - p1)
        rates = [read, *(1 - p1 if "x" in one.count_ops() else p0 for one in to_run.circuits[1:])]
        outcomes = [
            drawn_ones(registers_of(one), rate, number)
            for one, rate, number in zip(to_run.circuits, rates, to_run.shots, strict=True)
        ]
        result = planned.combine(to_run.combine(outcomes))
        deviations.append((result.values[0] - true) / result.standard_errors[0])
    assert np.std(deviations) == pytest.approx(1, abs=0.13)


@pytest.mark.parametrize("readout", [False, True])
def test_errors_of_random_circuits_contain_the_scatter_between_them(readout):
    """Copies whose values differ by 0.3: more shots of each do not help."""
    rng, shots, number = np.random.default_rng(9), 64_000, 32
    planned = expectation.plan(QuantumCircuit(1), ["Z"])
    registers = registers_of(planned.circuits[0])
    deviations = []
    for _ in range(300):
        true = np.clip(0.3 + 0.3 * rng.normal(size=number), -1, 1)
        copies = []
        for value in true:
            rate = (1 + value) / 2 * 0.03 + (1 - value) / 2 * 0.92 if readout else (1 - value) / 2
            ones = rng.binomial(shots // number, rate)
            counts = np.array([shots // number - ones, ones])
            bits = np.array([[False], [True]])
            copies.append(Outcomes.from_bits(bits, counts, registers=registers, shots=shots // number))
        together = [merged(copies)]
        if readout:
            together = Readout(calibrated()).plan([planned.circuits[0]], shots, KNOWN).combine(together)
        result = planned.combine(together)
        deviations.append((result.values[0] - 0.3) / result.standard_errors[0])
    assert np.std(deviations) == pytest.approx(1, abs=0.13)


# ---- devices ---------------------------------------------------------------------------------------------------


@lru_cache(maxsize=2)
def noisy(name):
    """A snapshot: what stages know of it, its simulator, and its compiler for a line of four qubits."""
    from qiskit_ibm_runtime import fake_provider

    backend = getattr(fake_provider, name)()
    simulator = AerSimulator.from_backend(backend, method="density_matrix", max_parallel_threads=1)
    compiler = generate_preset_pass_manager(
        optimization_level=1, target=backend.target, initial_layout=[0, 1, 2, 3], seed_transpiler=1
    )
    return Device(target=backend.target, name=name, calibrated=1.0), simulator, compiler


def run(simulator, planned):
    """The circuits of each number of shots as one job: making a noise model takes longer than a circuit."""
    outcomes = {}
    for shots in set(planned.shots):
        places = [place for place, number in enumerate(planned.shots) if number == shots]
        result = simulator.run([planned.circuits[place] for place in places], shots=shots, seed_simulator=7).result()
        for experiment, place in enumerate(places):
            outcomes[place] = counted(planned.circuits[place], result.data(experiment)["counts"], shots)
    return [outcomes[place] for place in range(len(planned.circuits))]


def counted(circuit, counts, shots):
    numbers = np.array([int(key, 16) for key in counts])
    bits = (numbers[:, None] >> np.arange(circuit.num_clbits) & 1).astype(bool)
    weights = np.array(list(counts.values()))
    return Outcomes.from_bits(bits, weights, registers=registers_of(circuit), shots=shots)


def errors(name, circuit, observables, mitigation, shots=20_000):
    """The mean distance of the values from exact ones."""
    device, simulator, compiler = noisy(name)
    planned = expectation.plan(circuit, observables)
    compiled = compiler.run(list(planned.circuits))
    stage, zero_noise = stages(mitigation)
    lists = [compiled] if zero_noise is None else zero_noise.scaled(compiled, device)
    to_run = stage.plan([each for scaled in lists for each in scaled], shots, device, seed=1)
    outcomes = to_run.combine(run(simulator, to_run))
    width = len(compiled)
    results = [planned.combine(outcomes[place : place + width]) for place in range(0, len(outcomes), width)]
    values = results[0].values
    if zero_noise is not None:
        values, *_ = zero_noise.extrapolate(
            [each.values for each in results], [each.standard_errors for each in results], planned.constants
        )
    exact = [Statevector(circuit).expectation_value(operator).real for operator in operators(observables, 4)]
    return float(np.abs(values - exact).mean())


def ghz():
    circuit = QuantumCircuit(4)
    circuit.h(0)
    for qubit in range(3):
        circuit.cx(qubit, qubit + 1)
    return circuit


def ising():
    """Three Trotter steps of a transverse-field Ising chain."""
    circuit = QuantumCircuit(4)
    for _ in range(3):
        for qubit in range(3):
            circuit.rzz(-0.6, qubit, qubit + 1)
        circuit.rx(-0.6, range(4))
    return circuit


GHZ = ["ZZII", "IZZI", "IIZZ", "ZIIZ", "XXXX"]
ISING = ["IIIZ", "IIZI", "IIZZ", "ZZII", {"ZIII": 0.5, "IXII": 1.0}]


@pytest.mark.parametrize(("name", "factor"), [("FakeManilaV2", 5.0), ("FakeKolkataV2", 1.5)])
def test_readout_brings_the_error_down(name, factor):
    assert errors(name, ghz(), GHZ, ["readout"]) < errors(name, ghz(), GHZ, []) / factor


@pytest.mark.parametrize("extrapolation", ["linear", "exponential"])
@pytest.mark.parametrize("folding", ["local", "global"])
def test_zero_noise_brings_the_error_of_gates_down(extrapolation, folding):
    """Against readout correction alone, so that what is left is of the gates."""
    zero_noise = ZeroNoise(extrapolation=extrapolation, folding=folding)
    corrected = errors("FakeManilaV2", ising(), ISING, ["readout"])
    assert errors("FakeManilaV2", ising(), ISING, ["readout", zero_noise]) < corrected / 1.4
    assert corrected < errors("FakeManilaV2", ising(), ISING, []) / 1.5


def test_all_stages_together():
    every = [Readout(), Twirling(num=2), "dd", ZeroNoise(extrapolation="exponential")]
    assert errors("FakeKolkataV2", ising(), ISING, every) < errors("FakeKolkataV2", ising(), ISING, []) / 2
