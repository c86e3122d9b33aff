"""`ChildTask`: what a task holds of one that it has submitted."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Generic, Protocol

from pilot.publishing import publish
from pilot.results import CANCELLED
from pilot.wire import payload

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    R = TypeVar("R", default=Any)  # as of `Task`
else:
    from typing import TypeVar

    R = TypeVar("R")


class Parent(Protocol):
    """What the handle asks of the manager that its task has."""

    def watch(self, tasks: Iterable[Any]) -> None:
        """Have the session's manager tell of their ends."""

    def end_of(self, task: Any) -> Any:
        """How it ended; None: that is not known here."""

    def wait_tasks(self, tasks: Iterable[Any], timeout: float | None = None) -> tuple[list[Any], list[Any]]:
        """Block until they are over; those that are, and those that are not."""

    def value_of(self, task: Any) -> Any:
        """The result of a task that is over."""

    def error_of(self, task: Any) -> BaseException | None:
        """The error of a task that is over; None: it has a result."""

    def as_completed(self, tasks: Iterable[Any], *, timeout: float | None = None) -> Iterator[Any]:
        """Tasks, each when it is over."""

    def tell_of_ends(self, tasks: Iterable[Any], tell: Callable[[Any], None]) -> None:
        """Block until they are over, and call for each."""

    def cancel(self, tasks: Iterable[Any]) -> None:
        """Cancel tasks."""


class ChildTask(Generic[R]):
    """A task that was submitted by another one. It is no `concurrent.futures.Future`: what waits for it has to give its
    cores back meanwhile.

    It can be an argument of further tasks, at any depth, and stands for its result there.
    """

    def __init__(self, manager: Parent, id: int, name: str, key: str | None = None) -> None:
        #: What it was submitted to.
        self.manager = manager
        #: Its number in the session.
        self.id = id
        self.name = name
        #: What it was called by when it was submitted, so that it is submitted once.
        self.key = key

    def done(self) -> bool:
        """True when it is known to be over, however it ended. Does not block."""
        self.manager.watch([self])
        return self.manager.end_of(self) is not None

    def cancelled(self) -> bool:
        """True when it was cancelled, as far as that is known. Does not block."""
        end = self.manager.end_of(self)
        return end is not None and end.status == CANCELLED

    def running(self) -> bool:
        """False: whether it runs is not told here. Does not block."""
        return False

    def cancel(self) -> bool:
        """Cancel it. Does not block. False when it is known to be over."""
        is_over = self.done()
        self.manager.cancel([self])
        return not is_over

    def result(self, timeout: float | None = None) -> R:
        """Its result; blocks until there is one, and others have the cores of this task meanwhile.

        Args:
            timeout: seconds to wait at most; None: for ever.

        Raises:
            TimeoutError: it is not over within that time.
            CancelledError: it was cancelled.
            NoPilotError: the wait would never end, since tasks that wait hold the GPUs or the memory that it needs.
            Exception: what it raised, or `DependencyFailed`, `WorkerDied` and the like.
        """
        if (error := self.exception(timeout)) is not None:
            try:
                raise error
            finally:
                del error  # no cycle through the traceback
        value: R = self.manager.value_of(self)
        return value

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What ``result()`` would raise, None when it has a result. Blocks as ``result()`` does.

        Raises:
            TimeoutError: it is not over within that time.
            CancelledError: it was cancelled.
            NoPilotError: as ``result()``.
        """
        if not self.manager.wait_tasks([self], timeout)[0]:
            raise TimeoutError(f"task {self.id} ({self.name}) is not over after {timeout} s")
        return self.manager.error_of(self)

    def __await__(self) -> Generator[Any, None, R]:
        """``await child`` in an ``async`` task: its result, or its error. Cancelling the wait cancels the child."""
        from pilot.worker import awaiting  # asyncio takes 4 MiB, which other workers do without

        return awaiting.result_of(self).__await__()

    def __reduce__(self) -> Any:
        return payload.refer(self.id, self.key, self)

    def __repr__(self) -> str:
        return f"<ChildTask {self.id} {self.name!r}>"


publish(ChildTask)
