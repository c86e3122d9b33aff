"""What can go wrong, as one tree.

::

    PilotError
    ├── DescriptionError     a field of a description, or an argument, is not valid (also a ValueError)
    │   └── ProgramError         the text of a circuit is wrong: which line, which column, what was expected
    ├── PluginError          a launcher, engine, QPU, policy or mini-app is unknown or cannot be loaded
    ├── SessionError         the session folder or its journal cannot be used, or the manager is closed (also a
    │                        RuntimeError)
    ├── StateError           a step that the state tables do not allow: a defect of the library
    ├── PilotFailed          a pilot ended by itself
    ├── JobRefused           the resource manager refuses a pilot's job, and would refuse it later
    ├── NoPilotError         no pilot, present or requested, can ever run the task
    └── TaskError            a task ended without a result and without an exception of its own
        ├── TaskTimeout          it ran longer than its timeout (also a TimeoutError)
        ├── TaskExited           it called sys.exit() or raised another exception meant for its interpreter
        ├── WorkerDied           its worker died while it ran, repeatedly (also concurrent.futures' BrokenExecutor)
        ├── DependencyFailed     a task that it depends on failed; the cause is chained
        ├── ExecutableFailed     the executable returned a code other than 0
        ├── QPUError             a QPU refuses a job, or its job failed
        │   ├── QPUUnavailable       it cannot be reached, or takes no jobs now
        │   └── QPUCancelled         its job was cancelled
        ├── MpiFailed            a rank of an MPI task failed, or its ranks could not be started as one communicator
        └── NotPicklable         its arguments, its result or its exception cannot travel (also a PicklingError)

An exception that a task raises itself is raised unchanged by ``Task.result()``, with the remote traceback as its
cause. Every error survives pickling with its data.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from concurrent.futures import BrokenExecutor
from enum import IntEnum
from pickle import PicklingError
from typing import Any, TypeVar

from pilot.publishing import publish

_E = TypeVar("_E", bound="PilotError")


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
    """A field (``field``) of a description, or an argument, has a value (``given``) that is not valid."""


class ProgramError(DescriptionError):
    """The text of a circuit (``format``) is wrong at ``line`` and ``column``, both counted from 1; None: not known.

    ``expected`` is what could stand there.
    """


class PluginError(PilotError):
    """A plugin (``group``, ``name``) is unknown or cannot be loaded; the cause is chained."""


class SessionError(PilotError, RuntimeError):
    """The session folder (``path``) cannot be used, or the manager is closed."""


class StateError(PilotError):
    """A step that the state tables do not allow (``uid``)."""


class PilotFailed(PilotError):
    """The pilot (``pilot``) ended by itself; ``log_path`` names its log."""

    transient = True


class JobRefused(PilotError):
    """The resource manager refuses a job; it is not submitted again."""


class NoPilotError(PilotError):
    """No pilot, present or requested, can ever run the task."""


class TaskError(PilotError):
    """The task (``task``) ended without a result and without an exception of its own."""


class TaskTimeout(TaskError, TimeoutError):
    """The task ran longer than its timeout (``seconds``) and was stopped."""


class TaskExited(TaskError):
    """The task raised SystemExit, KeyboardInterrupt or the like, which must not end the caller."""


class WorkerDied(TaskError, BrokenExecutor):
    """The worker died while the task ran; ``log_path`` names the worker's log."""

    transient = True


class DependencyFailed(TaskError):
    """A task that this one depends on (``dependency``) ended without a result.

    ``first`` is the task that ended so first, in a chain of dependencies of any length; its error is the cause.
    """


class ExecutableFailed(TaskError):
    """The executable returned ``returncode``; ``stderr`` holds the end of what it wrote."""


class QPUError(TaskError):
    """The QPU (``qpu``) refuses a job, or its job (``job``) failed; the message has its own error text."""


class QPUUnavailable(QPUError):
    """The QPU cannot be reached or takes no jobs now."""

    transient = True


class QPUCancelled(QPUError):
    """The QPU's job was cancelled."""


class MpiFailed(TaskError):
    """A rank ended with a code other than 0 or was killed, or the ranks could not be started as one communicator.

    ``returncodes`` maps ranks to their exit codes, negative for signals; ranks that were ended since another one
    failed are not included. ``stdout`` and ``stderr`` hold the end of what each rank wrote, in their order.
    """


class NotPicklable(TaskError, PicklingError):
    """Something cannot travel between processes; the message names it."""


publish(*(one for one in list(vars().values()) if isinstance(one, type) and issubclass(one, PilotError)))


def invalid(field: str, given: object, expected: str, kind: type[_E] = DescriptionError, *, shown: str = "") -> _E:  # type: ignore[assignment]
    """The error about a field or argument that has a wrong value, in the one form that all such messages have.

    Args:
        field: its name; behind a dot when what it belongs to is named as well.
        given: the value.
        expected: what goes on after "expected", such as "a number above 0".
        kind: the error's class.
        shown: how the value appears in the message; "": as its repr, the middle of a long one left out.
    """
    message = f"{field}: {shown or brief(given)} is not valid; expected {expected}"
    return kind(message, field=field.rpartition(".")[2], given=given)


def brief(given: object, most: int = 300) -> str:
    """The repr of a value; of a long one the beginning and the end."""
    text = repr(given)
    return text if len(text) <= most else f"{text[: most * 2 // 3]} … {text[3 - most // 3 :]}"


def text_of(error: BaseException) -> str:
    """Its text, or why there is none."""
    try:
        return str(error)
    except BaseException as broken:
        return f"<its text cannot be made: {type(broken).__name__}>"


def error_text(error: BaseException) -> str:
    """The text of a plugin's error; with its class, unless it is one of this library's errors."""
    text = text_of(error)
    return text if isinstance(error, PilotError) else f"{type(error).__name__}: {text}"


def pass_interrupt(error: BaseException) -> None:
    """Raise Ctrl-C again, which comes in the main thread only. Whatever else a plugin raises is its own error:
    SystemExit, and KeyboardInterrupt in another thread, too."""
    if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
        raise error


def file_error(error: Exception) -> str:
    """Why a file cannot be used: the system's text without its number and the path, which the message has."""
    return getattr(error, "strerror", None) or str(error)


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word that is most similar to this one, or has it as a part; "" if there is none."""
    import difflib  # where something is wrong, not in every process

    words = list(known)
    similar = difflib.get_close_matches(word, words, n=1, cutoff=0.8)
    whole = [one for one in words if word in one.split("_")]  # "cores" of "cores_per_node"
    return next(iter([*similar, *whole, *difflib.get_close_matches(word, words, n=1)]), "")


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
    """The part of a message about an unknown word that suggests another: " (did you mean 'kolkata'?)", or ""."""
    near = nearest(word, known)
    return f" (did you mean {near!r}?)" if near else ""
