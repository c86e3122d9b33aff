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

from pilot.errors import NotPicklable
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
                self._settle([Ended(key, weak()) for key, weak in waiting])
            except Exception:  # the cluster may end at any time; the manager has the results
                log.debug("%d references could not be settled", len(waiting), exc_info=True)

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
    """True and the pickled result of a reference whose task has ended, or False and its pickled exception."""
    value, error = outcome(reference)
    dump: Callable[[Any], bytes] = cloudpickle.dumps
    try:
        return error is None, dump(value if error is None else error)
    except Exception as problem:
        return False, pickle.dumps(NotPicklable(f"{type(problem).__name__}: {problem}"))
