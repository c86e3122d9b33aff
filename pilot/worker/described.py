"""Calls with arguments that are meant for the task, not for its function: they are refused, in a program and in a task
alike."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Collection, Mapping
from types import FunctionType
from typing import Any

from pilot.descriptions import TaskDescription
from pilot.errors import DescriptionError
from pilot.wire.callables import name_of

#: Fields of `TaskDescription` that other systems take beside a call's own arguments.
OPTIONS = frozenset(
    {"priority", "retries", "retry_on", "retry_delay", "timeout", "expected_duration", "depends_on"}
    | {"num_cpus", "num_gpus", "memory", "alternatives", "ranks", "pilot", "pilots", "labels"}
    | {"environment", "working_directory", "initializer", "initargs"}
)


def check_options(work: Any, kwargs: Mapping[str, Any]) -> None:
    """Refuse an argument that the callable does not take, where it is a field of `TaskDescription`.

    Raises:
        DescriptionError: with how it is written.
    """
    if not (options := OPTIONS.intersection(kwargs)):
        return
    try:
        parameters = inspect.signature(work, follow_wrapped=False).parameters
    except (TypeError, ValueError):  # a callable that does not say what it takes
        return
    takes_any = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
    for name in sorted(options):
        if not takes_any and name not in parameters:
            called = name_of(work)
            raise DescriptionError(
                f"submit_task: {called} has no argument {name!r}; as a field of the task it is written "
                f"submit_task(TaskDescription(function={called}, args=[…], {name}=…))",
                field=name,
                given=kwargs[name],
            )


def keyed(work: Any, args: tuple[Any, ...], kwargs: dict[str, Any], key: str) -> TaskDescription:
    """The description of a call with a key. One that the callable could want itself is not taken from it."""
    if "key" in _arguments_of(work):
        raise DescriptionError(
            f"key: {work!r} has an argument of this name itself; give a TaskDescription, with a key for the task and "
            "kwargs for the function",
            field="key",
            given=key,
        )
    return TaskDescription(function=work, args=args, kwargs=kwargs, key=key)


def _arguments_of(work: Any) -> Collection[str]:
    """The names of a callable's arguments; none where it does not say what it takes."""
    if type(work) is FunctionType and not work.__dict__:  # nothing stands for its own: 25 µs less
        code = work.__code__
        return code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    with contextlib.suppress(TypeError, ValueError):
        return inspect.signature(work).parameters
    return ()
