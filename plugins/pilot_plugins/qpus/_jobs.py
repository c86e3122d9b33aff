"""QPUs whose jobs run at a vendor's: waiting so that it can be cancelled, and a vendor's errors as the library's."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from pilot.errors import PilotError, QPUCancelled, QPUError, QPUUnavailable
from pilot.interfaces import QPU, Run
from pilot_plugins.qpus._results import as_of, in_registers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qiskit import QuantumCircuit

    from pilot.quantum.outcomes import Outcomes
    from pilot.resources import QPUInfo

T = TypeVar("T")

_log = logging.getLogger(__name__)

#: Seconds between two looks at a job: at first, and at most.
_LOOK, _LOOK_AT_MOST = 0.2, 5.0
#: Seconds that the vendor may be away while a job runs there, before the job is given up.
_LOST_SECONDS = 300.0

#: Names of exceptions of any library which mean that something cannot be reached now.
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
#: Parts of messages about a failed connection, for exceptions of other classes.
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
    """The vendor's error as a `QPUError`, or `QPUUnavailable` when it could not be reached; with its error text.

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
            which = f"the job {job}" if job else "the job"
            raise QPUCancelled(f"{self.name}: {which} was cancelled", qpu=self.name, job=job)

    def pause(self, seconds: float, job: str | None = None) -> None:
        """Wait so long; QPUCancelled as soon as it is cancelled."""
        self._cancelled.wait(seconds)
        self.check(job)

    def call(self, function: Callable[[], T], job: str | None = None) -> T:
        """``function()`` in a thread of its own; QPUCancelled as soon as it is cancelled, also while the thread still
        runs."""
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

    def until(self, over: Collection[T], ask: Callable[[], T], job: str) -> T:
        """The state in which the job ended, as the vendor reports it. Short outages are waited for: the job runs on.

        Args:
            over: states of a job that has ended.
            ask: reads the vendor's state; called in a thread of its own.
            job: its native id.

        Raises:
            QPUUnavailable: the vendor could not be reached for too long.
            QPUError: the vendor does not answer the question.
            QPUCancelled: `cancel` was called.
        """
        pause, lost_since = _LOOK, None
        while True:
            try:
                if (state := self.call(ask, job)) in over:
                    return state
                lost_since = None
            except QPUCancelled:
                raise
            except Exception as error:
                found = kept(self.name, error, f"asking for the job {job}", job)
                lost_since = lost_since or time.monotonic()
                if not found.transient or time.monotonic() - lost_since > _LOST_SECONDS:
                    raise found from error
                _log.warning("%s; asking again", found)
            self.pause(pause, job)
            pause = min(pause * 1.5, _LOOK_AT_MOST)

    @contextlib.contextmanager
    def attending(self, job: str, stop: Callable[[], object]) -> Iterator[None]:
        """A block that waits for a job that was submitted: errors in it become the library's own, and when it is
        cancelled, the job is stopped, for `cancel` may have come before the job was there."""
        try:
            self.check(job)
            yield
        except QPUCancelled:
            with contextlib.suppress(Exception):
                stop()
            raise
        except Exception as error:
            raise kept(self.name, error, f"waiting for the job {job}", job) from error


def kept(name: str, error: Exception, doing: str, job: str | None = None) -> PilotError:
    """`translate`, but an error of the library's own stays what it is."""
    return error if isinstance(error, PilotError) else translate(name, error, doing, job)


class JobQPU(QPU):
    """A QPU that submits jobs to a vendor, waits for them and stops them; a subclass implements these steps."""

    def __init__(self, name: str, address: str) -> None:
        super().__init__(name, address)
        self._waiting = Waiting(name)
        #: The vendor's job that `run` waits for.
        self._job: Any = None

    def _limits(self) -> QPUInfo:
        """What a job is checked by."""
        return self.info()

    @abstractmethod
    def _submit(self, circuits: Sequence[QuantumCircuit], run: Run) -> tuple[Any, str]:
        """The vendor's job, and its native id; "" if it has none. `circuits` are those of `run`, their bits in
        registers."""

    @abstractmethod
    def _results(self, job: Any, native: str, circuits: Sequence[QuantumCircuit], run: Run) -> list[Outcomes]:
        """Wait for the job's end, and what it gave for each of `circuits`."""

    @abstractmethod
    def _stop(self, job: Any) -> object:
        """Ask for the job's end. Nothing happens when it is over."""

    def run(self, run: Run) -> list[Outcomes]:
        self._waiting.begin()
        run.check(self._limits())
        sent = [in_registers(circuit) for circuit in run.circuits]
        try:
            job, native = self._submit(sent, run)
        except Exception as error:
            raise kept(self.name, error, "submitting a job") from error
        self._job = job
        if native:
            run.on_job(native)
        try:
            with self._waiting.attending(native, lambda: self._stop(job)):
                return as_of(run.circuits, self._results(job, native, sent, run))
        finally:
            self._job = None

    def cancel(self) -> None:
        job = self._job
        self._waiting.cancel()
        if job is not None:
            self._stop(job)
