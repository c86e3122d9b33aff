"""Jobs of the primitives and of the backend: Qiskit's job interfaces over the futures of tasks."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, CancelledError, Future, wait
from datetime import UTC, datetime
from typing import Any, TypeVar

from qiskit.primitives import BasePrimitiveJob, PrimitiveResult
from qiskit.providers import JobStatus, JobV1
from qiskit.result import Result

_R = TypeVar("_R")


class Gathering:
    """One result of many tasks, put together when it is first asked for."""

    def __init__(self, tasks: Sequence[Future[Any]], finish: Callable[[list[Any]], _R]) -> None:
        self.tasks = tuple(tasks)
        self._finish = finish
        self._whole: list[Any] = []
        self._created = time.time()
        #: Of one that was unpickled, which has no tasks any more.
        self._known: dict[str, Any] | None = None

    def result(self, timeout: float | None) -> Any:
        """Block until there is one; a task that fails ends the others, and its exception is raised."""
        if not self._whole:
            self._raise_failure()
            left = wait([task for task in self.tasks if not task.done()], timeout, FIRST_EXCEPTION).not_done
            self._raise_failure()
            if left:
                raise TimeoutError(f"{len(left)} of {len(self.tasks)} tasks are not finished after {timeout} s")
            self._whole.append(self._finish([task.result() for task in self.tasks]))
        return self._whole[0]

    def _raise_failure(self) -> None:
        for task in self.tasks:
            if task.done() and (task.cancelled() or task.exception() is not None):
                self.cancel()
                task.result()

    def status(self) -> JobStatus:
        """Does not block. One task that failed makes the job fail, one that was cancelled makes it cancelled."""
        if self._whole:
            return JobStatus.DONE
        over = [task for task in self.tasks if task.done()]
        if any(not task.cancelled() and task.exception() is not None for task in over):
            return JobStatus.ERROR
        if any(task.cancelled() for task in over):
            return JobStatus.CANCELLED
        if len(over) == len(self.tasks):
            return JobStatus.DONE
        if over or any(task.running() for task in self.tasks):
            return JobStatus.RUNNING
        return JobStatus.QUEUED

    def cancel(self) -> bool:
        """Cancel all that is not over. True when there was something to cancel."""
        cancelled = [task.cancel() for task in self.tasks if not task.done()]
        return any(cancelled)

    def metrics(self) -> dict[str, Any]:
        """Times and seconds; see `PilotPrimitiveJob.metrics`."""
        if self._known is not None:
            return self._known
        records = [info for task in self.tasks for info in _records(task)]
        is_over = all(task.done() for task in self.tasks)
        started = [info.started for info in records if info.started is not None]
        finished = [info.finished for info in records if info.finished is not None] if is_over else []
        seconds = sum(info.seconds or 0.0 for info in records)
        on_devices = sum(info.seconds or 0.0 for info in records if info.qpu is not None)
        return {
            "timestamps": {
                "created": _text_of(min([self._created, *(info.submitted for info in records if info.submitted)])),
                "running": _text_of(min(started, default=None)),
                "finished": _text_of(max(finished, default=None)),
            },
            "bss": {"seconds": seconds},
            "usage": {
                "status": "completed" if is_over else "pending",
                "seconds": seconds,
                "quantum_seconds": on_devices,
                "qpu_charge_time_seconds": seconds,
            },
            "num_circuits": len(self.tasks),
        }

    def __getstate__(self) -> dict[str, Any]:
        whole = [self.result(None)]
        return {"tasks": (), "_finish": None, "_whole": whole, "_created": self._created, "_known": self.metrics()}


def _records(task: Future[Any]) -> list[Any]:
    """The records of a task, or of its parts, as far as there are some: a Future of others has none."""
    parts = getattr(task, "parts", ()) or (task,)
    return [info for part in parts if (info := getattr(part, "info", None)) is not None]


def _text_of(seconds: float | None) -> str | None:
    """A time as qiskit-ibm-runtime writes it: ISO 8601, in UTC."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class PilotPrimitiveJob(BasePrimitiveJob[PrimitiveResult[Any], JobStatus]):  # type: ignore[misc] # Any to mypy
    """The job of one ``run`` of a sampler or an estimator. Its tasks were submitted when it was made.

    It can be pickled; that waits for its result, which travels with it.
    """

    def __init__(
        self,
        tasks: Sequence[Future[Any]],
        finish: Callable[[list[Any]], PrimitiveResult[Any]],
        tags: Sequence[str] = (),
    ) -> None:
        """Make it of tasks that are under way.

        Args:
            tasks: all that it needs.
            finish: makes the result of theirs, in their order.
            tags: as ``options.environment.job_tags`` has them.
        """
        super().__init__(str(uuid.uuid4()))
        self._gathering = Gathering(tasks, finish)
        #: As they were given.
        self.tags = list(tags)

    @property
    def tasks(self) -> tuple[Future[Any], ...]:
        """The futures of its tasks."""
        return self._gathering.tasks

    def result(self, timeout: float | None = None) -> PrimitiveResult[Any]:
        """The result; blocks until there is one.

        Args:
            timeout: seconds to wait at most; None: for ever.

        Raises:
            TimeoutError: it is not there within that time.
            CancelledError: it was cancelled.
            Exception: what a task raised; what is left of the job is cancelled then.
        """
        result: PrimitiveResult[Any] = self._gathering.result(timeout)
        return result

    def status(self) -> JobStatus:
        """Where it is now. Does not block."""
        return self._gathering.status()

    def done(self) -> bool:
        """True when it has a result."""
        return self.status() is JobStatus.DONE

    def running(self) -> bool:
        """True while a task of it runs, or some are finished and some are not."""
        return self.status() is JobStatus.RUNNING

    def cancelled(self) -> bool:
        """True when it was cancelled."""
        return self.status() is JobStatus.CANCELLED

    def in_final_state(self) -> bool:
        """True when it is over, however it ended."""
        return self.status() in (JobStatus.DONE, JobStatus.CANCELLED, JobStatus.ERROR)

    def cancel(self) -> bool:
        """Cancel its tasks, at the QPU too. True when there was something to cancel."""
        return self._gathering.cancel()

    def usage(self, partial: bool = False) -> float:
        """Seconds that QPUs, or the workers that simulate, have had its circuits: the sum over its tasks. It has what
        compiling and mitigation take on a QPU's worker, and the wait in a vendor's queue. Does not block.

        Args:
            partial: True: those of the tasks that are over. False: 0 until all are.
        """
        usage = self.metrics()["usage"]
        return float(usage["seconds"]) if partial or usage["status"] == "completed" else 0.0

    def metrics(self) -> dict[str, Any]:
        """What is known of its times, under qiskit-ibm-runtime's names. Does not block.

        Returns:
            ``timestamps``: ``created``, ``running`` (the first task began) and ``finished`` (the last one ended), ISO
            8601 in UTC, None as long as it is not known. ``usage``: ``status`` ("pending" or "completed"), ``seconds``
            and ``qpu_charge_time_seconds`` (as `usage`), ``quantum_seconds`` (of these, those on devices). ``bss``:
            ``seconds``. ``num_circuits``: tasks; one with many sets of values is one.
        """
        return self._gathering.metrics()


class PilotJob(JobV1):  # type: ignore[misc]
    """The job of one ``PilotBackend.run``. Its tasks were submitted when it was made."""

    def __init__(self, backend: Any, tasks: Sequence[Future[Any]], finish: Callable[[str, list[Any]], Result]) -> None:
        """Make it of tasks that are under way.

        Args:
            backend: the one that it runs on.
            tasks: all that it needs.
            finish: makes the result of the job's id and theirs, in their order.
        """
        super().__init__(backend, str(uuid.uuid4()))
        self._gathering = Gathering(tasks, lambda results: finish(self.job_id(), results))

    @property
    def tasks(self) -> tuple[Future[Any], ...]:
        """The futures of its tasks."""
        return self._gathering.tasks

    def submit(self) -> None:
        """Nothing: a job is submitted when it is made."""

    def result(self, timeout: float | None = None) -> Result:
        """The result; blocks until there is one. Raises as `PilotPrimitiveJob.result`."""
        result: Result = self._gathering.result(timeout)
        return result

    def status(self) -> JobStatus:
        """Where it is now. Does not block."""
        return self._gathering.status()

    def cancel(self) -> bool:
        """Cancel its tasks, at the QPU too. True when there was something to cancel."""
        return self._gathering.cancel()

    def wait_for_final_state(
        self, timeout: float | None = None, wait: float = 5, callback: Callable[..., None] | None = None
    ) -> None:
        """Block until it is over. Unlike Qiskit's own, it waits for the end instead of asking every few seconds.

        Args:
            timeout: seconds to wait at most; None: for ever.
            wait: not used.
            callback: called once, when it is over, with the job's id, its status and itself.

        Raises:
            TimeoutError: it is not over within that time.
        """
        try:
            self._gathering.result(timeout)
        except CancelledError:
            pass
        except Exception:
            if not self.in_final_state():
                raise
        if callback is not None:
            callback(self.job_id(), self.status(), self)
