"""`Service`: what the routes of all interfaces use: tasks in and out, for users."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fastapi.concurrency import run_in_threadpool

from pilot import registry
from pilot.errors import PilotError
from pilot.service.access import Access, User
from pilot.service.active import ActiveTask
from pilot.service.coordinator import Coordinator
from pilot.service.estimating import Estimates
from pilot.service.events import Steps, Streams
from pilot.service.models import Step, TaskError, TaskView
from pilot.service.problems import Problem, store_away
from pilot.service.sessions import Sessions
from pilot.service.settings import Settings
from pilot.service.store import ENDS, Filter, NewTask, Store, Submission
from pilot.states import PilotState

if TYPE_CHECKING:
    from sqlalchemy import Row

    from pilot.manager.manager import PilotManager

log = logging.getLogger(__name__)

#: Seconds that a request to cancel waits for the confirmation.
CANCEL_SECONDS = 5.0
#: Seconds after an answer in which further submissions are expected.
BUSY_SECONDS = 0.05
#: Fields that only a policy that chooses QPUs by estimates can see to.
_FOR_POLICIES = ("deadline", "max_cost", "fallback")
#: Seconds between two looks for tasks that are kept no longer.
PRUNE_SECONDS = 60.0


class Service:
    """Takes users' tasks, and keeps them until they are over. Its coroutines are for the server's event loop."""

    def __init__(self, settings: Settings, manager: PilotManager, store: Store) -> None:
        self.settings, self.manager, self.store = settings, manager, store
        self.access = Access(store)
        self.steps = Steps()
        #: It takes no new tasks, since it is going to end.
        self.is_draining = False
        #: Submissions that are not answered yet, and when the last one was.
        self._submitting, self._answered = 0, 0.0
        cores, qpus = registry.policies(settings.server.policy)
        self._chooses_qpus = (qpus or cores).needs_estimates
        self.coordinator = Coordinator(
            store,
            manager,
            functions=settings.callables(),
            window=settings.limits.window,
            seconds=settings.limits.seconds,
            reuses=settings.cache.results,
            is_busy=self._is_busy,
            listener=self.steps,
        )
        self.sessions = Sessions(store, self.coordinator.cancel, settings.limits.sessions_per_user)
        self.estimates = Estimates(manager, settings.limits.estimates_per_minute)
        self.streams = Streams(settings.limits.event_streams)
        self._ended = threading.Event()

    def start(self) -> None:
        """Take up what an earlier service has left, and begin."""
        self.coordinator.start()
        if self.settings.server.retention is not None:
            threading.Thread(target=self._prune, name="pilot-service-retention", daemon=True).start()

    def close(self, seconds: float) -> None:
        """Take no more tasks, wait so long at most for those that run, and end. Blocks. The rest stays in the store."""
        self.is_draining = True
        self._ended.set()
        self.coordinator.drain(seconds)
        self.coordinator.close()

    # ---- tasks ------------------------------------------------------------------------------------------------

    async def submit(self, tasks: Sequence[NewTask], *, key: str = "", digest: str = "") -> list[str]:
        """Accept tasks of one user: all of them, or none. Their ids, when they are on disk.

        Args:
            tasks: whose envelopes were checked.
            key: what the user calls this submission: another one with the same key gets the same ids.
            digest: of the request, to be compared where the key is known.

        Raises:
            Problem: 503: the service is going to end, or its store cannot be written; 429: too many tasks of this user
                are not over; 413: a program is too large; 422: the key was used for another request.
        """
        if self.is_draining:
            raise Problem(503, "the service is going to end; try again in a minute", headers={"Retry-After": "60"})
        self._check(tasks)
        self._submitting += 1
        try:
            most = self.settings.limits.tasks_per_user
            written = self.store.add(Submission(tasks=tuple(tasks), key=key, digest=digest, most=most))
            ids = await asyncio.wrap_future(written)
        except Problem:
            raise
        except PilotError as error:
            raise store_away(error) from error
        finally:
            self._submitting -= 1
            self._answered = time.monotonic()
        self.coordinator.wake()
        return ids

    def _is_busy(self) -> bool:
        """Submissions wait for an answer, or are likely to be on their way: some were answered just now."""
        return self._submitting > 0 or time.monotonic() - self._answered < BUSY_SECONDS

    def _check(self, tasks: Sequence[NewTask]) -> None:
        limits = self.settings.limits
        for place, task in enumerate(tasks):
            at = f"tasks.{place}." if len(tasks) > 1 else ""
            for program in task.programs:
                if 4 * len(program) > limits.program_bytes and (size := len(program.encode())) > limits.program_bytes:
                    detail = f"{at}program: {size} bytes; at most {limits.program_bytes}"
                    raise Problem(413, detail, field=f"{at}program")
            for field, most in (("shots", limits.shots), ("timeout", limits.seconds)):
                given = task.options.get(field) or 0
                if given > most:
                    raise Problem(422, f"{at}{field}: {given}; at most {most:.12g}", field=f"{at}{field}", given=given)
            demand = next((field for field in _FOR_POLICIES if field in task.options), None)
            if demand is not None and not self._chooses_qpus:
                policy = self.settings.server.policy
                detail = f"{at}{demand}: the policy {policy!r} of this service chooses no QPUs; ask for 'least-wait'"
                raise Problem(422, detail, field=f"{at}{demand}", given=task.options[demand])
            if task.function and task.function not in self.settings.functions:
                names = ", ".join(sorted(self.settings.functions)) or "none"
                detail = f"{at}function: {task.function!r} is not registered; there are: {names}"
                raise Problem(422, detail, field=f"{at}function", given=task.function)

    async def find(self, user: User, id: str) -> Row[Any]:
        """The row of a task of this user.

        Raises:
            Problem: 404: there is none. Of others' tasks it says the same.
        """
        row = await run_in_threadpool(self.store.find, id)
        if row is None or not (user.is_admin or row.user == user.name):
            raise Problem(404, f"there is no task {id[:64]!r}")
        return row

    async def view(self, user: User, id: str) -> TaskView:
        """A task of this user as it is now.

        Raises:
            Problem: as `find`.
        """
        return self.shown(await self.find(user, id))

    async def result(self, user: User, id: str) -> bytes:
        """The results of a task, one for each program, as JSON (``results.py``).

        Raises:
            Problem: as `find`; 409: it is not over, or ended without one.
        """
        row = await self.find(user, id)
        if row.state != "done" and (view := self.shown(row)).state != "done":
            why = f": {view.error.message}" if view.error is not None else ""
            raise Problem(409, f"task {id} is {view.state}{why}", state=view.state)
        found = await run_in_threadpool(self.store.result, row.number)
        assert found is not None
        return found

    async def page(self, wanted: Filter, limit: int) -> list[TaskView]:
        """Tasks, the newest first.

        Raises:
            Problem: 422: ``before`` is no task's id.
        """
        return [self.shown(row) for row in await run_in_threadpool(self.store.page, wanted, limit)]

    async def cancel(self, user: User, id: str) -> TaskView:
        """End a task. Waits some seconds until that is confirmed; one that is over stays as it is. That it is to end is
        on disk before the answer.

        Raises:
            Problem: as `find`; 503: the store cannot be written.
        """
        row = await self.find(user, id)
        if row.state == "active":
            try:
                await asyncio.wrap_future(self.store.request_cancel(row.number))
                await asyncio.wrap_future(self.coordinator.cancel(id))
            except PilotError as error:
                raise store_away(error) from error
            deadline = time.monotonic() + CANCEL_SECONDS
            while row.state == "active" and time.monotonic() < deadline:
                await asyncio.sleep(0.02)
                row = await self.find(user, id)
        return self.shown(row)

    async def explain(self, user: User, id: str) -> str:
        """Why a task went where it went, or why it waits.

        Raises:
            Problem: as `find`.
        """
        row = await self.find(user, id)
        one = self.coordinator.active.get(id)
        if one is None or not one.tasks:
            return _told(self.shown(row), self.coordinator.is_full())
        texts = await run_in_threadpool(lambda: [self.manager.explain(task) for task in one.tasks])
        return "\n".join(dict.fromkeys(texts))

    def shown(self, row: Row[Any]) -> TaskView:
        """What users see of a task. Blocks for some milliseconds where it has ended since its row was read."""
        one = self.coordinator.active.get(row.id) if row.state == "active" else None
        if row.state == "active" and (self.coordinator.has_taken(row) if one is None else one.is_over):
            row, one = self.store.find(row.id) or row, None
        steps: list[tuple[str, float]] = list(one.steps) if one is not None else self._steps(row)
        return TaskView(
            id=row.id,
            user=row.user,
            state=row.state if row.state in ENDS else _live(one),
            route=row.route,
            name=row.name,
            project=row.project,
            session=row.session,
            qpu=row.qpu,
            submitted=row.submitted,
            ended=row.ended,
            error=None if row.error is None else TaskError(**json.loads(row.error)),
            steps=[Step(step=name, time=when) for name, when in steps],
        )

    def _steps(self, row: Row[Any]) -> list[tuple[str, float]]:
        steps = [(name, when) for name, when in json.loads(row.steps)]
        if row.state not in ENDS:
            return [*steps, ("persisted", row.submitted)]
        return steps if row.id in self.coordinator.active else [*steps, ("retired", steps[-1][1])]

    # ---- the service itself -----------------------------------------------------------------------------------

    @property
    def active_pilots(self) -> int:
        """How many pilots take tasks now."""
        return sum(pilot.state is PilotState.ACTIVE for pilot in self.manager.pilots)

    def _prune(self) -> None:
        retention = self.settings.server.retention_seconds
        assert retention is not None
        while not self._ended.is_set():
            try:
                before = time.time() - retention
                while self.store.prune(before).result() or self.sessions.prune(before).result():
                    pass
            except PilotError as error:
                log.error("old tasks and sessions are not removed: %s", error)
            self._ended.wait(PRUNE_SECONDS)


def _live(one: ActiveTask | None) -> Any:
    return "received" if one is None else one.state


def _told(view: TaskView, is_full: bool) -> str:
    if view.state in ENDS:
        where = f" on {view.qpu}" if view.qpu else ""
        why = f": {view.error.message}" if view.error is not None else ""
        return f"it is {view.state}{where}{why}"
    if is_full:
        return "it waits in the store, since the manager has as many tasks as the service's limits allow (window)"
    return "its program is being parsed"
