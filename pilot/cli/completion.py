"""`pilot completion`: a script for the shell, with which TAB completes commands and flags."""

from __future__ import annotations

import argparse

from pilot.errors import PluginError

SHELLS = ("bash", "zsh", "tcsh")


def show(parser: argparse.ArgumentParser, shell: str) -> int:
    """Print the script.

    Raises:
        PluginError: shtab, which makes it, is not installed.
    """
    try:
        import shtab
    except ImportError as error:
        raise PluginError("completion needs shtab, which is not installed: pip install shtab") from error
    print(shtab.complete(parser, shell=shell))
    return 0
