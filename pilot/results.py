"""The result of a task: its outcome, as it travels, and the record that a user reads."""

from __future__ import annotations

import msgspec

from pilot.publishing import publish
from pilot.resources import QPUEstimate


class Spooled(msgspec.Struct, frozen=True, array_like=True):
    """A value too large for a message, in files of the session's spool (see ``spool.py``). Its *frames* are the pickle
    and the buffers that the pickle refers to, in order."""

    #: The file that has all frames but those of `large`, below the spool's folder; "": they are in `frames`.
    path: str
    #: Bytes of all frames.
    size: int
    frames: tuple[bytes, ...] = ()
    #: Place of a frame → the file that is this frame and nothing else, which other values may use, too.
    large: dict[int, str] = {}
    #: Places of the buffers that nobody may write to: they need no copy when they are read.
    readonly: tuple[int, ...] = ()
    #: Files of the objects (`PilotManager.put`) that it refers to.
    objects: tuple[str, ...] = ()

    @property
    def files(self) -> list[str]:
        """The names of all files that are needed to load it."""
        return [*([self.path] if self.path else ()), *self.large.values(), *self.objects]


#: A pickled value on its way: None (nothing, or Python's None), the pickle itself, or the file that holds it.
Value = bytes | Spooled | None

#: How an attempt ended, as it travels in `Outcome.status`.
OK, RAISED, TIMED_OUT, CANCELLED, UNWRITTEN, UNAVAILABLE, REFUSED = range(7)
#: Ends of an attempt that are no error of the task: it runs again. Their value is a `Failure`.
AGAIN = (UNWRITTEN, UNAVAILABLE, REFUSED)


#: The largest result, with its output, that a manager keeps in memory when it is in the journal, in bytes.
KEPT_BYTES = 4 << 10


class Outcome(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How one attempt at a task ended. ``value`` is its result, or a `Failure` when ``status`` is RAISED or one of
    `AGAIN`. UNWRITTEN: the task returned, and there was no room for its result; UNAVAILABLE: its QPU takes no jobs now,
    as it reports itself; REFUSED: by its calibration of now, its QPU is not good enough for the circuit."""

    task: int
    status: int
    #: Wall clock of the worker's host, seconds since the epoch.
    started: float
    #: Seconds that it ran, by a clock that never steps.
    seconds: float
    value: Value = None
    stdout: str | None = None
    stderr: str | None = None
    #: What the worker tells about the run; `PilotManager.explain` shows it.
    note: str = ""

    @property
    def is_large(self) -> bool:
        """True when it has more than `KEPT_BYTES` beside its files."""
        value, stdout, stderr = self.value, self.stdout, self.stderr
        size = len(value) if type(value) is bytes else 0
        if stdout or stderr:
            size += len(stdout or "") + len(stderr or "")
        return size > KEPT_BYTES


class Failure(msgspec.Struct, frozen=True, array_like=True):
    """An exception on its way: pickled where that is possible, and always as text."""

    pickled: bytes | None
    kind: str
    message: str
    traceback: str
    #: The `TaskError` to raise when the exception itself cannot be: its class name.
    instead: str = "TaskError"
    #: Bytes that there was no room for.
    size: int = 0
    #: What the QPU offers that has refused the circuit.
    offer: QPUEstimate | None = None
    #: The exception's class and its bases, with their modules; those of ``builtins`` without.
    classes: tuple[str, ...] = ()


_decode_failure = msgspec.msgpack.Decoder(Failure).decode


def error_classes(outcome: Outcome) -> tuple[str, ...]:
    """The class of what a task raised, and its bases, as `Failure.classes`; () when they are not known."""
    return failure_of(outcome).classes if isinstance(outcome.value, bytes) else ()


def class_name(kind: type) -> str:
    """The name of a class with its module, that of a class of ``builtins`` alone."""
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def failure_of(outcome: Outcome) -> Failure:
    """For an outcome with a status of `AGAIN`: what went wrong."""
    assert isinstance(outcome.value, bytes)
    return _decode_failure(outcome.value)


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt at a task that did not count: where it ran, and why it ended."""

    number: int
    pilot: str
    worker: str
    reason: str
    #: Wall clock, seconds since the epoch.
    ended: float
    #: The number of its batch.
    batch: int = 0
    #: When it began, by the clock of the worker's host; None: it had not begun, or that is not known.
    started: float | None = None


class TaskInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The record of a task, as far as it is known. Times are wall clocks, seconds since the epoch."""

    id: int
    name: str
    state: str
    #: Name of the pilot that it was sent to.
    pilot: str | None = None
    #: Where it ran: the host, and the node of its pilot.
    host: str | None = None
    node: str | None = None
    #: The GPUs that its worker had: uuids where the driver reports them.
    gpus: tuple[str, ...] = ()
    #: The device that its worker had.
    qpu: str | None = None
    worker: str | None = None
    submitted: float | None = None
    bound: float | None = None
    started: float | None = None
    finished: float | None = None
    #: Seconds that it ran.
    seconds: float | None = None
    #: The attempts before the last one.
    attempts: tuple[Attempt, ...] = ()
    stdout: str = ""
    stderr: str = ""


class MpiResult(msgspec.Struct, frozen=True, kw_only=True):
    """The output of an MPI program whose ranks all returned 0: the last MiB of each stream."""

    ranks: int
    #: One for each rank, in order.
    stdout: tuple[str, ...]
    stderr: tuple[str, ...]


publish(TaskInfo, MpiResult)
