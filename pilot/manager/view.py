"""`SessionView`: the pilots and tasks of a session. Read next: ``session.py`` and ``reading.py``."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, overload

from pilot import html
from pilot.errors import SessionError, invalid
from pilot.manager.handles import Task, Together, tasks_of, wait_done
from pilot.manager.pilots import HTML_HEAD, Pilot, html_row
from pilot.manager.waiting import end_of
from pilot.resources import QPUInfo
from pilot.states import PilotState, TaskState
from pilot.wire.session import SessionFolder

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from pilot.manager.maps import MapResult
    from pilot.plots import SessionSpans

R = TypeVar("R")


class _State(Protocol):
    @property
    def folder(self) -> SessionFolder: ...
    @property
    def pilots(self) -> dict[str, Pilot]: ...
    @property
    def tasks(self) -> Mapping[int, Task]: ...


class SessionView:
    """The pilots and tasks of a session. All methods may be called from any thread."""

    _state: _State

    # ---- what there is ----------------------------------------------------------------------------------------

    @property
    def session_dir(self) -> Path:
        """The session's folder."""
        return self._state.folder.path

    @property
    def pilots(self) -> list[Pilot]:
        """Every pilot that was requested, in that order."""
        return list(self._state.pilots.values())

    @property
    def tasks(self) -> Mapping[int, Task]:
        """Every task that was not forgotten, by id, in the order of submission; read only."""
        return MappingProxyType(self._state.tasks)

    @property
    def qpus(self) -> dict[str, QPUInfo]:
        """The properties of the active pilots' devices, by name, as far as they have reported."""
        return {info.name: info for pilot in self.pilots if pilot.state is PilotState.ACTIVE for info in pilot.qpus}

    def _repr_html_(self) -> str:
        try:
            counts = sorted((state.value, number) for state, number in self._counts().items())
            tasks = ", ".join(f"{number} {state}" for state, number in counts) or "no tasks"
        except SessionError:  # a manager that is closed may be the last line of a cell
            tasks = "closed and removed"
        return html.table(HTML_HEAD, map(html_row, self.pilots), f"session {self.session_dir}: {tasks}")

    def _counts(self) -> Counter[TaskState]:
        """How many tasks are in each state."""
        return Counter(task.state for task in self._state.tasks.values())

    # ---- waiting and asking -----------------------------------------------------------------------------------

    def plot(
        self,
        ax: Axes | None = None,
        *,
        kind: Literal["timeline", "throughput", "tasks", "qpus"] = "timeline",
        tasks: Iterable[Task] | None = None,
        **options: Any,
    ) -> Axes:
        """Draw what has happened until now.

        Args:
            ax: matplotlib's axes to draw in; None: those of a new figure.
            kind: "timeline": when the slots and QPUs of each pilot were busy; "throughput": tasks that ended in a unit
                of time; "tasks": how many waited and ran; "qpus": how many waited for each QPU that they ran on later.
            tasks: which, such as `MapResult.tasks`; None: all.
            **options: of matplotlib's `Axes.stairs` ("throughput") or `Axes.step` ("tasks", "qpus").

        Raises:
            DescriptionError: there is no such kind, or it is not a list of tasks.
            SessionError: the journal cannot be read.
            PluginError: matplotlib is not installed.
        """
        from pilot import plots

        if kind not in plots.SESSION_PLOTS:
            raise invalid("plot: kind", kind, f"one of {', '.join(map(repr, plots.SESSION_PLOTS))}")
        return plots.session(self.spans(tasks), kind, ax, **options)

    def spans(self, tasks: Iterable[Task] | None = None) -> SessionSpans:
        """When pilots were there and tasks ran, until now: what `plot` draws. Blocks, for 100,000 tasks a second.

        Args:
            tasks: which; None: all.

        Raises:
            DescriptionError: it is not a list of tasks.
            SessionError: the journal cannot be read.
        """
        from pilot.manager import spans

        only = None if tasks is None else {task.id for task in tasks_of("tasks", tasks)}
        return spans.read(self._state.folder, self.pilots, self._unrecorded(), only)

    def _unrecorded(self) -> list[Task] | None:
        """The tasks whose end may not be in the journal yet; None: the session does not go on here."""
        return None

    @overload
    def wait_tasks(self, tasks: Together, timeout: float | None = None) -> tuple[list[Task], list[Task]]: ...
    @overload
    def wait_tasks(
        self, tasks: Iterable[Task[R]], timeout: float | None = None
    ) -> tuple[list[Task[R]], list[Task[R]]]: ...
    @overload
    def wait_tasks(self, tasks: None = None, timeout: float | None = None) -> tuple[list[Task], list[Task]]: ...
    def wait_tasks(
        self, tasks: Iterable[Task[R]] | Together | None = None, timeout: float | None = None
    ) -> tuple[list[Task[R]], list[Task[R]]]:
        """Block until the tasks are finished, however they end.

        Args:
            tasks: which; None: all of this manager's.
            timeout: seconds to wait at most; None: for ever.

        Returns:
            The tasks that are done, and those that are not, each in the given order.

        Raises:
            DescriptionError: it is not a list of tasks.
        """
        waited = self._waited() if tasks is None else tasks_of("wait_tasks", tasks)
        deadline = end_of(timeout)
        for task in waited:
            try:
                wait_done(task, None if deadline is None else max(0.0, deadline - time.monotonic()))
            except TimeoutError:
                break
        if tasks is None:
            waited = list(self._state.tasks.values())
        done: list[Task[R]] = []
        not_done: list[Task[R]] = []
        for task in waited:
            (done if task.done() else not_done).append(task)
        return done, not_done

    def _waited(self) -> list[Task]:
        """All tasks that may not have ended."""
        return list(self._state.tasks.values())

    def get_results(self, tasks: Iterable[Task[R]] | MapResult[R]) -> list[R]:
        """The results in the order of the tasks, or of the inputs of a map in chunks; blocks, and raises what the first
        failed one raised."""
        if isinstance(tasks, Together):
            return list(tasks)
        return [task.result() for task in tasks_of("get_results", tasks)]
