"""What cutting gives: values, distributions, and the ways to cut that were considered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pilot.quantum.outcomes import Outcomes

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from matplotlib.axes import Axes
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Distribution(Outcomes):
    """How probable each outcome of the circuit's measurements is, with the error of that.

    It is an `Outcomes` with the circuit's own registers and bit order: `get_counts()` gives a probability for
    each bit string, `weights` are the probabilities, `shots` is None.
    """

    #: `(n_outcomes,)`: what the sum of the products gave; some may be below zero.
    quasi: NDArray[np.float64]
    #: `(n_outcomes,)`: one standard deviation of `quasi`.
    standard_errors: NDArray[np.float64]
    #: The quasi-probability of all outcomes that are not listed; 0 unless there are more than `max_outcomes`.
    #: The probabilities of the listed ones add up to what it leaves of one.
    missing: float

    def get_counts(self, register: str | None = None) -> dict[str, float]:
        """Probability by bit string, as `Outcomes.get_counts`; those of probability 0 are left out."""
        # not super(): a dataclass with slots is made twice, and super() knows the first one
        return {text: weight for text, weight in Outcomes.get_counts(self, register).items() if weight}

    def get_quasi(self, register: str | None = None) -> dict[str, float]:
        """Quasi-probability by bit string."""
        quasi = Outcomes(
            registers=self.registers, num_bits=self.num_bits, packed=self.packed, weights=self.quasi, shots=None
        )
        return quasi.get_counts(register)

    def plot(self, ax: Axes | None = None, *, register: str | None = None, most: int = 32, **options: Any) -> Axes:
        """A histogram of the quasi-probabilities with bars of one standard error, in the order of the outcomes' bits.

        Args:
            ax: matplotlib's axes to draw in; None: those of a new figure.
            register: count this register alone; the errors of what is then added up are left out.
            most: so many outcomes, the largest ones, have a bar; the axis says what the others add up to.
            **options: of matplotlib's `Axes.bar`.

        Raises:
            KeyError: the circuit has no register of that name.
            PluginError: matplotlib is not installed.
        """
        from pilot import plots

        quasi = self.get_quasi(register)
        is_added_up = len(quasi) < len(self.quasi)
        errors = None if is_added_up else {"": dict(zip(quasi, self.standard_errors.tolist(), strict=True))}
        return plots.histogram({"": quasi}, ax, y="quasi-probability", errors=errors, most=most, **options)


@dataclass(frozen=True, kw_only=True, eq=False)
class CutResult:
    """Expectation values of the observables, in the order they were given, each `(n_observables,)`."""

    values: NDArray[np.float64]
    #: One standard deviation of `values`: shots and sampled terms together.
    standard_errors: NDArray[np.float64]
    #: The part from the finite number of shots.
    shot_errors: NDArray[np.float64]
    #: The part from taking a sample of the decomposition's terms; zero if all were taken.
    sampling_errors: NDArray[np.float64]
    #: How probable the outcomes of the circuit's measurements are; None: the plan was made without.
    distribution: Distribution | None = None

    def plot(self, ax: Axes | None = None, *, names: Sequence[str] | None = None, **options: Any) -> Axes:
        """The values with bars of one standard error; without observables the distribution, as it plots itself.

        Args:
            ax: matplotlib's axes to draw in; None: those of a new figure.
            names: of the observables; None: their numbers.
            **options: of matplotlib's `Axes.errorbar`, or as `Distribution.plot` takes them.

        Raises:
            ValueError: the `names` are not as many as the values.
            PluginError: matplotlib is not installed.
        """
        from pilot import plots

        if self.distribution is not None and not len(self.values):
            return self.distribution.plot(ax, **options)
        return plots.values(self.values, self.standard_errors, ax, names=names, **options)


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a plan is expected to take."""

    #: In all; infinite: it cannot run.
    seconds: float
    run_seconds: float
    reconstruct_seconds: float
    #: Bytes of the largest state.
    memory: float
    #: Why it cannot run; "" if it can.
    problem: str = ""

    def __str__(self) -> str:
        return self.problem or f"{self.seconds:.3g} s"


@dataclass(frozen=True, kw_only=True)
class CutCandidate:
    """One way to run the circuit that was considered."""

    #: Most qubits of a piece that were allowed.
    max_qubits: int
    #: How many cuts; 0: not cut.
    cuts: int
    overhead: float
    num_distinct: int
    prediction: Prediction
    #: Which limit it breaks; "" if none.
    rejected: str = ""

    def __str__(self) -> str:
        what = f"pieces of at most {self.max_qubits} qubits" if self.cuts else "not cut"
        return f"{what}: {self.rejected or self.prediction}"
