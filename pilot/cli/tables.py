"""Tables on standard output."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table


def show(table: Table, width: int) -> None:
    """Print a table: as wide as the terminal, and elsewhere so many columns wide.

    What is in it is shown as it is: names and paths may have brackets and colons, which are not styles and emoji here.
    """
    from rich.console import Console  # only here: a help text needs none of it

    console = Console(width=None if sys.stdout.isatty() else width, markup=False, emoji=False)
    console.print(table)
