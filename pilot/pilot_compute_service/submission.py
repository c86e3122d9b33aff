"""Tasks of a service: what the service itself and each of its pilots offer."""

from __future__ import annotations

import functools
import logging
import operator
import os
import sys
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from pilot.descriptions import TaskDescription
from pilot.errors import PilotError, invalid
from pilot.interfaces import Reference, References
from pilot.manager.handles import Task
from pilot.manager.manager import PilotManager
from pilot.manager.pilots import Pilot
from pilot.pilot_compute_service.clients import client_of
from pilot.pilot_compute_service.descriptions import count, task_resources
from pilot.pilot_compute_service.homes import Homes
from pilot.pilot_compute_service.metrics import MetricsFile
from pilot.pilot_enums_exceptions import ExecutionEngine
from pilot.results import MpiResult

log = logging.getLogger("pilot.pilot_compute_service")

#: What Pilot-Quantum writes for a task without a pilot of its own.
ANY = "ANY"
#: The file with a row for each task, in the service's folder.
METRICS = "metrics.csv"
#: Seconds that the engine has to hear of the end of tasks, after the manager has.
SETTLE_SECONDS = 30.0


#: What can be waited for.
_TASKS = "a list of what submit_task returned"


class Core(NamedTuple):
    """What a service and its pilots share."""

    manager: PilotManager
    homes: Homes
    engine: ExecutionEngine
    folder: Path
    metrics: MetricsFile
    #: The manager's pilots by what callers may call them: name and id.
    pilots: dict[str, Pilot]
    #: The names that callers know, by the manager's id of each pilot.
    names: dict[str, str]


class PilotComputeBase:
    """Submits tasks to the pilots of a service: to any of them, or to one."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._manager = core.manager
        self._homes = core.homes
        self.execution_engine = core.engine
        #: The service's folder, and the file with a row for each task that has ended.
        self.pcs_working_directory = str(core.folder)
        self.metrics_file_name = str(core.folder / METRICS)

    def _own(self) -> Pilot | None:
        """The pilot that all tasks go to; None: to any."""
        return None

    # ---- submitting -------------------------------------------------------------------------------------------

    def submit_task(
        self,
        func: Callable[..., Any],
        *args: Any,
        pilot: Any = None,
        task_name: str | None = None,
        resources: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Submit ``func(*args, **kwargs)``. Blocks until a pilot of the service is active.

        Args:
            func: a callable.
            args: its arguments. What `submit_task` returned, and the engine's own references, stand for their results.
                Inside an argument they do so with Dask; with Ray they are references for the task, too.
            pilot: the name or id of the pilot that must run it; None: any.
            task_name: its name in ``metrics.csv``.
            resources: ``num_cpus``, ``num_gpus`` and ``memory`` (bytes) that it takes.
            kwargs: as ``args``, by name.

        Returns:
            A `PilotFuture` that is a `ray.ObjectRef` or a `distributed.Future` as well.

        Raises:
            DescriptionError: an argument is not valid.
            PilotError: there is no such pilot, or none that can run the task; or the service was cancelled.
        """
        if not callable(func):
            advice = "; its name is task_name=" if isinstance(func, str) else ""
            raise invalid("submit_task", func, f"a callable, and then its arguments{advice}")
        wanted = self._pilot(pilot)
        references = self._homes.of(self._own()).references
        description = TaskDescription(
            function=func,
            args=tuple(_given(value, references) for value in args),
            kwargs={name: _given(value, references) for name, value in kwargs.items()},
            name=task_name or _new_name(),
            pilot=wanted.id if wanted is not None else None,
            **task_resources(resources),
        )
        return references.make(self._manager.submit_task(description))

    def submit_mpi_task(
        self,
        script_path: str | os.PathLike[str],
        num_procs: int,
        *args: Any,
        pilot: Any = None,
        task_name: str | None = None,
        resources: Any = None,
    ) -> Any:
        """Submit a Python script that runs on MPI ranks. Blocks until a pilot of the service is active.

        Args:
            script_path: the script; the nodes must see it.
            num_procs: ranks.
            args: arguments of the script, as texts.
            pilot: as `submit_task`.
            task_name: as `submit_task`.
            resources: of each rank.

        Returns:
            As `submit_task`; its result is (stdout, stderr), the texts of all ranks in their order.

        Raises:
            DescriptionError: an argument is not valid.
            PilotError: as `submit_task`.
        """
        wanted = self._pilot(pilot)
        description = TaskDescription(
            mpi=(sys.executable, os.fspath(script_path), *map(str, args)),
            ranks=count(num_procs),
            name=task_name or _new_name(),
            pilot=wanted.id if wanted is not None else None,
            **task_resources(resources),
        )
        references = self._homes.of(self._own()).references
        return references.make(self._manager.submit_task(description), outputs)

    def task(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """A decorator: a call of the function submits it, and returns what `submit_task` does."""

        @functools.wraps(func)
        def submit(*args: Any, **kwargs: Any) -> Any:
            return self.submit_task(func, *args, **kwargs)

        return submit

    def run(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Submit a task, wait for it, and return its result; arguments and errors as `submit_task`."""
        return self.submit_task(func, *args, **kwargs).result()

    # ---- waiting ----------------------------------------------------------------------------------------------

    def wait_tasks(self, tasks: Any) -> None:
        """Block until all of these are over, however they end, and have their rows in ``metrics.csv``."""
        listed = self._listed(tasks)
        own = [one for one in listed if isinstance(one, Reference)]
        handles = [one.task for one in own if isinstance(one.task, Task)]
        self._manager.wait_tasks(handles)
        self._core.metrics.wait(handles)
        if others := [one for one in listed if not isinstance(one, Reference)]:
            self._homes.of(self._own()).references.wait(others)
        for made_by in {one.made_by for one in own}:
            if made_by is not None and made_by.is_open():
                try:
                    made_by.wait([one for one in own if one.made_by is made_by], SETTLE_SECONDS)
                except Exception:  # a cluster may end meanwhile; the tasks are over
                    log.debug("a cluster cannot be asked about its references", exc_info=True)

    def get_results(self, tasks: Any) -> Any:
        """The results in the order of the tasks; the result itself for one task that is not in a list. Blocks until all
        are over, and raises what the first failed one raised."""
        self.wait_tasks(tasks)
        if isinstance(tasks, Reference):
            return tasks.result()
        return [one.result() if isinstance(one, Reference) else self._value(one) for one in self._listed(tasks)]

    def _value(self, reference: Any) -> Any:
        """Of one that is the engine's own. Those of tasks need no cluster: their pilots may have ended."""
        return self._homes.of(self._own()).references.value(reference)

    def _listed(self, tasks: Any) -> list[Any]:
        if isinstance(tasks, Reference):
            return [tasks]
        if isinstance(tasks, list | tuple | set):
            listed = list(tasks)
        elif isinstance(tasks, Iterable):
            own = self._homes.of(self._own()).references.listed(tasks)
            listed = list(tasks) if own is None else own
        else:
            raise invalid("tasks", tasks, _TASKS)
        for one in listed:
            if not isinstance(one, Reference) and not self._homes.of(self._own()).references.is_own(one):
                raise invalid("tasks", one, _TASKS)
        return listed

    # ---- the engine -------------------------------------------------------------------------------------------

    def get_client(self) -> Any:
        """The engine's client: a `distributed.Client`, or the module ``ray`` as a context. Blocks until active.

        Raises:
            PilotError: no pilot is active, nor will be.
        """
        return client_of(self._homes.of(None).client)

    def get_logger(self) -> logging.Logger:
        """The logger of this API; it has no handlers of its own."""
        return log

    # ---- arguments --------------------------------------------------------------------------------------------

    def _pilot(self, given: Any) -> Pilot | None:
        """The pilot that a caller asks for.

        Raises:
            PilotError: there is none with this name, or it is not the one that these tasks go to.
        """
        own = self._own()
        if given is None or given == ANY:
            return own
        pilot = self._core.pilots.get(str(given.get_id() if hasattr(given, "get_id") else given))
        if pilot is not None and own in (None, pilot):
            return pilot
        known = self._core.names if own is None else {own.id: self._core.names[own.id]}
        raise PilotError(
            f"pilot: {given!r} is not valid; expected a pilot of this service: "
            + (", ".join(known.values()) or "there is none, call create_pilot first")
        )


def outputs(result: MpiResult) -> tuple[str, str]:
    """What the ranks of an MPI task wrote to stdout, and to stderr."""
    return "".join(result.stdout), "".join(result.stderr)


def _new_name() -> str:
    return f"task-{uuid.uuid4()}"


def _given(value: Any, references: References) -> Any:
    """An argument: a reference stands for its value; those inside it for what the engine makes of them there."""
    if isinstance(value, Reference):
        return value.value()
    if references.is_own(value):
        return references.value(value)
    try:
        return _inside(value, references)
    except RecursionError:  # a list that contains itself
        return value


def _inside(value: Any, references: References) -> Any:
    """A part of an argument, with others in the place of the engine's own references. Containers without any are
    themselves."""
    kind: Any = type(value)
    if kind in _CONTAINERS:
        parts = value.values() if kind is dict else value
        if _PLAIN.issuperset(map(type, parts)):
            return value
        given = [_inside(one, references) for one in parts]
        if all(map(operator.is_, given, parts)):
            return value
        return dict(zip(value, given, strict=True)) if kind is dict else kind(given)
    if references.is_own(value) and not isinstance(value, Reference):
        return references.inside(value)
    return value


#: Where references are looked for, and what contains none.
_CONTAINERS = (list, tuple, set, frozenset, dict)
_PLAIN = frozenset((int, float, complex, bool, str, bytes, type(None)))
