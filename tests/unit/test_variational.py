"""Hamiltonians, circuits and the optimiser of the mini-app; nothing runs here."""

from __future__ import annotations

import itertools
import json

import msgspec
import numpy as np
import pytest
from pilot_miniapps.variational import app, coordinates, graphs, molecules
from pilot_miniapps.variational.loops import busy_share
from pilot_miniapps.variational.problems import Problem
from qiskit.quantum_info import Operator, SparsePauliOp

from pilot import DescriptionError, PilotDescription
from pilot.quantum.expectation import Expectation


@pytest.fixture(scope="module")
def hydrogen() -> Problem:
    return molecules.problem("h2", 0.735)


@pytest.fixture(scope="module")
def lithium_hydride() -> Problem:
    return molecules.problem("lih", 1.595)


def measured(problem: Problem, sets: np.ndarray) -> Expectation:
    """Energies by matrices."""
    matrix = problem.hamiltonian.to_matrix()
    values = []
    for one in sets:
        state = Operator(problem.circuit.assign_parameters(one)).data[:, 0]
        values.append([(state.conj() @ matrix @ state).real])
    return Expectation(values=np.array(values), standard_errors=np.zeros((len(values), 1)), terms=())


def test_hydrogen_is_that_of_textbooks(hydrogen: Problem) -> None:
    """The energies in STO-3G at 0.735 Å are published many times (Szabo and Ostlund give the integrals)."""
    assert hydrogen.ground_energy() == pytest.approx(-1.137306, abs=1e-6)
    assert hydrogen.energy(hydrogen.start) == pytest.approx(-1.116999, abs=1e-6)  # Hartree-Fock
    assert hydrogen.hamiltonian.num_qubits == 2
    labels = dict(zip(hydrogen.hamiltonian.paulis.to_labels(), hydrogen.hamiltonian.coeffs.real, strict=True))
    assert {label: abs(value) for label, value in labels.items() if label != "II"} == pytest.approx(
        {"IZ": 0.397937, "ZI": 0.397937, "ZZ": 0.011280, "XX": 0.180931}, abs=1e-5
    )


def test_two_qubits_less_leave_the_molecule_as_it_is(lithium_hydride: Problem) -> None:
    """The least energy among the states with one electron of each spin, by PennyLane's other mapping, on all qubits."""
    import pennylane as qml

    molecule = molecules.MOLECULES["lih"]
    sentence = qml.jordan_wigner(molecules._fermions(molecule, 1.595), ps=True)
    matrix = np.asarray(qml.matrix(sentence.operation(), wire_order=range(6)))
    bits = np.array(list(itertools.product((0, 1), repeat=6)))  # wire 0 first
    sector = (bits[:, :3].sum(axis=1) == 1) & (bits[:, 3:].sum(axis=1) == 1)
    least = np.linalg.eigvalsh(matrix[np.ix_(sector, sector)])[0]
    assert lithium_hydride.hamiltonian.num_qubits == 4
    assert lithium_hydride.ground_energy() == pytest.approx(least, abs=1e-9)


@pytest.mark.parametrize("name", ["h2", "lih", "graph"])
def test_energies_along_a_parameter_have_the_degree_that_is_claimed(
    name: str, hydrogen: Problem, lithium_hydride: Problem
) -> None:
    problem = {"h2": hydrogen, "lih": lithium_hydride, "graph": graphs.problem(6, 2, 3)}[name]
    random = np.random.default_rng(5)
    number = len(problem.start)
    for coordinate in sorted({0, 1 % number, number - 1}):
        state = coordinates.State(tuple(random.uniform(-3, 3, number)), 0.0, coordinate)
        found = coordinates.fit(measured(problem, coordinates.points(state, problem.degrees)).values[:, 0])
        shifts = random.uniform(-3, 3, 4)
        sets = np.tile(state.parameters, (4, 1))
        sets[:, coordinate] += shifts
        assert coordinates.value(found, shifts) == pytest.approx(measured(problem, sets).values[:, 0], abs=1e-9)


def test_steps_reach_the_ground_state_of_a_molecule(lithium_hydride: Problem) -> None:
    state = coordinates.begin(lithium_hydride.start)
    energies = []
    for _ in range(12):
        values = measured(lithium_hydride, coordinates.points(state, lithium_hydride.degrees))
        state = coordinates.advance(state, lithium_hydride.degrees, values)
        energies.append(state.energy)
        assert lithium_hydride.energy(state.parameters) == pytest.approx(state.energy, abs=1e-9)
    assert energies == sorted(energies, reverse=True)
    assert 0 < energies[-1] - lithium_hydride.ground_energy() < app.CHEMICAL_ACCURACY
    assert msgspec.json.decode(msgspec.json.encode(state), type=coordinates.State) == state


@pytest.mark.parametrize("degree", [1, 2, 5, 12])
def test_the_lowest_point_of_a_polynomial_is_found(degree: int) -> None:
    random = np.random.default_rng(degree)
    for _ in range(20):
        cosines, sines = random.normal(size=(2, degree + 1))

        def polynomial(x: np.ndarray, cosines: np.ndarray = cosines, sines: np.ndarray = sines) -> np.ndarray:
            orders = np.arange(len(cosines))
            return np.cos(np.outer(x, orders)) @ cosines + np.sin(np.outer(x, orders)) @ sines

        nodes = 2 * np.pi * np.arange(2 * degree + 1) / (2 * degree + 1)
        found = coordinates.fit(polynomial(nodes))
        place, least = coordinates.lowest(found)
        grid = polynomial(np.linspace(-np.pi, np.pi, 20_001))
        assert least <= grid.min() + 1e-9
        assert polynomial(np.array([place]))[0] == pytest.approx(least, abs=1e-9)


def test_the_greatest_cut_is_that_of_the_matrix() -> None:
    for seed in range(3):
        problem = graphs.problem(8, 1, seed)
        edges = graphs.edges_of(8, seed)
        assert len(edges) == 12 and problem.ground_energy() == pytest.approx(-graphs.greatest_cut(8, edges))
        assert isinstance(problem.hamiltonian, SparsePauliOp)


def test_the_share_of_busy_time_counts_nothing_twice() -> None:
    assert busy_share([(0.0, 1.0), (1.0, 2.0)]) == 1.0
    assert busy_share([(0.0, 1.0), (3.0, 4.0)]) == 0.5
    assert busy_share([(0.0, 4.0), (1.0, 2.0), (3.0, 5.0), (9.0, 10.0)]) == pytest.approx(0.6)
    assert busy_share([]) == 0.0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"nodes": 7}, "nodes"),
        ({"nodes": 40}, "nodes"),
        ({"lengths": [0.735, 0.735]}, "a value comes twice"),
        ({"lengths": [0.01]}, "lengths"),
        ({"shots": 1}, "shots"),
        ({"qpu_steps": 0}, "qpu_steps"),
    ],
)
def test_wrong_settings_are_named(given: dict[str, object], message: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=message):
        msgspec.convert(given, app.Settings)


def test_a_qpu_that_no_pilot_has_is_refused() -> None:
    pilot = PilotDescription(engine="process", cores_per_node=1, qpus=["fake:manila"])
    with pytest.raises(DescriptionError, match=r"qpu: no pilot has 'fake:kolkata' \(they have fake:manila\)"):
        app.Variational(app.Settings(qpu="fake:kolkata")).check([pilot])


def test_the_plot_is_made_from_the_report_alone() -> None:
    row = {"loop": "qpu/h2-0.7", "energy": -1.1, "measured": -1.0, "standard_error": 0.1, "ground_energy": -1.2}
    figures = {"qpu_busy": {"value": 0.95}, "qpu_busy_one_loop": {"value": 0.5}}
    details = {
        "curve": [{"length": 0.7, "ground": -1.2, "hartree_fock": -1.0}],
        "energies": {"exact/h2": [-1.0, -1.2], "exact/maxcut": [-6.0, -8.0]},
        "ground": {"exact/h2": -1.2, "exact/maxcut": -10.0},
        "timeline": [{"loop": "qpu/h2-0.7", "jobs": [(0.0, 1.0), (2.0, 3.0)]}],
    }
    report = json.loads(json.dumps({"rows": [row], "figures": figures, "details": details}))
    drawing = app.Variational(app.Settings()).draw(report)["variational"]
    curve, errors, occupation = drawing.axes
    assert curve.get_xlabel() == "Bond length of H2 (Å)" and errors.get_yscale() == "log"
    assert "95.0% busy\n(one loop: 50.0%)" in occupation.get_title()
