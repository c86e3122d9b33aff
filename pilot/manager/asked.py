"""What users submitted to be estimated before it is placed."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import msgspec

from pilot import registry
from pilot.manager.handles import Task, entry_of
from pilot.resources import ANY_QPU, QPUInfo
from pilot.scheduling.fitting import is_meant
from pilot.states import PilotState, is_final

if TYPE_CHECKING:
    from pilot.descriptions import TaskDescription
    from pilot.interfaces import TaskEstimator
    from pilot.manager.state import SessionState
    from pilot.resources import QPUEstimate, Terms


class Reported(IntEnum):
    """Which of the QPUs that may run a task have reported."""

    ALL = 0
    LATER = 1
    """Others are those of pilots that are not active yet."""
    SOON = 2
    """An active pilot is still opening one."""


class Asked:
    """What a user submitted, and what is known of it. The parts wait for the first estimate, the *gate*."""

    def __init__(
        self, estimator: TaskEstimator, sample: Any, wanted: TaskDescription, gate: Task, parts: Sequence[Task]
    ) -> None:
        self.estimator, self.sample, self.wanted, self.gate = estimator, sample, wanted, gate
        #: By id; those that are not over.
        self.parts = {part.id: entry_of(part) for part in parts}
        self.weight = sum(entry.weight for entry in self.parts.values())
        #: The same for all that are `Alike`.
        self.key = Alike.key(self.terms)
        #: What the QPUs reported for which it was estimated last; None: it was not yet.
        self.infos: tuple[QPUInfo, ...] | None = None
        #: What the worker returned last; None: nothing yet.
        self.result: Any = None

    @property
    def terms(self) -> Terms:
        """Of a part."""
        return next(iter(self.parts.values())).terms

    def of_parts(self, estimates: Sequence[QPUEstimate]) -> dict[int, tuple[QPUEstimate, ...]]:
        """What is expected of each part, by what is expected of the whole: its share of the seconds. The cost is the
        whole one, which is what has a bound."""
        by_share: dict[float, tuple[QPUEstimate, ...]] = {}
        found = {}
        for part, entry in self.parts.items():
            share = entry.weight / self.weight
            if share not in by_share:
                by_share[share] = tuple(_scaled(one, share) for one in estimates)
            found[part] = by_share[share]
        return found


class Alike:
    """Circuits that the same QPUs may run.

    What these report is looked up once for all of them: many QPUs report often, and thousands of circuits may wait.
    """

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._names = {option.resources.qpu for option in terms.options()}
        #: Those that have not ended, in the order of their submission.
        self.members: dict[Asked, None] = {}
        #: The last answer of `is_new`.
        self._seen: tuple[set[tuple[str, float | None]], Reported] | None = None

    @staticmethod
    def key(terms: Terms) -> tuple[Any, ...]:
        """Circuits with the same one are alike."""
        return terms.resources.qpu, tuple(one.resources.qpu for one in terms.others), terms.pilots, terms.labels

    def reported(self, state: SessionState) -> tuple[tuple[QPUInfo, ...], Reported]:
        """What the QPUs report that may run it, and whether there will be others."""
        found: dict[str, QPUInfo] = {}
        how = Reported.LATER if state.scalers else Reported.ALL
        for pilot in state.pilots.values():
            if is_final(pilot.state) or not is_meant(self._terms, pilot.names, pilot.description.labels):
                continue
            names = {
                name for name in registry.devices(pilot.description) if name in self._names or ANY_QPU in self._names
            }
            its = {info.name: info for info in pilot.qpus if info.name in names}
            if len(its) < len(names):
                how = max(how, Reported.SOON if pilot.state is PilotState.ACTIVE else Reported.LATER)
            found.update((name, info) for name, info in its.items() if info.qubits)
        return tuple(found.values()), how

    def is_new(self, infos: Sequence[QPUInfo], how: Reported) -> bool:
        """True when that is something else than at the last call."""
        before, self._seen = self._seen, (calibrations(infos), how)
        return before != self._seen


def _scaled(estimate: QPUEstimate, share: float) -> QPUEstimate:
    seconds, spread = estimate.seconds, estimate.seconds_spread
    return msgspec.structs.replace(
        estimate,
        seconds=None if seconds is None else seconds * share,
        seconds_spread=None if spread is None else spread * share,
    )


def calibrations(infos: Sequence[QPUInfo]) -> set[tuple[str, float | None]]:
    """What makes the reports of QPUs different."""
    return {(info.name, info.calibrated) for info in infos}
