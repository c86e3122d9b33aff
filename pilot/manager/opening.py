"""How the parts of a manager are put together, for a new session and for one that is opened again."""

from __future__ import annotations

import platform
from contextlib import ExitStack
from typing import NamedTuple

from pilot import registry
from pilot.interfaces import Policy
from pilot.manager import recovery
from pilot.manager.forgetting import Forgetter
from pilot.manager.jobs import PlaceholderJobs
from pilot.manager.journal import SessionRow
from pilot.manager.loop import ManagerLoop
from pilot.manager.objects import Objects
from pilot.manager.requests import PilotRequests
from pilot.manager.resubmission import Resubmission
from pilot.manager.sqlite import SqliteJournal
from pilot.manager.state import SessionState
from pilot.manager.submitting import Submitter
from pilot.scheduling.controller import Controller
from pilot.wire.addresses import listen
from pilot.wire.session import Connection, SessionFolder, new_keys


class Parts(NamedTuple):
    """What a manager consists of."""

    state: SessionState
    loop: ManagerLoop
    requests: PilotRequests
    submitter: Submitter
    resubmission: Resubmission
    forgetter: Forgetter
    objects: Objects


def open_parts(
    folder: SessionFolder,
    *,
    attach: bool = False,
    temporary: bool = False,
    policy: str | Policy,
    address: str | None,
    ports: tuple[int, int] | None,
    wait_for_pilot: float | None,
) -> Parts:
    """The parts of a manager; its loop is still to be started. When one fails, the folder and the port are free again.

    Args:
        folder: of the session.
        attach: the session in the folder is opened again.
        temporary: the folder is removed when something fails.
        policy: as for `PilotManager`, and so are the others.
    """
    with ExitStack() as undo:
        if temporary:
            undo.callback(folder.remove)
        undo.callback(folder.release)
        before = folder.read_connection() if attach else Connection((), platform.node(), *new_keys())
        controller = Controller(registry.policy(policy), wait_for_pilot)
        connection, server = listen(before, address, ports)
        undo.callback(server.close)
        journal = SqliteJournal(folder.journal_path)
        undo.callback(journal.close)
        state = SessionState(folder, journal, PlaceholderJobs(folder))
        undo.callback(state.mailbox.close)
        undo.callback(state.jobs.leave)
        loop = ManagerLoop(state, controller, server)
        folder.write_connection(connection)
        objects = Objects(state)
        if attach:
            restored = recovery.read(journal, folder.path)
            recovery.record(journal, restored, folder.path)
            loop.take_over(restored)
            objects.take_over(restored.objects)
        else:
            journal.put(SessionRow("path", str(folder.path)))
        submitter = Submitter(state)
        resubmission = Resubmission(state, submitter)
        requests, forgetter = PilotRequests(state, server, connection), Forgetter(state, resubmission)
        parts = Parts(state, loop, requests, submitter, resubmission, forgetter, objects)
        undo.pop_all()
    return parts
