"""Addresses of QPUs, as in ``PilotDescription.qpus``: what is before the question mark, and options behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn
from urllib.parse import parse_qsl

from pilot.errors import DescriptionError, did_you_mean

#: Option → what makes its value from its text (raising ValueError), and the text that says what is expected.
Options = Mapping[str, tuple[Callable[[str], Any], str]]


def parse(name: str, address: str, options: Options) -> tuple[str, dict[str, Any]]:
    """Take an address apart: ``"kolkata?queue=2"`` is ``("kolkata", {"queue": 2.0})``.

    Args:
        name: as in ``PilotDescription.qpus``, for the messages.
        address: what is behind its colon.
        options: those that there are.

    Raises:
        DescriptionError: an option that there is not, one given twice, or a value that is not valid.
    """
    path, mark, query = address.partition("?")
    values: dict[str, Any] = {}
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if mark else []
    except ValueError:
        refuse(name, "options are written ?option=value&option=value", listing(options))
    for key, text in pairs:
        if key not in options:
            refuse(name, f"there is no option {key!r}{did_you_mean(key, options)}", listing(options))
        if key in values:
            refuse(name, f"the option {key!r} is given twice")
        convert, expected = options[key]
        try:
            values[key] = convert(text)
        except ValueError:
            refuse(name, f"the option {key}={text!r} is not valid; expected {expected}")
    return path, values


def refuse(name: str, *what: str) -> NoReturn:
    """Raise DescriptionError for the QPU of this name."""
    raise DescriptionError(f"QPU {name!r}: " + "; ".join(part for part in what if part), field="qpus", given=name)


def listing(options: Options) -> str:
    """The options that there are, as a text."""
    return "options: " + (", ".join(f"{key} ({expected})" for key, (_, expected) in options.items()) or "none")


def not_negative(text: str) -> float:
    """A number of seconds or the like, from 0 on."""
    value = float(text)
    if not 0 <= value < float("inf"):
        raise ValueError(text)
    return value


def at_least_one(text: str) -> int:
    """A whole number, from 1 on."""
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def one_of(*values: str) -> tuple[Callable[[str], str], str]:
    """An option that has one of these values, as an entry of `Options`."""

    def convert(text: str) -> str:
        if text not in values:
            raise ValueError(text)
        return text

    return convert, "one of " + ", ".join(values)
