"""Site profiles: TOML files with one table for each kind of pilot."""

from __future__ import annotations

import os
from typing import Any

from pilot.toml_files import read_toml


def profile_tables(path: str | os.PathLike[str]) -> list[str]:
    """The names of a site profile's tables, in its order.

    Raises:
        DescriptionError: as `PilotDescription.from_toml`.
    """
    return list(read_profile(path)[1])


#: Fields whose values are mappings, which look like tables.
_MAPPINGS = ("environment", "custom_attributes")


def read_profile(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The keys that hold for all tables, and the tables."""
    data = read_toml(path)
    tables = {key: value for key, value in data.items() if isinstance(value, dict) and key not in _MAPPINGS}
    return {key: value for key, value in data.items() if key not in tables}, tables
