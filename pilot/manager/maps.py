"""`PilotManager.map` in chunks: many inputs in one task, and each with a result or an error of its own."""

from __future__ import annotations

import math
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeVar, overload

from pilot.descriptions import TaskDescription
from pilot.descriptions.tasks import with_place
from pilot.errors import invalid
from pilot.fields import whole
from pilot.manager.handles import Task, Together, wait_done
from pilot.manager.waiting import end_of
from pilot.publishing import publish
from pilot.wire import payload
from pilot.wire.callables import name_of
from pilot.worker.chunks import ChunkFunction, ChunkResult, results_of
from pilot.worker.initialized import Initialized

R = TypeVar("R")

#: Inputs of one task; "auto": as many as take about `CHUNK_SECONDS`.
ChunkSize = int | Literal["auto"]
#: How long a chunk shall take.
CHUNK_SECONDS = 0.05
#: With "auto" each core gets at least so many chunks, so that all cores end at about the same time.
CHUNKS_PER_CORE = 4
#: A chunk that takes as long tells how long an input takes; after a shorter one the next is larger by this factor.
TELLING_SECONDS, GROWTH = 0.002, 64
#: Seconds for which "auto" waits for a measurement, and inputs of a chunk, at most, when there is none by then.
MEASURE_SECONDS, UNMEASURED = 1.0, 64


class MapResult(Together, Sequence[R]):
    """The results of a map in chunks, in the order of the inputs. Reading one waits for its chunk.

    A chunk is one task. What an input raises is raised where its result is read; the other inputs of the chunk have
    their results. What ends a chunk (a worker that dies, a timeout, `cancel`) ends all inputs of it, and a chunk that
    was lost runs again as a whole. What an input changes in the function's globals is seen by later ones of its chunk.

    As an argument of a task it stands for the list of its results, and where a manager wants tasks for those of its
    chunks: ``manager.wait_tasks(mapped)``, ``manager.cancel(mapped)``.
    """

    def __init__(self, tasks: Sequence[Task[ChunkResult]], firsts: Sequence[int], count: int) -> None:
        """Make it; `submit` does.

        Args:
            tasks: of the chunks, in order.
            firsts: the number of the first input of each.
            count: of all inputs.
        """
        #: The task of each chunk.
        self.tasks = tuple(tasks)
        self._firsts = firsts
        self._count = count
        #: The chunk that was read last: its number, and what `_ends` returned.
        self._read: tuple[int, tuple[list[Any], dict[int, bytes]]] = (-1, ([], {}))

    def __len__(self) -> int:
        return self._count

    def __reduce__(self) -> Any:
        return results_of, (self.tasks,)

    def __copy__(self) -> MapResult[R]:
        return self

    def __repr__(self) -> str:
        return f"<MapResult of {self._count} inputs in {len(self.tasks)} chunks>"

    @overload
    def __getitem__(self, index: int) -> R: ...
    @overload
    def __getitem__(self, index: slice) -> list[R]: ...
    def __getitem__(self, index: int | slice) -> R | list[R]:
        """The result of one input, or of several; waits for it.

        Raises:
            Exception: what this input raised, or what ended its chunk.
        """
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(self._count))]
        chunk, place = self._place(index)
        values, errors = self._ends(chunk)
        if place in errors:
            raise self._error(chunk, place, errors[place])
        value: R = values[place]
        return value

    def __iter__(self) -> Iterator[R]:
        return self.within(None)

    def within(self, timeout: float | None) -> Iterator[R]:
        """The results in order, each as soon as its chunk has ended.

        Args:
            timeout: seconds from the first result that is asked for; None: for ever.

        Raises:
            TimeoutError: the next chunk has not ended by then.
            Exception: what the next input raised, or what ended its chunk.
        """
        end = end_of(timeout)
        for chunk, task in enumerate(self.tasks):
            wait_done(task, None if end is None else max(0.0, end - time.monotonic()))
            values, errors = self._ends(chunk)
            if not errors:
                yield from values
                continue
            for place, value in enumerate(values):
                if place in errors:
                    raise self._error(chunk, place, errors[place])
                yield value

    def results(self, timeout: float | None = None, return_exceptions: bool = False) -> list[R | BaseException]:
        """The results of all inputs.

        Args:
            timeout: seconds to wait at most; None: for ever.
            return_exceptions: have errors in their places, instead of raising the first one.

        Raises:
            TimeoutError: some chunk is not finished within that time.
            Exception: what the first input that failed raised.
        """
        self.wait(timeout)
        if not return_exceptions:
            return list(self)
        return [self[index] if (error := self.exception(index)) is None else error for index in range(self._count)]

    def exception(self, index: int) -> BaseException | None:
        """What ``self[index]`` would raise; None when it has a result. Waits for it."""
        chunk, place = self._place(index)
        try:
            _, errors = self._ends(chunk)
        except Exception as error:
            return error
        return self._error(chunk, place, errors[place]) if place in errors else None

    def wait(self, timeout: float | None = None) -> None:
        """Wait until all chunks have ended.

        Raises:
            TimeoutError: they have not within ``timeout`` seconds.
        """
        deadline = end_of(timeout)
        for task in self.tasks:
            wait_done(task, None if deadline is None else max(0.0, deadline - time.monotonic()))

    def done(self) -> bool:
        """True when all chunks have ended."""
        return all(task.done() for task in self.tasks)

    def cancel(self) -> None:
        """Cancel the chunks that have not ended, the last ones first. Blocks as `Task.cancel` does."""
        for task in reversed(self.tasks):
            task.cancel()

    def _place(self, index: int) -> tuple[int, int]:
        """The chunk of an input, and its place there."""
        number = index + self._count if index < 0 else index
        if not 0 <= number < self._count:
            raise IndexError(f"input {index} of a map over {self._count}")
        chunk = bisect_right(self._firsts, number) - 1
        return chunk, number - self._firsts[chunk]

    def _ends(self, chunk: int) -> tuple[list[Any], dict[int, bytes]]:
        """The results of a chunk, and the errors of its inputs by their places; kept for what is read next."""
        known, ends = self._read  # another thread may read another chunk meanwhile
        if known != chunk:
            result = self.tasks[chunk].result()
            ends = result.values(), result.errors
            self._read = chunk, ends
        return ends

    def _error(self, chunk: int, place: int, error: bytes) -> BaseException:
        task = self.tasks[chunk]
        where = f"input {self._firsts[chunk] + place} of {task.name} (task {task.id})"
        return payload.load_exception(error, where, where, task=task.id)


publish(MapResult)


class Owner(Protocol):
    """Whose tasks the chunks are."""

    def cores(self) -> int:
        """How many the pilots have."""

    def cancel(self, tasks: Sequence[Task[Any]]) -> None:
        """Cancel them. Does not block."""


def submit(
    submit_task: Callable[[TaskDescription], Task[Any]],
    owner: Owner,
    function: Callable[..., Any],
    iterables: Sequence[Iterable[Any]],
    chunksize: ChunkSize,
    options: Mapping[str, Any] | None = None,
) -> MapResult[Any]:
    """Submit a map in chunks.

    Args:
        submit_task: of the manager.
        owner: whose tasks they are.
        function: called for each input, as it is now.
        iterables: for each argument its values; the shortest one counts.
        chunksize: inputs of each task.
        options: fields of the tasks' description; ``timeout`` and ``expected_duration`` are those of one input.

    Raises:
        DescriptionError: the ``chunksize`` is not valid; or as ``submit_task``.
    """
    options = options or {}
    check_fields("map", options, has_key=True)
    if chunksize == "auto" and options.get("key") is not None:
        raise invalid("map: chunksize", chunksize, "a whole number with a key: the same chunks must come again")
    if chunksize != "auto":
        chunksize = whole("map: chunksize", chunksize, 'a whole number of at least 1, or "auto"')
    chunks = _Chunks(submit_task, function, iterables, options)
    try:
        if chunksize == "auto":
            chunks.add_measured(owner.cores())
        else:
            chunks.add_all(chunksize)
    except BaseException:
        owner.cancel(without_key(chunks.tasks))
        raise
    return MapResult(chunks.tasks, chunks.firsts, chunks.count)


def without_key(tasks: Sequence[Task[R]]) -> list[Task[R]]:
    """Those that are cancelled when one that was to be submitted with them is refused. The others may be of an earlier
    submission, and are found by the next one."""
    return [task for task in tasks if task.key is None]


def check_fields(method: str, fields: Mapping[str, Any], *, has_key: bool = False) -> None:
    """Refuse fields of a description that a method has for all its tasks; ``has_key``: each gets a key of its own.

    Raises:
        DescriptionError: one belongs to a single task, or is not valid.
    """
    for field in ("function", "args", "kwargs") if has_key else ("function", "args", "kwargs", "key"):
        if field in fields:
            raise invalid(f"{method}: {field}", fields[field], "nothing: it belongs to one task")
    TaskDescription.build({"function": print, **fields})


class _Chunks:
    """Makes the tasks of a map."""

    def __init__(
        self,
        submit_task: Callable[[TaskDescription], Task[Any]],
        function: Callable[..., Any],
        iterables: Sequence[Iterable[Any]],
        options: Mapping[str, Any],
    ) -> None:
        wanted = TaskDescription.build({"function": function, **options})
        self._options = {"name": name_of(function), **options}
        initializer, initargs = self._options.pop("initializer", None), self._options.pop("initargs", ())
        if initializer is not None:  # the inputs of a chunk share it
            function = Initialized.of(function, initializer, initargs)
        for field in ("retries", "retry_delay", "retry_on"):
            self._options.pop(field, None)
        self._each = {name: getattr(wanted, name) for name in ("timeout", "expected_duration") if name in options}
        self._function = ChunkFunction(payload.dump_function(function), wanted.retries, wanted.terms().retry)
        self._submit_task = submit_task
        self._columns: list[Sequence[Any]] = [list(*iterables)] if len(iterables) == 1 else []
        if len(iterables) > 1:  # the shortest one counts
            self._columns = list(zip(*zip(*iterables, strict=False), strict=True))
        self.count = len(self._columns[0]) if self._columns else 0
        self.tasks: list[Task[ChunkResult]] = []
        self.firsts: list[int] = []
        self._next = 0

    def add_all(self, size: int) -> None:
        """Submit the inputs that are left, so many in each task."""
        while self._next < self.count:
            self._add(size)

    def add_measured(self, cores: int) -> None:
        """The same, as many as take `CHUNK_SECONDS`, by the first ones, which are waited for. One measurement is not
        enough: the first call in a worker may import modules."""
        most = max(1, math.ceil(self.count / (CHUNKS_PER_CORE * max(1, cores))))
        size, told, each = 1, 0, math.inf
        deadline = time.monotonic() + MEASURE_SECONDS
        while self._next < self.count and told < 2:
            task = self._add(size)
            try:
                wait_done(task, max(0.0, deadline - time.monotonic()))
            except TimeoutError:
                each = min(each, CHUNK_SECONDS / (1 if task.running() else UNMEASURED))
                break
            seconds = task.info.seconds or 0.0
            each = min(each, seconds / size)
            if seconds >= TELLING_SECONDS or size == most:
                told += 1
            else:
                size = min(most, GROWTH * size)
        self.add_all(min(most, max(1, int(CHUNK_SECONDS / each))) if each else most)

    def _add(self, size: int) -> Task[ChunkResult]:
        end = min(self.count, self._next + size)
        args = tuple(column[self._next : end] for column in self._columns)
        each = {name: (end - self._next) * seconds for name, seconds in self._each.items()}
        options = with_place({**self._options, **each}, self._next)
        task = self._submit_task(TaskDescription(function=self._function, args=args, **options))
        self.tasks.append(task)
        self.firsts.append(self._next)
        self._next = end
        return task
