"""`Keeper`: what handles of tasks and pilots ask of their session."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any, Protocol

from pilot.manager.callbacks import Callbacks
from pilot.results import Outcome, TaskInfo, Value
from pilot.scheduling import events
from pilot.wire.spool import Spool


class Keeper(Protocol):
    """What the handles ask of their session. Any thread may call it; only `wait_job_ended` and
    `add_nodes` block."""

    @property
    def tasks(self) -> Mapping[int, Any]:
        """Every `Task` by id."""

    @property
    def spool(self) -> Spool:
        """Where large values are."""

    def check_process(self) -> None:
        """Raise SessionError in a process that was forked from the manager's."""

    def check_open(self) -> None:
        """The same, and when the manager is closed."""

    def post(self, item: events.Event | events.Command) -> None:
        """Leave it for the manager's thread; SessionError as in `check_process`."""

    def is_own_thread(self) -> bool:
        """True in a thread that must not wait for the manager's."""

    def info(self, task: Any) -> TaskInfo:
        """The record of a task."""

    def value(self, outcome: Outcome) -> Value:
        """What the outcome of a task has, which may be in the journal only."""

    @property
    def callbacks(self) -> Callbacks:
        """The thread that calls what users give."""

    def committed(self) -> Future[None]:
        """Done when all that the manager's thread hears of before this is on disk. Callbacks must not block."""

    def add_nodes(self, pilot: str, count: int) -> None:
        """Ask for a further job of so many nodes; blocks for a moment."""

    def wait_job_ended(self, pilot: str) -> None:
        """Wait, for some seconds at most, until the pilot's job is gone."""

    def interrupted(self) -> None:
        """Ctrl-C came while somebody waited for a task."""
