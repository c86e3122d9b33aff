"""What runs tasks, how their results are waited for, and sums in a tree."""

from __future__ import annotations

from concurrent.futures import FIRST_EXCEPTION, wait
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from pilot.states import is_final
from pilot.worker.child_tasks import ChildTask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from concurrent.futures import Future

    from pilot.descriptions import TaskDescription

_T = TypeVar("_T")

#: So many sums become one in each task of the tree.
_FAN_IN = 8


class Runner(Protocol):
    """What runs tasks: a `PilotManager`, or another object with those of its methods that are called; in a task, a
    `CurrentManager`.

    A future among the arguments of a function, at any depth, stands for its result.
    """

    @property
    def pilots(self) -> Iterable[Any]:
        """Its pilots: each with `name`, `state` and `description`."""

    def submit_tasks(self, descriptions: Iterable[TaskDescription], /) -> Sequence[Future[Any]]:
        """Send tasks on their way; does not block."""

    def map(self, function: Callable[..., Any], /, *iterables: Iterable[Any]) -> Sequence[Future[Any]]:
        """Send a call of `function` for each set of arguments on its way; does not block."""


def slots(manager: Runner) -> int | None:
    """Cores of the manager's pilots that are not over: so many tasks of one core run at once. None: it has none yet."""
    pilots = [pilot.description for pilot in getattr(manager, "pilots", ()) if not is_final(pilot.state)]
    return sum(one.cores * one.number_of_nodes for one in pilots) or None


def gather(futures: Sequence[Future[_T]]) -> list[_T]:
    """Wait for all results; the first failure cancels what has not run and is raised."""
    _wait(futures)
    return [future.result() for future in futures]


def tree_sum(manager: Runner, add: Callable[[Sequence[_T]], _T], futures: Sequence[Future[_T]]) -> _T:
    """The sum of the futures' results, eight at a time by `add`, wherever the manager runs that.

    Nothing but the last sum comes here. Blocks; the first failure cancels what has not run and is raised.
    """
    every = list(futures)
    level = every
    while len(level) > 1:
        groups = [level[start : start + _FAN_IN] for start in range(0, len(level), _FAN_IN)]
        level = list(manager.map(add, groups))
        every += level
    _wait(every)
    return level[0].result()


def _wait(futures: Sequence[Future[Any]]) -> None:
    """Until all have results, none of which is fetched; the first failure cancels what has not run and is raised."""
    pending = wait_or_fail(futures)
    for future in pending:
        future.cancel()
    for future in futures:
        if future not in pending and (error := future.exception()) is not None:
            raise error


def wait_or_fail(futures: Sequence[Future[_T]], timeout: float | None = None) -> set[Future[_T]]:
    """Block until all have results, or one has failed or was cancelled.

    Args:
        futures: of a manager; or, in a task, all of them its children.
        timeout: seconds to wait at most; None: for ever.

    Returns:
        Those that are not over.
    """
    first = next(iter(futures), None)
    if not isinstance(first, ChildTask):
        return wait(futures, timeout, FIRST_EXCEPTION).not_done
    with suppress(TimeoutError):
        for child in first.manager.as_completed(futures, timeout=timeout):
            if child.cancelled() or child.exception() is not None:
                break
    return {future for future in futures if not future.done()}
