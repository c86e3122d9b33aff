"""Circuits of the mini-app, and what it says of the methods; nothing runs here."""

from __future__ import annotations

import json
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
from pilot_miniapps.error_mitigation import app
from pilot_miniapps.error_mitigation.chains import chain, exact_value
from pilot_miniapps.error_mitigation.comparison import Value, gain, mean_deviation, row, shot_noise
from scipy.linalg import expm

from pilot import DescriptionError, PilotDescription
from pilot.quantum.expectation import plan
from pilot.quantum.mitigation import stages


def test_a_chain_is_what_its_docstring_says() -> None:
    """Against matrix exponentials with the couplings that the gates have."""
    circuit, observable = chain(3, 2, 5, 1)
    angles = [entry.operation.params[0] for entry in circuit.data]
    eye, x, z = np.eye(2), np.array([[0, 1], [1, 0]]), np.diag([1, -1])

    def on(*factors: np.ndarray) -> np.ndarray:  # of qubits 2, 1, 0
        return np.kron(np.kron(factors[0], factors[1]), factors[2])

    pairs, singles = (on(eye, z, z), on(z, z, eye)), (on(eye, eye, x), on(eye, x, eye), on(x, eye, eye))
    state = np.eye(8)[0].astype(complex)
    for angle, generator in zip(angles, (*pairs, *singles) * 2, strict=True):
        state = expm(-0.5j * angle * generator) @ state
    measured = (sum(pairs) + on(eye, eye, z) + on(eye, z, eye) + on(z, eye, eye)) / 5
    assert exact_value(circuit, observable) == pytest.approx((state.conj() @ measured @ state).real, abs=1e-12)
    assert 0.3 < exact_value(circuit, observable) < 0.95  # noise has something to take away
    assert len(plan(circuit, observable).circuits) == 1
    assert chain(3, 2, 5, 1)[0] == circuit and chain(3, 2, 5, 2)[0] != circuit


@pytest.mark.parametrize(("shift", "verdict"), [(-0.05, "helps"), (0.0, "no difference"), (0.05, "harms")])
def test_a_verdict_takes_the_spread_into_account(shift: float, verdict: str) -> None:
    random = np.random.default_rng(2)
    exact = random.uniform(-0.5, 0.5, 200)
    without = [Value(one + 0.1 + random.normal(0, 0.02), 0.02, one) for one in exact]
    other = [Value(one + 0.1 + shift + random.normal(0, 0.02), 0.02, one) for one in exact]
    its = row("qpu", "method", other, without)
    assert its["verdict"] == verdict
    assert its["gain"] == pytest.approx(-shift, abs=0.01)
    assert its["deviation"] == pytest.approx(0.1 + shift, abs=0.01)
    assert its["error"] == pytest.approx(0.02 / np.sqrt(200), rel=0.2)
    assert its["bias"] == pytest.approx(0.1 + shift, abs=0.01)


def test_the_errors_of_the_shots_alone_are_predicted() -> None:
    random = np.random.default_rng(3)
    values = [Value(random.normal(0, 0.03), 0.03, 0.0) for _ in range(4000)]
    mean, error = mean_deviation(values)
    assert shot_noise(values) == pytest.approx(mean, abs=4 * error)


def test_the_oracle_fails_where_the_method_gains_nothing() -> None:
    random = np.random.default_rng(4)
    bad = [Value(0.1 + random.normal(0, 0.01), 0.01, 0.0) for _ in range(20)]
    good = [Value(random.normal(0, 0.01), 0.01, 0.0) for _ in range(20)]
    assert app._verdict({app.NONE: bad, app.RECOMMENDED: good}).passed
    assert not app._verdict({app.NONE: bad, app.RECOMMENDED: bad}).passed
    assert not app._verdict({app.NONE: good, app.RECOMMENDED: bad}).passed
    assert gain(bad, bad).mean == 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"methods": ["zne+readout"]}, "methods: 'zne\\+readout' is not valid; expected none, or stages joined by \\+"),
        ({"methods": ["magic"]}, "methods: 'magic' is not valid"),
        ({"methods": ["dd", "dd"]}, "a value comes twice"),
        ({"qpus": []}, "qpus"),
        ({"circuits": 1}, "circuits"),
        ({"extrapolation": "cubic"}, "extrapolation"),
    ],
)
def test_wrong_settings_are_named(given: dict[str, object], message: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=message):
        msgspec.convert(given, app.Settings)


def test_methods_become_stages_of_the_library() -> None:
    its = app.ErrorMitigation(app.Settings(copies=7, extrapolation="richardson"))
    for method in its.settings.all_methods():
        assert "+".join(one if isinstance(one, str) else one.name for one in its._stages(method)) in (
            method,
            "" if method == app.NONE else method,
        )
        stages(its._stages(method))
    twirling, _, zne = its._stages("twirling+dd+zne")
    assert (twirling.num, zne.extrapolation) == (7, "richardson")
    assert [its._circuits(method) for method in ("none", "readout", "zne", "twirling+zne")] == [1, 1, 3, 21]


def test_a_qpu_that_cannot_run_them_is_refused() -> None:
    pilot = SimpleNamespace(
        description=PilotDescription(engine="process", cores_per_node=1, qpus=["fake:lima", "mine:x", "mine:y"]),
        wait=bool,
    )
    qpus = {
        "mine:x": SimpleNamespace(qubits=0, problem="it is broken"),
        "mine:y": SimpleNamespace(qubits=5, problem=""),
    }
    run = SimpleNamespace(pilots=[pilot], manager=SimpleNamespace(qpus=qpus))
    for qpu, qubits, message in (
        ("fake:quito", 4, r"qpus: no pilot has 'fake:quito' \(they have fake:lima, mine:x, mine:y\)"),
        ("mine:x", 4, "qpus: mine:x: it is broken"),
        ("fake:lima", 6, "fake:lima has 5 qubits, and the circuits of this run have 6"),
        ("mine:y", 6, "it has 5 qubits, fewer than the circuits' 6"),
    ):
        with pytest.raises(DescriptionError, match=message):
            mine = app.ErrorMitigation(app.Settings(qpus=(qpu,), qubits=qubits))
            mine.check([pilot.description])
            mine.work(run)  # type: ignore[arg-type]


def test_the_plot_is_made_from_the_report_alone() -> None:
    values = [Value(0.5, 0.1, 0.4), Value(0.3, 0.1, 0.1)]
    rows = [row(qpu, method, values, values) for qpu in ("fake:a", "fake:b") for method in ("none", "readout+zne")]
    report = json.loads(json.dumps({"rows": rows, "details": {"recommended": "readout+zne"}}))
    (axes,) = app.ErrorMitigation(app.Settings()).draw(report)["error-mitigation"].axes
    assert [bar.get_height() for bar in axes.patches] == pytest.approx([0.15] * 4)
    assert [label.get_fontweight() for label in axes.get_xticklabels()] == ["normal", "bold"]
