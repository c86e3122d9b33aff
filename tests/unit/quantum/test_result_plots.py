"""Results of circuits draw themselves: the numbers that are in the axes are theirs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from matplotlib import pyplot
from qiskit import ClassicalRegister, QuantumCircuit, QuantumRegister

from pilot.qos.mitigator import QosResult
from pilot.quantum.cutting import CutResult, Distribution
from pilot.quantum.expectation import Expectation
from pilot.quantum.outcomes import Outcomes
from pilot.quantum.tomography import plan


@pytest.fixture(autouse=True)
def no_display() -> Iterator[None]:
    pyplot.switch_backend("agg")
    yield
    pyplot.close("all")


def two_registers() -> Outcomes:
    circuit = QuantumCircuit(QuantumRegister(3), ClassicalRegister(1, "a"), ClassicalRegister(2, "b"))
    return Outcomes.from_counts(circuit, {"00 0": 3, "00 1": 4, "10 1": 5}, 12)


def bars(axes: Any) -> dict[str, float]:
    names = [one.get_text() for one in axes.get_xticklabels()]
    return dict(zip(names, (bar.get_height() for bar in axes.patches), strict=True))


def ends(axes: Any) -> list[tuple[float, float]]:
    """Of the bars of error."""
    return [(round(low, 9), round(high, 9)) for ((_, low), (_, high)) in axes.collections[0].get_segments()]


def distribution(shots: int | None = None) -> Distribution:
    circuit = QuantumCircuit(2, 2)
    made = Outcomes.from_counts(circuit, {"00": 0.55, "01": 0.0, "11": 0.45}, shots)
    return Distribution(
        **{name: getattr(made, name) for name in ("registers", "num_bits", "packed", "weights", "shots")},
        quasi=np.array([0.56, -0.02, 0.46]),
        standard_errors=np.array([0.01, 0.02, 0.03]),
        missing=0.0,
    )


def qos(found: Outcomes | None, values: Any, spread: Any) -> QosResult:
    return QosResult(
        distribution=found,
        values=values,
        spread=np.asarray(spread),
        energy=None,
        solution=None,
        energies={},
        steps=(),
        considered=(),
        reason="",
        circuits=1,
        shots=100,
        seconds={},
    )


def test_counts_of_all_registers_and_of_one() -> None:
    counts = two_registers()
    axes = counts.plot()
    assert bars(axes) == {"00 0": 3, "00 1": 4, "10 1": 5}
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("outcome", "counts")
    figure, mine = pyplot.subplots()
    mine.set_ylabel("my label")
    assert counts.plot(mine, register="b", color="red") is mine
    assert bars(mine) == {"00": 7, "10": 5}
    assert (mine.get_ylabel(), mine.patches[0].get_facecolor()) == ("my label", (1, 0, 0, 1))
    assert pyplot.get_fignums() == [axes.figure.number, figure.number]


def test_a_distribution_has_negative_bars_and_errors() -> None:
    axes = distribution().plot()
    assert bars(axes) == {"00": 0.56, "01": -0.02, "11": 0.46}
    assert ends(axes) == [(0.55, 0.57), (-0.04, 0.0), (0.43, 0.49)]
    assert axes.get_ylabel() == "quasi-probability ± standard error"


def test_a_cut_result_is_its_values_and_without_them_its_distribution() -> None:
    def result(*values: float) -> CutResult:
        both = {"values": np.array(values), "standard_errors": np.full(len(values), 0.1)}
        zeros = {"shot_errors": np.zeros(len(values)), "sampling_errors": np.zeros(len(values))}
        return CutResult(**both, **zeros, distribution=distribution())

    axes = result(0.5, -0.5).plot(names=["ZZ", "XX"])
    assert ends(axes) == [(0.4, 0.6), (-0.6, -0.4)]
    assert bars(result().plot()) == {"00": 0.56, "01": -0.02, "11": 0.46}


def test_a_mitigated_result_is_probabilities_or_values() -> None:
    axes = qos(two_registers(), None, [0.1, 0.2, 0.3]).plot()
    assert bars(axes) == {"00 0": 3 / 12, "00 1": 4 / 12, "10 1": 5 / 12}
    assert ends(axes)[0] == (0.15, 0.35)
    assert ends(qos(None, np.array([0.2]), [0.1]).plot()) == [(0.1, 0.3)]


def test_a_sweep_is_a_line_for_each_observable() -> None:
    values = np.array([[1.0, 0.0], [0.0, 0.5]])
    axes = Expectation(values=values, standard_errors=np.zeros((2, 2)), terms=()).plot(x=[0.0, 1.0], names=["Z", "X"])
    assert [line.get_ydata().tolist() for line in axes.lines] == values.T.tolist()
    assert [one.get_text() for one in axes.get_legend().get_texts()] == ["Z", "X"]
    assert axes.get_ylabel() == "expectation value"


def test_a_state_is_drawn_by_its_parts() -> None:
    circuit = QuantumCircuit(1)
    circuit.sx(0)  # an eigenstate of Y: its matrix is imaginary beside the diagonal
    planned = plan(circuit)
    exact = {"X": {"0": 0.5, "1": 0.5}, "Y": {"0": 0.0, "1": 1.0}, "Z": {"0": 0.5, "1": 0.5}}
    outcomes = [
        Outcomes.from_counts(one, exact[setting], None)
        for one, setting in zip(planned.circuits, planned.settings, strict=True)
    ]
    state = planned.combine(outcomes)
    for part, numbers in (("real", state.density_matrix.real), ("imag", state.density_matrix.imag)):
        shown = state.plot(part=part).images[0]  # type: ignore[arg-type]
        np.testing.assert_allclose(shown.get_array(), numbers)
        assert shown.get_clim() == pytest.approx((-0.5, 0.5), abs=1e-6)
    with pytest.raises(ValueError, match="part: 'size' given"):
        state.plot(part="size")  # type: ignore[arg-type]
