"""`pilot doctor --fields`: what each launcher does with each field of a pilot's description, by what the launchers
themselves refuse."""

from __future__ import annotations

import functools
import json
import textwrap

import msgspec

from pilot import registry
from pilot.descriptions import PilotDescription
from pilot.errors import PilotError
from pilot.interfaces import Launcher

#: What a launcher does with a field. The last two are refused with an error; for the last there is nothing that could
#: carry it out. A launcher of another package may not say what it does.
HONOURED, REFUSED, NOT_APPLICABLE, NOT_STATED = "honoured", "refused", "not applicable", "not stated"
SIGNS = {HONOURED: "✓", REFUSED: "✗", NOT_APPLICABLE: "–", NOT_STATED: "?"}
_WIDTH = 110


class Cell(msgspec.Struct, frozen=True):
    """What pilots at a resource do with a field."""

    field: str
    resource: str
    use: str
    #: Of a field that is refused: what is valid, and what to do instead.
    expected: str = ""


def fields() -> list[str]:
    """The fields that a launcher may carry out: not what chooses it, and what has given its fields before."""
    return [field for field in PilotDescription.__struct_fields__ if field not in ("resource", "site")]


@functools.cache
def _launcher(scheme: str) -> Launcher:
    made: Launcher = registry.load("pilot.launchers", scheme)()
    return made


def resources() -> list[str]:
    """The kinds of resources of the launchers that can be loaded here."""
    found = []
    for scheme in registry.names("pilot.launchers"):
        try:
            launcher = _launcher(scheme)
        except PilotError:  # a package that it needs is not installed: `pilot doctor` says so
            continue
        found += [f"{scheme}://{variant}" for variant in launcher.variants()]
    return found


def cell(resource: str, field: str) -> Cell:
    """What pilots at this resource do with a field."""
    launcher = _launcher(resource.partition("://")[0])
    refusal = launcher.refusal(resource, field)
    if refusal is not None:
        return Cell(field, resource, REFUSED if refusal.applies else NOT_APPLICABLE, refusal.expected)
    return Cell(field, resource, NOT_STATED if type(launcher).refusal is Launcher.refusal else HONOURED)


def show(as_json: bool) -> int:
    """Print the table, and below it what to do about each field that is refused."""
    columns = resources()
    rows = {field: [cell(resource, field) for resource in columns] for field in fields()}
    if as_json:
        cells = [one for row in rows.values() for one in row]
        print(json.dumps(msgspec.to_builtins(cells), indent=2))
        return 0
    first = max(map(len, rows))
    print(", ".join(f"{sign} {use}" for use, sign in SIGNS.items()), end="\n\n")
    print("  ".join(("field".ljust(first), *columns)))
    for field, row in rows.items():
        print("  ".join((field.ljust(first), *(SIGNS[one.use].center(len(one.resource)) for one in row))).rstrip())
    print()
    said: dict[str, list[Cell]] = {}
    for one in (one for row in rows.values() for one in row if one.expected):
        said.setdefault(one.expected, []).append(one)
    for expected, some in said.items():
        names = ", ".join(dict.fromkeys(one.field for one in some))
        where = ", ".join(dict.fromkeys(one.resource for one in some))
        print(textwrap.fill(f"{names} with {where}: expected {expected}", _WIDTH, subsequent_indent="  "))
    return 0
