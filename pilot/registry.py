"""Plugins by entry point: ``load("pilot.engines", "ray")``. Importing the library runs no plugin code."""

from __future__ import annotations

import difflib
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pilot.errors import PluginError


@cache
def _group(group: str) -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=group)}


def names(group: str) -> list[str]:
    """The names that the installed distributions register in this group."""
    return sorted(_group(group))


def load(group: str, name: str) -> Any:
    """The plugin of this name, imported now.

    Args:
        group: ``pilot.launchers``, ``pilot.engines``, ``pilot.policies`` or ``pilot.miniapps``.
        name: as registered.

    Raises:
        PluginError: no such name in the group (the known ones are listed), or its import failed (cause chained).
    """
    entry = _group(group).get(name)
    kind = group.rpartition(".")[2].removesuffix("s")
    if entry is None:
        near = difflib.get_close_matches(name, names(group), n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        known = ", ".join(names(group)) or "none; is quantum-pilot installed?"
        raise PluginError(f"no {kind} is called {name!r}{hint}; there are: {known}", group=group, name=name)
    try:
        return entry.load()
    except Exception as error:
        extra = getattr(error, "name", None) if isinstance(error, ImportError) else None
        hint = f"; install it: pip install 'quantum-pilot[{name}]'" if extra and not extra.startswith("pilot") else ""
        raise PluginError(f"the {kind} {name!r} cannot be loaded: {error}{hint}", group=group, name=name) from error
