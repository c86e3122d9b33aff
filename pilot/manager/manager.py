"""`PilotManager`: what a user calls. Read next: ``loop.py`` (its thread) and ``scheduling`` (who decides)."""

from __future__ import annotations

import atexit
import contextlib
import logging
import math
import numbers
import os
import threading
import weakref
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from pilot.descriptions import PilotDescription
from pilot.errors import invalid
from pilot.interfaces import Policy
from pilot.manager import keeping, private
from pilot.manager.opening import Parts, open_parts
from pilot.manager.pilots import Pilot, Scaler, close_clients
from pilot.manager.reading import SessionReader
from pilot.manager.session import Session
from pilot.manager.state import SessionState
from pilot.manager.tasking import TaskSession
from pilot.publishing import publish
from pilot.states import PilotState, is_final
from pilot.wire import names
from pilot.wire.session import SessionFolder

if TYPE_CHECKING:
    from pilot.fields import Time
    from pilot.manager.progress import Progress

log = logging.getLogger(__name__)

#: The managers that have names, while somebody holds them; one thread at a time opens such a one.
_named: weakref.WeakValueDictionary[str, PilotManager] = weakref.WeakValueDictionary()
_naming = threading.RLock()
#: Seconds that agents have to end by themselves when the manager is closed.
CLOSE_SECONDS = 10.0
#: Seconds that queued tasks wait for another pilot when none can run them any more.
WAIT_FOR_PILOT = 60.0


class PilotManager(TaskSession):
    """Gets pilots, and sends each task to the pilot that is expected to finish it first.

    As a context manager it waits, at the end of the block, until all tasks are finished, then ends its pilots. When
    the block is left by an exception (Ctrl-C included) it ends them at once.

    All methods may be called from any thread. In a forked child they raise `SessionError`, but for what is known
    already: tasks that were finished have their results there.
    """

    #: Set when it is open.
    _name: str | None = None

    def __init__(
        self,
        session_dir: str | os.PathLike[str] | None = None,
        *,
        name: str | None = None,
        policy: str | Policy = "balanced",
        progress: bool = False,
        echo: bool = False,
        address: str | None = None,
        ports: tuple[int, int] | None = None,
        wait_for_pilot: float | None = WAIT_FOR_PILOT,
    ) -> None:
        """Open a new session.

        Args:
            session_dir: folder for the journal, logs and large values; the hosts where pilots run must see it under
                the same path. None: a private folder, removed by `close` unless a pilot failed, below
                ``$QUANTUM_PILOT_SESSIONS`` if that is set; else below ``~/.quantum-pilot/sessions`` inside a resource
                manager's job, or where its command for submitting jobs is on PATH; else below the temporary directory,
                which other hosts do not see. Such folders that were kept are removed by a later manager, see
                `keeping.remove_old`.
            name: of the session, for ``pilot sessions``; one session of this user has it at a time. While a manager of
                this name is open in this process, the same call gives that one, so that a cell of a notebook can run
                again; the other arguments count the first time. Its `submit_pilot` gives the pilot that is there for an
                equal description.
            policy: which task is next, and which of the pilots with room gets it: a name of the group
                ``pilot.policies``, "package.module:Class", or a `pilot.interfaces.Policy` object.
            progress: show tasks, rates and pilots: on the terminal, in the cell of a notebook, or as a line each minute
                on stderr.
            echo: write the output of tasks to stdout and stderr, while they run.
            address: the address of this host (or a name of it) at which agents on other hosts reach it. None: all that
                it has, from the first pilot on whose jobs run on other hosts; until then none.
            ports: first and last port to listen on. None: any, as soon as a pilot on another host needs one.
            wait_for_pilot: seconds that a queued task waits for another pilot when none can run it any more (they are
                over, drain, or have too little walltime left), before it fails with `NoPilotError`. 0: it fails at
                once; None: it waits until there is one. A task that no pilot can ever run is
                refused there.

        Raises:
            DescriptionError: ``wait_for_pilot`` is not such a number, ``name`` is not valid, or is another folder's.
            SessionError: the folder cannot be used, or holds a session already (`attach` opens it again); a session of
                another process has the name; the address is not this host's, or all ports are taken.
            PluginError: there is no such policy.
        """
        with contextlib.nullcontext() if name is None else _naming:
            if self._name is not None:
                self._check_same(session_dir)
                return
            wait = _check_wait(wait_for_pilot)
            own = session_dir is None
            if own:
                private.name_idle()
                keeping.remove_old()
            folder = SessionFolder.create(session_dir)
            parts = open_parts(
                folder,
                name=name,
                temporary=own,
                policy=policy,
                address=address,
                ports=ports,
                wait_for_pilot=wait,
            )
            self._start(parts, progress, temporary=own, echo=echo)
            self._name = name

    def __new__(cls, *args: Any, name: str | None = None, **settings: Any) -> PilotManager:
        if name is None:
            return super().__new__(cls)
        names.check(name)
        with _naming:
            known = _named.get(name)
            if known is None or known._is_over():
                known = _named[name] = super().__new__(cls)
            return known

    def _is_over(self) -> bool:
        """False also while another thread opens it."""
        return self._name is not None and (self._state.is_closed or self._state.is_foreign)

    def _check_same(self, session_dir: str | os.PathLike[str] | None) -> None:
        """It is asked for by its name: this must be the session that is meant."""
        if session_dir is not None and Path(session_dir).absolute() != self.session_dir:
            raise invalid("session_dir", session_dir, f"that of the open manager {self._name!r}: {self.session_dir}")

    @classmethod
    def attach(
        cls,
        session_dir: str | os.PathLike[str],
        *,
        policy: str | Policy = "balanced",
        progress: bool = False,
        echo: bool = False,
        address: str | None = None,
        ports: tuple[int, int] | None = None,
        wait_for_pilot: float | None = WAIT_FOR_PILOT,
    ) -> PilotManager:
        """Open the session of a manager that is gone, by its folder or its name.

        Pilots that still run join again with the work that they have; finished results are there; what was lost is
        run again. `tasks` has them all. Does not wait for the pilots.

        Listens where the manager before did, as far as these addresses and ports are this host's and free. The
        arguments behind the first one are as for a new session.

        A folder that was moved is opened where it is: its pilots are requested again, and what their agents had not
        handed over is run again.

        Raises:
            SessionError: there is no such session, another manager uses it, or as for a new session. Or its
                journal is damaged or has lost what was written last; it is a copy of a session that is still there; it
                is another user's, or others can write to it; or its agents are of another version, and still run.
                Nothing is changed then.
        """
        wait = _check_wait(wait_for_pilot)
        folder = SessionFolder.open(names.find(session_dir))
        parts = open_parts(folder, attach=True, policy=policy, address=address, ports=ports, wait_for_pilot=wait)
        manager = cls.__new__(cls)
        manager._start(parts, progress, temporary=False, echo=echo)
        return manager

    @staticmethod
    def read(session_dir: str | os.PathLike[str]) -> SessionReader:
        """Look into a session without a part in it: its pilots and tasks, their states and results, as the journal has
        them now. Nothing is written, and the session's manager, if there is one, goes on.

        What is not over stays as it is read: read again to see more. `submit_task` and all else that would change
        something raise `SessionError`. On the manager's host, or when the manager is gone.

        Args:
            session_dir: the folder of the session, or its name.

        Raises:
            SessionError: there is no such session; it is damaged, or other users can write to it.
        """
        return SessionReader(names.find(session_dir))

    def _start(self, parts: Parts, progress: bool, temporary: bool, echo: bool = False) -> None:
        self._state, self._loop, self._requests, self._submitter, self._resubmission, self._forgetter, self._objects = (
            parts
        )
        self._temporary = temporary
        self._progress = _progress(self, self._state) if progress else None
        self._loop.start()
        if echo:
            from pilot.manager.echo import Echo

            self.subscribe(Echo(self.tasks), kinds=Echo.kinds)
        atexit.register(self.close)
        if temporary:
            private.add(self._state, self._loop.begin_to_close)

    # ---- pilots -----------------------------------------------------------------------------------------------

    def submit_pilot(self, description: PilotDescription | Mapping[str, Any]) -> Pilot:
        """Ask for a pilot. Does not wait for it: `Pilot.wait` does.

        Args:
            description: of the pilot; or a dict with the same keys.

        Raises:
            DescriptionError: a key or value is not valid, or another pilot has this name.
            PluginError: no launcher for its ``resource``, or an engine that is not installed.
            SessionError: the manager is closed.
        """
        wanted = PilotDescription.build(description)
        if self._name is not None:
            for pilot in self.pilots:
                if not is_final(pilot.state) and pilot.description == wanted:
                    return pilot
        return self._requests.submit(wanted)

    def autoscale(
        self,
        description: PilotDescription | Mapping[str, Any],
        minimum: int = 0,
        maximum: int = 4,
        *,
        idle: Time = 60.0,
        backlog: Time = 30.0,
        delay: Time = 5.0,
    ) -> Scaler:
        """Ask for pilots while much is queued, and give them back when they are idle. Does not block.

        Only tasks that such a pilot could run count. One that is on its way counts as if it were there; none is given
        back while tasks for it are queued. After one was given back, the next is requested no sooner than ``idle``
        seconds later, unless more than twice the backlog is queued. When three pilots in a row do not start, no more
        are requested (see `Scaler.over`).

        The journal keeps the pilots but not the autoscaler: after `attach`, call it again.

        Args:
            description: what each of its pilots is; a name gets a number: ``name.2``, ``name.3``, …
            minimum: the least number of pilots; they are requested at once.
            maximum: pilots at most.
            idle: seconds after which an idle pilot is drained. Here and for the next two a timedelta or a text such as
                "0:10:00" will do, too.
            backlog: seconds of measured work for each core of the pilots that fit: what is queued beyond that is a
                reason to ask for another pilot. A task of a function that was not measured yet counts as one for each
                of its cores.
            delay: seconds that there must be too much queued first.

        Raises:
            DescriptionError: a value is not valid, or the description has ``renewals``.
            PluginError: no launcher for its ``resource``, or an engine that is not installed.
            SessionError: the manager is closed.
        """
        return self._requests.autoscale(
            description, minimum=minimum, maximum=maximum, idle=idle, backlog=backlog, delay=delay
        )

    # ---- the end ----------------------------------------------------------------------------------------------

    def close(self) -> None:
        """End every pilot with all its processes, cancel what is not finished then, close the journal. Blocks.

        Results that workers have at that moment are taken in. How many tasks were cancelled is logged. A pilot that is
        still being started, or that waits in a queue, is not waited for. Nothing happens the second time.
        """
        state = self._state
        if state.is_foreign:  # the pilots are not this process's own
            return
        with state.lock:
            if state.is_closed:
                return
            state.is_closed = True
        atexit.unregister(self.close)
        private.discard(state)
        failed = any(pilot.state is PilotState.FAILED for pilot in self.pilots)
        for pilot in self.pilots:
            close_clients(pilot)
        try:
            self._loop.close(CLOSE_SECONDS)
            if self._progress is not None:
                self._progress.stop()
        finally:
            _leave(state, self._temporary, failed)

    def __reduce__(self) -> Any:
        raise TypeError("a PilotManager cannot be pickled: inside the task, call pilot.current_manager()")

    def __enter__(self) -> PilotManager:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.wait_tasks(self._state.tasks.not_recorded())
        finally:
            self.close()


publish(PilotManager)


def _leave(state: SessionState, temporary: bool, failed: bool) -> None:
    """The manager is closed: others may have the session, unless it was only for this one and no pilot failed."""
    state.folder.lock.release()
    if cancelled := sum(task.cancelled() for task in state.unfinished):
        log.warning("%d of %d task(s) were cancelled when the manager was closed", cancelled, len(state.tasks))
    if failed:
        log.warning("a pilot failed: its logs are kept in %s", state.folder.path)
    elif temporary:
        names.drop(state.folder.path)
        state.folder.remove()


def _check_wait(seconds: float | None) -> float | None:
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, numbers.Real) or not 0 <= seconds < math.inf:
        raise invalid("wait_for_pilot", seconds, "a number of seconds from 0 on, or None to wait for ever")
    return float(seconds)


def _progress(session: Session, state: SessionState) -> Progress:
    from pilot.manager.progress import Progress  # brings rich: a fifth of the library's

    return Progress(session, len(state.tasks) - len(state.tasks.not_recorded()))
