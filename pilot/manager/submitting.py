"""From a callable or a description to submitted tasks: checked, pickled, with what they depend on."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import msgspec

from pilot import registry
from pilot.descriptions import TaskDescription
from pilot.errors import DescriptionError, PluginError
from pilot.interfaces import Kind, Prepared, TaskEstimator
from pilot.manager.capacities import Capacities
from pilot.manager.functions import Functions
from pilot.manager.handles import Task, has_result, is_kept_by, never_ran, tasks_of
from pilot.manager.keys import Key, check_same, key_of
from pilot.manager.objects import words_of
from pilot.manager.samples import arguments_of, not_estimated
from pilot.manager.state import SessionState
from pilot.resources import SLOT, Terms
from pilot.results import Spooled, Value
from pilot.scheduling import events
from pilot.scheduling.records import FunctionRecord, TaskRecord
from pilot.states import TaskState
from pilot.wire import payload
from pilot.wire.arguments import dump_arguments, dump_scalars
from pilot.wire.callables import name_of
from pilot.worker import mpi
from pilot.worker.programs import run_executable

log = logging.getLogger(__name__)

#: States of tasks that no pilot has.
_NOT_BEGUN = (TaskState.WAITING, TaskState.QUEUED)


class Estimates(Protocol):
    """Has tasks estimated before they are placed. Any thread may call it."""

    def estimator(self, kind: str) -> TaskEstimator:
        """What estimates tasks of this kind; PluginError: there is none."""

    def begin(
        self, estimator: TaskEstimator, sample: Any, wanted: TaskDescription, gate: Task, parts: Sequence[Task]
    ) -> None:
        """Estimate what was submitted. The gate was submitted as held, and the parts depend on it."""


class Submitter:
    """Makes tasks of one session, and knows the callables that were submitted. Any thread may call it."""

    def __init__(self, state: SessionState, estimating: Estimates | None = None, estimated: bool = False) -> None:
        """Make it.

        Args:
            state: the session.
            estimating: what has tasks for devices estimated; None: nothing is.
            estimated: all of them are, since the policy wants that.
        """
        self._state = state
        self._estimating = estimating
        self._estimated = estimated
        #: The callables that were submitted.
        self.functions = Functions(state)
        #: Held while a task with a key is looked for and submitted, and while another one takes its key.
        self.keys = threading.Lock()
        #: What the pilots have.
        self.capacities = Capacities(state, estimated)

    # ---- tasks ------------------------------------------------------------------------------------------------

    def submit(
        self,
        work: Callable[..., Any] | FunctionRecord,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        terms: Terms,
        name: str | None = None,
        after: Sequence[Task] = (),
        weight: float = 1.0,
        key: Key | None = None,
        keyed: bool = False,
    ) -> Task:
        """One task: ``work(*args, **kwargs)``.

        Args:
            work: a callable, or its record in `functions`.
            args: its arguments, tasks among them at any depth.
            kwargs: the same, by name.
            terms: what it takes.
            name: of the task; None: the function's.
            after: tasks that have to end first.
            weight: how long it takes, in units that are the same for all tasks of the function.
            key: what the caller calls it; nothing has this key yet.
            keyed: it is a part of a task that has a key.
        """
        terms = self.admitted(terms)
        function = work if isinstance(work, FunctionRecord) else self.functions.record(work)
        value: Value = None
        needs: dict[int, bool | int] | None = None
        if args or kwargs:
            value, found = self._dump_arguments(args, kwargs, name or function.name)
            if found:
                needs = dict.fromkeys(found, True)
        if after:
            needs = {task.id: False for task in after} | (needs or {})
        id = self.next_id()
        record = TaskRecord(id, function, value, terms, name, time.time(), needs, weight=weight)
        record.has_key = key is not None or keyed
        return self.add(record, key)

    def admitted(self, terms: Terms) -> Terms:
        """The terms, one object for all tasks that have them, since it is compared often. Blocks while too much is not
        in the journal yet; NoPilotError: no pilot can ever run such a task."""
        state, backlog = self._state, self._state.backlog
        if backlog.last >= backlog.limit and not state.is_own_thread():
            backlog.wait()
        known = None if state.is_closed else state.servable.get(terms)
        if known is None:
            self.capacities.check(terms)
            return terms
        return known

    def cores(self) -> int:
        """Of all pilots that are not over, and of those that autoscalers may request next."""
        return self.capacities.cores()

    def next_id(self) -> int:
        """The id of a task that is about to be submitted."""
        id = self._state.backlog.last = next(self._state.task_ids)
        return id

    def add(self, record: TaskRecord, key: Key | None) -> Task:
        """Submit a task that is ready, under a key that no other one has."""
        if key is not None:  # first, so that the task is never on disk without it
            self._state.journal.put(key.row(record.id))
        task = self._state.add_task(record)
        if key is not None:
            task.key, self._state.keys[key.name] = key.name, key.row(record.id)
        return task

    def once(self, key: Key, submit: Callable[[Key], Task], *, again: bool = False) -> Task:
        """The task that has this key, else a new one, also when that one has never run; ``again``: also when it has
        failed."""
        self._state.check_open()
        with self.keys:
            known = self._state.keys.get(key.name)
            task = self._state.tasks.get(known.task) if known is not None else None
            if known is None or task is None:
                return submit(key)
            if never_ran(task) or (again and task.done() and not has_result(task)):
                if not never_ran(task):
                    check_same(task, known, key)
                new = submit(key)
                task.key = None
                return new
        check_same(task, known, key)
        return task

    def submit_described(self, wanted: TaskDescription) -> Task:
        """The task of a description: a new one, or the one that has its key."""
        if wanted.key is None:
            return self._submit_described(wanted, None)
        self._state.check_open()
        key = key_of(wanted, self.functions.record)
        return self.once(key, lambda key: self._submit_described(wanted, key))

    def _submit_described(self, wanted: TaskDescription, key: Key | None) -> Task:
        after = self._dependencies(wanted)
        of_circuits = "circuit" if wanted.qos is None else "qos"
        if kind := wanted.kind or (of_circuits if wanted.circuit is not None else ""):
            return self._submit_kind(kind, wanted, after, key)
        function, args, kwargs, name = wanted.function, tuple(wanted.args), wanted.kwargs, wanted.name
        surroundings = wanted.environment, wanted.working_directory
        if wanted.initializer is not None:
            function = self.functions.initialized(function, wanted.initializer, wanted.initargs)
        if wanted.executable:
            function = run_executable
            args = (words_of(wanted.executable), *surroundings)
            name = name or Path(wanted.executable[0]).name
        elif wanted.mpi:
            function = mpi.run_program
            args = (words_of(wanted.mpi), *surroundings)
            name = name or Path(wanted.mpi[0]).name
        elif wanted.ranks:
            name = name or name_of(function)
            args, kwargs = (payload.dump_function(function), args, kwargs, *surroundings), {}
            function = mpi.run_function
        elif wanted.environment or wanted.working_directory is not None:
            args, kwargs = (*surroundings, args, kwargs), {}
            function = self.functions.in_surroundings(function)
        return self.submit(function, args, kwargs, wanted.terms(), name, after, key=key)

    def _check_demands(self, wanted: TaskDescription) -> None:
        """Refuse what only a policy that chooses QPUs can see to."""
        for field in ("deadline", "max_cost", "fallback"):
            if getattr(wanted, field) is not None and not self._estimated:
                raise wanted.wrong(
                    field, "nothing, unless the manager's policy chooses QPUs: PilotManager(policy='least-wait')"
                )

    def _dependencies(self, wanted: TaskDescription) -> Sequence[Task]:
        given = wanted.depends_on
        if type(given) is tuple and not given:  # nearly always; the check of a list costs 1 us
            return ()
        try:
            after = tasks_of("depends_on", [given] if isinstance(given, Task) else given)
        except DescriptionError:
            raise wanted.wrong("depends_on", "a task of this manager, or a list of such tasks") from None
        for task in after:
            if not is_kept_by(task, self._state):
                raise DescriptionError(f"depends_on: task {task.id} is another manager's, or was forgotten")
        return after

    def _submit_kind(self, kind: str, wanted: TaskDescription, after: Sequence[Task], key: Key | None) -> Task:
        """One task for each part of the work and, when there are several, one that combines them."""
        plain = wanted.terms()
        prepared: Any = _kind(kind)(wanted, self.capacities.offer(plain))
        if not isinstance(prepared, Prepared):
            raise PluginError(f"the kind of task {kind!r} returned {prepared!r}; expected a Prepared")
        if prepared.combine is None and len(prepared.parts) != 1:
            number = len(prepared.parts)
            raise PluginError(f"the kind of task {kind!r} returned {number} parts; without combine expected is one")
        terms = msgspec.structs.replace(
            plain,
            resources=prepared.resources,
            others=prepared.others,
            simulator=prepared.simulator,
            facts=prepared.facts,
            min_fidelity=wanted.min_fidelity or 0.0,
            deadline=wanted.deadline,
            max_cost=wanted.max_cost,
            fallback=wanted.fallback or "",
            shares_qpu=bool(wanted.share_qpu),
        )
        self._check_demands(wanted)
        if terms not in self._state.servable:
            self.capacities.check(terms, prepared.note)
        name = wanted.name or prepared.name
        one_core = msgspec.structs.replace(plain, resources=SLOT, duration=None, timeout=None)
        if self._estimating is None or prepared.sample is None:
            return self._submit_parts(prepared, terms, one_core, name, after, key)[0]
        estimator = self._estimating.estimator(kind)
        gate = self._submit_held(f"estimate of {name}", one_core, arguments_of(kind, prepared.sample, wanted))
        whole, parts = self._submit_parts(prepared, terms, one_core, name, [*after, gate], key)
        self._estimating.begin(estimator, prepared.sample, wanted, gate, parts)
        return whole

    def _submit_held(self, name: str, terms: Terms, sampled: bytes) -> Task:
        """A task that estimates: it gets another function and its arguments later (`Submissions.release`)."""
        terms, function = self.admitted(terms), self.functions.record(not_estimated)
        return self.add(TaskRecord(self.next_id(), function, sampled, terms, name, time.time(), held=True), None)

    def _submit_parts(
        self, prepared: Prepared, terms: Terms, one_core: Terms, name: str, after: Sequence[Task], key: Key | None
    ) -> tuple[Task, list[Task]]:
        """The whole task, and its parts; of a single part that is the whole."""
        if prepared.combine is None:
            (part,) = prepared.parts
            only = self.submit(part.function, part.args, {}, terms, name, after, part.weight, key)
            return only, [only]
        parts = [
            self.submit(
                part.function, part.args, {}, terms, f"{name} {number}", after, part.weight, keyed=key is not None
            )
            for number, part in enumerate(prepared.parts)
        ]
        maps = [
            self.submit(
                one.part.function,
                (*one.part.args, [parts[part] for part in one.parts]),
                {},
                one_core,
                f"{name}, map {number}",
                weight=one.part.weight,
                keyed=key is not None,
            )
            for number, one in enumerate(prepared.maps)
        ]
        args = (*prepared.combine.args, maps or parts)
        whole = self.submit(prepared.combine.function, args, {}, one_core, name, key=key)
        self.join(whole, [*parts, *maps])
        return whole, parts

    def join(self, whole: Task, parts: Sequence[Task]) -> None:
        """The parts are needed by this task only: they are cancelled when it ends without them."""
        whole.parts = tuple(parts)
        whole.add_done_callback(self.cancel_parts)

    def cancel_parts(self, whole: Future[Any]) -> None:
        """Cancel the parts of a task that have not ended."""
        assert isinstance(whole, Task)
        if left := [part.id for part in whole.parts if not part.done()]:
            self._state.post(events.CancelAsked(left))

    def cancel(self, tasks: Sequence[Task], *, running: bool = True) -> None:
        """Cancel tasks, and their parts. Does not block.

        Args:
            tasks: which.
            running: those that run, too; False: only those of which no part has begun.

        Raises:
            DescriptionError: one is another manager's, or was forgotten.
        """
        for task in tasks:
            if not is_kept_by(task, self._state):
                raise DescriptionError(f"cancel: task {task.id} is another manager's, or was forgotten", given=task)
        wanted = [task for task in tasks if running or all(part.state in _NOT_BEGUN for part in task.parts)]
        ids = [one.id for task in wanted for one in (*task.parts, task)]
        self._state.post(events.CancelAsked(ids, running=running))

    def _dump_arguments(self, args: Any, kwargs: Any, name: str) -> tuple[Value, dict[int, Any]]:
        """The arguments, with a user of their files; and the tasks among them."""
        files = self._state.files
        if not kwargs and (scalars := dump_scalars(args, files.limit)) is not None:
            return scalars, {}
        with payload.collecting() as found:
            value = dump_arguments(args, kwargs, files, f"an argument of {name}", found)
        if found.tasks or found.objects:
            try:
                self._check_found(found, name)
            except DescriptionError:
                if isinstance(value, Spooled):
                    files.release([file for file in value.files if file not in value.objects])
                raise
        return value, found.tasks

    def _check_found(self, found: payload.collecting, name: str) -> None:
        """Take a user of the files of the objects; refuse what is not of this session."""
        for task in found.tasks.values():
            if not is_kept_by(task, self._state):
                raise DescriptionError(
                    f"task {task.id} among the arguments of {name} is another manager's, or was forgotten"
                )
        for ref in found.objects.values():
            if not ref.is_of(self._state):
                raise DescriptionError(
                    f"object {ref.id} ({ref.kind}) among the arguments of {name} is of another session: put the value "
                    "into this one"
                )
        refs = list(found.objects.values())
        gone = [ref for ref in refs if ref.released]
        if gone or not self._state.files.hold_present(
            list(dict.fromkeys(file for ref in refs for file in ref.value.files))
        ):
            names = ", ".join(f"{ref.id} ({ref.kind})" for ref in gone or refs)
            raise DescriptionError(f"object {names} among the arguments of {name} was released: put the value again")


@cache
def _kind(name: str) -> Kind:
    """What prepares tasks of this kind; to look it up takes as long as to submit ten tasks."""
    found: Kind = registry.load("pilot.kinds", name)
    return found
