"""Estimates before a submission: computed on the pilots, so that no request keeps the service's process busy."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any

from fastapi.concurrency import run_in_threadpool

from pilot.descriptions import TaskDescription
from pilot.errors import PilotError
from pilot.service.access import User
from pilot.service.failures import error_of
from pilot.service.limiting import Rate
from pilot.service.models import EstimateBody
from pilot.service.problems import Problem
from pilot.service.programs import Refusal, estimate

if TYPE_CHECKING:
    from pilot.manager.handles import Task
    from pilot.manager.manager import PilotManager

#: Seconds that an estimate may take.
SECONDS = 60.0


class Estimates:
    """Estimates circuits for users, so many in a minute for each."""

    def __init__(self, manager: PilotManager, per_minute: int) -> None:
        self._manager = manager
        self._rate = Rate(per_minute)
        self._lock = threading.Lock()
        #: Tasks that are to be forgotten, and were not over when they were given up.
        self._left: list[Task] = []

    async def ask(self, user: User, body: EstimateBody) -> list[dict[str, Any]]:
        """What is expected on each QPU; see `programs.estimate`.

        Raises:
            Problem: 422: the program or the name of a QPU is wrong; 429: too many in a minute; 503: no QPU has
                reported yet, or it cannot be computed.
        """
        known = self._manager.qpus
        for name in body.qpus:
            if name not in known:
                detail = f"qpus: there is no QPU {name[:64]!r} now; there are: {', '.join(known) or 'none'}"
                raise Problem(422, detail, field="qpus", given=name)
        infos = [info for name, info in known.items() if not body.qpus or name in body.qpus]
        if not infos:
            raise Problem(503, "no QPU has reported yet", headers={"Retry-After": "10"})
        self._rate.check(user.name, "estimates")
        found = await run_in_threadpool(self._run, body, infos)
        if isinstance(found, Refusal):
            raise Problem(422, f"program: {found.message}", field="program")
        return found

    def _run(self, body: EstimateBody, infos: list[Any]) -> Refusal | list[dict[str, Any]]:
        args = (body.program, body.format or "", infos, body.shots, body.optimization_level)
        wanted = TaskDescription(function=estimate, args=args, timeout=SECONDS, name="estimate", priority=1)
        try:
            task = self._manager.submit_task(wanted)
        except PilotError as error:
            raise _failed(error) from error
        try:
            found: Refusal | list[dict[str, Any]] = task.result(2 * SECONDS)
        except (PilotError, TimeoutError, CancelledError) as error:
            raise _failed(error) from error
        finally:
            task.cancel()
            self._forget(task)
        return found

    def _forget(self, task: Task) -> None:
        """Have the manager forget a task, also one that failed; one that is not over yet with a later one."""
        with self._lock:
            left = [*self._left, task]
            over = [one for one in left if one.done()]
            self._left = [one for one in left if one not in over]
        with contextlib.suppress(PilotError):  # it was closed
            self._manager.forget(over)


def _failed(error: BaseException) -> Problem:
    return Problem(503, f"the estimate failed: {error_of(error)['message']}")
