"""Zero-noise extrapolation: expectation values at several strengths of the noise, and what they say of none."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pilot.errors import DescriptionError
from pilot.quantum.mitigation.folding import fold_global, fold_local, global_factor, local_factor

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray
    from qiskit import QuantumCircuit

    from pilot.quantum.mitigation.stage import Device

_Fit = tuple["NDArray[np.float64]", "NDArray[np.float64]"]


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
        factors = tuple(self.factors)
        object.__setattr__(self, "factors", factors)
        if len(factors) < 2 or any(not factor >= 1 or not math.isfinite(factor) for factor in factors):
            raise _refused("factors", factors, "at least two numbers from 1 on")
        if len(set(factors)) < len(factors):
            raise _refused("factors", factors, "different numbers")
        if self.extrapolation not in _FITS:
            raise _refused("extrapolation", self.extrapolation, ", ".join(map(repr, _FITS)))
        if self.folding not in ("global", "local"):
            raise _refused("folding", self.folding, "'global' or 'local'")

    def scaled(self, circuits: Sequence[QuantumCircuit], device: Device | None = None) -> list[list[QuantumCircuit]]:
        """The circuits of each factor, in the order of `factors`.

        Args:
            circuits: gates, measured at the end; compiled for the device if there is one.
            device: inverses are written in its gates.

        Raises:
            DescriptionError: a circuit cannot be folded, or has too few gates to tell the factors apart.
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
            raise _refused(
                "factors",
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
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Values without noise, and their standard errors, each `(n_observables,)`.

        Errors are those of the shots alone, carried through the fit; how wrong the fit's form is nobody knows.
        All factors weigh the same in the fit, whatever their errors: estimated errors depend on the values, and
        would draw the fit to them. Where values of the exponential form change their sign from factor to factor
        (less the constant), the linear one is taken.

        Args:
            values: `(n_factors, n_observables)`.
            standard_errors: in the same shape; None: exact.
            constants: `(n_observables,)`, values in the fully mixed state, as in `ExpectationPlan.constants`.
                Only the exponential form needs them.
            factors: `(n_factors,)`, those that were really run (`factors_of`); None: `factors`.

        Raises:
            ValueError: a shape is not as above.
        """
        given = np.asarray(values, dtype=np.float64)
        errors = np.zeros_like(given) if standard_errors is None else np.asarray(standard_errors, dtype=np.float64)
        if given.ndim != 2 or len(given) != len(self.factors) or errors.shape != given.shape:
            raise ValueError(
                f"values of shape {given.shape} and standard_errors of shape {errors.shape} given; "
                f"({len(self.factors)}, n_observables) is wanted"
            )
        floor = np.broadcast_to(np.asarray(constants, dtype=np.float64), given.shape[1:])
        run = np.asarray(self.factors if factors is None else factors, dtype=np.float64)
        return _FITS[self.extrapolation](run, given, errors, floor)


def _linear(
    factors: NDArray[np.float64], values: NDArray[np.float64], errors: NDArray[np.float64], _: NDArray[np.float64]
) -> _Fit:
    design = np.stack([np.ones_like(factors), factors], axis=1)
    return _weighted(np.linalg.pinv(design)[0], values, errors)


def _richardson(
    factors: NDArray[np.float64], values: NDArray[np.float64], errors: NDArray[np.float64], _: NDArray[np.float64]
) -> _Fit:
    """Temme, Bravyi and Gambetta, PRL 119 180509, 2017, equation 3."""
    others = [np.delete(factors, place) for place in range(len(factors))]
    weights = [np.prod(rest / (rest - factor)) for factor, rest in zip(factors, others, strict=True)]
    return _weighted(np.array(weights), values, errors)


def _weighted(weights: NDArray[np.float64], values: NDArray[np.float64], errors: NDArray[np.float64]) -> _Fit:
    return weights @ values, np.sqrt(weights**2 @ errors**2)


def _exponential(
    factors: NDArray[np.float64], values: NDArray[np.float64], errors: NDArray[np.float64], floor: NDArray[np.float64]
) -> _Fit:
    results, deviations = _linear(factors, values, errors, floor)
    above = values - floor
    one_sided = (above > 0).all(axis=0) | (above < 0).all(axis=0)
    for column in np.flatnonzero(one_sided):
        weights, amplitude = _fit_decay(factors, above[:, column])
        results[column] = floor[column] + amplitude
        deviations[column] = np.sqrt(weights**2 @ errors[:, column] ** 2)
    return results, deviations


def _fit_decay(factors: NDArray[np.float64], heights: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """How `A` moves with each height, and `A`, for the least squares of `A exp(-b λ)`; heights have one sign."""
    from scipy.optimize import least_squares

    slope, start = np.polyfit(factors, np.log(np.abs(heights)), 1)
    sign = np.sign(heights[0])

    def jacobian(x: NDArray[np.float64]) -> NDArray[np.float64]:
        decay = np.exp(-x[1] * factors)
        return np.stack([decay, -x[0] * factors * decay], axis=1)

    fitted = least_squares(
        lambda x: x[0] * np.exp(-x[1] * factors) - heights, [sign * np.exp(start), -slope], jac=jacobian, method="lm"
    )
    return np.linalg.pinv(jacobian(fitted.x))[0], float(fitted.x[0])


_FITS: dict[
    str,
    Callable[[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]], _Fit],
] = {"linear": _linear, "exponential": _exponential, "richardson": _richardson}


def _refused(field: str, given: object, allowed: str) -> DescriptionError:
    return DescriptionError(f"zne: {field}={given!r} given; {allowed} allowed", field="mitigation")
