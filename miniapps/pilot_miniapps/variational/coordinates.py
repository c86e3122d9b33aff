"""The optimiser: one parameter after the other goes to the minimum of the energy along it.

With the other parameters fixed the energy is a trigonometric polynomial. Its values at ``2 · degree + 1`` points give
all of it, and so its lowest point, however far away (Nakanishi et al., Physical Review Research 2, 043158, for degree
1; Wierichs et al., Quantum 6, 677, for all). Nothing is random and no rate has to be chosen; the state is a plain
value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from pilot.quantum.expectation import Expectation

#: Points on which the polynomial is looked at for its minimum, for each degree; Newton's steps follow.
_GRID = 32


class State(msgspec.Struct, frozen=True):
    """Where a loop is.

    Attributes:
        parameters: the values now.
        energy: the lowest one of the last step's polynomial: with shots, an estimate; nan before the first step.
        step: how many steps were made.
    """

    parameters: tuple[float, ...]
    energy: float
    step: int

    @property
    def coordinate(self) -> int:
        """The parameter that is next."""
        return self.step % len(self.parameters)


def begin(start: Sequence[float]) -> State:
    """The state before the first step."""
    return State(tuple(start), float("nan"), 0)


def points(state: State, degrees: Sequence[int]) -> NDArray[np.float64]:
    """The sets of values that the next step needs, ``(2 * degree + 1, n_parameters)``; the first is the state's own."""
    number = 2 * degrees[state.coordinate] + 1
    sets = np.tile(np.array(state.parameters), (number, 1))
    sets[:, state.coordinate] += 2 * np.pi * np.arange(number) / number
    return sets


def advance(state: State, degrees: Sequence[int], measured: Expectation) -> State:
    """The next state. A worker runs it.

    Args:
        state: before.
        degrees: as in `Problem`.
        measured: the energies at `points`, in their order: ``values`` is ``(2 * degree + 1, 1)``.
    """
    shift, energy = lowest(fit(measured.values[:, 0]))
    parameters = list(state.parameters)
    angle = parameters[state.coordinate] + shift
    parameters[state.coordinate] = float((angle + np.pi) % (2 * np.pi) - np.pi)
    return State(tuple(parameters), energy, state.step + 1)


def fit(values: ArrayLike) -> NDArray[np.complex128]:
    """The trigonometric polynomial through values at equal distances of ``2π / n``, n odd.

    Returns:
        ``(degree + 1,)``: coefficients c of ``Re Σ c[k] exp(i k x)``.
    """
    found = np.fft.rfft(np.asarray(values, dtype=float)) / np.size(values)
    found[1:] *= 2
    return found


def value(coefficients: NDArray[np.complex128], x: ArrayLike) -> NDArray[np.float64]:
    """The polynomial at x."""
    orders = np.arange(len(coefficients))
    return (np.exp(1j * np.multiply.outer(x, orders)) @ coefficients).real


def lowest(coefficients: NDArray[np.complex128]) -> tuple[float, float]:
    """Where the polynomial is lowest, from -π to π, and its value there.

    Between points so close together that no minimum is missed, Newton's method on the derivative; a step that leads up
    is not taken.
    """
    orders = np.arange(len(coefficients))
    grid = np.linspace(-np.pi, np.pi, _GRID * len(coefficients), endpoint=False)
    place = float(grid[np.argmin(value(coefficients, grid))])
    for _ in range(20):
        slope = float(value(1j * orders * coefficients, place))
        bend = float(value(-(orders**2) * coefficients, place))
        step = -slope / bend if bend > 0 else 0.0
        if value(coefficients, place + step) >= value(coefficients, place):
            break
        place += step
    return place, float(value(coefficients, place))
