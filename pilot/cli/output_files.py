"""Files and folders to be written, looked at before the work that they are for."""

from __future__ import annotations

import os
from pathlib import Path

from pilot.cli import streams
from pilot.errors import DescriptionError


def check_file(flag: str, name: str) -> None:
    """Raise DescriptionError where this file cannot be written. ``flag``: what names it, such as "submit: --json"."""
    file = Path(name).absolute()
    if not name or file.is_dir() or not os.access(file if file.exists() else file.parent, os.W_OK):
        raise DescriptionError(f"{flag} {name}: no file can be written there", given=name)


def write(file: Path, text: str, flag: str) -> bool:
    """True when it is written; else a line says why, and the caller shows the results on standard output."""
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        why = error.strerror or error
        streams.say(f"pilot: {flag} {file} cannot be written: {why}; the results follow on standard output")
        return False
    return True


def check_folder(flag: str, name: str) -> None:
    """Raise DescriptionError where no files can be written into this folder, or it cannot be made."""
    folder = Path(name).absolute()
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not name or not there.is_dir() or not os.access(there, os.W_OK):
        raise DescriptionError(f"{flag} {name}: no files can be written there", given=name)
