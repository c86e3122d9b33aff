"""What a run needs: pilots that say how large they are, and memory of this machine."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import psutil

from pilot import DescriptionError, PilotDescription

if TYPE_CHECKING:
    from pilot_miniapps.frame.miniapp import MiniApp

GIB = 2**30


def pilots_of(app: MiniApp, given: Sequence[PilotDescription]) -> list[PilotDescription]:
    """The pilots that were given, or the mini-app's own, each with a name.

    Raises:
        DescriptionError: one has no number of cores, or the name of another one; or there is none.
    """
    found: list[PilotDescription] = []
    for one in given or app.pilots():
        wanted = PilotDescription.from_text(one) if isinstance(one, str) else one
        if wanted.cores_per_node is None and not is_here(wanted):
            raise wanted.wrong("cores_per_node", "a number of cores: it fixes how many tasks run at a time")
        found.append(wanted)
    if not found:
        raise DescriptionError("--pilot: this mini-app has no pilot of its own; give one, such as --pilot process:2")
    return named(found)


def named(pilots: Iterable[PilotDescription]) -> list[PilotDescription]:
    """The pilots, each with a name, by which a run that is resumed knows them.

    Raises:
        DescriptionError: two have one name.
    """
    found: list[PilotDescription] = []
    for number, wanted in enumerate(pilots):
        one = msgspec.structs.replace(wanted, name=wanted.name or f"{wanted.engine}-{number}")
        if any(other.name == one.name for other in found):
            raise one.wrong("name", "a name that no other pilot of this run has")
        found.append(one)
    return found


def is_here(pilot: PilotDescription) -> bool:
    """True for a pilot on this host."""
    return pilot.resource.startswith("local://")


def check_memory(app: MiniApp, pilots: Sequence[PilotDescription]) -> None:
    """Raise DescriptionError where this machine has too little memory for the settings; which one to change is said.

    Only with pilots on this machine: nobody here knows what others have.
    """
    needed, there = app.memory(), available()
    if needed <= there or not any(is_here(one) for one in pilots):
        return
    raise DescriptionError(
        f"these settings need {needed / GIB:.1f} GiB of memory, and this machine has {there / GIB:.1f} GiB free: "
        f"{_advice(app, needed)}, or run it on pilots of a larger machine (--pilot)",
        given=needed,
    )


def cores() -> int:
    """The cores of this host that this process may use."""
    return len(os.sched_getaffinity(0))


def available() -> int:
    """Bytes of memory that this host has left."""
    return int(psutil.virtual_memory().available)


def _advice(app: MiniApp, needed: int) -> str:
    """Which setting to make smaller: the one that saves the most memory by its next smaller value."""
    best, saved = "", 0
    for field in msgspec.structs.fields(app.settings):
        value = getattr(app.settings, field.name)
        smaller = _smaller(value)
        try:
            if smaller is None:
                continue
            less = type(app)(msgspec.structs.replace(app.settings, **{field.name: smaller})).memory()
        except Exception:  # the mini-app does not take this value
            continue
        if needed - less > saved:
            shown = " ".join(map(str, value)) if isinstance(value, tuple) else value
            best, saved = f"make --{field.name.replace('_', '-')} smaller (it is {shown})", needed - less
    return best or "choose a smaller preset"


def _smaller(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool) and value > 1:
        return value - 1
    if isinstance(value, tuple) and len(value) > 1 and all(isinstance(one, int | float) for one in value):
        return tuple(one for one in value if one != max(value))
    return None
