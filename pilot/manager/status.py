"""Tasks and pilots of a session at one moment, for a display."""

from __future__ import annotations

from typing import NamedTuple

from pilot.manager.state import SessionState
from pilot.scheduling.controller import Controller
from pilot.states import PilotState


class PilotStatus(NamedTuple):
    """A pilot, for the display."""

    name: str
    engine: str
    state: PilotState
    #: Tasks that ended there, and those that it has now.
    finished: int
    sent: int
    #: Why it is not active: what the resource manager says of its job, or why it failed.
    note: str


class Status(NamedTuple):
    """A session, for the display."""

    tasks: int
    finished: int
    pilots: list[PilotStatus]


def status_of(state: SessionState, controller: Controller) -> Status:
    """The status now. In the manager's thread, which alone may read the controller."""
    rows = []
    for pilot in list(state.pilots.values()):
        known, note = controller.pilots.by_id.get(pilot.id), ""
        if pilot.state is PilotState.FAILED:
            note = pilot.reason
        elif pilot.state in (PilotState.NEW, PilotState.QUEUED):
            note = pilot.job
        finished = known.finished if known is not None else 0
        sent = sum(len(one.entries) for one in known.sent.values()) if known is not None else 0
        rows.append(PilotStatus(pilot.name, pilot.description.engine, pilot.state, finished, sent, note))
    return Status(len(state.tasks), state.finished, rows)
