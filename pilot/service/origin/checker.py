"""`Checker`: has programs checked before their task is accepted, in processes of the service's host.

Not on pilots: these may wait in a queue for hours, or be busy, and a request waits for its answer.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing.connection import wait

import msgspec

from pilot.service.origin.checking import Facts, Fault, Question, check
from pilot.service.origin.codes import ErrorCode, OriginError

log = logging.getLogger(__name__)

#: Answers that are kept for programs that come again, and characters of all of their programs.
KEPT, KEPT_CHARACTERS = 5000, 32 << 20
#: Programs of one call; calls at once, each in a process of its own; and seconds that a request waits for its answers.
AT_ONCE, CALLS, SECONDS = 50, 2, 60.0

_Answer = Facts | Fault
_Asked = dict[bytes, tuple[Question, "asyncio.Future[_Answer]"]]


class Checker:
    """For the event loop of the server. Its processes start with the first program, and end with this one.

    A user has one of them at most at a time, so that programs that take long delay those of their own user.
    """

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None
        self._kept: OrderedDict[bytes, _Answer] = OrderedDict()
        self._characters = 0
        #: By user, in turn.
        self._waiting: OrderedDict[str, _Asked] = OrderedDict()
        self._asked: dict[bytes, asyncio.Future[_Answer]] = {}
        self._calls: dict[str, asyncio.Task[None]] = {}

    def close(self) -> None:
        """End the processes. Does not block."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)

    async def facts(self, user: str, questions: Sequence[Question]) -> list[Facts]:
        """What the programs of a user are.

        Raises:
            OriginError: one is not right, the first one's error; or it takes too long.
        """
        try:
            answers = await asyncio.wait_for(asyncio.gather(*(self._answer(user, one) for one in questions)), SECONDS)
        except TimeoutError:
            message = f"QProg: not checked within {SECONDS:g} seconds; send fewer programs, or try again later"
            raise OriginError(message, code=ErrorCode.SYSTEM_TIMEOUT) from None
        found = []
        for place, answer in enumerate(answers):
            if isinstance(answer, Fault):
                of = f" (program {place + 1} of {len(answers)})" if len(answers) > 1 else ""
                raise OriginError(f"{answer.message}{of}", code=ErrorCode(answer.code))
            found.append(answer)
        return found

    async def _answer(self, user: str, question: Question) -> _Answer:
        key = msgspec.msgpack.encode(question)
        if (known := self._kept.get(key)) is not None:
            self._kept.move_to_end(key)
            return known
        future = self._asked.get(key)
        if future is None:
            future = self._asked[key] = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(user, {})[key] = question, future
            asyncio.get_running_loop().call_soon(self._send)  # with the others of the same request
        return await asyncio.shield(future)

    def _send(self) -> None:
        """Programs that come while their user's call is away wait for the next one, so that a call has many."""
        for user in list(self._waiting):
            if len(self._calls) == CALLS:
                return
            if user in self._calls:
                continue
            waiting = self._waiting.pop(user)
            asked = {key: waiting.pop(key) for key in list(waiting)[:AT_ONCE]}
            if waiting:
                self._waiting[user] = waiting
            call = self._calls[user] = asyncio.create_task(self._call(asked))
            call.add_done_callback(partial(self._called, user))

    def _called(self, user: str, call: asyncio.Task[None]) -> None:
        del self._calls[user]
        self._send()

    async def _call(self, asked: _Asked) -> None:
        answers: list[_Answer]
        try:
            answers = await self._ask([question for question, _ in asked.values()])
        except Exception as error:
            log.exception("programs could not be checked")
            answers = [Fault(int(ErrorCode.BACKEND), f"QProg: it could not be checked: {error}")] * len(asked)
        for (key, (_, future)), answer in zip(asked.items(), answers, strict=True):
            del self._asked[key]
            if isinstance(answer, Facts) or answer.code != ErrorCode.BACKEND:
                self._keep(key, answer)
            if not future.done():
                future.set_result(answer)

    async def _ask(self, questions: list[Question], tries: int = 2) -> list[_Answer]:
        """The answers. A program that ends its process twice fails alone: those that were with it are asked again."""
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(CALLS, mp_context=context, initializer=_begin)
        pool = self._pool
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, check, questions)
        except (BrokenProcessPool, RuntimeError):  # it ended, by this call or by the other one's
            if self._pool is pool:
                self.close()
        if len(questions) > 1:
            return [answer for one in questions for answer in await self._ask([one])]
        if tries > 1:
            return await self._ask(questions, tries - 1)
        return [Fault(int(ErrorCode.BACKEND), "QProg: the process that checks it has ended; try again")]

    def _keep(self, key: bytes, answer: _Answer) -> None:
        """Those that were not asked for longest make room."""
        self._kept[key] = answer
        self._characters += len(key)
        while len(self._kept) > KEPT or self._characters > KEPT_CHARACTERS:
            oldest, _ = self._kept.popitem(last=False)
            self._characters -= len(oldest)


def _begin() -> None:
    """In a new process: it ends with the service, also when that is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
