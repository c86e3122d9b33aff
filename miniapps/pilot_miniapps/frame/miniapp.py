"""`MiniApp`: the base class of mini-apps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from pilot import PilotDescription
from pilot.interfaces.miniapps import RunRequest
from pilot_miniapps.frame.command import run, wanted
from pilot_miniapps.frame.figures import Outcome
from pilot_miniapps.frame.running import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing


class MiniApp(ABC):
    """A whole workload. The first line of the docstring is what ``pilot run --list`` shows; the rest, its help.

    Attributes:
        Settings: a frozen `msgspec.Struct`; each field is a flag, its `msgspec.Meta` has a `description`, bounds are
            checked. Defaults are of laptop size.
        presets: by name ("laptop", "paper"), the values of the settings that differ from the defaults. "scaling" is
            taken with ``--scaling`` unless ``--preset`` names another one; "small" takes seconds.
        packages: modules that it imports and which the core does not need; one that is missing is named with its extra.
    """

    Settings: ClassVar[type[msgspec.Struct]]
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"laptop": {}}
    packages: ClassVar[Sequence[str]] = ()

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    def run(self, request: RunRequest) -> int:
        """Do what `pilot run` asks for; its exit status. See `pilot.interfaces.miniapps.RunnableMiniApp`."""
        return run(self, request)

    def wanted(self, request: RunRequest) -> Sequence[PilotDescription]:
        """The pilots that this would ask for, each size of a series among them."""
        return wanted(self, request)

    # ---- what a mini-app defines --------------------------------------------------------------------------------

    def pilots(self) -> Sequence[str | PilotDescription]:
        """The pilots that it runs on unless the user names others: descriptions, or texts such as "ray:2"."""
        return ("ray:1", "dask:1")

    def qpus(self) -> Sequence[str]:
        """The QPUs that the settings name, as in ``PilotDescription.qpus``; names that cannot exist are refused."""
        return ()

    def memory(self) -> int:
        """Bytes that this host must have for the settings, for all slots together; 0: next to nothing."""
        return 0

    def check(self, pilots: Sequence[PilotDescription]) -> None:
        """Raise DescriptionError where the settings do not fit these pilots, or name files that cannot be read.

        Called before anything starts, also with ``--plan``; with ``--scaling`` for each run of the series.
        """
        return

    def plan(self) -> Mapping[str, Any]:
        """What ``--plan`` shows: what would run, from the settings alone: tasks, sizes, predicted times."""
        return {}

    def warm_up(self) -> Callable[[], object] | None:
        """A function that each worker runs before the clock starts: it imports what the tasks need."""
        return None

    def scaled(self, times: int) -> Any:
        """Settings with `times` the work, for weak scaling."""
        raise NotImplementedError

    def scaling_bars(self) -> Mapping[str, str]:
        """Bars of the figures that ``--scaling`` reports, by their keys: ``{"efficiency_4": ">= .9"}``."""
        return {}

    @abstractmethod
    def work(self, run: Run) -> Outcome:
        """Submit the tasks, each under its key, wait for them, compare with the oracle.

        Must be repeatable: after a kill it is called again with the same settings, and finds tasks by their keys.
        """

    def draw(self, report: Mapping[str, Any]) -> Mapping[str, Drawing]:
        """The plots, by file name without suffix, from `report.json` alone."""
        return {}
