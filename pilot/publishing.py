"""Public classes name `pilot`, where users import them, as their module."""

from __future__ import annotations

from typing import get_type_hints


def publish(*classes: type) -> None:
    """Have these classes name ``pilot`` as their module: in tracebacks, reprs and pickles.

    Each must be a name of ``pilot``. Their annotations are resolved before that, since msgspec and others look up the
    names in them in the module that the class names.
    """
    for one in classes:
        if "__annotations__" in vars(one):
            hints = get_type_hints(one, include_extras=True)
            one.__annotations__ = {name: hints[name] for name in one.__annotations__}
        one.__module__ = "pilot"
