"""What can go wrong, as one tree.

::

    PilotError
    ├── DescriptionError     a description says something impossible (also a ValueError)
    │   └── ProgramError         the text of a circuit is wrong: which line, which column, what was expected
    ├── PluginError          a launcher, engine, QPU, policy or mini-app is unknown or cannot be loaded
    ├── SessionError         the session folder or its journal cannot be used, or the manager is closed
    ├── StateError           a step that the state tables do not know: a defect of the library
    ├── PilotFailed          a pilot ended by itself
    ├── JobRefused           the resource manager does not take a pilot's job, and would not take it later
    ├── NoPilotError         no pilot, present or asked for, could ever serve the task
    └── TaskError            a task ended without a result and without an exception of its own
        ├── TaskTimeout          it ran longer than its timeout (also a TimeoutError)
        ├── TaskExited           it called sys.exit() or raised another exception meant for its interpreter
        ├── WorkerDied           its worker died while it ran, again and again
        ├── DependencyFailed     a task that it depends on failed; the cause is chained
        ├── ExecutableFailed     the executable returned a code other than 0
        ├── QPUError             a QPU refuses a job, or its job failed
        │   ├── QPUUnavailable       it cannot be reached, or takes no jobs now
        │   └── QPUCancelled         its job was cancelled
        ├── MpiFailed            a rank of an MPI task failed, or its ranks could not be started as one communicator
        └── NotPicklable         its arguments, its result or its exception cannot travel

An exception that a task raises itself is raised unchanged by ``Task.result()``, with the remote traceback as its
cause. Every error survives pickling with its data.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import Any


class PilotError(Exception):
    """Root of the tree: a message, and data as attributes."""

    #: True when the same call may succeed later.
    transient = False

    def __init__(self, message: str = "", **data: Any) -> None:
        super().__init__(message)
        self.data = data

    def __getattr__(self, name: str) -> Any:
        data = self.__dict__.get("data", {})
        if name in data:
            return data[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, self.data)


def _rebuild(cls: type[PilotError], args: tuple[Any, ...], data: dict[str, Any]) -> PilotError:
    return cls(*args, **data)


class DescriptionError(PilotError, ValueError):
    """A field of a description (``field``) has a value (``given``) that is not allowed."""


class ProgramError(DescriptionError):
    """The text of a circuit (``format``) is wrong at ``line`` and ``column``, both from 1 on; None: not known where.

    ``expected`` says what could stand there.
    """


class PluginError(PilotError):
    """A plugin (``group``, ``name``) is unknown or cannot be loaded; the cause is chained."""


class SessionError(PilotError):
    """The session folder (``path``) cannot be used, or the manager is closed."""


class StateError(PilotError):
    """A step that the state tables do not allow (``uid``)."""


class PilotFailed(PilotError):
    """The pilot (``pilot``) ended by itself; ``log_path`` names its log."""

    transient = True


class JobRefused(PilotError):
    """The resource manager does not take a job as it was asked for: it is not submitted again."""


class NoPilotError(PilotError):
    """No pilot, present or asked for, could ever serve the task."""


class TaskError(PilotError):
    """The task (``task``) ended without a result and without an exception of its own."""


class TaskTimeout(TaskError, TimeoutError):
    """The task ran longer than its timeout (``seconds``) and was stopped."""


class TaskExited(TaskError):
    """The task raised SystemExit, KeyboardInterrupt or the like, which must not end the caller."""


class WorkerDied(TaskError):
    """The worker died while the task ran; ``log_path`` names the worker's log."""

    transient = True


class DependencyFailed(TaskError):
    """A task that this one depends on (``dependency``) ended without a result.

    ``first`` is the task that ended so first, in a chain of dependencies of any length; its error is the cause.
    """


class ExecutableFailed(TaskError):
    """The executable returned ``returncode``; ``stderr`` holds the end of what it wrote."""


class QPUError(TaskError):
    """The QPU (``qpu``) refuses a job, or its job (``job``) failed; its own words are in the message."""


class QPUUnavailable(QPUError):
    """The QPU cannot be reached or takes no jobs now."""

    transient = True


class QPUCancelled(QPUError):
    """The QPU's job was cancelled."""


class MpiFailed(TaskError):
    """A rank ended with a code other than 0 or was killed, or the ranks could not be started as one communicator.

    ``returncodes`` maps ranks to their exit codes, negative for signals; ranks that were ended since another one
    failed are not in it. ``stdout`` and ``stderr`` hold the end of what each rank wrote, in their order.
    """


class NotPicklable(TaskError):
    """Something cannot travel between processes; the message names it."""


def error_text(error: Exception) -> str:
    """An error of a QPU's in words: this library's say all that is needed, others need their kind."""
    return str(error) if isinstance(error, PilotError) else f"{type(error).__name__}: {error}"


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word that is most like this one; "" if none is."""
    import difflib  # where something is wrong, not in every process

    return next(iter(difflib.get_close_matches(word, list(known), n=1)), "")


class ErrorCode(IntEnum):
    """The errors with which a manager itself ends tasks; the numbers stand in journals."""

    PILOT_ERROR = 1
    NO_PILOT = 2
    WORKER_DIED = 3
    DEPENDENCY_FAILED = 4
    PLUGIN_ERROR = 5
    SESSION_ERROR = 6


ERRORS: dict[ErrorCode, type[PilotError]] = {
    ErrorCode.PILOT_ERROR: PilotError,
    ErrorCode.NO_PILOT: NoPilotError,
    ErrorCode.WORKER_DIED: WorkerDied,
    ErrorCode.DEPENDENCY_FAILED: DependencyFailed,
    ErrorCode.PLUGIN_ERROR: PluginError,
    ErrorCode.SESSION_ERROR: SessionError,
}


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """What a message about an unknown word goes on with: " (did you mean 'kolkata'?)", or nothing."""
    near = nearest(word, known)
    return f" (did you mean {near!r}?)" if near else ""
