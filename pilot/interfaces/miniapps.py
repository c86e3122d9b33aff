"""The contract of mini-apps: what `pilot run` needs of the class behind an entry point of the group ``pilot.miniapps``.

`pilot_miniapps.frame.MiniApp` is a base class with all of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import msgspec

if TYPE_CHECKING:
    from pilot.descriptions import PilotDescription


class RunRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What the flags of `pilot run` ask for, apart from the mini-app's settings."""

    #: As registered.
    name: str
    #: For the report and all other files.
    output: Path
    #: Empty: those that the mini-app has of its own.
    pilots: tuple[PilotDescription, ...] = ()
    #: Continue the run in ``output``.
    resume: bool = False
    #: Run it with so many slots, nodes or pilots, one after another. An empty one runs it once.
    scaling: tuple[int, ...] = ()
    #: What is counted: "slots", "nodes" or "pilots"; None: nodes where the pilots' jobs run on other hosts, else slots.
    scaling_of: str | None = None
    #: Only show what would run.
    plan: bool = False
    #: The command line, which a message repeats.
    command: str = ""


class RunnableMiniApp(Protocol):
    """A class whose objects `pilot run` runs.

    Its docstring is what ``pilot run NAME --help`` shows, the first line of it what ``pilot run --list`` shows.
    A method ``qpus()``, where it has one, returns the names of the QPUs in its settings, as in
    ``PilotDescription.qpus``: those that cannot exist are refused before it runs. A method ``wanted(request)`` returns
    the pilots that it would ask for, its own ones and each size of a series: those that their launcher or engine cannot
    start are refused before it runs. Without it, those that the user named are looked at.
    """

    #: A frozen struct; each field is a flag. Its `msgspec.Meta` has the flag's help as ``description``, and bounds.
    Settings: ClassVar[type[msgspec.Struct]]
    #: By name, the values of settings that differ from the defaults. "laptop" is taken unless ``--preset`` says
    #: otherwise; with ``--scaling`` it is "scaling", where there is one.
    presets: ClassVar[Mapping[str, Mapping[str, Any]]]
    #: Modules that it imports and that quantum-pilot does not need.
    packages: ClassVar[Sequence[str]]

    def __init__(self, settings: Any) -> None: ...

    def run(self, request: RunRequest, /) -> int:
        """Do what is asked for. Blocks.

        Returns:
            The exit status of the command: 0, or 1 when the result is wrong or a bar is missed.

        Raises:
            DescriptionError: what is asked for cannot be done here; the command ends with 2.
        """
