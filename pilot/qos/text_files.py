"""Text files of traces and calibrations, as they are or compressed."""

from __future__ import annotations

import lzma
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TextIO

#: What a file raises that cannot be read, or is no text.
ERRORS = (OSError, EOFError, lzma.LZMAError, UnicodeDecodeError)


def opened(path: Path) -> AbstractContextManager[TextIO]:
    """A UTF-8 file; one whose name ends with ".xz" is decompressed.

    The mark with which spreadsheets begin a file is left out.

    Raises:
        OSError: it cannot be opened. Reading raises the other ones of `ERRORS`.
    """
    if path.suffix == ".xz":
        return lzma.open(path, "rt", newline="", encoding="utf-8-sig")
    return path.open(newline="", encoding="utf-8-sig")
