"""Profiles of pilots: TOML files with one table for each kind of pilot. `sites` has those of a site."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from pilot.errors import DescriptionError, did_you_mean, invalid
from pilot.toml_files import read_toml

if TYPE_CHECKING:
    from pilot.fields import Description

#: Other names of fields of `PilotDescription`.
ALIASES = {"type": "engine", "account": "project", "partition": "queue"}
#: Fields whose values are mappings, which look like tables: those of file, table and user are put together.
MAPPINGS = ("environment", "custom_attributes")
#: Keys that are no fields: a line about the file, the table that is meant where none is named, and the most of a field.
ABOUT, DEFAULT, LIMITS = "about", "default", "limits"
#: Fields that may have a limit.
LIMITED = ("number_of_nodes", "cores_per_node", "gpus_per_node", "memory", "walltime")
#: Fields in which $NAME and ${NAME} stand for the variables of who reads the file, and $$ for a dollar.
_EXPANDED = ("venv", "conda_environment", "working_directory", "container", "environment")

_HEADER = re.compile(r"\s*\[([^\[\]]+)\]")


def profile_tables(path: str | os.PathLike[str]) -> list[str]:
    """The names of a profile's tables, in its order.

    Raises:
        DescriptionError: as `PilotDescription.from_toml`.
    """
    return list(Profile(path).tables)


class Profile:
    """One file: keys that hold for all its tables, and the tables."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Read it.

        Raises:
            DescriptionError: it cannot be read, is not valid TOML (with the line), or its ``default`` is no table.
        """
        self.path = os.fspath(path)
        data = read_toml(path)
        known = (*MAPPINGS, LIMITS)
        self.tables = {key: value for key, value in data.items() if isinstance(value, dict) and key not in known}
        self.common = {key: value for key, value in data.items() if key not in self.tables}
        self.about = self.common.pop(ABOUT, "")
        self._default = self.common.pop(DEFAULT, None)
        self._lines = Path(path).read_text(encoding="utf-8").splitlines()
        self._listed = ", ".join(self.tables) or "no table"
        if self._default is not None and self._default not in list(self.tables):
            place = self.place(None, DEFAULT)
            raise invalid(f"{place}: {DEFAULT}", self._default, f"the name of a table: {self._listed}")

    def defaults(self, table: str | None = None) -> Defaults:
        """What a table gives, with the keys that hold for all.

        Args:
            table: its name; None: the file's ``default``, or the only table, or none where there is none.

        Raises:
            DescriptionError: there is no such table (with the known ones), or one has to be named; or there is no such
                limit or variable (with the line).
        """
        table = self._default if table is None else table
        if table is None and len(self.tables) == 1:
            table = next(iter(self.tables))
        if table is None and self.tables:
            raise DescriptionError(f"{self.path} has several tables: choose one of {self._listed}", field="table")
        if table is not None and table not in self.tables:
            hint = did_you_mean(table, self.tables)
            text = f"{self.path} has no table {table!r}{hint}; it has {self._listed}"
            raise DescriptionError(text, field="table", given=table)
        return Defaults(self, table)

    def place(self, table: str | None, *keys: str) -> str:
        """Where a key stands that has one of these names, in a table or before the first one: file, line and table."""
        for section in dict.fromkeys((table, None)):
            for number, line in enumerate(self._section(section), 1):
                if line is not None and any(_has_key(line, section, key) for key in keys):
                    return f"{self.path}:{number}" + (f", table [{section}]" if section is not None else "")
        return f"{self.path}, table [{table}]" if table is not None else self.path

    def _section(self, table: str | None) -> list[str | None]:
        """All lines of the file; None for those of other tables. Headers of tables below the table are its lines."""
        lines: list[str | None] = []
        current: list[str] = []
        for line in self._lines:
            if header := _HEADER.match(line):
                current = [part.strip(" \"'") for part in header[1].split(".")]
            inside = current[:1] == [table] if table is not None else not current or current[0] not in self.tables
            lines.append(line if inside else None)
        return lines


class Defaults:
    """The fields that a table of a profile gives to a pilot, and their limits."""

    def __init__(self, profile: Profile, table: str | None) -> None:
        self._profile, self._table = profile, table
        parts = [_renamed(profile.common), _renamed(profile.tables[table] if table is not None else {})]
        self.limits: dict[str, Any] = {}
        #: By field: the table whose limit it is; None: it is one for all tables.
        self._limit_tables: dict[str, str | None] = {}
        for part, origin in zip(parts, (None, table), strict=True):
            limits = self._checked_limits(part.pop(LIMITS, {}), origin)
            self.limits |= limits
            self._limit_tables |= dict.fromkeys(limits, origin)
        #: By field of `PilotDescription`; variables are filled in.
        self.fields = {
            key: self._expanded(key, value) if key in _EXPANDED else value for key, value in merged(*parts).items()
        }

    def merged_with(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """These fields, and those that were given, which win."""
        return merged(self.fields, _renamed(given))

    def place(self, field: str) -> str:
        """Where the profile has this field: file, line and table."""
        return self._profile.place(self._table, field, *(name for name, of in ALIASES.items() if of == field))

    def placed(self, error: DescriptionError, given: Mapping[str, Any]) -> DescriptionError:
        """An error about a pilot with these fields, and the place of its field in the file unless that was given."""
        field = error.data.get("field", "")
        if field in _renamed(given):
            return error
        return DescriptionError(f"{self.place(field)}: {error}", **error.data)

    def check_limits(self, pilot: Description) -> None:
        """Raise DescriptionError when a pilot is larger, or longer, than the profile's limits."""
        try:
            most = type(pilot)(**self.limits)
        except DescriptionError as error:
            raise DescriptionError(f"{self.place(LIMITS)}: {LIMITS}: {error}", **error.data) from None
        for field, shown in self.limits.items():
            value, limit = getattr(pilot, field), getattr(most, field)
            if value is not None and limit is not None and value > limit:
                place = self._profile.place(self._limit_tables[field], LIMITS)
                raise pilot.wrong(field, f"at most {shown}, the limit of {place}")

    def _checked_limits(self, given: Any, table: str | None) -> dict[str, Any]:
        place = self._profile.place(table, LIMITS)
        if not isinstance(given, dict):
            raise invalid(f"{place}: {LIMITS}", given, f"a table with the most of {', '.join(LIMITED)}")
        limits = _renamed(given)
        for key in limits:
            if key not in LIMITED:
                hint = did_you_mean(key, LIMITED)
                raise DescriptionError(
                    f"{place}: there is no limit {key!r}{hint}; there are {', '.join(LIMITED)}",
                    field=key,
                )
        return limits

    def _expanded(self, field: str, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._expanded(field, one) for key, one in value.items()}
        if isinstance(value, list):
            return [self._expanded(field, one) for one in value]
        if not isinstance(value, str):
            return value
        try:
            return Template(value).substitute(os.environ)
        except KeyError as error:
            problem = f"the variable {error.args[0]} is not set here"
        except ValueError:
            problem = "a dollar begins no variable: write $$ for a dollar"
        raise DescriptionError(f"{self.place(field)}: {field}: {value!r}: {problem}", field=field, given=value)


def merged(*parts: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of several origins: later ones win, and `MAPPINGS` are put together."""
    found: dict[str, Any] = {}
    for part in parts:
        for key, value in part.items():
            both = key in MAPPINGS and isinstance(value, Mapping) and isinstance(found.get(key), Mapping)
            found[key] = {**found[key], **value} if both else value
    return found


def _renamed(given: Mapping[str, Any]) -> dict[str, Any]:
    """The same with the fields' own names."""
    return {ALIASES.get(key, key): value for key, value in given.items()}


def _has_key(line: str, table: str | None, key: str) -> bool:
    """True for a line that sets a key, one of its parts, or begins the table below ``table`` with this name."""
    name = rf"[\"']?{re.escape(key)}[\"']?"
    if re.match(rf"\s*{name}\s*[=.]", line):
        return True
    above = rf"[\"']?{re.escape(table)}[\"']?\s*\.\s*" if table is not None else ""
    return re.match(rf"\s*\[\s*{above}{name}\s*[\].]", line) is not None
