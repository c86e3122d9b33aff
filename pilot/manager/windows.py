"""Many tasks from an iterator of inputs, of which only some are there at a time."""

from __future__ import annotations

import queue
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Any, TypeVar

from pilot.errors import invalid
from pilot.fields import whole
from pilot.manager.handles import Task, interrupted
from pilot.manager.maps import ChunkSize, MapResult
from pilot.manager.waiting import end_of, take_from

R = TypeVar("R")
_TASKS = "a list of tasks or another iterable; for one task [task]"
#: The arguments of one input.
Arguments = tuple[Any, ...]


def results(
    submit: Callable[[list[Arguments]], Task[R] | MapResult[R]],
    inputs: Iterable[Arguments],
    window: int,
    size: ChunkSize,
    timeout: float | None = None,
) -> Iterator[R]:
    """The results of inputs in their order. Inputs are taken as results are read, in the thread that reads.

    Args:
        submit: makes the task, or the map, of ``size`` inputs.
        inputs: the arguments of each; so many are taken now as may be unread.
        window: how many inputs are submitted and unread, at most; at least ``size`` are.
        size: inputs that are submitted together.
        timeout: seconds from now on in which the results must be there; None: for ever.

    Raises:
        DescriptionError: the window or the size is not valid.
    """
    window = whole("window", window)
    size = whole("chunksize", size, "a whole number of at least 1, with a window or buffersize")
    blocks = _blocks(iter(inputs), size)
    end = end_of(timeout)
    unread: deque[Task[R] | MapResult[R]] = deque()
    try:
        unread.extend(map(submit, islice(blocks, max(1, window // size))))
    except BaseException:
        for one in unread:
            one.cancel()
        raise
    return _read(submit, unread, blocks, end)


def _blocks(inputs: Iterator[Arguments], size: int) -> Iterator[list[Arguments]]:
    while block := list(islice(inputs, size)):
        yield block


def _read(
    submit: Callable[[list[Arguments]], Task[R] | MapResult[R]],
    unread: deque[Task[R] | MapResult[R]],
    blocks: Iterator[list[Arguments]],
    end: float | None,
) -> Iterator[R]:
    """What was submitted and is not over is cancelled when the caller stops reading, and after an error."""
    try:
        while unread:
            left = None if end is None else max(0.0, end - time.monotonic())
            first = unread[0]
            found = [first.result(left)] if isinstance(first, Task) else first.within(left)
            for number, result in enumerate(found):
                if number == 0:  # the first one is there: the whole block is
                    unread.popleft()
                    unread.extend(map(submit, islice(blocks, 1)))
                yield result
    finally:
        for one in unread:
            one.cancel()


def as_completed(tasks: Iterable[Task[R]], window: int | None, timeout: float | None) -> Iterator[Task[R]]:
    """As `PilotManager.as_completed`."""
    window = None if window is None else whole("window", window)
    if not isinstance(tasks, Iterable) or isinstance(tasks, MapResult):  # which would wait for results
        raise invalid("as_completed", tasks, _TASKS)
    return _ended(_checked(tasks), window, end_of(timeout))


def _checked(tasks: Iterable[Task[R]]) -> Iterator[Task[R]]:
    for task in tasks:
        if not isinstance(task, Task):
            raise invalid("as_completed", task, _TASKS)
        yield task


def _ended(tasks: Iterator[Task[R]], window: int | None, end: float | None) -> Iterator[Task[R]]:
    ended: queue.SimpleQueue[Any] = queue.SimpleQueue()
    open: set[Task[R]] = set()

    def take(most: int | None) -> None:
        """Wait for so many further tasks, or for all."""
        for task in islice((task for task in tasks if task not in open), most):
            open.add(task)
            task.add_done_callback(ended.put)

    take(window)
    if not open:
        return
    of_session = partial(interrupted, next(iter(open)))
    while open:
        try:
            first = take_from(ended, end, of_session)
        except queue.Empty:
            raise TimeoutError(f"{len(open)} task(s) are not finished") from None
        take(1)
        open.remove(first)
        yield first
