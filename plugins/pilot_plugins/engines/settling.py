"""Settles references as their tasks end, many at a time, in a thread of its own."""

from __future__ import annotations

import logging
import pickle
import weakref
from abc import abstractmethod
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, NamedTuple

import cloudpickle

from pilot.errors import NotPicklable, TaskError
from pilot.interfaces import Reference, References

log = logging.getLogger(__name__)

#: References that are settled with one message, at most.
BATCH = 256


class Ended(NamedTuple):
    """A reference whose task has ended: its key in the cluster, and itself; None: nobody holds it any more."""

    key: Hashable
    reference: Reference | None


class SettledReferences(References):
    """References that the cluster learns of when their tasks end. A subclass makes them, and sends the values."""

    def __init__(self) -> None:
        #: What `_watch` left; None: close.
        self._ended: SimpleQueue[tuple[Hashable, weakref.ref[Reference]] | None] = SimpleQueue()
        Thread(target=self._run, name="pilot-references", daemon=True).start()

    def _watch(self, key: Hashable, reference: Reference) -> None:
        """Settle this reference when its task has ended."""
        reference.made_by = self
        weak, put = weakref.ref(reference), self._ended.put

        def over(_: Future[Any]) -> None:
            put((key, weak))

        reference.task.add_done_callback(over)

    def close(self) -> None:
        self._ended.put(None)

    def _run(self) -> None:
        while (first := self._ended.get()) is not None:
            waiting = [first]
            try:
                while len(waiting) < BATCH and (more := self._ended.get_nowait()) is not None:
                    waiting.append(more)
            except Empty:
                pass
            else:
                if len(waiting) < BATCH:
                    self._ended.put(None)  # closed: these are the last ones
            if not self.is_open():
                return
            try:
                self._hand_over([Ended(key, weak()) for key, weak in waiting])
            except Exception:  # the cluster may end at any time; the manager has the results
                log.debug("%d references could not be settled", len(waiting), exc_info=True)

    def _hand_over(self, ended: Sequence[Ended]) -> None:
        if self.record is not None:
            self.record(one.reference.task for one in ended if one.reference is not None)
        self._settle(ended)

    @abstractmethod
    def _settle(self, ended: Sequence[Ended]) -> None:
        """Tell the cluster how these have ended. Blocks."""


def outcome(reference: Reference) -> tuple[Any, BaseException | None]:
    """The result of a reference whose task has ended, or its exception."""
    try:
        return reference.result(), None
    except BaseException as error:
        return None, error


def packed(reference: Reference) -> tuple[bool, bytes]:
    """True and the pickled result of a reference whose task has ended, or False and its pickled exception with its
    cause: one of this library with the text, when a pickle does not restore the exception itself."""
    value, error = outcome(reference)
    dump: Callable[[Any], bytes] = cloudpickle.dumps
    if error is None:
        try:
            return True, dump(value)
        except Exception as problem:
            unfit = NotPicklable(f"the result cannot be pickled: {type(problem).__name__}: {problem}")
            return False, dump((unfit, None))
    for failure in ((error, error.__cause__), (error, None)):
        try:
            data = dump(failure)
            pickle.loads(data)
        except Exception:
            continue
        return False, data
    return False, dump((TaskError(f"{type(error).__name__}: {error}"), None))
