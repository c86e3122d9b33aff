"""Reads TOML files of users."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pilot.errors import DescriptionError


def read_toml(path: str | os.PathLike[str], what: str = "") -> dict[str, Any]:
    """What a TOML file has.

    Args:
        path: of the file, in UTF-8.
        what: begins the error, such as "--config".

    Raises:
        DescriptionError: it cannot be read, or is not valid TOML.
    """
    import tomllib  # only here: workers need none

    name = f"{what}: {os.fspath(path)}" if what else os.fspath(path)
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DescriptionError(f"{name} cannot be read: {error.strerror or error}", given=path) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DescriptionError(f"{name} is not valid TOML: {error}", given=path) from error
