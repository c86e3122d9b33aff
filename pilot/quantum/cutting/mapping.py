"""How work is handed to whatever runs it: a map of calls, and sums in a tree."""

from __future__ import annotations

from concurrent.futures import FIRST_EXCEPTION, wait
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from concurrent.futures import Future

    from pilot.descriptions import TaskDescription

_T = TypeVar("_T")

#: So many sums become one in each task of the tree.
_FAN_IN = 8


class Mapper(Protocol):
    """What runs a plan: `PilotManager`, or anything else whose calls give futures.

    A future among the arguments, at any depth, stands for its result.
    """

    def map(self, function: Callable[..., Any], /, *iterables: Iterable[Any]) -> Sequence[Future[Any]]:
        """Call `function` on each set of arguments, somewhere."""
        ...


class Submitter(Mapper, Protocol):
    """A `Mapper` that takes descriptions too: for QPUs, and for options of where subexperiments go."""

    def submit_tasks(self, descriptions: Iterable[TaskDescription], /) -> Sequence[Future[Any]]:
        """Run each description, somewhere."""
        ...


def gather(futures: Sequence[Future[_T]]) -> list[_T]:
    """Wait for all results; the first failure cancels what has not run and is raised."""
    _wait(futures)
    return [future.result() for future in futures]


def tree_sum(manager: Mapper, add: Callable[[Sequence[_T]], _T], futures: Sequence[Future[_T]]) -> _T:
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
    done, pending = wait(futures, return_when=FIRST_EXCEPTION)
    for future in pending:
        future.cancel()
    for future in futures:
        if future in done and (error := future.exception()) is not None:
            raise error
