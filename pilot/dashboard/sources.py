"""Where the dashboard has its data from: `Source`, the contract. ``live.py`` and ``recorded.py`` keep it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

from pilot.dashboard.index import TaskIndex
from pilot.manager.following import PilotLine
from pilot.manager.journal import AttemptRow
from pilot.resources import QPUInfo
from pilot.results import Attempt


class PilotView(NamedTuple):
    """A pilot, as the dashboard shows it."""

    line: PilotLine
    #: Names of the nodes where its workers run now.
    nodes: tuple[str, ...] = ()
    #: What the resource manager says of its job.
    job: str = ""

    @property
    def name(self) -> str:
        """What the description called it, or its id."""
        return self.line.description.name or self.line.id


class QPUView(NamedTuple):
    """A QPU of a pilot."""

    #: Id of the pilot.
    pilot: str
    name: str
    #: What it has reported; None: nothing that is known here.
    info: QPUInfo | None


class TaskDetails(NamedTuple):
    """One task, with what only the page of that task shows."""

    #: The record, as texts: what, and its value.
    facts: list[tuple[str, str]]
    #: Why it went where it went, or why it waits, fails or failed.
    reason: str
    stdout: str
    stderr: str
    #: Wall clocks of its way: what happened, and when.
    steps: list[tuple[str, float]]
    #: Whether `Source.result` has something.
    has_result: bool


def attempt_steps(attempts: Sequence[Attempt | AttemptRow]) -> list[tuple[str, float | None]]:
    """The steps of attempts that did not count."""
    steps: list[tuple[str, float | None]] = []
    for one in attempts:
        steps += [(f"attempt {one.number} began", one.started), (f"attempt {one.number} was lost", one.ended)]
    return steps


def in_order(steps: Sequence[tuple[str, float | None]]) -> list[tuple[str, float]]:
    """Those of the steps whose time is known, by time."""
    return sorted(((what, moment) for what, moment in steps if moment), key=lambda step: step[1])


class Source(ABC):
    """A session that is shown. Its methods may be called from any thread; those that block say so."""

    #: Name of the session.
    name: str
    #: True: it is as it is now; False: the journal of a session that somebody else has, or had.
    is_live: bool
    #: Columns of all tasks.
    index: TaskIndex

    @property
    @abstractmethod
    def status(self) -> str:
        """In a few words: whether what is shown still changes."""

    @property
    @abstractmethod
    def is_over(self) -> bool:
        """True when nothing will change any more."""

    @abstractmethod
    def pilots(self) -> list[PilotView]:
        """Every pilot that was requested, in that order."""

    @abstractmethod
    def qpus(self) -> list[QPUView]:
        """The QPUs of the pilots that are not over; those of all where all are."""

    @abstractmethod
    def task(self, id: int) -> TaskDetails:
        """One task. Blocks.

        Raises:
            KeyError: there is none, or it was forgotten.
        """

    @abstractmethod
    def result(self, id: int) -> Any:
        """The result of a task that is done, unpickled here. Blocks.

        Raises:
            Exception: what `Task.result` raises.
        """

    @abstractmethod
    def close(self) -> None:
        """End it: nothing is read any more."""
