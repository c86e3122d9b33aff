"""Zero-noise extrapolation: expectation values at several strengths of the noise, and an estimate without noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pilot.errors import invalid
from pilot.quantum.mitigation.folding import fold_global, fold_local, global_factor, local_factor

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray
    from qiskit import QuantumCircuit

    from pilot.quantum.mitigation.stage import Device


@dataclass(frozen=True)
class ZeroNoise:
    """Circuits with noise scaled up by folding, and values extrapolated to no noise.

    It works on expectation values, so it is not a `Stage` but stands around them: `scaled` before the stages'
    plan, `extrapolate` after the values of each factor are combined. All circuits are folded after compiling,
    and must not be optimised afterwards.
    """

    #: How strong the noise is made, each at least 1.
    factors: tuple[float, ...] = (1, 3, 5)
    #: "linear": least squares; "exponential": `c + A exp(-b λ)`, with the value `c` in the fully mixed state;
    #: "richardson": the polynomial through all points.
    extrapolation: str = "linear"
    #: "global": the whole circuit again and again; "local": its two-qubit gates only, where most of the noise is.
    folding: str = "local"

    name = "zne"

    def __post_init__(self) -> None:
        factors = tuple(self.factors) if isinstance(self.factors, Iterable) else (self.factors,)
        object.__setattr__(self, "factors", factors)
        if len(factors) < 2 or not all(map(_is_factor, factors)):
            raise invalid("zne.factors", factors, "at least two numbers from 1 on")
        if len(set(factors)) < len(factors):
            raise invalid("zne.factors", factors, "different numbers")
        if self.extrapolation not in _FORMS:
            raise invalid("zne.extrapolation", self.extrapolation, ", ".join(map(repr, _FORMS)))
        if self.folding not in ("global", "local"):
            raise invalid("zne.folding", self.folding, "'global' or 'local'")

    def scaled(self, circuits: Sequence[QuantumCircuit], device: Device | None = None) -> list[list[QuantumCircuit]]:
        """The circuits of each factor, in the order of `factors`.

        Args:
            circuits: gates, measured at the end; compiled for the device if there is one.
            device: inverses are written in its gates.

        Raises:
            DescriptionError: a circuit cannot be folded, or has too few gates to distinguish the factors.
        """
        for circuit in circuits:
            self.factors_of(circuit)
        fold = fold_global if self.folding == "global" else fold_local
        target = None if device is None else device.target
        return [
            [circuit if factor == 1 else fold(circuit, factor, target) for circuit in circuits]
            for factor in self.factors
        ]

    def factors_of(self, circuit: QuantumCircuit) -> tuple[float, ...]:
        """The factors that `scaled` really runs a circuit with, in the order of `factors`: whole gates are folded.

        Raises:
            DescriptionError: two of them are equal, since the circuit has too few gates.
        """
        realised = global_factor if self.folding == "global" else local_factor
        found = tuple(realised(circuit, factor) for factor in self.factors)
        if len(set(found)) < len(found):
            shown = ", ".join(f"{factor:.3g}" for factor in found)
            raise invalid(
                "zne.factors",
                self.factors,
                f"for circuit {circuit.name!r}, whose few gates would be run with "
                f"the factors {shown}, odd numbers such as (1, 3, 5) are",
            )
        return found

    def extrapolate(
        self,
        values: ArrayLike,
        standard_errors: ArrayLike | None = None,
        constants: ArrayLike = 0.0,
        factors: ArrayLike | None = None,
        norms: ArrayLike = math.inf,
    ) -> Extrapolated:
        """Values without noise, their standard errors, and the form that each was fitted with.

        Errors are those of the shots, carried through the fit; they do not contain the error of the fit's form.
        All factors have the same weight in the fit, also when their errors differ: estimated errors depend on the
        values, and would draw the fit to them. A fitted decay is too large on average, since it is no linear function
        of the values; what that is to second order in the errors is taken off.

        The linear form takes the place of the exponential one where values show too little of a decay: the result's
        error is more than half of its distance from the constant or of the norm, the value is beyond the observable's
        norm, that of the least noise differs from the constant by less than three errors, values grow with the noise,
        or they have both signs (less the constant), by more than two errors. Where a value does differ from the
        constant, the error is then at least the difference between the two forms. Noise so strong that hardly any
        value differs from the constant leaves the line too near to it, by about its error.

        Args:
            values: `(n_factors, n_observables)`.
            standard_errors: in the same shape; None: exact.
            constants: `(n_observables,)`, values in the fully mixed state, as in `ExpectationPlan.constants`.
                Only the exponential form needs them.
            factors: `(n_factors,)`, those that were really run (`factors_of`); None: `factors`.
            norms: `(n_observables,)`: how far a value can be from the constant, such as the sum of the sizes of
                the coefficients. Only the exponential form needs them.

        Raises:
            ValueError: a shape is not as above.
        """
        given = np.asarray(values, dtype=np.float64)
        errors = np.zeros_like(given) if standard_errors is None else np.asarray(standard_errors, dtype=np.float64)
        if given.ndim != 2 or len(given) != len(self.factors) or errors.shape != given.shape:
            raise ValueError(
                f"values of shape {given.shape} and standard_errors of shape {errors.shape} are not valid; expected "
                f"({len(self.factors)}, n_observables)"
            )
        run = np.asarray(self.factors if factors is None else factors, dtype=np.float64)
        if self.extrapolation != "exponential":
            weights = _WEIGHTS[self.extrapolation](run)
            forms = np.full(given.shape[1:], self.extrapolation)
            return Extrapolated(weights @ given, np.sqrt(weights**2 @ errors**2), forms)
        floor, bounds = (
            np.broadcast_to(np.asarray(each, dtype=np.float64), given.shape[1:]) for each in (constants, norms)
        )
        found = _exponential(run, given - floor, errors, bounds)
        return found._replace(values=floor + found.values)


def _is_factor(given: object) -> bool:
    is_number = isinstance(given, Real) and not isinstance(given, bool)
    return is_number and 1 <= given < math.inf  # type: ignore[operator]


class Extrapolated(NamedTuple):
    """Values without noise, each `(n_observables,)`."""

    values: NDArray[np.float64]
    standard_errors: NDArray[np.float64]
    #: "linear", "exponential" or "richardson": what each value was fitted with.
    forms: NDArray[np.str_]


def _linear(factors: NDArray[np.float64]) -> NDArray[np.float64]:
    """What each factor's value counts in the intercept of the least squares."""
    weights: NDArray[np.float64] = np.linalg.pinv(np.stack([np.ones_like(factors), factors], axis=1))[0]
    return weights


def _richardson(factors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Temme, Bravyi and Gambetta, PRL 119 180509, 2017, equation 3."""
    others = [np.delete(factors, place) for place in range(len(factors))]
    return np.array([np.prod(rest / (rest - factor)) for factor, rest in zip(factors, others, strict=True)])


_WEIGHTS: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "linear": _linear,
    "richardson": _richardson,
}
_FORMS = ("linear", "exponential", "richardson")

#: The exponential form is kept where its error is at most this share of the value, and of the norm.
_CERTAIN = 1 / 2
#: Its bias is corrected by at most this share of the error: beyond that, two orders are not enough.
_TRUSTED = 1 / 5


def _exponential(
    factors: NDArray[np.float64], heights: NDArray[np.float64], errors: NDArray[np.float64], bounds: NDArray[np.float64]
) -> Extrapolated:
    """Of values less their constants; see `ZeroNoise.extrapolate` for when the linear form is taken."""
    line = _linear(factors)
    linear, linear_errors = line @ heights, np.sqrt(line**2 @ errors**2)
    decaying, moves, rates = _decay(factors, heights)
    decaying_errors = np.sqrt(np.sum(moves**2 * errors**2, axis=0))
    first = np.argmin(factors)
    no_decay = (np.sign(heights[first]) * heights < -2 * errors).any(axis=0) | (rates < 0)
    seen = (np.abs(heights[first]) >= 3 * errors[first]) & ~no_decay
    kept = seen & (decaying_errors <= _CERTAIN * np.minimum(np.abs(decaying), bounds))
    kept &= np.abs(decaying) - 2 * decaying_errors <= bounds
    apart = np.where(seen, np.clip(decaying, -bounds, bounds) - linear, 0.0)
    limits = _TRUSTED * decaying_errors
    corrected = decaying - np.clip(_bias(factors, heights, errors, decaying), -limits, limits)
    return Extrapolated(
        np.where(kept, corrected, linear),
        np.where(kept, decaying_errors, np.maximum(linear_errors, np.abs(apart))),
        np.where(kept, "exponential", "linear"),
    )


def _bias(
    factors: NDArray[np.float64],
    heights: NDArray[np.float64],
    errors: NDArray[np.float64],
    amplitudes: NDArray[np.float64],
) -> NDArray[np.float64]:
    """By how much the fitted `A` is too large on average, `(n_observables,)`, to second order in the errors.

    Half of the sum of its second derivatives times the variances, from fits with each height one error up and down.
    """
    steps = np.eye(len(factors))[:, :, None] * errors
    moved = np.concatenate([heights + steps, heights - steps])
    fitted = _decay(factors, moved.transpose(1, 0, 2).reshape(len(factors), -1))[0].reshape(len(moved), -1)
    half: NDArray[np.float64] = (fitted - amplitudes).sum(axis=0) / 2
    return half


def _decay(
    factors: NDArray[np.float64], heights: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """`A` of the least squares of `A exp(-b λ)`, `(n_observables,)`, how it moves with each height, and `b`.

    The best `b` of a grid, then Gauss and Newton's steps: a search that starts from logarithms loses its way where
    heights have both signs.
    """
    span = factors.max() - factors.min()
    least, most = -2 / span, 8 / span
    rates = np.linspace(least, most, 201)
    decays = np.exp(-rates[:, None] * factors)
    amplitudes = decays @ heights / (decays**2).sum(axis=1)[:, None]
    best = np.argmax(amplitudes**2 * (decays**2).sum(axis=1)[:, None], axis=0)
    rate, amplitude = rates[best], amplitudes[best, np.arange(heights.shape[1])]
    for _ in range(20):
        moves, turns = _moves(factors, rate)
        missing = heights - amplitude * np.exp(-rate * factors[:, None])
        turn = np.divide((turns * missing).sum(axis=0), amplitude, out=np.zeros_like(rate), where=amplitude != 0)
        amplitude = amplitude + (moves * missing).sum(axis=0)
        rate = np.clip(rate + turn, least, most)
    return amplitude, _moves(factors, rate)[0], rate


def _moves(factors: NDArray[np.float64], rate: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How `A`, and `b` times `A`, move with each height, `(n_factors, n_observables)`: the least squares' solution."""
    decay = np.exp(-rate * factors[:, None])
    slope = -factors[:, None] * decay
    both, of_decay, of_slope = (decay * slope).sum(axis=0), (decay**2).sum(axis=0), (slope**2).sum(axis=0)
    determinant = of_decay * of_slope - both**2
    return (of_slope * decay - both * slope) / determinant, (of_decay * slope - both * decay) / determinant
