"""Groups of options that are set as attributes, or by dicts, and checked when they are set."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from pilot.errors import DescriptionError, did_you_mean, invalid


class Leaf(NamedTuple):
    """One option. None stands for an option that was not set."""

    is_valid: Callable[[Any], bool]
    #: What is valid, as text.
    expected: str


class Refused(NamedTuple):
    """An option of other primitives that is not carried out: only values that change nothing are taken."""

    #: What to do instead.
    advice: str
    harmless: tuple[Any, ...] = ()


#: By name: an option, or the options of a group.
Table = Mapping[str, "Leaf | Refused | Table"]


class OptionGroup:
    """Options as attributes: ``group.name = value``; a group in a group takes a dict as well."""

    def __init__(self, path: str, table: Table) -> None:
        """Make it, with nothing set.

        Args:
            path: its name in messages, such as "PilotSampler.options.twirling".
            table: its options.
        """
        set_here = super().__setattr__
        set_here("_path", path)
        set_here("_table", table)
        groups = {
            name: OptionGroup(f"{path}.{name}", entry) for name, entry in table.items() if isinstance(entry, Mapping)
        }
        set_here("_groups", groups)
        set_here("_values", {})

    _path: str
    _table: Table
    _groups: dict[str, OptionGroup]
    _values: dict[str, Any]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # what copy and pickle look for
            raise AttributeError(name)
        if name in self._groups:
            return self._groups[name]
        self._entry(name)
        return self._values.get(name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an option.

        Raises:
            DescriptionError: there is no such option, the value is not valid, or it is not carried out.
        """
        entry = self._entry(name)
        if isinstance(entry, Mapping):
            self._groups[name].clear()
            self._groups[name].update(given_options(f"{self._path}.{name}", value))
        elif value is None:
            self._values.pop(name, None)
        elif isinstance(entry, Leaf):
            if not entry.is_valid(value):
                raise invalid(f"{self._path}.{name}", value, entry.expected)
            self._values[name] = value
        elif not any(type(value) is type(one) and value == one for one in entry.harmless):
            raise DescriptionError(
                f"{self._path}.{name}: {value!r} is not carried out here: {entry.advice}", field=name, given=value
            )

    def __delattr__(self, name: str) -> None:
        setattr(self, name, None)

    def update(self, options: Mapping[str, Any] | None = None, /, **more: Any) -> None:
        """Set several. A dict for a group changes what it names and leaves the rest.

        Raises:
            DescriptionError: as for one.
        """
        for name, value in {**(options or {}), **more}.items():
            if isinstance(self._entry(name), Mapping):
                self._groups[name].update(given_options(f"{self._path}.{name}", value))
            else:
                setattr(self, name, value)

    def clear(self) -> None:
        """Nothing is set any more."""
        self._values.clear()
        for group in self._groups.values():
            group.clear()

    def to_dict(self) -> dict[str, Any]:
        """What is set, by name; of groups in which something is set, dicts."""
        found = dict(self._values)
        found.update((name, its) for name, group in self._groups.items() if (its := group.to_dict()))
        return found

    def _entry(self, name: str) -> Leaf | Refused | Table:
        if name not in self._table:
            raise DescriptionError(
                f"{self._path} has no option {name!r}{did_you_mean(name, self._table)}. It has: "
                f"{', '.join(self._table)}",
                field=name,
            )
        return self._table[name]

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._table]

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OptionGroup) and (self._path, self.to_dict()) == (other._path, other.to_dict())

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{self._path}: {self.to_dict()}"


def given_options(path: str, given: Any) -> Mapping[str, Any]:
    """Options as a dict: a dict, a group, or an options object of qiskit-ibm-runtime's, of which what is set counts.

    Raises:
        DescriptionError: it is something else.
    """
    if isinstance(given, Mapping):
        return given
    if isinstance(given, OptionGroup):
        return given.to_dict()
    if dataclasses.is_dataclass(given) and not isinstance(given, type):
        return _set_in(given)
    raise invalid(path, given, "a dict with names and values, or options")


def _set_in(given: Any) -> dict[str, Any]:
    """The fields of a dataclass that were set, groups among them as dicts."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(given):
        value = getattr(given, field.name)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            value = _set_in(value) or None
        if value is not None and type(value).__name__ != "UnsetType" and not field.name.startswith("_"):
            found[field.name] = value
    return found
