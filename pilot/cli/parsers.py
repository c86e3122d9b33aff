"""`Parser`: reads a command line whose values are never empty."""

from __future__ import annotations

import argparse
from typing import Any

from pilot.errors import did_you_mean


class Parser(argparse.ArgumentParser):
    """A parser whose flags and words, and those of its commands, take no empty text.

    An empty one is a variable of a script that is not set; most flags would take it as if they were not given.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.register("type", None, _text)  # of arguments that have no type of their own

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As the base class; an argument that is not known is refused where it stands, by the command's own parser."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            word = unknown[0].partition("=")[0]
            hint = did_you_mean(word, self._option_string_actions) if word.startswith("-") else ""
            self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        return found, unknown

    def add_subparsers(self, **kwargs: Any) -> Any:
        """As the base class; a command's words are looked at by its own parser."""
        added = super().add_subparsers(**kwargs)
        added.type = str
        return added


def _text(given: str) -> str:
    if not given:
        raise argparse.ArgumentTypeError("'' is not valid; expected a text that is not empty")
    return given
