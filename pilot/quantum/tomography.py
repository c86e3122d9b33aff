"""State tomography: which circuits to measure, and the density matrix that explains their outcomes.

    planned = plan(circuit)                                       # 3**n settings
    outcomes = [run(circuit) for circuit in planned.circuits]
    state = planned.combine(outcomes)
    print(state.density_matrix, state.fidelity(circuit), state.expectation(["ZZ"]).values)

Every qubit is measured in X, Y and Z, in all combinations. Linear inversion of the frequencies gives a matrix
that noise makes unphysical; maximum likelihood, or the projection of that matrix, gives a state. Neither ever
builds the `6**n` projectors: each is a product over qubits, so probabilities and their gradient are `n` small
tensor contractions.

Matrices are in Qiskit's order: the first of `qubits` is the least significant bit of the index.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from qiskit import QuantumCircuit
from qiskit.exceptions import QiskitError
from qiskit.quantum_info import DensityMatrix, Statevector, state_fidelity

from pilot import html
from pilot.errors import DescriptionError, invalid
from pilot.quantum.deferral import without_final_measurements
from pilot.quantum.estimates import add_shifts, estimate
from pilot.quantum.expectation import PAULI_LETTERS, Expectation, distinct_terms, free_name, measured
from pilot.quantum.observables import operators
from pilot.quantum.outcomes import nearest_probabilities

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from pilot.quantum.estimates import Source
    from pilot.quantum.outcomes import Outcomes

__all__ = ["MAX_QUBITS", "Tomography", "TomographyPlan", "plan"]

#: Wider states are refused: this one takes 6,561 circuits.
MAX_QUBITS = 8

#: Probabilities below this are what rounding leaves of 0; the logarithm would take them for outcomes.
_ROUNDING = 1e-12
#: The same for exact outcomes, which may come from amplitudes of single precision.
_EXACT_ROUNDING = 1e-6

_BASES = "XYZ"
#: `(6, 2, 2)`: the projectors on the states +X, -X, +Y, -Y, +Z, -Z of one qubit.
_PROJECTORS: NDArray[np.complex128] = (
    np.array(
        [
            [[1, 1], [1, 1]],
            [[1, -1], [-1, 1]],
            [[1, -1j], [1j, 1]],
            [[1, 1j], [-1j, 1]],
            [[2, 0], [0, 0]],
            [[0, 0], [0, 2]],
        ],
        dtype=np.complex128,
    )
    / 2
)
#: `(6, 2, 2)`: what each outcome of a qubit stands for when a state is put together from frequencies.
_DUALS: NDArray[np.complex128] = _PROJECTORS - np.eye(2) / 3


@dataclass(frozen=True, kw_only=True, eq=False)
class Tomography:
    """A state, reconstructed from measurements."""

    #: `(2**n, 2**n)`: Hermitian, positive semidefinite, of trace 1.
    density_matrix: NDArray[np.complex128]
    #: `(2**n, 2**n)`: the frequencies inverted, Hermitian and of trace 1, with negative eigenvalues where they
    #: are noisy.
    linear: NDArray[np.complex128]
    #: What was measured, a string each with the first of the qubits last: "XZ".
    settings: tuple[str, ...]
    #: `(3**n, 2**n)`: how often each outcome came in each setting.
    frequencies: NDArray[np.float64]
    #: How the density matrix was found: "mle" or "projected".
    method: str
    #: By how much the logarithm of the likelihood could be larger at most, divided by the number of all shots.
    #: 0 for "projected", which does not maximise it.
    gap: float
    #: What each setting gave, with the places of the bits that are the qubits'.
    outcomes: tuple[tuple[Outcomes, tuple[int, ...]], ...]

    def _repr_html_(self) -> str:
        rows = [[f"{value.real:.3f}{value.imag:+.3f}i" for value in row] for row in self.density_matrix.tolist()]
        size = len(rows)
        if size > 16:
            return html.table((), [], f"a state of {self.num_qubits} qubits, purity {self.purity:.4f}")
        names = [format(number, f"0{self.num_qubits}b") for number in range(size)]
        body = [[name, *row] for name, row in zip(names, rows, strict=True)]
        return html.table(["", *names], body, f"density matrix, purity {self.purity:.4f}")

    def plot(self, ax: Axes | None = None, *, part: Literal["real", "imag", "abs"] = "real", **options: Any) -> Axes:
        """A part of the density matrix as colours.

        Args:
            ax: matplotlib's axes to draw in; None: those of a new figure.
            part: the real or the imaginary part, or the size of each entry.
            **options: of matplotlib's `Axes.imshow`.

        Raises:
            ValueError: there is no such part.
            PluginError: matplotlib is not installed.
        """
        from pilot import plots

        return plots.matrix(self.density_matrix, ax, part=part, **options)

    @property
    def num_qubits(self) -> int:
        """How many qubits the state is of."""
        return len(self.settings[0])

    @cached_property
    def purity(self) -> float:
        """`tr ρ²`: 1 for a pure state, `2**-n` for the fully mixed one."""
        return float(np.sum(np.abs(self.density_matrix) ** 2))

    def fidelity(self, target: Any) -> float:
        """`(tr √(√ρ σ √ρ))²` to a target state σ; `<ψ|ρ|ψ>` where it is pure.

        Args:
            target: a state vector `(2**n,)`, a density matrix `(2**n, 2**n)`, Qiskit's `Statevector` or
                `DensityMatrix`, or a circuit that makes the state from zeros; measurements at its end are left
                out.

        Raises:
            DescriptionError: it is none of these, is not a state, or has another number of qubits.
        """
        state = _state(target)
        if state.num_qubits != self.num_qubits:
            raise DescriptionError(
                f"target: a state of {state.num_qubits} qubits, tomography was of {self.num_qubits}", field="target"
            )
        try:
            return float(state_fidelity(self.to_qiskit(), state))
        except QiskitError as error:
            raise DescriptionError(f"target: {error}; give a state of norm or trace 1", field="target") from error

    def expectation(self, observables: Any) -> Expectation:
        """Expectation values of observables, with their errors.

        They are those of `linear`, `tr(O ρ)`: for each Pauli string the mean over all settings that measure it. That is
        unbiased; a state of maximum likelihood is not, and its values have no errors that are known. `terms` is empty.

        Args:
            observables: on the qubits of the state, in any form that `pilot.quantum.observables.operators` takes.

        Raises:
            DescriptionError: there are none, or one is not as above.
        """
        codes, coefficients, constants = distinct_terms(operators(observables, self.num_qubits), self.num_qubits)
        values, variances = constants.copy(), np.zeros_like(constants)
        shifts: dict[Source, NDArray[np.float64]] = {}
        shares = coefficients / 3.0 ** (codes == 0).sum(axis=1)
        for setting, (outcome, places) in zip(self.settings, self.outcomes, strict=True):
            basis = np.array([PAULI_LETTERS.index(letter) for letter in reversed(setting)])
            here = ((codes == 0) | (codes == basis)).all(axis=1)
            if not here.any():
                continue
            found = estimate(outcome, places, codes[here] > 0, shares[:, here])
            values += found.values
            variances += found.variances
            add_shifts(shifts, found.shifts)
        variances += sum(shift**2 for shift in shifts.values())
        return Expectation(values=values, standard_errors=np.sqrt(variances), terms=())

    def to_qiskit(self) -> DensityMatrix:
        """The same as Qiskit's `DensityMatrix`."""
        return DensityMatrix(self.density_matrix)


@dataclass(frozen=True, kw_only=True, eq=False)
class TomographyPlan:
    """Circuits to run, and how their outcomes become a state."""

    #: One a setting: the given circuit, a change of basis, and measurements into `register`. Free parameters are
    #: still free.
    circuits: tuple[QuantumCircuit, ...]
    #: What each circuit measures, a string each with the first of the qubits last.
    settings: tuple[str, ...]
    #: The classical register that each circuit measures into, its last; bit `j` is the `j`-th of the qubits.
    register: str
    #: The qubits whose state is reconstructed; the others are traced out.
    qubits: tuple[int, ...]

    def combine(self, outcomes: Sequence[Outcomes], method: Literal["mle", "projected"] = "mle") -> Tomography:
        """The state from the outcomes of all settings.

        Args:
            outcomes: one a circuit, in their order.
            method: "mle", the state under which the outcomes are most probable; or "projected", the state
                nearest to the linear inversion (Smolin, Gambetta and Smith, PRL 108 070502, 2012), at once also
                for many qubits.

        Raises:
            ValueError: another number of outcomes than of circuits.
            DescriptionError: no such method.
        """
        if method not in ("mle", "projected"):
            raise invalid("method", method, "'mle' or 'projected'")
        frequencies = np.array(
            [_frequencies(outcome, self.register) for _, outcome in zip(self.settings, outcomes, strict=True)]
        )
        n = len(self.qubits)
        linear = _adjoint(_DUALS, _by_qubit(frequencies, n), n)
        density_matrix, gap = project(linear), 0.0
        if method == "mle":
            counts = np.array([[1.0 if outcome.shots is None else float(outcome.shots)] for outcome in outcomes])
            seen = np.apply_along_axis(nearest_probabilities, 1, frequencies) * counts / counts.sum()
            exact = any(outcome.shots is None for outcome in outcomes)
            tolerance = 1e-8 if exact else 1e-2 / float(counts.sum())
            # a state that predicts the frequencies themselves is the most likely one (Gibbs' inequality)
            missed = np.abs(_probabilities(density_matrix, n) - _by_qubit(frequencies, n)).max()
            if missed > (_EXACT_ROUNDING if exact else _ROUNDING):
                density_matrix, gap = _most_likely(_by_qubit(seen, n), density_matrix, tolerance)
        return Tomography(
            density_matrix=density_matrix,
            linear=linear,
            settings=self.settings,
            frequencies=frequencies,
            method=method,
            gap=gap,
            outcomes=tuple((outcome, _places(outcome, self.register)) for outcome in outcomes),
        )


def plan(circuit: QuantumCircuit, qubits: Sequence[int] | None = None) -> TomographyPlan:
    """What to measure for the state of `qubits` at the end of `circuit`.

    Args:
        circuit: parameters may be free. Measurements at its end are left out; those in its middle stay.
        qubits: up to `MAX_QUBITS` of the circuit's, the least significant first; None: all.

    Raises:
        DescriptionError: a qubit that the circuit does not have, or has twice; or none, or too many.
    """
    chosen = tuple(range(circuit.num_qubits) if qubits is None else qubits)
    if len(set(chosen)) < len(chosen) or not set(chosen) <= set(range(circuit.num_qubits)):
        raise invalid("tomography", list(chosen), f"different qubits from 0 to {circuit.num_qubits - 1}")
    if not 1 <= len(chosen) <= MAX_QUBITS:
        raise DescriptionError(
            f"tomography: {len(chosen)} qubits take 3**{len(chosen)} circuits; expected 1 to {MAX_QUBITS}: "
            "give the qubits whose state you need",
            field="tomography",
        )
    base = without_final_measurements(circuit)
    register = free_name(base, "pauli")
    settings = tuple("".join(letters) for letters in itertools.product(_BASES, repeat=len(chosen)))
    return TomographyPlan(
        circuits=tuple(
            measured(base, dict(zip(chosen, reversed(setting), strict=True)), register) for setting in settings
        ),
        settings=settings,
        register=register,
        qubits=chosen,
    )


def project(matrix: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """The state nearest to a Hermitian matrix of trace 1: its eigenvalues become the nearest probabilities."""
    values, vectors = np.linalg.eigh(matrix)
    state: NDArray[np.complex128] = (vectors * nearest_probabilities(values)) @ vectors.conj().T
    return state


def _frequencies(outcome: Outcomes, register: str) -> NDArray[np.float64]:
    """How often each outcome came, `(2**n,)`; bit `j` of its number is bit `j` of the register."""
    bits = outcome.bits(register)
    places = bits.astype(np.int64) @ (1 << np.arange(bits.shape[1]))
    frequencies = np.zeros(1 << bits.shape[1])
    np.add.at(frequencies, places, outcome.weights / outcome.weights.sum())
    return frequencies


def _places(outcome: Outcomes, register: str) -> tuple[int, ...]:
    return next(entry.places for entry in outcome.registers if entry.name == register)


def _by_qubit(frequencies: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """`(3**n, 2**n)` as `(6,) * n`, the last qubit first: setting and outcome of a qubit stand together."""
    interleaved = [axis for qubit in range(n) for axis in (qubit, n + qubit)]
    tensor: NDArray[np.float64] = frequencies.reshape((3,) * n + (2,) * n).transpose(interleaved).reshape((6,) * n)
    return tensor


def _adjoint(operators: NDArray[np.complex128], weights: NDArray[np.float64], n: int) -> NDArray[np.complex128]:
    """`Σ weights[k] ⊗_q operators[k_q]` as a matrix `(2**n, 2**n)`; `weights` is `(6,) * n`."""
    tensor = reduce(lambda left, axis: _along(operators.reshape(6, 4).T, left, axis), range(n), weights.astype(complex))
    pairs = tensor.reshape((2, 2) * n).transpose([*range(0, 2 * n, 2), *range(1, 2 * n, 2)])
    matrix: NDArray[np.complex128] = pairs.reshape(2**n, 2**n)
    return matrix


def _probabilities(matrix: NDArray[np.complex128], n: int) -> NDArray[np.float64]:
    """`tr(⊗_q projector[k_q] ρ)` for all outcomes, `(6,) * n`."""
    pairs = [axis for qubit in range(n) for axis in (qubit, n + qubit)]
    tensor = matrix.reshape((2,) * (2 * n)).transpose(pairs).reshape((4,) * n)
    for axis in range(n):
        tensor = _along(_PROJECTORS.conj().reshape(6, 4), tensor, axis)
    probabilities: NDArray[np.float64] = tensor.real
    return probabilities


def _along(matrix: NDArray[Any], tensor: NDArray[Any], axis: int) -> NDArray[Any]:
    product: NDArray[Any] = np.moveaxis(np.tensordot(matrix, tensor, axes=(1, axis)), 0, axis)
    return product


def _most_likely(
    seen: NDArray[np.float64], start: NDArray[np.complex128], tolerance: float, max_steps: int = 2000
) -> tuple[NDArray[np.complex128], float]:
    """The state that maximises `Σ seen log p`, and the bound on what is missing to the maximum.

    Accelerated projected gradients with restarts (Shang, Zhang and Ng, PRA 95 062336, 2017). With the gradient
    `R = Σ seen / p Π` no state is more likely than by `λ_max(R) - tr(R ρ)`, since the logarithm is concave; the
    search ends when that is below the tolerance.
    """
    n = seen.ndim
    where = seen > _ROUNDING * seen.max()
    weights = np.where(where, seen, 0.0)

    def likelihood(matrix: NDArray[np.complex128]) -> tuple[float, NDArray[np.float64]]:
        p = _probabilities(matrix, n)
        if (p[where] <= 0).any():
            return -np.inf, p
        return float(weights[where] @ np.log(p[where])), p

    def gradient(p: NDArray[np.float64]) -> NDArray[np.complex128]:
        return _adjoint(_PROJECTORS, np.divide(weights, p, out=np.zeros_like(p), where=where), n)

    state = 0.99 * start + 0.01 * np.eye(2**n) / 2**n
    value, p = likelihood(state)
    point, point_value, slope = state, value, gradient(p)
    momentum, step, gap = 1.0, 1.0, np.inf
    for _ in range(max_steps):
        while True:
            new = project(point + step * slope)
            new_value, p = likelihood(new)
            move = new - point
            gain = np.sum(slope.conj() * move).real - np.sum(np.abs(move) ** 2) / (2 * step)
            if new_value >= point_value + gain - 1e-15 * abs(point_value) or step < 1e-12:
                break
            step /= 2
        if not np.isfinite(new_value):
            break
        new_slope = gradient(p)
        gap = float(np.linalg.eigvalsh(new_slope)[-1] - np.sum(new_slope.conj() * new).real)
        if gap <= tolerance:
            return new, max(gap, 0.0)
        next_momentum = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        ahead = new + (momentum - 1) / next_momentum * (new - state)
        ahead_value, ahead_p = likelihood(ahead)
        if new_value < value or not np.isfinite(ahead_value):
            momentum, point, point_value, slope = 1.0, new, new_value, new_slope
        else:
            momentum, point, point_value, slope = next_momentum, ahead, ahead_value, gradient(ahead_p)
        state, value = new, new_value
        step *= 1.1
    return state, gap


def _state(target: Any) -> Statevector | DensityMatrix:
    """The target as a state of Qiskit's."""
    if isinstance(target, Statevector | DensityMatrix):
        return target
    try:
        if isinstance(target, QuantumCircuit):
            return DensityMatrix(without_final_measurements(target))
        array = np.asarray(target, dtype=complex)
        state = DensityMatrix(array) if array.ndim == 2 and array.shape[0] == array.shape[1] else Statevector(array)
    except (QiskitError, TypeError, ValueError) as error:
        raise DescriptionError(
            f"target: a {type(target).__name__} that is not a state ({error}); give a state vector, a density matrix "
            "or a circuit of gates",
            field="target",
        ) from error
    if state.num_qubits is None:
        raise DescriptionError(f"target: its dimension {state.dim} is not a power of 2", field="target")
    return state
