"""Waiting for a vendor's job, so that it can be cancelled, and a vendor's errors as the library's."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from pilot.errors import PilotError, QPUCancelled, QPUError, QPUUnavailable

T = TypeVar("T")

#: Names of exceptions, of whatever library, that say that something cannot be reached now.
_UNREACHABLE = frozenset(
    {
        "ConnectionError",
        "ConnectTimeout",
        "ConnectionTimeout",
        "EndpointConnectionError",
        "MaxRetryError",
        "ReadTimeout",
        "Timeout",
        "TimeoutError",
        "gaierror",
    }
)
#: What a message has in it when the cause is a connection and the exception does not say so.
_WORDS = (
    "connection refused",
    "failed to establish a new connection",
    "max retries exceeded",
    "name or service not known",
    "temporarily unavailable",
    "timed out",
    "error sending request",
)


def translate(name: str, error: BaseException, doing: str, job: str | None = None) -> QPUError:
    """The vendor's error as a `QPUError`, or `QPUUnavailable` when it could not be reached; its words are kept.

    Args:
        name: of the QPU.
        error: the vendor's.
        doing: what was tried: "submitting the job".
        job: its native id, when there is one.
    """
    causes: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in causes:
        causes.append(link)
        link = link.__cause__ or link.__context__
    names = {base.__name__ for cause in causes for base in type(cause).__mro__}
    words = f"{type(error).__name__}: {error}"
    status = next((code for cause in causes if isinstance(code := getattr(cause, "status_code", None), int)), 0)
    lost = bool(names & _UNREACHABLE) or any(word in words.lower() for word in _WORDS) or status >= 500
    data: dict[str, Any] = {"qpu": name} | ({"job": job} if job else {})
    if lost:
        return QPUUnavailable(f"{name} cannot be reached, {doing}: {words}", **data)
    return QPUError(f"{name}, {doing}: {words}", **data)


class Waiting:
    """Calls that another thread can end, although they block: the caller stops waiting for them."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._cancelled = threading.Event()
        self._changed = threading.Condition()

    def begin(self) -> None:
        """A new job: what was cancelled is past."""
        self._cancelled.clear()

    def cancel(self) -> None:
        """End the waiting, from another thread."""
        self._cancelled.set()
        with self._changed:
            self._changed.notify_all()

    def check(self, job: str | None = None) -> None:
        """Raise QPUCancelled when `cancel` was called."""
        if self._cancelled.is_set():
            said = f"the job {job}" if job else "the job"
            raise QPUCancelled(f"{self.name}: {said} was cancelled", qpu=self.name, job=job)

    def pause(self, seconds: float, job: str | None = None) -> None:
        """Wait so long; QPUCancelled as soon as it is cancelled."""
        self._cancelled.wait(seconds)
        self.check(job)

    def call(self, function: Callable[[], T], job: str | None = None) -> T:
        """``function()`` in a thread of its own; QPUCancelled as soon as it is cancelled, whatever the thread does."""
        results: list[T] = []
        errors: list[BaseException] = []
        over = threading.Event()

        def run() -> None:
            try:
                results.append(function())
            except BaseException as error:
                errors.append(error)
            over.set()
            with self._changed:
                self._changed.notify_all()

        threading.Thread(target=run, name=f"{self.name}-wait", daemon=True).start()
        with self._changed:
            self._changed.wait_for(lambda: over.is_set() or self._cancelled.is_set())
        self.check(job)
        if errors:
            raise errors[0]
        return results[0]


def kept(name: str, error: Exception, doing: str, job: str | None = None) -> PilotError:
    """`translate`, but an error of the library's own stays what it is."""
    return error if isinstance(error, PilotError) else translate(name, error, doing, job)
