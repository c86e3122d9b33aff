"""The contracts of kinds of tasks, and of what workers run for them.

A package adds a kind with an entry point of the group ``pilot.kinds``: a function as `Kind` describes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

import msgspec

from pilot.resources import SLOT, CircuitFacts, Option, QPUInfo, Resources

if TYPE_CHECKING:
    from pilot.descriptions import TaskDescription


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """What the pilots have, as far as it is known, when a task is prepared."""

    #: Devices by name, and the properties that they report; None: nothing yet.
    devices: dict[str, QPUInfo | None]
    #: Of all pilots together; and of the largest node.
    cores: int
    cores_per_node: int
    gpus: int
    #: Tasks for devices are estimated before they are placed, whether their description asks for it or not.
    estimated: bool = False


class WorkFunction:
    """A function with settings, for `Part.function`: an object that never changes.

    It travels to each worker once. Objects that are equal are the same function, so a class of these compares and
    hashes them by their settings, as a frozen dataclass does.
    """

    #: The weights of its tasks are seconds, not units of its own.
    weighs_seconds: ClassVar[bool] = False

    def __call__(self, *args: Any) -> Any:
        """Run one task."""
        raise NotImplementedError


class JointFunction(WorkFunction):
    """A `WorkFunction` whose waiting tasks a worker runs together."""

    def run_together(self, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Run several tasks.

        Args:
            calls: the arguments of each.

        Returns:
            For each in order its result, which may be `Noted`, or the exception that it fails with.
        """
        raise NotImplementedError

    def __call__(self, *args: Any) -> Any:
        (result,) = self.run_together([args])
        if isinstance(result, BaseException):
            raise result
        return result.result if isinstance(result, Noted) else result


class Noted(NamedTuple):
    """A result of a `JointFunction`, with what `PilotManager.explain` shall tell about its run."""

    result: Any
    note: str


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One task that a description becomes."""

    #: What a worker runs: ``function(*args)``.
    function: Callable[..., Any]
    args: tuple[Any, ...]
    #: How long it takes, in units that are the same for all tasks of its function.
    weight: float = 1.0


class Map(msgspec.Struct, frozen=True, kw_only=True):
    """A task between parts and combine, on a core: ``part.function(*part.args, results)``, of the parts it names."""

    part: Part
    #: The numbers of parts whose results it gets, in this order.
    parts: tuple[int, ...]


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """The tasks that a description becomes (entry points ``pilot.kinds``): parts and, when there are several, the
    function that makes one result of theirs: ``combine.function(*combine.args, results)``, in their order. With maps,
    the results are those of the maps."""

    name: str
    parts: tuple[Part, ...]
    combine: Part | None = None
    #: What is done with results of parts at the same time, before they are combined.
    maps: tuple[Map, ...] = ()
    #: What each part takes; the other fields are those of `Terms`.
    resources: Resources = SLOT
    others: tuple[Option, ...] = ()
    simulator: str = ""
    facts: CircuitFacts | None = None
    #: Added to the error when no pilot can run it.
    note: str = ""
    #: What an estimator of this kind (`TaskEstimator`) needs to know of the task; None: nothing is estimated.
    #: It is pickled, for a manager that attaches.
    sample: Any = None


class Kind(Protocol):
    """Makes the tasks of a description whose ``kind`` is the name of its entry point.

    It is called in the user's process and thread, before anything is sent; what it returns is pickled for the workers.
    For example the sum of a function's values, a part for each::

        def total(description: TaskDescription, offer: Offer) -> Prepared:
            parts = tuple(Part(function=description.function, args=(one,)) for one in description.args)
            return Prepared(name="total", parts=parts, combine=Part(function=sum, args=()))
    """

    def __call__(self, description: TaskDescription, offer: Offer, /) -> Prepared:
        """The tasks.

        Raises:
            DescriptionError: a field has a value that this kind does not allow.
        """
