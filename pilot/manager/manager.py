"""`PilotManager`: what a user calls. Read next: ``loop.py`` (its thread) and ``scheduling`` (who decides)."""

from __future__ import annotations

import atexit
import hashlib
import itertools
import logging
import math
import numbers
import os
import platform
import shlex
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from functools import cache
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from pilot import registry
from pilot.descriptions import PilotDescription, TaskDescription
from pilot.errors import DescriptionError, NoPilotError, SessionError
from pilot.interfaces import Job, Offer, Prepared, WorkFunction
from pilot.manager.handles import Pilot, Scaler, Task, tasks_of
from pilot.manager.jobs import Fleet
from pilot.manager.journal import Journal, Reader
from pilot.manager.loop import Conductor
from pilot.manager.recovery import Recorded, restore
from pilot.manager.resubmission import Resubmission
from pilot.registry import devices
from pilot.resources import PLAIN, SLOT, Capacity, QPUInfo, Terms
from pilot.results import Outcome, TaskInfo, Value
from pilot.scheduling import events
from pilot.scheduling.controller import Controller
from pilot.scheduling.fitting import described, is_meant, unservable
from pilot.scheduling.policies import Scaling
from pilot.scheduling.records import FunctionRecord, TaskRecord
from pilot.states import PilotState, is_final
from pilot.wire import payload
from pilot.wire.addresses import hosts, is_loopback, listen, listen_at
from pilot.wire.callables import Snapshot, is_immutable, name_of
from pilot.wire.exceptions import text_of
from pilot.wire.processes import MARK
from pilot.wire.session import JOB as NODES_JOB
from pilot.wire.session import AgentSettings, Connection, SessionFolder, memory_of, new_keys, new_mark, write_private
from pilot.worker import mpi
from pilot.worker.programs import run_executable

if TYPE_CHECKING:
    from pilot.manager.progress import Progress

log = logging.getLogger(__name__)

#: Seconds that agents have to end by themselves when the manager is closed.
CLOSE_SECONDS = 10.0
#: Seconds that queued tasks wait for another pilot when none can serve them any more.
WAIT_FOR_PILOT = 60.0
#: A function of so many bytes that is pickled again and again is told of.
LARGE_FUNCTION = 1 << 20


class _Known(NamedTuple):
    """A callable that was submitted, and need not be pickled again while its snapshot holds."""

    work: weakref.ref[Any]
    snapshot: Snapshot
    function: FunctionRecord


_managers: weakref.WeakSet[PilotManager] = weakref.WeakSet()


def _forked() -> None:
    for manager in list(_managers):
        manager._forked()


os.register_at_fork(after_in_child=_forked)


class PilotManager:
    """Gets pilots, and sends tasks to the pilot that will finish them best.

    As a context manager it waits, at the end of the block, until all tasks are finished, then ends its pilots. When
    the block is left by an exception (Ctrl-C included) it ends them at once.

    All methods may be called from any thread. In a forked child they raise `SessionError`, but for what is known
    already: tasks that were finished have their results there.
    """

    def __init__(
        self,
        session_dir: str | os.PathLike[str] | None = None,
        *,
        policy: str = "balanced",
        progress: bool = False,
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
                which other hosts do not see.
            policy: which of the pilots with room gets a task: a name of the group ``pilot.policies``.
            progress: show tasks, rates and pilots on the terminal.
            address: the address of this host (or a name of it) at which agents on other hosts reach it. None: all that
                it has, from the first pilot on whose jobs run on other hosts; until then loopback only.
            ports: first and last port to listen on. None: any.
            wait_for_pilot: seconds that a queued task waits for another pilot when none can serve it any more (they are
                over, drain, or have too little walltime left), before it fails with `NoPilotError`. 0: it fails at
                once; None: it waits until there is one. A task that no pilot could serve when it is submitted is
                refused there.

        Raises:
            DescriptionError: ``wait_for_pilot`` is no such number.
            SessionError: the folder cannot be used, or holds a session already (`attach` opens it again); the address
                is not this host's, or all ports are taken.
            PluginError: no policy of this name.
        """
        wait = _check_wait(wait_for_pilot)
        folder = SessionFolder.create(session_dir)
        public, secret = new_keys()
        try:
            self._open(folder, policy, progress, Connection((), platform.node(), public, secret), address, ports, wait)
            self._temporary = session_dir is None
            self._conductor.journal.put("session", ("path", str(folder.path)))
            self._begin()
        except BaseException:  # Ctrl-C, too
            if session_dir is None:
                folder.remove()
            raise

    @classmethod
    def attach(
        cls,
        session_dir: str | os.PathLike[str],
        *,
        policy: str = "balanced",
        progress: bool = False,
        address: str | None = None,
        ports: tuple[int, int] | None = None,
        wait_for_pilot: float | None = WAIT_FOR_PILOT,
    ) -> PilotManager:
        """Open the session of a manager that is gone.

        Pilots that still run join again with the work that they have; finished results are there; what was lost is
        run again. `tasks` has them all. Does not wait for the pilots.

        Listens where the manager before did, as far as these addresses and ports are this host's and free; ``address``,
        ``ports`` and ``wait_for_pilot`` as for a new session.

        A folder that was moved is opened where it is: its pilots are asked for again, and what their agents had not
        handed over is run again.

        Raises:
            SessionError: there is no session in this folder, or another manager uses it; or as for a new session.
        """
        wait = _check_wait(wait_for_pilot)
        folder = SessionFolder.open(session_dir)
        manager = cls.__new__(cls)
        try:
            before = folder.read_connection()
        except BaseException:
            folder.release()
            raise
        manager._open(folder, policy, progress, before, address, ports, wait)
        manager._temporary = False
        try:
            restore(manager)
        except BaseException:  # the folder is free again, also for this process
            manager._conductor.discard()
            manager._reader.close()
            folder.release()
            raise
        manager._begin()
        return manager

    def _open(
        self,
        folder: SessionFolder,
        policy: str,
        progress: bool,
        before: Connection,
        address: str | None,
        ports: tuple[int, int] | None,
        wait_for_pilot: float | None,
    ) -> None:
        self._folder = folder
        self._spool = payload.Spool(folder.spool)
        try:
            controller = Controller(registry.load("pilot.policies", policy)(), wait_for_pilot)
            self._connection, server = listen(before, address, ports)
        except BaseException:
            folder.release()
            raise
        try:
            self._conductor = Conductor(
                controller,
                server,
                lambda commit: Journal(folder.journal_path, commit),
                self._spool,
                self._start_pilot,
                self._ask_pilot,
            )
        except BaseException:  # the port and the folder are free again, also for this process
            server.close()
            folder.release()
            raise
        try:
            folder.write_connection(self._connection)
        except BaseException:
            self._conductor.discard()
            folder.release()
            raise
        self._reader = Reader(folder.journal_path)
        self._functions: dict[str, FunctionRecord] = {}
        #: By the id of a callable that is alive.
        self._known: dict[int, _Known] = {}
        #: Of objects that never change.
        self._constants: dict[Any, FunctionRecord] = {}
        self._large: set[str] = set()
        self._task_ids = itertools.count(1)
        self._pilot_ids = itertools.count(1)
        self._jobs = itertools.count(1)
        self._scaler_ids = itertools.count(1)
        #: Pilot → ids and names of those that it takes over from, oldest first.
        self._ancestors: dict[str, tuple[str, ...]] = {}
        self._lock = threading.Lock()
        self._closed = False
        self._resubmission, self._resubmitting = Resubmission(self), threading.Lock()
        self._is_foreign = False
        _managers.add(self)
        self._progress = _progress(self) if progress else None

    def _begin(self) -> None:
        self._conductor.start()
        if self._progress is not None:
            self._progress.start()
        atexit.register(self.close)

    # ---- pilots -----------------------------------------------------------------------------------------------

    @property
    def session_dir(self) -> Path:
        """The session's folder."""
        return self._folder.path

    @property
    def pilots(self) -> list[Pilot]:
        """Every pilot that was asked for, in that order."""
        return list(self._conductor.pilots.values())

    @property
    def tasks(self) -> Mapping[int, Task]:
        """Every task by id, in the order of submission; read only."""
        return MappingProxyType(self._conductor.tasks)

    @property
    def qpus(self) -> dict[str, QPUInfo]:
        """What the devices of the active pilots say of themselves, by name, as far as they have reported."""
        return {info.name: info for pilot in self.pilots if pilot.state is PilotState.ACTIVE for info in pilot.qpus}

    def submit_pilot(self, description: PilotDescription | Mapping[str, Any]) -> Pilot:
        """Ask for a pilot. Does not wait for it: `Pilot.wait` does.

        Args:
            description: what is wanted; a dict with the same keys serves as well.

        Raises:
            DescriptionError: a key or value that is not allowed, or a name that another pilot has.
            PluginError: no launcher for its ``resource``, or an engine that is not installed.
            SessionError: the manager is closed.
        """
        self._check_open()
        wanted = self._build_pilot(description)
        with self._lock:
            if any(wanted.name in (pilot.name, pilot.id) for pilot in self.pilots if not is_final(pilot.state)):
                raise wanted.wrong("name", "a name that no other pilot of this manager has")
            pilot = self._add_pilot(f"pilot-{next(self._pilot_ids)}", wanted)
        self._conductor.journal.put("pilots", (pilot.id, msgspec.msgpack.encode(wanted), ""))
        self._conductor.post(events.PilotAsked(pilot.id, wanted, memory_of(wanted), devices=devices(wanted)))
        return pilot

    def _listen_outwards(self) -> None:
        """From now on agents on other hosts may connect; they read in connection.json where."""
        with self._lock:
            if any(not is_loopback(one) for one in self._connection.addresses):
                return
            near = self._connection.address
            added = self._conductor.ask(lambda: listen_at(self._conductor.server, hosts(), (near,)))
            self._connection = msgspec.structs.replace(self._connection, addresses=(*added, near))
            self._folder.write_connection(self._connection)

    def _build_pilot(self, description: PilotDescription | Mapping[str, Any]) -> PilotDescription:
        wanted = PilotDescription.build(description)
        launcher = self._conductor.fleet.launcher(wanted)
        launcher.check(wanted)
        launcher.check_folder(self._folder.path)
        registry.check("pilot.engines", wanted.engine)
        devices(wanted)
        if wanted.working_directory is None:
            _check_folder(wanted)
        if launcher.remote and not wanted.tunnel:
            self._listen_outwards()
        return wanted

    def autoscale(
        self,
        description: PilotDescription | Mapping[str, Any],
        minimum: int = 0,
        maximum: int = 4,
        *,
        idle: float = 60.0,
        backlog: float = 30.0,
        delay: float = 5.0,
    ) -> Scaler:
        """Ask for pilots while much is queued, and give them back when they are idle. Does not block.

        Only tasks that such a pilot could run count. One that is on its way counts as if it were there; none is given
        back while tasks for it are queued. After one was given back, the next is asked for no sooner than ``idle``
        seconds later, unless more than twice the backlog is queued. When three pilots in a row do not start, no more
        are asked for (see `Scaler.over`).

        The journal keeps the pilots but not this wish: after `attach`, call it again.

        Args:
            description: what each of its pilots is; a name gets a number: ``name.2``, ``name.3``, …
            minimum: pilots at least, asked for at once.
            maximum: pilots at most.
            idle: seconds after which an idle pilot is drained.
            backlog: seconds of measured work for each core of the pilots that fit: what is queued beyond that is a
                reason to ask for another pilot. A task of a function that was not measured yet counts as one for each
                of its cores.
            delay: seconds that there must be too much queued first.

        Raises:
            DescriptionError: a value that is not allowed, or a description with ``renewals``.
            PluginError: no launcher for its ``resource``, or an engine that is not installed.
            SessionError: the manager is closed.
        """
        self._check_open()
        scaling = Scaling(
            description=self._build_pilot(description),
            minimum=minimum,
            maximum=maximum,
            idle=idle,
            backlog=backlog,
            delay=delay,
        )
        scaler = Scaler(self, f"scaler-{next(self._scaler_ids)}", scaling)
        self._conductor.scalers[scaler.id] = scaler
        self._conductor.post(
            events.ScalingAsked(scaler.id, scaling, memory_of(scaling.description), devices(scaling.description))
        )
        return scaler

    def _stop_scaler(self, scaler: Scaler, drain: bool) -> None:
        self._check_process()
        scaler.over = "it was stopped"
        if not self._closed:
            self._conductor.servable.clear()
            self._conductor.post(events.ScalingStopAsked(scaler.id, drain))

    def _ask_pilot(self, command: events.AskPilot) -> None:
        """A pilot that the controller wants. In the manager's thread."""
        wanted = command.description
        with self._lock:
            pilot = self._add_pilot(f"pilot-{next(self._pilot_ids)}", wanted, command.ancestors)
        self._conductor.journal.put("pilots", (pilot.id, msgspec.msgpack.encode(wanted), ""))
        if command.parent is not None:
            self._conductor.journal.put("pilot_parents", (pilot.id, command.parent))
        self._conductor.post(
            events.PilotAsked(
                pilot.id,
                wanted,
                memory_of(wanted),
                devices=devices(wanted),
                ancestors=command.ancestors,
                parent=command.parent,
                scaler=command.scaler,
            )
        )

    def _add_pilot(self, id: str, description: PilotDescription, ancestors: tuple[str, ...] = ()) -> Pilot:
        self._ancestors[id] = ancestors
        pilot = Pilot(self, id, description, self._folder.path / "pilots" / id / "agent.log")
        self._conductor.pilots[id] = pilot
        self._conductor.servable.clear()
        return pilot

    def _start_pilot(self, id: str, fleet: Fleet) -> str:
        """Submit the placeholder job of a pilot, with a new mark (which is returned). In the manager's thread."""
        wanted = self._conductor.pilots[id].description
        folder, mark = self._folder.pilot(id), new_mark()
        settings = AgentSettings(
            pilot=id,
            mark=mark,
            engine=wanted.engine,
            remote=fleet.launcher(wanted).remote,
            nodes=wanted.number_of_nodes,
            cores=wanted.cores,
            gpus=wanted.gpus_per_node,
            memory=memory_of(wanted),
            devices=devices(wanted),
            environment=_environment(wanted),
            working_directory=wanted.working_directory or str(Path.cwd()),
            orphan_timeout=wanted.orphan_timeout,  # type: ignore[arg-type]  # seconds since it was built
            tunnel=wanted.tunnel,
            walltime=wanted.seconds,
            drain=wanted.drain_seconds,
            ports=wanted.ports,
            sys_path=tuple(str(Path(path).absolute()) for path in sys.path),
        )
        write_private(folder / "agent.json", msgspec.json.encode(settings))
        job = Job(
            pilot=id,
            command=self._command(id, mark),
            environment={**wanted.environment, MARK: mark},
            description=wanted,
            folder=folder,
            log_path=folder / "agent.log",
        )
        self._conductor.journal.put("pilots", (id, msgspec.msgpack.encode(wanted), mark))
        fleet.start(job, mark)
        return mark

    def _add_nodes(self, pilot: Pilot, count: int) -> None:
        self._check_open()
        conductor, wanted = self._conductor, pilot.description
        wanted = msgspec.structs.replace(wanted, number_of_nodes=count)
        launcher = conductor.fleet.launcher(wanted)
        if not launcher.remote:
            raise wanted.wrong("resource", "a cluster's: the nodes of a local:// pilot are this machine alone")
        launcher.check(wanted)
        folder = self._folder.pilot(pilot.id)
        settings = msgspec.json.decode((folder / "agent.json").read_bytes(), type=AgentSettings)
        job = next(self._jobs)
        environment = {**wanted.environment, MARK: settings.mark, NODES_JOB: f"{job}-"}
        further = Job(
            pilot=f"{pilot.id}+{job}",
            command=self._command(pilot.id, settings.mark),
            environment=environment,
            description=wanted,
            folder=self._folder.pilot(f"{pilot.id}/nodes-{job}"),
            log_path=folder / f"nodes-{job}.log",
        )
        conductor.fleet.start(further, settings.mark)

    def _remove_nodes(self, pilot: Pilot, count: int) -> None:
        self._check_open()
        self._conductor.call(lambda: self._conductor.shrink(pilot.id, count))

    def _command(self, pilot: str, mark: str) -> tuple[str, ...]:
        return (sys.executable, "-m", "pilot.agent", str(self._folder.path), pilot, mark)

    def _stop_pilot(self, pilot: Pilot, drain: bool) -> None:
        self._check_process()
        if self._closed:
            return  # it was ended with the manager
        self._conductor.servable.clear()
        self._conductor.post(events.PilotStopAsked(pilot.id, drain))
        if not drain and not self._conductor.is_here():
            pilot._wait_over(CLOSE_SECONDS)
            self._conductor.fleet.wait_ended(pilot.id, CLOSE_SECONDS)

    # ---- tasks ------------------------------------------------------------------------------------------------

    def submit_task(
        self, work: Callable[..., Any] | TaskDescription | Mapping[str, Any], /, *args: Any, **kwargs: Any
    ) -> Task:
        """Send one task on its way. Does not block.

        A callable runs as it is now, with the values that its globals, defaults and closure have now, however they
        change later; each task has a copy of its own, so that no task sees what another one changed. Functions and
        classes of modules that can be imported are the exception: as in a process pool they travel by name, and a
        worker imports their module once (``cloudpickle.register_pickle_by_value(module)`` sends them by value).

        Args:
            work: a callable, or a description (or a dict with its keys).
            args: arguments of the callable; a `Task` among them, at any depth, is a dependency and stands for its
                result. Large arrays travel without a copy, and are read-only in the task.
            kwargs: the same, by name.

        Raises:
            DescriptionError: a key or value that is not allowed.
            NoPilotError: no pilot, present or asked for, could ever serve it; says why each one could not.
            NotPicklable: the function or an argument cannot be pickled, or only as a name of ``__main__``.
            SessionError: the manager is closed, or a large argument cannot be written to the session folder.
        """
        if isinstance(work, TaskDescription | Mapping):
            if args or kwargs:
                raise DescriptionError("with a description, arguments belong into its args and kwargs")
            return self._submit_described(TaskDescription.build(work))
        return self._submit(work, args, kwargs, PLAIN, None, ())

    def submit_tasks(
        self, descriptions: Iterable[TaskDescription | Mapping[str, Any] | Callable[[], Any]]
    ) -> list[Task]:
        """Send many tasks on their way: descriptions, dicts, or callables without arguments.

        Raises:
            Exception: as `submit_task`, for the first one that is refused; those before it are cancelled.
        """
        tasks: list[Task] = []
        try:
            for one in descriptions:
                tasks.append(self.submit_task(one))
        except BaseException:
            for task in tasks:
                self._end_parts(task)
            self._conductor.post(events.CancelAsked([task.id for task in tasks]))
            raise
        return tasks

    def map(self, function: Callable[..., Any], /, *iterables: Iterable[Any]) -> list[Task]:
        """One task for each tuple of arguments, as the built-in ``map`` makes them.

        The function is taken once, as it is now.
        """
        self._check_open()
        work = self._function(function)
        return [self._submit(work, args, {}, PLAIN, None, ()) for args in zip(*iterables, strict=False)]

    def _submit_described(self, wanted: TaskDescription) -> Task:
        after = self._dependencies(wanted)
        if wanted.circuit is not None:
            return self._submit_circuit(wanted, after)
        function, args, kwargs, name = wanted.function, tuple(wanted.args), wanted.kwargs, wanted.name
        if wanted.executable:
            function = run_executable
            args = (wanted.executable, wanted.environment, wanted.working_directory)
            name = name or Path(wanted.executable[0]).name
        elif wanted.mpi:
            function = mpi.run_program
            args = (wanted.mpi, wanted.environment, wanted.working_directory)
            name = name or Path(wanted.mpi[0]).name
        elif wanted.ranks:
            name = name or name_of(function)
            args, kwargs = (payload.dump_function(function), args, kwargs), {}
            function = mpi.run_function
        return self._submit(function, args, kwargs, wanted.terms(), name, after)

    def _dependencies(self, wanted: TaskDescription) -> Sequence[Task]:
        after: Sequence[Any] = [wanted.depends_on] if isinstance(wanted.depends_on, Task) else wanted.depends_on
        for task in after:
            if not isinstance(task, Task):
                raise wanted.wrong("depends_on", "tasks of this manager")
            if task._manager is not self:
                raise DescriptionError(f"depends_on: task {task.id} is another manager's")
        return after

    def _submit_circuit(self, wanted: TaskDescription, after: Sequence[Task]) -> Task:
        """One task for each part of the circuit's work and, when there are several, one that puts them together."""
        prepared: Prepared = _kind("circuit")(wanted, self._offer(wanted.terms()))
        plain = wanted.terms()
        terms = msgspec.structs.replace(
            plain,
            resources=prepared.resources,
            others=prepared.others,
            simulator=prepared.simulator,
            facts=prepared.facts,
            min_fidelity=wanted.min_fidelity or 0.0,
        )
        if terms not in self._conductor.servable:
            self._check_servable(terms, prepared.note)
        name = wanted.name or prepared.name
        if prepared.combine is None:
            (part,) = prepared.parts
            return self._submit(part.function, part.args, {}, terms, name, after, part.weight)
        parts = [
            self._submit(part.function, part.args, {}, terms, f"{name} {number}", after, part.weight)
            for number, part in enumerate(prepared.parts)
        ]
        whole = self._submit(
            prepared.combine.function,
            (*prepared.combine.args, parts),
            {},
            msgspec.structs.replace(plain, resources=SLOT, duration=None, timeout=None),
            name,
            (),
        )
        self._join(whole, parts)
        return whole

    def _join(self, whole: Task, parts: Sequence[Task]) -> None:
        whole.parts = tuple(parts)
        whole.add_done_callback(self._end_parts)

    def _end_parts(self, whole: Future[Any]) -> None:
        """What is left of a task that has failed serves nobody."""
        assert isinstance(whole, Task)
        left = [part.id for part in whole.parts if not part.done()]
        if left:
            self._conductor.post(events.CancelAsked(left))

    def _offer(self, terms: Terms) -> Offer:
        """What the pilots that are not over and may run such a task have, as far as it is known."""
        pilots = [pilot for pilot in self.pilots if not is_final(pilot.state)]
        pilots = [pilot for pilot in pilots if is_meant(terms, self._names(pilot), pilot.description.labels)]
        scaled = [one.scaling.description for one in list(self._conductor.scalers.values()) if one.over is None]
        scaled = [one for one in scaled if is_meant(terms, (one.name,) if one.name else (), one.labels)]
        wanted = [pilot.description for pilot in pilots] + scaled
        known: dict[str, QPUInfo | None] = {name: None for one in wanted for name in devices(one)}
        known.update({name: info for name, info in self.qpus.items() if name in known})
        return Offer(
            devices=known,
            cores=sum(one.cores * one.number_of_nodes for one in wanted),
            cores_per_node=max((one.cores for one in wanted), default=1),
            gpus=sum(one.gpus_per_node * one.number_of_nodes for one in wanted),
        )

    def _submit(
        self,
        work: Callable[..., Any] | FunctionRecord,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        terms: Terms,
        name: str | None,
        after: Sequence[Task],
        weight: float = 1.0,
    ) -> Task:
        self._check_terms(terms)
        function = work if isinstance(work, FunctionRecord) else self._function(work)
        value: Value = None
        needs: dict[int, bool | int] | None = None
        if args or kwargs:
            value, found = self._dump_arguments(args, kwargs, function.name)
            if found:
                needs = dict.fromkeys(found, True)
        if after:
            needs = {task.id: False for task in after} | (needs or {})
        return self._send(
            TaskRecord(next(self._task_ids), function, value, terms, name, time.time(), needs, weight=weight)
        )

    def _next_task(self) -> int:
        return next(self._task_ids)

    def _send(self, entry: TaskRecord) -> Task:
        task = self._conductor.tasks[entry.id] = Task(self, entry)
        self._conductor.submit(entry)
        return task

    def resubmit(self, tasks: Iterable[Task]) -> list[Task]:
        """Give tasks that failed or were cancelled another attempt, also after an `attach`. Does not wait for it.

        For each there is a new task with the same function, arguments, wishes and name; the old one stays as it is.
        Where one depends on a task that failed or was cancelled as well, that one gets another attempt with it, unless
        an earlier call has given it one already; the new tasks depend on each other as the old ones did. All is read
        from the journal; arguments above 1 MiB are kept in the session's folder for this until the task is done.

        Args:
            tasks: which; ``[task for task in manager.tasks.values() if task.state is TaskState.FAILED]``, say.

        Returns:
            The new tasks, in the order of the given ones.

        Raises:
            DescriptionError: one has not failed, is not over, or is another manager's; no task is submitted then.
            NoPilotError: no pilot, present or asked for, could ever serve one of them; no task is submitted then.
            SessionError: the manager is closed, or arguments cannot be read from the session folder.
        """
        self._check_open()
        with self._resubmitting:
            return self._resubmission.resubmit(tasks)

    def _dump_arguments(self, args: Any, kwargs: Any, name: str) -> tuple[Value, dict[int, Any]]:
        with payload.collecting() as found:
            value = payload.dump((args, kwargs), self._spool, f"an argument of {name}")
        for task in found.values():
            if task._manager is not self:
                self._spool.discard(value)
                raise DescriptionError(f"task {task.id} among the arguments of {name} is another manager's")
        return value, found

    def _check_terms(self, terms: Terms) -> None:
        if self._closed or terms not in self._conductor.servable:
            self._check_servable(terms)

    def _check_servable(self, terms: Terms, note: str = "") -> None:
        self._check_open()
        capacities = [self._capacity(pilot) for pilot in self.pilots]
        for scaler in list(self._conductor.scalers.values()):
            if scaler.over is None:
                wanted = scaler.scaling.description
                names = (wanted.name,) if wanted.name else ()
                capacities.append(
                    described(wanted, memory_of(wanted), names, f"another {wanted.name or 'pilot'}", devices(wanted))
                )
        reason = unservable(terms, capacities)
        if reason is not None:
            raise NoPilotError(f"no pilot could ever serve this task: {reason}" + (f"; {note}" if note else ""))
        self._conductor.servable.add(terms)

    def _names(self, pilot: Pilot) -> tuple[str, ...]:
        """Those by which tasks can ask for it."""
        return (pilot.id, pilot.name, *self._ancestors[pilot.id])

    def _capacity(self, pilot: Pilot) -> Capacity:
        """What was asked for, as far as a user's thread can know it."""
        state, names = pilot.state, self._names(pilot)
        over = state.value if is_final(state) or state is PilotState.DRAINING else None
        if is_final(state) and pilot.reason not in ("", state.value):
            over = f"{over} ({pilot.reason})"
        wanted = pilot.description
        capacity = described(wanted, memory_of(wanted), names, pilot.name, devices(wanted))
        known = {info.name: info for info in pilot.qpus}
        return capacity._replace(over=over, qpus={**capacity.qpus, **known})

    def _function(self, work: Callable[..., Any]) -> FunctionRecord:
        """What the workers know this callable by, as it is now."""
        known = self._known.get(id(work))
        if known is not None and known.work() is work and known.snapshot.holds(work):
            return known.function
        if is_immutable(work):
            if (constant := self._constants.get(work)) is None:
                constant = self._constants[work] = self._register(work, payload.dump_function(work))
            return constant
        if not callable(work):
            raise DescriptionError(f"a callable or a TaskDescription is wanted, {work!r} was given", given=work)
        snapshot = Snapshot.of(work)  # before it is pickled: what changes meanwhile is noticed
        function = self._register(work, payload.dump_function(work))
        if snapshot is not None:
            key, all_known = id(work), self._known
            all_known[key] = _Known(weakref.ref(work, lambda _: all_known.pop(key, None)), snapshot, function)
        return function

    def _register(self, work: Callable[..., Any], code: bytes) -> FunctionRecord:
        digest = hashlib.blake2b(code, digest_size=16).hexdigest()
        with self._lock:
            function = self._functions.get(digest)
            if function is None:
                name = name_of(work)
                function = FunctionRecord(len(self._functions) + 1, digest, name)
                if isinstance(work, WorkFunction) and work.weighs_seconds:
                    function.seconds = 1.0
                self._conductor.codes[digest] = code
                self._functions[digest] = function
                self._conductor.journal.put("functions", (function.id, digest, name, code))
            elif len(code) > LARGE_FUNCTION and digest not in self._large:
                self._large.add(digest)
                log.warning(
                    "function %s takes %s bytes along and is pickled at each submission, since it reads what can "
                    "change in place: give large data as an argument, or submit all calls at once with map",
                    function.name,
                    f"{len(code):,}",
                )
        return function

    # ---- waiting and asking -----------------------------------------------------------------------------------

    def wait_tasks(
        self, tasks: Iterable[Task] | None = None, timeout: float | None = None
    ) -> tuple[list[Task], list[Task]]:
        """Block until the tasks are finished, however they end.

        Args:
            tasks: which; None: all of this manager's.
            timeout: seconds to wait at most; None: for ever.

        Returns:
            The tasks that are done, and those that are not, each in the given order.

        Raises:
            DescriptionError: it is no list of tasks.
        """
        waited = list(self._conductor.tasks.values()) if tasks is None else tasks_of("wait_tasks", tasks)
        deadline = None if timeout is None else time.monotonic() + timeout
        for task in waited:
            try:
                task._await(None if deadline is None else max(0.0, deadline - time.monotonic()))
            except TimeoutError:
                break
        done: list[Task] = []
        not_done: list[Task] = []
        for task in waited:
            (done if task.done() else not_done).append(task)
        return done, not_done

    def get_results(self, tasks: Iterable[Task]) -> list[Any]:
        """The results in the order of the tasks; blocks, and raises what the first failed one raised."""
        return [task.result() for task in tasks_of("get_results", tasks)]

    def explain(self, task: Task | int) -> str:
        """Why a task went where it went, or why it waits, in words.

        Raises:
            KeyError: no task of this manager has this id.
            DescriptionError: it is no task, or another manager's.
            SessionError: this process was forked from the manager's.
        """
        self._check_process()
        task = self._conductor.tasks[task] if isinstance(task, int) else task
        if not isinstance(task, Task) or task._manager is not self:
            raise DescriptionError(
                f"explain: {task!r} was given; allowed: a task of this manager, or its id", given=task
            )
        controller, entry = self._conductor.controller, task._entry
        why = self._conductor.ask(lambda: controller.explain(entry, time.monotonic()))
        info = task.info
        words = [f"task {task.id} ({task.name}) is {task.state.value}", why]
        if task.parts:
            done = sum(part.done() for part in task.parts)
            first, last = task.parts[0].id, task.parts[-1].id
            words.append(
                f"it puts the results of tasks {first} to {last} together, {done} of {len(task.parts)} are over"
            )
        words += [f"attempt {one.number} on {one.pilot} did not count: {one.reason}" for one in info.attempts]
        if task.done() and not task.cancelled() and (error := task.exception()) is not None:
            words.append(f"it ended with {type(error).__name__}: {text_of(error)}")
        elif info.seconds is not None:
            words.append(f"it ran for {info.seconds:.3f} s on worker {info.worker}")
        return "; ".join(word for word in words if word)

    def _info(self, task: Task) -> TaskInfo:
        entry, outcome = task._entry, task._outcome
        pilot = self._conductor.pilots.get(entry.pilot or "")
        known = outcome is not None and outcome.started > 0
        where = self._conductor.workers.get(entry.worker or "")
        stdout, stderr = (outcome.stdout, outcome.stderr) if outcome is not None else (None, None)
        if stdout is None and stderr is None and isinstance(outcome, Recorded):
            stdout, stderr = self._reader.output(task.id)
        return TaskInfo(
            id=entry.id,
            name=task.name,
            state=entry.state.value,
            pilot=pilot.name if pilot is not None else None,
            host=where.host if where is not None else None,
            node=where.node if where is not None else None,
            gpus=where.gpus if where is not None else (),
            qpu=where.qpu if where is not None else None,
            worker=entry.worker,
            submitted=entry.submitted,
            bound=entry.bound or None,
            started=outcome.started if known and outcome is not None else None,
            finished=outcome.started + outcome.seconds if known and outcome is not None else None,
            seconds=outcome.seconds if known and outcome is not None else None,
            attempts=entry.attempts,
            stdout=stdout or "",
            stderr=stderr or "",
        )

    def _value(self, outcome: Outcome) -> Value:
        return self._reader.value(outcome.task) if isinstance(outcome, Recorded) else outcome.value

    def _cancel(self, task: Task) -> bool:
        if not task.done():
            self._check_process()
            self._conductor.post(events.CancelAsked([*(part.id for part in task.parts), task.id]))
            if self._conductor.is_here():
                return True
            task._await(None)
        return task.cancelled()

    # ---- the end ----------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Cancel what is not finished, end every pilot with all its processes, close the journal. Blocks.

        Nothing happens the second time.
        """
        if self._is_foreign:  # the pilots are not this process's own
            return
        with self._lock:
            if self._closed:
                return
            self._closed = True
        atexit.unregister(self.close)
        unfinished = [task for task in list(self._conductor.tasks.values()) if not task.done()]
        failed = any(pilot.state is PilotState.FAILED for pilot in self.pilots)
        for pilot in self.pilots:
            pilot._clients.close()
        try:
            self._conductor.close(CLOSE_SECONDS)
            if self._progress is not None:
                self._progress.stop()
        finally:
            self._reader.close()
            self._folder.release()
            if unfinished:
                log.info("%d unfinished tasks were cancelled", len(unfinished))
            if self._temporary and not failed:
                self._folder.remove()
            elif failed:
                log.warning("a pilot failed: its logs are kept in %s", self._folder.path)

    def __reduce__(self) -> Any:
        raise TypeError("a PilotManager cannot be pickled: a task cannot take its manager along")

    def __enter__(self) -> PilotManager:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.wait_tasks()
        finally:
            self.close()

    def _forked(self) -> None:
        """In a forked child: it has none of the manager's threads, and must not keep the session from others."""
        self._is_foreign = True
        self._conductor.servable = set()  # the next submit looks closer
        self._lock = threading.Lock()
        self._reader.forked()
        self._folder.release()

    def _check_process(self) -> None:
        if self._is_foreign:
            raise SessionError(
                "this process was forked from the one that has the manager: only that one can use it. Submit and wait "
                "there, or make a manager of its own here",
                path=str(self.session_dir),
            )

    def _check_open(self) -> None:
        self._check_process()
        if self._closed:
            raise SessionError(
                "the manager is closed: make a new one, or attach to the session", path=str(self.session_dir)
            )


@cache
def _kind(name: str) -> Callable[[TaskDescription, Offer], Prepared]:
    """What prepares tasks of this kind; to look it up takes as long as to submit ten tasks."""
    found: Callable[[TaskDescription, Offer], Prepared] = registry.load("pilot.kinds", name)
    return found


def _check_wait(seconds: float | None) -> float | None:
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, numbers.Real) or not 0 <= seconds < math.inf:
        raise DescriptionError(
            f"wait_for_pilot: {seconds!r} was given; allowed: a number of seconds from 0 on, or None to wait for ever",
            field="wait_for_pilot",
            given=seconds,
        )
    return float(seconds)


def _progress(manager: PilotManager) -> Progress:
    from pilot.manager.progress import Progress  # brings rich: a fifth of the library's import time

    return Progress(manager)


def _check_folder(wanted: PilotDescription) -> None:
    """Its workers start where this process is."""
    try:
        Path.cwd()
    except OSError:
        raise wanted.wrong("working_directory", "a folder: the current one, the default, was removed") from None


def _environment(description: PilotDescription) -> dict[str, str]:
    """Of the workers; how MPI tasks are started travels in it (``mpi.py``)."""
    mpi = {"PILOT_MPI": shlex.join(description.mpi)} if description.mpi else {}
    return mpi | description.environment
