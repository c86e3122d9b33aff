"""`Checker`: has programs checked on pilots before their task is accepted, those that come together in one call."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from pilot.descriptions import TaskDescription
from pilot.errors import PilotError
from pilot.service.origin.checking import Facts, Fault, Question, check
from pilot.service.origin.codes import ErrorCode, OriginError
from pilot.service.parsing import NAME

if TYPE_CHECKING:
    from pilot.manager.handles import Task
    from pilot.manager.manager import PilotManager

#: Answers that are kept for programs that come again, and characters of all of their programs.
KEPT, KEPT_CHARACTERS = 5000, 32 << 20
#: Programs of one call; calls at once; and seconds that a call may take.
AT_ONCE, CALLS, SECONDS = 50, 2, 120.0

_Answer = Facts | Fault


class Checker:
    """For the event loop of the server."""

    def __init__(self, manager: PilotManager) -> None:
        """Make it for a manager whose pilots check."""
        self._manager = manager
        self._kept: OrderedDict[bytes, _Answer] = OrderedDict()
        self._characters = 0
        self._waiting: dict[bytes, tuple[Question, asyncio.Future[_Answer]]] = {}
        self._asked: dict[bytes, asyncio.Future[_Answer]] = {}
        self._calls: set[asyncio.Task[None]] = set()

    async def facts(self, questions: Sequence[Question]) -> list[Facts]:
        """What the programs are.

        Raises:
            OriginError: one is not right, the first one's error; or they cannot be checked now.
        """
        answers = await asyncio.gather(*(self._answer(one) for one in questions))
        found = []
        for place, answer in enumerate(answers):
            if isinstance(answer, Fault):
                of = f" (program {place + 1} of {len(answers)})" if len(answers) > 1 else ""
                raise OriginError(f"{answer.message}{of}", code=ErrorCode(answer.code))
            found.append(answer)
        return found

    async def _answer(self, question: Question) -> _Answer:
        key = msgspec.msgpack.encode(question)
        if (known := self._kept.get(key)) is not None:
            self._kept.move_to_end(key)
            return known
        future = self._asked.get(key)
        if future is None:
            future = self._asked[key] = asyncio.get_running_loop().create_future()
            self._waiting[key] = question, future
            self._send()
        return await asyncio.shield(future)

    def _send(self) -> None:
        """Programs that come while both calls are away wait for the next one, so that a call has many."""
        while self._waiting and len(self._calls) < CALLS:
            keys = list(self._waiting)[:AT_ONCE]
            call = asyncio.create_task(self._call({key: self._waiting.pop(key) for key in keys}))
            self._calls.add(call)
            call.add_done_callback(self._called)

    def _called(self, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        self._send()

    async def _call(self, asked: dict[bytes, tuple[Question, asyncio.Future[_Answer]]]) -> None:
        answers: list[_Answer]
        try:
            answers = await self._ask([question for question, _ in asked.values()])
        except (PilotError, TimeoutError) as error:
            message = f"programs cannot be checked now: {error}; try again in a minute"
            answers = [Fault(int(ErrorCode.BACKEND), message)] * len(asked)
        else:
            for key, answer in zip(asked, answers, strict=True):
                self._keep(key, answer)
        for (key, (_, future)), answer in zip(asked.items(), answers, strict=True):
            del self._asked[key]
            if not future.done():
                future.set_result(answer)

    async def _ask(self, questions: list[Question]) -> list[_Answer]:
        description = TaskDescription(function=check, args=(questions,), name=NAME, priority=1, timeout=SECONDS)
        task: Task[list[_Answer]] = self._manager.submit_task(description)
        answers = await asyncio.wrap_future(task)
        await asyncio.to_thread(self._manager.forget, [task])
        return answers

    def _keep(self, key: bytes, answer: _Answer) -> None:
        """Those that were not asked for longest make room."""
        self._kept[key] = answer
        self._characters += len(key)
        while len(self._kept) > KEPT or self._characters > KEPT_CHARACTERS:
            oldest, _ = self._kept.popitem(last=False)
            self._characters -= len(oldest)
