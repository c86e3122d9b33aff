"""The managers of this process whose sessions are private: they end with the program."""

from __future__ import annotations

import logging
from collections.abc import Callable

from pilot.manager import signals
from pilot.manager.session import Session
from pilot.states import is_final

log = logging.getLogger(__name__)

#: Those that are not closed.
_open: set[Session] = set()


def opened(manager: Session, end: Callable[[], None]) -> None:
    """One was opened; ``end`` begins to end its pilots, and takes no lock (`signals.watch`)."""
    _open.add(manager)
    signals.watch(manager, end)


def closed(manager: Session) -> None:
    """It is being closed; nothing happens for one that is not private."""
    _open.discard(manager)
    signals.unwatch(manager)


def tell_idle() -> None:
    """Before another one is made: one that was forgotten, as when a cell of a notebook runs again, keeps its pilots."""
    idle = [
        one
        for one in list(_open)
        if not all(is_final(pilot.state) for pilot in one.pilots) and all(task.done() for task in one.tasks.values())
    ]
    if idle:
        folders = ", ".join(str(one.session_dir) for one in idle)
        log.warning(
            "%d manager(s) of this process are open, idle, and keep their pilots (%s): close() what is not needed",
            len(idle),
            folders,
        )
