"""``await child`` in an ``async`` task. One thread waits for all children that coroutines begin to await at the same
time."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import defaultdict
from concurrent.futures import CancelledError
from typing import Any

#: By event loop, what its coroutines have begun to await in this round of it.
_begun: dict[asyncio.AbstractEventLoop, list[tuple[Any, asyncio.Future[Any]]]] = {}


async def result_of(child: Any) -> Any:
    """The result of a `ChildTask`. Cancelling the wait cancels the child, as with a `Task`."""
    child.manager.end_of(child)  # an error for one of a task that is over
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    if loop not in _begun:
        _begun[loop] = []
        loop.call_soon(_start, loop)
    _begun[loop].append((child, future))
    try:
        return await future
    except asyncio.CancelledError:
        with contextlib.suppress(RuntimeError):  # the task is over, and its children with it
            child.cancel()
        raise


def _start(loop: asyncio.AbstractEventLoop) -> None:
    threading.Thread(target=_wait, args=(loop, _begun.pop(loop)), name="pilot-await", daemon=True).start()


def _wait(loop: asyncio.AbstractEventLoop, awaited: list[tuple[Any, asyncio.Future[Any]]]) -> None:
    """In a thread: have each future settled when its child is over."""
    futures = defaultdict(list)
    for child, future in awaited:
        futures[child.id].append(future)

    def tell(child: Any) -> None:
        for future in futures.pop(child.id):
            loop.call_soon_threadsafe(_settle, future, child, None)

    children = [child for child, _ in awaited]
    with contextlib.suppress(RuntimeError):  # the loop is closed
        try:
            children[0].manager.tell_of_ends(children, tell)
        except Exception as error:
            for child, future in awaited:
                loop.call_soon_threadsafe(_settle, future, child, error)


def _settle(future: asyncio.Future[Any], child: Any, error: BaseException | None) -> None:
    """In the event loop: a child is over, or the wait for it has ended with an error."""
    if future.done():  # its coroutine waits no more
        return
    try:
        if error is not None:
            raise error
        result = child.result()
    except CancelledError as problem:
        future.cancel(str(problem))
    except Exception as problem:
        future.set_exception(problem)
    else:
        future.set_result(result)
