"""A thread that makes calls one after the other."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any


class CallQueue:
    """Calls one after the other in a thread. An executor of the standard library takes nothing any more when a script
    that did not close its manager ends; this one does."""

    def __init__(self, name: str = "pilot-launcher") -> None:
        """Make it; ``name`` is the thread's."""
        self._queue: SimpleQueue[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]] | None] = SimpleQueue()
        self.is_over = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def submit(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        answer: Future[Any] = Future()
        self._queue.put((answer, function, args))
        return answer

    def shutdown(self, wait: bool = True) -> None:
        """Take no more calls. Blocks until all are made, unless it is not to ``wait``. May be called again, as after a
        Ctrl-C in it."""
        self.is_over = True
        self._queue.put(None)
        if wait and self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        while (call := self._queue.get()) is not None:
            answer, function, args = call
            try:
                answer.set_result(function(*args))
            except BaseException as error:  # SystemExit of a launcher included: the thread goes on
                answer.set_exception(error)
