"""Functions of tasks that are ``async``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import CoroutineType
from typing import Any

#: The ``asyncio.Runner`` of this process, made for the first coroutine: all tasks of a worker have one event loop, so
#: that a connection that one of them has opened can be used by the next one.
_runners: list[Any] = []


def call(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """``function(*args, **kwargs)``; of an ``async`` function what it returns when it has ended. Blocks until then.

    What the coroutine has started and not awaited goes on while the next coroutine of this process runs.
    """
    result = function(*args, **kwargs)
    return _ended(result) if type(result) is CoroutineType else result


def _ended(coroutine: CoroutineType[Any, Any, Any]) -> Any:
    if not _runners:
        import asyncio  # 4 MiB that other workers do without

        _runners.append(asyncio.Runner())
    return _runners[0].run(coroutine)
