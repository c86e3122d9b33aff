"""`Coordinator`: takes stored tasks to the manager, and their results back. It has active tasks only."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from functools import partial
from typing import TYPE_CHECKING, Any

from pilot.descriptions import TaskDescription
from pilot.errors import DescriptionError, NoPilotError, PilotError, SessionError
from pilot.interfaces import SessionEvent, TaskChanged, TaskEnded
from pilot.manager.observers import NO_LIMIT
from pilot.service import results, turns
from pilot.service.active import ActiveTask, Listener
from pilot.service.earlier import EarlierTasks
from pilot.service.failures import error_of
from pilot.service.pace import Pace
from pilot.service.parsing import Parser, Source
from pilot.service.problems import STORE_ERRORS, cause
from pilot.service.programs import Refusal
from pilot.service.store import End, Store
from pilot.service.unparsed import Unparsed
from pilot.states import TaskState

if TYPE_CHECKING:
    from sqlalchemy import Row

    from pilot.manager.handles import Task
    from pilot.manager.manager import PilotManager

log = logging.getLogger(__name__)

#: Rows that are read at once.
AT_ONCE = 100
#: Tasks that are over are forgotten by the manager so many at a time.
FORGOTTEN_AT_ONCE = 100
#: Seconds after which the store is looked into without being told that there is something new.
LOOK_SECONDS = 1.0


class Coordinator:
    """A thread of its own, which alone changes the active tasks. Other threads may read them, and call its methods.

    It keeps at most ``window`` tasks; the others wait in the store. Users take turns, each with the oldest task.
    """

    def __init__(
        self,
        store: Store,
        manager: PilotManager,
        *,
        functions: Mapping[str, Callable[..., Any]],
        window: int,
        seconds: float,
        reuses: bool,
        is_busy: Callable[[], bool],
        listener: Listener,
    ) -> None:
        """Make it; `start` starts its thread.

        Args:
            store: where the tasks are.
            manager: whose pilots run them.
            functions: that the site has registered, by name.
            window: active tasks at most.
            seconds: a task may run so long, unless it has a timeout of its own.
            reuses: results of equal deterministic tasks are taken instead of running them again.
            is_busy: true while somebody waits for the answer to a submission; the thread then works less.
            listener: hears of each step of each task, in this thread.
        """
        self._store, self._manager, self._functions = store, manager, functions
        self._window, self._seconds, self._reuses, self._listener = window, seconds, reuses, listener
        #: By id.
        self.active: dict[str, ActiveTask] = {}
        #: How many results were taken from equal tasks; and how many could have been, had there been one.
        self.reused = self.looked_up = 0
        self._by_task: dict[int, ActiveTask] = {}
        self._parser = Parser(manager, lambda done: self._inbox.put(partial(self._parsed, done)))
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        #: The last row that was taken, by user.
        self._last: dict[str, int] = {}
        self._earlier = EarlierTasks(manager)
        self._to_forget: list[Task] = []
        #: Tasks that are to be begun.
        self._taken: deque[ActiveTask] = deque()
        self._unparsed = Unparsed(self._parser, store)
        self._turns = turns.Turns()
        self._is_busy = is_busy
        self._is_filling = self._is_running = True
        self._thread = threading.Thread(target=self._run, name="pilot-service-coordinator", daemon=True)

    # ---- for other threads ------------------------------------------------------------------------------------

    def start(self) -> None:
        """End what an earlier service was asked to end and has not, and take tasks: first those that were there before.
        Blocks until the store has said which."""
        keyless = [task for task in self._manager.tasks.values() if task.key is None]
        self._manager.cancel([task for task in keyless if self._parser.is_own(task)])
        for id in self._store.cancel_requested():
            self._ended_early(id)
        self._subscription = self._manager.subscribe(self._observe, kinds=[TaskChanged, TaskEnded], limit=NO_LIMIT)
        self._thread.start()

    def wake(self) -> None:
        """There are new tasks in the store. Does not block."""
        self._inbox.put(_nothing)

    def is_full(self) -> bool:
        """True when it takes further tasks only as others end."""
        return len(self.active) >= self._window

    def has_taken(self, row: Row[Any]) -> bool:
        """True for a task that is active, or was."""
        return bool(row.number <= self._last.get(row.user, 0))

    def cancel(self, id: str) -> Future[bool]:
        """End a task; the future is done when that was asked for: False when it had ended before."""
        future: Future[bool] = Future()
        self._inbox.put(partial(_answer, future, partial(self._ended_early, id)))
        return future

    def drain(self, seconds: float) -> None:
        """Take no more tasks from the store, and wait for those that the manager has, so long at most. Blocks."""
        self._is_filling = False
        deadline = time.monotonic() + seconds
        while self.active and time.monotonic() < deadline:
            time.sleep(0.05)

    def close(self) -> None:
        """End the thread. What is not over stays in the store, and is taken up by the next service. Blocks."""
        self._is_filling = self._is_running = False
        self.wake()
        self._thread.join()
        self._manager.unsubscribe(self._subscription)

    def _observe(self, events: list[SessionEvent]) -> None:
        self._inbox.put(partial(self._take_in, events))

    # ---- the thread -------------------------------------------------------------------------------------------

    def _run(self) -> None:
        self._pace = Pace(self._is_busy)
        while self._is_running:
            try:
                self._inbox.get(timeout=LOOK_SECONDS)()
                while not self._inbox.empty():
                    self._pace.rest()
                    self._inbox.get()()
            except queue.Empty:
                pass
            except Exception:
                log.exception("a message to the coordinator")
            try:
                self._fill()
                self._forget()
            except STORE_ERRORS as error:  # the manager or the store is closed or away, or the disk is full
                log.error("the coordinator waits: %s", cause(error))
                time.sleep(LOOK_SECONDS)
            except Exception:
                log.exception("the coordinator goes on")
                time.sleep(LOOK_SECONDS)

    def _fill(self) -> None:
        """Begin what was taken; take more from the store while there is room, and nothing else is to be done."""
        while True:
            self._begin()
            room = min(self._window - len(self.active), AT_ONCE)
            if not self._is_filling or room <= 0:
                return
            wanted = self._turns.waiting(self._store.active_users())
            shares = turns.shares(wanted, self._turns.active, room)
            rows = [row for user, count in shares.items() for row in self._rows(user, count)]
            for row in rows:
                self._last[row.user] = row.number
                if row.id not in self.active:
                    self._taken.append(self._activate(row))
            if shares == wanted:  # there are no others
                self._begin()
                self._give_up_earlier()
                return
            if not rows or not self._inbox.empty():
                return

    def _rows(self, user: str, count: int) -> Sequence[Row[Any]]:
        return self._store.active(user, self._last.get(user, 0), count)

    def _activate(self, row: Row[Any]) -> ActiveTask:
        self._turns.begins(row.user)
        one = self.active[row.id] = ActiveTask(row, self._listener)
        return one

    def _begin(self) -> None:
        """Give the tasks that were taken to the manager, or have their texts parsed first."""
        try:
            while self._taken:
                self._pace.rest()
                one = self._taken[0]
                one.missing = {source for source in one.sources() if self._parser.known(source) is None}
                if one.is_ending or self._reuse(one):
                    pass
                elif not self._earlier.have_all(one.manager_keys()) and one.missing:
                    self._unparsed.add(one)
                else:
                    self._submit(one)
                self._taken.popleft()  # now, not before: what an error has interrupted is tried again
        finally:
            self._unparsed.ask()
        self._parser.forget_errors()

    def _give_up_earlier(self) -> None:
        """What an earlier service has submitted, and is in the store no more as a task that is not over."""
        left = self._earlier.take_all()
        self._manager.cancel(left)
        self._to_forget += left

    def _reuse(self, one: ActiveTask) -> bool:
        """Take the result of an equal task, if there is one."""
        if not one.content or not self._reuses:
            return False
        self.looked_up += 1
        number = self._store.equal(one.content)
        result = None if number is None else self._store.result(number)
        if result is None:
            return False
        self.reused += 1
        one.step("corrected")
        self._end(one, "done", result=result)
        return True

    def _parsed(self, sources: set[Source]) -> None:
        """Texts were parsed, or could not be."""
        self._taken += [one for one in self._unparsed.parsed(sources) if not one.is_ending]

    # ---- to the manager ---------------------------------------------------------------------------------------

    def _submit(self, one: ActiveTask) -> None:
        """Give it to the manager, unless that has it already."""
        tasks: list[Task] = []
        try:
            for place, key in enumerate(one.manager_keys()):
                tasks.append(self._earlier.take(key) or self._manager.submit_task(self._described(one, place, key)))
        except SessionError:
            raise
        except Exception as error:
            self._manager.cancel(tasks)
            self._to_forget += tasks
            self._end(one, "failed" if isinstance(error, NoPilotError) else "invalid", error=error_of(error))
            return
        one.tasks = tasks
        one.step("queued")
        for task in tasks:
            for part in (task, *task.parts):  # of its parts only what they begin is of interest
                self._by_task[part.id] = one
        one.waited = {task.id for task in tasks}
        for task in tasks:
            if task.done():
                self._task_ended(task.id, one)

    def _described(self, one: ActiveTask, place: int, key: str) -> TaskDescription:
        """What the manager is to run.

        Raises:
            DescriptionError: the text is no program, there is no such function, or a field is wrong.
        """
        options = {"timeout": self._seconds, **one.options(time.time())}
        if one.work.function:
            function = self._functions.get(one.work.function)
            if function is None:
                raise DescriptionError(f"function: {one.work.function!r} is not registered any more", field="function")
            return TaskDescription(function=function, key=key, name=one.name or one.id, **options)
        source = one.sources()[place]
        circuit = self._parser.known(source)
        if isinstance(circuit, Exception):
            raise circuit
        if isinstance(circuit, Refusal):
            raise self._parser.error(circuit)
        one.step("preprocessed")
        from pilot.service.known_program import KnownProgram

        program = KnownProgram(circuit, source[0])
        return TaskDescription(circuit=program, key=key, name=one.name or one.id, **options)

    # ---- from the manager -------------------------------------------------------------------------------------

    def _take_in(self, events: list[SessionEvent]) -> None:
        missed = False
        for event in events:
            if isinstance(event, TaskEnded):
                self._pace.rest()
                if (one := self._by_task.get(event.task)) is not None:
                    self._task_ended(event.task, one)
            elif isinstance(event, TaskChanged):
                if (one := self._by_task.get(event.task)) is not None and not one.is_ending:
                    one.step("dispatched" if event.state is TaskState.RUNNING else "scheduled", event.time)
            else:
                missed = True
        if missed:
            for one in list(self.active.values()):
                for task in one.tasks:
                    if task.done():
                        self._task_ended(task.id, one)

    def _task_ended(self, id: int, one: ActiveTask) -> None:
        one.waited.discard(id)
        if one.waited or one.is_ending:
            return
        for task in one.tasks:
            for part in (task, *task.parts):
                self._by_task.pop(part.id, None)
        first = one.tasks[0].info
        qpus = [part.info.qpu for task in one.tasks for part in (task.parts or (task,))]
        qpu = "|".join(dict.fromkeys(name for name in qpus if name))
        for step, when in (("scheduled", first.bound), ("dispatched", first.started), ("corrected", first.finished)):
            one.step(step, when)
        try:
            result = results.encoded([task.result() for task in one.tasks])
        except CancelledError:
            self._end(one, "cancelled")
        except Exception as error:
            self._end(one, "failed", error=error_of(error), qpu=qpu)
        else:
            self._end(one, "done", result=result, qpu=qpu)

    def _end(
        self,
        one: ActiveTask,
        state: str,
        *,
        result: bytes | None = None,
        error: dict[str, Any] | None = None,
        qpu: str | None = None,
    ) -> None:
        """Write how it ended; then retire it."""
        one.is_ending, one.end = True, state
        self._turns.ends(one.user)
        end = End(number=one.number, state=state, result=result, error=error, steps=one.steps, qpu=qpu or "")
        self._write(one, end)

    def _write(self, one: ActiveTask, end: End) -> None:
        try:
            written = self._store.end(end)
        except SessionError:
            return  # closed: the next service takes it up
        written.add_done_callback(lambda done: self._inbox.put(partial(self._retire, one, end, done)))

    def _retire(self, one: ActiveTask, end: End, written: Future[bool]) -> None:
        if written.exception() is not None:  # the disk is full, or the database away: again, until it is written
            log.error("task %s: its end is not written yet: %s", one.id, written.exception())
            threading.Timer(LOOK_SECONDS, self._write, [one, end]).start()
            return
        one.step("stored")
        self.active.pop(one.id, None)
        self._turns.is_over(one.user)
        self._to_forget += one.tasks
        one.step("retired")

    def _ended_early(self, id: str) -> bool:
        """End a task, wherever it is; False when it is over."""
        one = self.active.get(id)
        if one is None:
            row = self._store.find(id)
            if row is None or row.state != "active":
                return False
            one = self._activate(row)
        if one.tasks and not one.is_ending:
            self._manager.cancel(one.tasks)
        elif not one.is_ending:
            earlier = [task for key in one.manager_keys() if (task := self._earlier.take(key)) is not None]
            self._manager.cancel(earlier)
            self._to_forget += earlier
            self._end(one, "cancelled")
        return True

    def _forget(self) -> None:
        """Have the manager forget what is over, so that its memory and its journal do not grow."""
        over = {task.id: task for task in self._to_forget if task.done()}
        if len(over) >= FORGOTTEN_AT_ONCE or (over and self._inbox.empty()):
            self._to_forget = [task for task in self._to_forget if task.id not in over]
            try:
                self._manager.forget([*over.values(), *self._parser.over()])
            except PilotError as error:
                log.warning("the manager keeps %d task(s) that are over: %s", len(over), error)


def _answer(future: Future[bool], ask: Callable[[], bool]) -> None:
    """Give a future its answer. What is asked for is done also when nobody waits for the answer any more."""
    is_wanted = future.set_running_or_notify_cancel()
    try:
        answer = ask()
    except Exception as error:
        if not is_wanted:
            raise
        future.set_exception(error)
    else:
        if is_wanted:
            future.set_result(answer)


def _nothing() -> None:
    """Wakes the thread."""
