"""Tasks that a task submits, ready to travel to its manager."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from pilot.descriptions import TaskDescription
from pilot.errors import DescriptionError, NotPicklable
from pilot.wire import payload
from pilot.wire.arguments import dump_arguments
from pilot.wire.callables import name_of
from pilot.wire.children import NewDescription, NewTask, Submission
from pilot.wire.digests import digest_of_value
from pilot.wire.spool import Spool
from pilot.worker.child_tasks import ChildTask
from pilot.worker.initialized import Initialized
from pilot.worker.surroundings import InSurroundings


class Packer:
    """Pickles what the tasks of a worker submit. Any thread may use it."""

    def __init__(self, spool: Spool) -> None:
        """Make it; ``spool`` takes large arguments."""
        self.spool = spool

    def pack(self, wanted: Sequence[TaskDescription]) -> Submission:
        """All of these, in order.

        Raises:
            NotPicklable: a function or an argument cannot be pickled.
            DescriptionError: circuits and programs stand beside functions; ``depends_on`` has something else than
                child tasks.
            SessionError: a large argument cannot be written to the session folder.
        """
        made = [_is_made_by_manager(one) for one in wanted]
        if any(made):
            if not all(made):
                raise DescriptionError("submit_tasks in a task: submit functions apart from circuits and programs")
            return Submission([], [], [_packed(one) for one in wanted])
        functions: dict[bytes, int] = {}
        names: list[str] = []
        codes: dict[int, bytes] = {}
        tasks = []
        for one in wanted:
            function, args, kwargs = _called(one)
            if (code := codes.get(id(function))) is None:
                code = codes[id(function)] = payload.dump_function(function)
            if code not in functions:
                functions[code] = len(functions)
                names.append(name_of(function))
            if one.initializer is not None or one.environment or one.working_directory is not None:
                codes.clear()  # its wrapper is gone with this round, and another one may get its id
            tasks.append(self._new_task(one, functions[code], args, kwargs, name_of(one.function)))
        return Submission(list(zip(names, functions, strict=True)), tasks)

    def _new_task(
        self, wanted: TaskDescription, function: int, args: tuple[Any, ...], kwargs: dict[str, Any], name: str
    ) -> NewTask:
        value, needs = None, list[int]()
        if args or kwargs:
            with payload.collecting() as found:
                value = dump_arguments(args, kwargs, self.spool, f"an argument of {name}", found)
                needs = list(found.tasks)
        digests = {} if wanted.key is None else _digests(wanted, name)
        after = _dependencies(wanted)
        return NewTask(function, value, wanted.terms(), wanted.name or name, needs, after, wanted.key, digests)


def _is_made_by_manager(wanted: TaskDescription) -> bool:
    kinds = wanted.kind is not None or wanted.circuit is not None
    return kinds or bool(wanted.executable or wanted.mpi or wanted.ranks)


def _called(wanted: TaskDescription) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """What is called, and with what."""
    function, args, kwargs = wanted.function, tuple(wanted.args), wanted.kwargs
    if wanted.initializer is not None:
        function = Initialized.of(function, wanted.initializer, wanted.initargs)
    if wanted.environment or wanted.working_directory is not None:
        code = payload.dump_function(function)
        return (
            InSurroundings(code, name_of(function)),
            (wanted.environment, wanted.working_directory, args, kwargs),
            {},
        )
    return function, args, kwargs


def _packed(wanted: TaskDescription) -> NewDescription:
    after = _dependencies(wanted)
    try:
        code = payload.pickled(msgspec.structs.replace(wanted, depends_on=()))
    except Exception as error:
        raise NotPicklable(f"the description cannot be pickled: {type(error).__name__}: {error}") from error
    return NewDescription(code, after)


def _dependencies(wanted: TaskDescription) -> list[int]:
    given = wanted.depends_on
    after = [given] if isinstance(given, ChildTask) or not isinstance(given, Iterable) else list(given)
    if not all(isinstance(one, ChildTask) for one in after):
        raise wanted.wrong("depends_on", "tasks that current_manager() has submitted")
    return [one.id for one in after]


def _digests(wanted: TaskDescription, name: str) -> dict[str, bytes]:
    """What was submitted under a key. A function counts by its name: its pickle in another worker may differ."""
    with payload.collecting(by_content=True):
        args, kwargs = digest_of_value(tuple(wanted.args)), digest_of_value(wanted.kwargs)
    terms = hashlib.blake2b(msgspec.msgpack.encode(wanted.terms()), digest_size=16).digest()
    return {"function of a child": name.encode(), "args": args, "kwargs": kwargs, "terms": terms}
