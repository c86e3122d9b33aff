"""What the task of a chunk of `PilotManager.map` runs: one function for many inputs, each with its own end."""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pilot.errors import NotPicklable
from pilot.interfaces import WorkFunction
from pilot.resources import Retry
from pilot.wire import payload
from pilot.wire.exceptions import classes_of
from pilot.worker import coroutines, task_process


class ChunkResult(NamedTuple):
    """How the inputs of a chunk ended, as it travels."""

    #: The pickle of the list of results, None where there is none, and the large buffers beside it.
    frames: list[Any]
    #: Place in the chunk → what the input raised, of `payload.dump_exception`.
    errors: dict[int, bytes]

    def values(self) -> list[Any]:
        """The results in order, None for inputs that have raised."""
        data, *buffers = self.frames
        loaded: list[Any] = pickle.loads(data, buffers=buffers)
        return loaded


def results_of(chunks: Sequence[ChunkResult]) -> list[Any]:
    """The results of all inputs of a map, which is an argument of a task.

    Raises:
        Exception: what the first input that failed has raised.
    """
    results: list[Any] = []
    for chunk in chunks:
        for place in sorted(chunk.errors):
            where = f"input {len(results) + place} of a map that is an argument"
            raise payload.load_exception(chunk.errors[place], where, where)
        results += chunk.values()
    return results


@dataclass(frozen=True)
class ChunkFunction(WorkFunction):
    """Calls a function for each input of a chunk.

    The function is loaded for each chunk, so that no chunk sees what another one has changed in it.
    """

    #: Of `payload.dump_function`.
    code: bytes = field(repr=False)
    #: How often an input that raises is tried again; and when, and for what (None: at once, for all).
    retries: int = 0
    retry: Retry | None = None

    def __call__(self, *columns: Sequence[Any]) -> ChunkResult:
        """Run it.

        Args:
            columns: for each argument of the function its values, all of the same length.
        """
        # the function is an argument, so that what it brings along is found by name in the worker's ``__main__``
        given = payload.load(self.code), self.retries, self.retry or Retry(), columns
        return task_process.call(_run, given, {})  # type: ignore[no-any-return]


def _run(function: Callable[..., Any], retries: int, retry: Retry, columns: tuple[Sequence[Any], ...]) -> ChunkResult:
    values: list[Any] = []
    errors: dict[int, bytes] = {}
    pid = os.getpid()
    for place, args in enumerate(zip(*columns, strict=True)):
        for number in range(1, retries + 2):
            try:
                value = coroutines.call(function, args, {})
            except BaseException as error:
                _stay_one(pid, error)
                if number > retries or not retry.is_for(classes_of(type(error))):
                    value, errors[place] = None, payload.dump_exception(error)
                    break
                time.sleep(retry.seconds(number))
            else:
                _stay_one(pid)
                break
        values.append(value)
    return ChunkResult(_frames(values, errors), errors)


def _stay_one(pid: int, error: BaseException | None = None) -> None:
    """A child that an input has forked ends there: the other inputs are its parent's."""
    if os.getpid() != pid:
        task_process.end_child(error)


def _frames(values: list[Any], errors: dict[int, bytes]) -> list[Any]:
    """The pickle of the results. One that cannot be pickled is an error of its own input."""
    try:
        data, *buffers = payload.pieces(values)
    except Exception:
        for place, value in enumerate(values):
            try:
                payload.pieces(value)
            except Exception as error:
                kind = type(value).__qualname__
                text = f"the result cannot be pickled ({kind}): {type(error).__name__}: {error}"
                values[place], errors[place] = None, payload.dump_exception(NotPicklable(text))
        data, *buffers = payload.pieces(values)
    return [data, *map(pickle.PickleBuffer, buffers)]
