"""`Gateway`: what the routes of both faces do: bodies in, callers, tasks to the service, replies about them."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any

import msgspec
from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool

from pilot.service.access import User
from pilot.service.limiting import Rate
from pilot.service.origin import replies
from pilot.service.origin.bodies import is_packed, mapping_of, unpacked
from pilot.service.origin.checker import Checker
from pilot.service.origin.chips import Chips
from pilot.service.origin.codes import ErrorCode, OriginError
from pilot.service.origin.results import forms_of
from pilot.service.origin.submissions import Submission
from pilot.service.origin.tasks import ROUTE, Kept, new_task
from pilot.service.problems import STORE_ERRORS, Problem, store_away
from pilot.service.store import Work
from pilot.states import is_final

if TYPE_CHECKING:
    from sqlalchemy import Row

    from pilot.service.service import Service

_ID = re.compile(r"[0-9A-F]{32}")
_Handler = Callable[[Request], Awaitable[Any]]
_Refusal = Callable[[OriginError | Problem], Mapping[str, Any]]


class Gateway:
    """For the event loop of the server."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.settings = service.settings.origin
        self._checker = Checker()
        self._logins = Rate(service.settings.limits.logins_per_minute)

    def close(self) -> None:
        """End what checks programs. Does not block."""
        self._checker.close()

    # ---- who asks ---------------------------------------------------------------------------------------------

    async def user(self, token: object) -> User:
        """Whom a token stands for.

        Raises:
            OriginError: there is none, or it is not good.
        """
        if not isinstance(token, str) or not token:
            message = (
                "token: missing; log in at /management/pilotosmachinelogin with the token of this service as apiKey"
            )
            raise OriginError(message, code=ErrorCode.JSON_FIELD)
        access = self.service.access
        user = access.trusted(token) or await run_in_threadpool(access.user_of, token)
        if user is None:
            message = "token: not known, revoked or expired; ask the site for another one (pilot token new)"
            raise OriginError(message, code=ErrorCode.APPLICATION_NOT_FOUND)
        return user

    async def log_in(self, token: object, address: str) -> User:
        """As `user`, for so many wrong ones in a minute from one address.

        Raises:
            OriginError: it is not good; or there were too many wrong ones.
        """
        try:
            return await self.user(token)
        except OriginError:
            self._logins.check(address, "logins with a wrong token")
            raise

    # ---- tasks ------------------------------------------------------------------------------------------------

    def chips(self) -> Chips:
        """The QPUs that there are now, or will be when their pilots start."""
        manager = self.service.manager
        declared = [name for pilot in manager.pilots if not is_final(pilot.state) for name in pilot.description.qpus]
        return Chips(manager.qpus, declared, self.settings.chips)

    async def accept(self, submission: Submission, user: User, body: Mapping[str, Any], received: float) -> str:
        """Check the programs, and store the task: its id, when it is on disk.

        Raises:
            OriginError: a program is not right, or there is no such chip.
            Problem: the service takes no task now.
        """
        task = await new_task(submission, user, self.chips(), self._checker, body, received)
        (id,) = await self.service.submit([task])
        return id

    async def find(self, id: object, user: User | None) -> Row[Any]:
        """The row of a task of this interface.

        Args:
            id: of the task.
            user: who asks; None: nobody that is known, where a site lets everyone who knows the id.

        Raises:
            OriginError: there is none, or it is another user's.
        """
        if not isinstance(id, str) or not id:
            raise OriginError("taskId: missing; expected the id of a task", code=ErrorCode.JSON_FIELD)
        row = await run_in_threadpool(self.service.store.find, id) if _ID.fullmatch(id) else None
        is_its = row is not None and (user is None or user.is_admin or row.user == user.name)
        if row is None or row.route != ROUTE or not is_its:
            raise OriginError(f"taskId: there is no task {id[:64]!r}", code=ErrorCode.TASK_NOT_FOUND)
        return row

    async def reply_about(self, row: Row[Any]) -> dict[str, Any]:
        """The reply about a task: its state, and its result when it has one."""
        return await run_in_threadpool(self._reply_about, row)

    def _reply_about(self, row: Row[Any]) -> dict[str, Any]:
        view = self.service.shown(row)
        kept = msgspec.convert(json.loads(row.extra), type=Kept)
        work = msgspec.json.decode(row.work, type=Work)
        texts = self.service.store.texts(work.programs)
        result = self.service.store.result(row.number) if view.state == "done" else None
        forms = None if result is None else forms_of(result, kept)
        programs = [texts[hash] for hash in work.programs]
        return replies.task_reply(view, kept, programs, forms, self.chips().statuses(view.qpu.split("|")))


def gateway_of(request: Request) -> Gateway:
    """The gateway of the application that a request came to."""
    gateway: Gateway = request.app.state.origin
    return gateway


async def body_of(request: Request) -> dict[str, Any]:
    """The JSON object in the body of a request, decompressed where it is compressed.

    Raises:
        OriginError: there is none, or it is too large.
    """
    data = await request.body()
    limit = gateway_of(request).service.settings.limits.body_bytes
    if is_packed(data):
        return await run_in_threadpool(lambda: mapping_of(unpacked(data, limit)))
    return mapping_of(unpacked(data, limit))


def answered(refusal: _Refusal) -> Callable[[_Handler], Callable[[Request], Awaitable[Response]]]:
    """A route that answers with JSON, also when it refuses: with status 200 and a code, as the vendor's servers do."""

    def decorated(handler: _Handler) -> Callable[[Request], Awaitable[Response]]:
        @wraps(handler)
        async def answer(request: Request) -> Response:
            request.state.received = time.time()
            reply: Mapping[str, Any] | Sequence[Any]
            try:
                reply = await handler(request)
            except (OriginError, Problem) as error:
                reply = refusal(error)
            except STORE_ERRORS as error:
                reply = refusal(store_away(error))
            return Response(replies.encoded(reply), media_type="application/json")

        answer.__annotations__ = {"request": Request, "return": Response}
        return answer

    return decorated
