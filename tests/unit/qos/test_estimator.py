"""Estimates beside what the QPU gives, prices by hand, and run times that are learned. Without pilots."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter, ParameterVector

from pilot import TaskDescription, registry
from pilot.errors import DescriptionError, QPUError
from pilot.interfaces import Run
from pilot.qos.estimation import CircuitEstimator, Predictions
from pilot.qos.estimator import Estimator
from pilot.qos.families import circuit
from pilot.qos.predictor import Predictor
from pilot.qos.prices import PriceTable
from pilot.qos.run_times import SIMULATOR, Row, RunTimes, device_prior, device_row, simulator_row
from pilot.quantum.compilation import Compiler, tries_for
from pilot.quantum.fidelities import hellinger, ideal_of
from pilot.resources import QPUInfo


@pytest.fixture(scope="module")
def manila() -> QPUInfo:
    return registry.make("fake:manila").info()


def test_the_estimate_is_what_the_qpu_gives(manila: QPUInfo) -> None:
    """Counts of the snapshot itself, for the circuit as its worker compiles it."""
    qpu, made, shots = registry.make("fake:manila"), circuit("w", 4), 100_000
    estimate = Estimator().estimate(made, manila, shots=shots)
    compiled = Compiler(qpu).compile(made, 2, tries_for(made))
    (outcomes,) = qpu.run(Run(circuits=[compiled], shots=shots, seeds=[1]))
    counts = np.zeros(16)
    for text, count in outcomes.get_counts().items():
        counts[int(text, 2)] = count
    ideal = ideal_of(made)
    assert ideal is not None
    assert estimate.fidelity == pytest.approx(hellinger(ideal.probabilities, counts / shots), abs=0.004)
    assert estimate.calibrated == manila.calibrated and estimate.fidelity_spread is not None


def test_what_is_known_is_not_computed_again(manila: QPUInfo) -> None:
    predictor, made = Predictor(), circuit("ghz", 4)
    first = predictor.predict(made, manila, 2)
    again = made.copy(name="another name")
    assert predictor.predict(again, msgspec.structs.replace(manila, asked=1.0), 2) is first
    assert (predictor.hits, predictor.misses) == (1, 1)
    assert manila.calibration is not None and manila.calibrated is not None
    worse = [msgspec.structs.replace(one, error=0.2) if one.name == "cx" else one for one in manila.calibration.gates]
    calibration = msgspec.structs.replace(manila.calibration, gates=tuple(worse))
    later = msgspec.structs.replace(manila, calibration=calibration, calibrated=manila.calibrated + 1)
    second = predictor.predict(made, later, 2)
    assert second.fidelity is not None and first.fidelity is not None
    assert second.fidelity.value < first.fidelity.value and second.calibrated == manila.calibrated + 1
    assert predictor.predict(made, later, 3) is not second


def test_free_parameters_have_the_values_of_the_call(manila: QPUInfo) -> None:
    angles = ParameterVector("t", 2)
    free = QuantumCircuit(2)
    free.ry(angles[0], 0)
    free.cx(0, 1)
    free.ry(angles[1], 1)
    free.measure_all()
    values = np.array([0.3, 1.2])
    predictor = Predictor()
    found = predictor.predict(free, manila, 2, values).fidelity
    bound = Predictor().predict(free.assign_parameters(values), manila, 2).fidelity
    other = predictor.predict(free, manila, 2, np.array([2.0, 0.1])).fidelity
    assert found is not None and bound is not None and other is not None
    assert found.value == pytest.approx(bound.value, abs=0.01) and abs(found.value - other.value) > 1e-4


def test_a_simulator_has_no_errors_and_takes_memory() -> None:
    estimate = Estimator().estimate(circuit("qaoa-r", 20), registry.make("aer").info(), shots=1000)
    assert estimate.fidelity == 1.0 and estimate.memory == 16 * 2**20
    assert estimate.seconds is not None and estimate.seconds_spread is not None and estimate.seconds > 0


# ---- run times --------------------------------------------------------------------------------------------------


def test_setup_delay_and_factor_are_learned() -> None:
    random, times, cold = np.random.default_rng(1), RunTimes(), RunTimes()
    for one in (times, cold):
        one.expect("q", device_prior(None))
        one.expect("another", device_prior(None))

    def draw() -> tuple[Row, float]:
        shots, duration = int(random.integers(500, 20_000)), random.uniform(2e-6, 20e-6)
        return device_row(shots, duration), 4.0 + shots * (120e-6 + 1.1 * duration)

    cold_errors, errors = [], []
    for _ in range(200):
        row, seconds = draw()
        times.learn("q", row, seconds * random.normal(1, 0.01))
    for _ in range(100):
        row, seconds = draw()
        found, before = times.estimate("q", row), cold.estimate("q", row)
        errors.append((found.seconds - seconds) / found.spread)
        assert found.seconds == pytest.approx(seconds, rel=0.02)
        cold_errors.append((before.seconds - seconds) / before.spread)
        assert before.spread > found.spread
    assert np.abs(errors).max() < 3 and np.abs(cold_errors).max() < 3
    assert times.estimate("another", row) == cold.estimate("another", row)


def test_what_a_simulation_takes_beside_the_prediction_is_learned() -> None:
    """Gates have a cost that the prediction does not have, and amplitudes cost less than predicted."""
    random, times = np.random.default_rng(1), RunTimes()
    times.expect("aer", SIMULATOR)

    def draw() -> tuple[Row, float]:
        gates, qubits = int(random.integers(20, 300)), int(random.integers(10, 22))
        predicted = 1e-3 + gates * 2**qubits * 2e-9
        return simulator_row(predicted, gates, qubits), 4e-3 + gates * (3e-5 + 2**qubits * 1.3e-9)

    row, seconds = draw()
    assert times.estimate("aer", row).seconds == pytest.approx(row[0])
    for _ in range(300):
        row, seconds = draw()
        times.learn("aer", row, seconds * random.normal(1, 0.02))
    errors = [times.estimate("aer", row).seconds / seconds - 1 for row, seconds in (draw() for _ in range(100))]
    assert np.median(np.abs(errors)) < 0.03


def test_a_reported_delay_is_believed_before_anything_was_measured() -> None:
    times = RunTimes()
    times.expect("q", device_prior(100e-6))
    assert times.estimate("q", device_row(10_000, 0.0)).seconds == pytest.approx(2.0)
    times.expect("q", device_prior(500e-6))  # too late
    assert times.estimate("q", device_row(10_000, 0.0)).seconds == pytest.approx(2.0)


# ---- prices -----------------------------------------------------------------------------------------------------

TOML = """
currency = "EUR"
[qpus."fake:manila"]
second = 2.0
[qpus."fake:*"]
task = 0.3
shot = 0.001
"""


def test_costs(manila: QPUInfo, tmp_path: Path) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(TOML)
    prices = PriceTable.from_toml(path)
    estimate = Estimator(prices).estimate(circuit("ghz", 3), manila, shots=4000)
    assert estimate.seconds is not None and estimate.seconds_spread is not None
    assert estimate.cost == pytest.approx(2 * estimate.seconds)
    assert estimate.cost_spread == pytest.approx(2 * estimate.seconds_spread)
    other = Estimator(prices).estimate(circuit("ghz", 3), msgspec.structs.replace(manila, name="fake:x"), shots=4000)
    assert other.cost == pytest.approx(4.3) and other.cost_spread == 0
    assert prices.price_of("ibm:ibm_fez") is None
    assert Estimator().estimate(circuit("ghz", 3), manila, shots=1).cost is None
    price = prices.price_of("fake:manila")
    assert price is not None and price.cost(10, None, None) == (None, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("currency = 3\nqpus = {}", r"Expected `str`, got `int` - at `\$.currency`"),
        ('currency = "EUR"\n[qpus.a]\nminute = 1.0', "unknown field `minute`"),
        ('currency = "EUR"\n[qpus.a]\nshot = -1.0', ">= 0.*shot"),
        ('currency = "EUR"\n[qpus.a]\nshot = inf', "<= 1e.*300.*shot"),
        ("currency = ", "not valid TOML"),
    ],
)
def test_tables_of_prices_that_are_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(text)
    with pytest.raises(DescriptionError, match=message):
        PriceTable.from_toml(path)
    with pytest.raises(DescriptionError, match="cannot be read"):
        PriceTable.from_toml(tmp_path / "none.toml")


def test_what_cannot_run_is_not_estimated(manila: QPUInfo) -> None:
    free = QuantumCircuit(1, 1, name="free")
    free.rx(Parameter("a"), 0)
    free.measure(0, 0)
    with pytest.raises(DescriptionError, match="circuit 'free' has parameters without a value: a; give numbers"):
        Estimator().estimate(free, manila, shots=10)
    limited = msgspec.structs.replace(manila, max_shots=100)
    with pytest.raises(QPUError, match="takes at most 100 shots, not 101"):
        Estimator().estimate(circuit("ghz", 3), limited, shots=101)


def test_circuits_of_a_manager_cost_what_the_users_prices_say(
    manila: QPUInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, made, wanted = (
        tmp_path / "prices.toml",
        circuit("ghz", 3),
        TaskDescription(circuit=circuit("ghz", 3), shots=500),
    )
    path.write_text(TOML.replace("fake:manila", "other"))
    result = Predictions({manila.name: Predictor().predict(made, manila, 2)}, 1)
    (unpriced,) = CircuitEstimator().estimates(result, wanted, [manila])
    monkeypatch.setenv("QUANTUM_PILOT_PRICES", str(path))
    (priced,) = CircuitEstimator().estimates(result, wanted, [manila])
    assert unpriced.cost is None and priced.cost == pytest.approx(0.3 + 500 * 0.001)
    (of_six,) = CircuitEstimator().estimates(result._replace(circuits=6), wanted, [manila])  # each with all shots
    assert of_six.cost == pytest.approx(6 * (0.3 + 500 * 0.001))
    monkeypatch.setenv("QUANTUM_PILOT_PRICES", str(tmp_path / "none.toml"))
    with pytest.raises(DescriptionError, match=r"none\.toml"):
        CircuitEstimator()
