"""How the parts of a manager are put together, for a new session and for one that is opened again."""

from __future__ import annotations

import logging
import platform
from contextlib import ExitStack
from typing import NamedTuple

from pilot import registry
from pilot.errors import SessionError
from pilot.interfaces import Policy
from pilot.manager import recovery
from pilot.manager.children import Children
from pilot.manager.forgetting import Forgetter
from pilot.manager.jobs import PlaceholderJobs
from pilot.manager.loop import ManagerLoop
from pilot.manager.objects import Objects
from pilot.manager.recovery import Restored
from pilot.manager.requests import PilotRequests
from pilot.manager.resubmission import Resubmission
from pilot.manager.sqlite import SqliteJournal
from pilot.manager.state import SessionState
from pilot.manager.submitting import Submitter
from pilot.scheduling.controller import Controller
from pilot.version import versions
from pilot.wire import names
from pilot.wire.addresses import listen
from pilot.wire.keys import belong_together, new_keys
from pilot.wire.processes import allow_files
from pilot.wire.session import Connection, SessionFolder

log = logging.getLogger(__name__)


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
    name: str | None = None,
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
        name: of a new session.
        attach: the session in the folder is opened again.
        temporary: the folder is removed when something fails.
        policy: as for `PilotManager`, and so are the others.
    """
    allow_files()  # whoever can connect takes descriptors until its handshake fails
    with ExitStack() as undo:
        if temporary:
            undo.callback(folder.remove)
        undo.callback(folder.lock.release)
        if name is not None:
            other = names.take(name, folder.path)
            undo.callback(names.drop, folder.path)
            if other is not None and other != folder.path:
                log.warning(
                    "%r was the name of the session %s, whose manager is gone: its folder names it now", name, other
                )
        before = _read_connection(folder) if attach else Connection((), platform.node(), *new_keys())
        journal = SqliteJournal(folder.journal_path, is_there=attach)
        undo.callback(journal.close)
        jobs = PlaceholderJobs(folder)
        restored = None
        if attach:
            restored = recovery.read(journal, folder.path)
            _check_original(restored, folder, before)
            _check_versions(restored, folder, jobs)
        cores, qpus = registry.policies(policy)
        controller = Controller(cores, wait_for_pilot, qpus)
        connection, server = listen(before, address, ports, folder.socket_path)
        undo.callback(server.close)
        state = SessionState(folder, journal, jobs)
        undo.callback(state.mailbox.close)
        undo.callback(state.jobs.leave)
        loop = ManagerLoop(state, controller, server)
        folder.write_connection(connection)
        objects = Objects(state)
        if restored is not None:
            recovery.record(journal, restored, folder.path)
            loop.take_over(restored)
            loop.estimating.take_over(restored.tasks)
            objects.take_over(restored.objects)
        else:
            journal.extend([*recovery.path_rows(folder.path), recovery.versions_row()])
        submitter = Submitter(state, loop.estimating, (qpus or cores).needs_estimates)
        loop.serve_tasks(Children(state, submitter, loop.reply))
        resubmission = Resubmission(state, submitter)
        requests, forgetter = PilotRequests(state, server, connection), Forgetter(state, resubmission)
        parts = Parts(state, loop, requests, submitter, resubmission, forgetter, objects)
        undo.pop_all()
    return parts


def _read_connection(folder: SessionFolder) -> Connection:
    """That of the manager before.

    Raises:
        SessionError: it was damaged.
    """
    found = folder.read_connection()
    if not belong_together(found.public_key, found.secret_key):
        raise folder.damaged_connection("its keys do not belong together")
    return found


def _check_original(restored: Restored, folder: SessionFolder, connection: Connection) -> None:
    """Raise SessionError for a copy of a session that is still there: its tasks would run twice."""
    if restored.moved_from is None:
        return
    try:
        original = SessionFolder.find(restored.moved_from).read_connection()
    except (SessionError, OSError):
        return
    if original.public_key == connection.public_key:
        raise SessionError(
            f"the session {folder.path} is a copy of {restored.moved_from}, which is still there: attach to that one; "
            "or, to go on with the copy instead, rename or remove it",
            path=str(folder.path),
        )


def _check_versions(restored: Restored, folder: SessionFolder, jobs: PlaceholderJobs) -> None:
    """Raise SessionError when agents of another version may be alive: they would end, and what they have be lost."""
    if restored.versions is None or restored.versions == versions():
        return
    alive = [
        pilot.description.name or pilot.id
        for pilot in restored.pilots
        if pilot.mark and jobs.may_run(pilot.id, pilot.description, pilot.mark, pilot.native_id)
    ]
    if alive:
        (python, library), (own_python, own) = restored.versions, versions()
        raise SessionError(
            f"the session {folder.path} was opened with Python {python} and quantum-pilot {library}, and its pilots "
            f"{', '.join(alive)} still run: attach with these versions, or with Python {own_python} and quantum-pilot "
            f"{own} when they have ended",
            path=str(folder.path),
        )
