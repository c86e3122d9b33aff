"""The contract of references: an engine's own kind of future that ends as a task of a manager does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Any

#: Blocks until there is a record of those of these tasks that are over.
Record = Callable[[Iterable[Future[Any]]], None]


class Reference:
    """A task of a manager, as programs hold it that were written for an engine.

    The references of an engine have the engine's own class as a second base: they are `ray.ObjectRef` or
    `distributed.Future` to all that takes these. The methods here ask the manager and need no connection to the
    engine's cluster.
    """

    #: What made it; None: it is no engine's.
    made_by: References | None = None

    def __init__(self, task: Future[Any], read: Callable[[Any], Any] | None = None) -> None:
        """Refer to a task.

        Args:
            task: of a manager, or any other future.
            read: makes the result of what the task returned; None: that is the result.
        """
        self._task = task
        self._read = read

    @property
    def task(self) -> Future[Any]:
        """The manager's own handle."""
        return self._task

    def result(self, timeout: float | None = None) -> Any:
        """The result; blocks until there is one, and raises what the task raised.

        Raises:
            TimeoutError: there is none within ``timeout`` seconds.
            CancelledError: it was cancelled.
        """
        try:
            value = self._task.result(timeout)
        finally:
            self._recorded()
        return value if self._read is None else self._read(value)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What the task raised; None: it has a result. Blocks as `result` does."""
        try:
            return self._task.exception(timeout)
        finally:
            self._recorded()

    def _recorded(self) -> None:
        if self.made_by is not None and self.made_by.record is not None:
            self.made_by.record([self._task])

    def done(self) -> bool:
        """True when the task is over, however it ended."""
        return self._task.done()

    def cancelled(self) -> bool:
        """True when the task was cancelled."""
        return self._task.cancelled()

    def cancel(self) -> bool:
        """Cancel the task, also when it runs. Blocks until that is confirmed; False: it had ended before."""
        return self._task.cancel()

    def add_done_callback(self, function: Callable[[Any], Any]) -> None:
        """Call a function with this reference when the task is over."""
        self._task.add_done_callback(lambda _: function(self))

    def release(self) -> None:
        """Nothing: the manager keeps the result."""

    def value(self) -> Any:
        """What stands for its result as an argument of a task of the same manager."""
        return self._task if self._read is None else Made(_read, self._read, self._task)

    def __reduce__(self) -> Any:
        """Inside an argument of a task of the same manager it is what the engine makes of its references there;
        elsewhere it is pickled as the engine's reference.

        Raises:
            TypeError: it is no engine's.
        """
        try:
            self._task.__reduce__()
        except TypeError:
            return self.engines_own()
        return self.inside()

    def inside(self) -> Any:
        """How it is pickled inside an argument; as ``__reduce__``. Here: for its result."""
        value = self.value()
        return value.__reduce__()

    def engines_own(self) -> Any:
        """How the engine pickles it; as ``__reduce__``."""
        raise TypeError(f"a {type(self).__name__} can be pickled only as an argument of a task")


class Made:
    """An argument that is made where the task runs: by a function, from values that are pickled."""

    def __init__(self, make: Callable[..., Any], *values: Any) -> None:
        self._parts = (make, values)

    def __reduce__(self) -> Any:
        return self._parts


def _read(read: Callable[[Any], Any], value: Any) -> Any:
    return read(value)


class References(ABC):
    """Makes references on one cluster that this process is connected to. Any thread may call it."""

    #: Of the cluster.
    address: str
    #: Called before anyone hears that a task is over.
    record: Record | None = None

    @abstractmethod
    def make(self, task: Future[Any], read: Callable[[Any], Any] | None = None) -> Reference:
        """A reference to a task, of the engine's own class. Does not block."""

    @abstractmethod
    def is_open(self) -> bool:
        """False when this process is no longer connected to the cluster."""

    @abstractmethod
    def wait(self, references: Sequence[Any], timeout: float | None = None) -> None:
        """Block until the cluster knows that all of these are over, or for ``timeout`` seconds: references that were
        made here, and the engine's own."""

    @abstractmethod
    def is_own(self, value: Any) -> bool:
        """True for a reference of the engine's class, whoever made it."""

    @abstractmethod
    def value(self, reference: Any) -> Any:
        """The value of a reference of the engine's class; blocks until it is there, and raises what its task raised."""

    def inside(self, reference: Any) -> Any:
        """What stands for a reference of the engine's class inside an argument, such as in a list. Blocks as `value`
        does. Here: its value."""
        return self.value(reference)

    def listed(self, given: Any) -> list[Any] | None:
        """The references that a lazy collection of the engine's makes, the same ones each time; None: it is none."""
        return None

    @abstractmethod
    def close(self) -> None:
        """Settle no further references. Does not block."""
