"""The private sessions of this process: nobody attaches to them, so their pilots end with the program."""

from __future__ import annotations

import logging
from collections.abc import Callable

from pilot.manager import signals
from pilot.manager.state import SessionState
from pilot.states import is_final

log = logging.getLogger(__name__)

_open: set[SessionState] = set()


def add(state: SessionState, end: Callable[[], None]) -> None:
    """A private session was opened: SIGTERM and SIGHUP end its pilots.

    Args:
        state: of the session.
        end: as for `signals.watch`.
    """
    _open.add(state)
    signals.watch(state, end)


def discard(state: SessionState) -> None:
    """A session is closed."""
    _open.discard(state)
    signals.unwatch(state)


def name_idle() -> None:
    """Log which of them have pilots and no work, before another one is opened: they may have been forgotten, as when a
    cell of a notebook runs again."""
    idle = [state for state in list(_open) if _is_idle(state)]
    if idle:
        folders = ", ".join(str(state.folder.path) for state in idle)
        log.warning(
            "%d manager(s) of this process are open, idle, and keep their pilots (%s): close() what is not needed, or "
            "give PilotManager a name in a cell that runs again",
            len(idle),
            folders,
        )


def _is_idle(state: SessionState) -> bool:
    if state.is_foreign:  # of the process that this one was forked from
        return False
    pilots = [pilot for pilot in list(state.pilots.values()) if not is_final(pilot.state)]
    return bool(pilots) and all(task.done() for task in state.tasks.not_recorded())
