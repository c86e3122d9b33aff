"""What every stage against errors is: circuits and shots in, more circuits out, and their outcomes back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from pilot.errors import DescriptionError
from pilot.quantum.outcomes import Outcomes, draw_seeds

if TYPE_CHECKING:
    from qiskit import QuantumCircuit
    from qiskit.transpiler import Target


#: Of all circuits, or of each; None: exact.
Shots = int | Sequence[int | None] | None


@dataclass(frozen=True, kw_only=True)
class Device:
    """What stages know of the QPU that circuits were compiled for."""

    #: What they were compiled for; None: the QPU takes circuits as they are.
    target: Target | None = None
    #: The QPU's name and when its calibration was taken, seconds since the epoch: what `QPUInfo` says. None: not
    #: known, so that nothing measured now can be used later.
    name: str = ""
    calibrated: float | None = None


@dataclass(frozen=True, kw_only=True)
class Planned:
    """Circuits to run, how often, and how their outcomes become those of the circuits that were planned."""

    #: Compiled for the device, ready to run: nothing must optimise them any more.
    circuits: tuple[QuantumCircuit, ...]
    #: How often to run each; None: exact.
    shots: tuple[int | None, ...]
    merge: Callable[[list[Outcomes]], list[Outcomes]]

    def combine(self, outcomes: Iterable[Outcomes]) -> list[Outcomes]:
        """One `Outcomes` for each circuit that was handed to `Stage.plan`, in its order.

        Args:
            outcomes: one for each of `circuits`, in their order.

        Raises:
            ValueError: another number of outcomes than of circuits.
        """
        given = list(outcomes)
        if len(given) != len(self.circuits):
            raise ValueError(f"{len(given)} outcomes given for {len(self.circuits)} circuits; give one each, in order")
        return self.merge(given)


class Stage(ABC):
    """A way to lessen errors that takes circuits and gives circuits.

    Stages are values: they hold settings, not results. What `plan` returns can be pickled, so a plan may be made
    in one process and combined in another.
    """

    #: As in ``TaskDescription.mitigation``.
    name: str

    @abstractmethod
    def plan(
        self, circuits: Sequence[QuantumCircuit], shots: Shots, device: Device, seed: int | None = None
    ) -> Planned:
        """What to run instead of `circuits`.

        Args:
            circuits: compiled for `device`, qubit `i` its qubit `i`, measured.
            shots: of the circuits.
            device: where they will run.
            seed: of what is drawn; None: another each time.

        Raises:
            DescriptionError: a circuit or the device is not fit for the stage; the message says why.
        """


@dataclass(frozen=True)
class Chain(Stage):
    """Stages one inside the other: the first plans first and combines last."""

    stages: tuple[Stage, ...]

    @property
    def name(self) -> str:  # type: ignore[override]
        """The stages' names, in order."""
        return "+".join(stage.name for stage in self.stages)

    def plan(
        self, circuits: Sequence[QuantumCircuit], shots: Shots, device: Device, seed: int | None = None
    ) -> Planned:
        """What to run instead of `circuits`: each stage plans what the one before it planned."""
        planned = Planned(circuits=tuple(circuits), shots=each(shots, len(circuits)), merge=list)
        merges = []
        for stage, its_seed in zip(self.stages, draw_seeds(seed, len(self.stages)), strict=True):
            planned = stage.plan(planned.circuits, planned.shots, device, its_seed)
            merges.append(planned.merge)
        return Planned(circuits=planned.circuits, shots=planned.shots, merge=partial(_unwind, merges))


def compose(stages: Iterable[Stage]) -> Stage:
    """One stage that does what all do: the first plans first and combines last. Without any it changes nothing."""
    given = tuple(stages)
    return given[0] if len(given) == 1 else Chain(given)


def each(shots: Shots, number: int) -> tuple[int | None, ...]:
    """The shots of each of `number` circuits.

    Raises:
        DescriptionError: shots are given one by one, and not for each.
    """
    if shots is None or isinstance(shots, int | np.integer):
        return (shots,) * number
    if len(shots) != number:
        raise DescriptionError(
            f"shots: {len(shots)} numbers for {number} circuits are not valid; expected one for each", field="shots"
        )
    return tuple(shots)


def merged(outcomes: Sequence[Outcomes]) -> Outcomes:
    """Outcomes of the same measurement as those of one: counts add up, exact ones are averaged.

    The result keeps those of each circuit as `copies`, since the values of random circuits differ by more than their
    shots: standard errors then contain the scatter between them. A stage of one's own that draws circuits merges them
    with this.
    """
    if len(outcomes) == 1:
        return outcomes[0]
    first = outcomes[0]
    exact = any(entry.shots is None for entry in outcomes)
    packed, place = np.unique(np.concatenate([entry.packed for entry in outcomes]), axis=0, return_inverse=True)
    given = [entry.weights / (entry.weights.sum() * len(outcomes)) if exact else entry.weights for entry in outcomes]
    together = np.concatenate(given)
    weights = np.zeros(len(packed), dtype=together.dtype)
    np.add.at(weights, place.reshape(-1), together)
    shots = None if exact else sum(entry.shots or 0 for entry in outcomes)
    return Outcomes(
        registers=first.registers,
        num_bits=first.num_bits,
        packed=packed,
        weights=weights,
        shots=shots,
        copies=tuple(replace(entry, copies=()) for entry in outcomes),
    )


def _unwind(merges: Sequence[Callable[[list[Outcomes]], list[Outcomes]]], outcomes: list[Outcomes]) -> list[Outcomes]:
    for merge in reversed(merges):
        outcomes = merge(outcomes)
    return outcomes
