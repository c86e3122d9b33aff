"""Flags from a frozen struct: one a field, with its help, its bounds and its messages."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
import msgspec.inspect

from pilot.errors import DescriptionError, did_you_mean, invalid

S = TypeVar("S", bound=msgspec.Struct)


def new_parser(prog: str, description: str) -> argparse.ArgumentParser:
    """A parser without flags, whose values are only those that were given."""
    return argparse.ArgumentParser(
        prog=prog,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )


def add_settings(
    parser: argparse.ArgumentParser, title: str, settings: type[msgspec.Struct], *, negatable: bool = True
) -> None:
    """Give a parser one flag a field: `--subcircuit-size` for `subcircuit_size`.

    A field's help is the `description` in its `msgspec.Meta`; a sequence's flag takes several words, and may be given
    again; a boolean's is `--flag`, and `--no-flag` where it is `negatable`. Values stay text here: `read_settings`
    checks them.
    """
    group = parser.add_argument_group(title)
    for field in msgspec.structs.fields(settings):
        kind, help_text, choices = _described(field.type)
        help_text += _default(field)
        options: dict[str, Any] = {"dest": field.name, "help": help_text.replace("%", "%%")}
        if kind is bool:
            options["action"] = argparse.BooleanOptionalAction if negatable else "store_true"
        else:
            options["metavar"] = "|".join(choices) or field.name.split("_")[-1].upper()
            if kind is tuple:
                options |= {"action": "extend", "nargs": "+"}
        group.add_argument(flag(field.name), **options)


def parse(parser: argparse.ArgumentParser, flags: Sequence[str], known: Iterable[str]) -> dict[str, Any]:
    """The values of the flags that were given, by field.

    Args:
        parser: of the flags.
        flags: the words of the command line.
        known: all flags, for the message about an unknown one.

    Raises:
        DescriptionError: a flag is unknown.
    """
    chosen, unknown = parser.parse_known_args(list(flags))
    if unknown:
        hint = did_you_mean(unknown[0].split("=")[0], known)
        raise DescriptionError(f"unknown argument {unknown[0]!r}{hint}; {see_help(parser)}")
    return vars(chosen)


def read_settings(settings: type[S], parser: argparse.ArgumentParser, *given: tuple[str, Mapping[str, Any]]) -> S:
    """The settings that were chosen, checked.

    Args:
        settings: the struct.
        parser: of its flags.
        *given: values by field, and where they are from, for messages ("{}" stands for the field); later ones win.

    Raises:
        DescriptionError: a field is unknown, or its value is not of the field's type or within its bounds.
    """
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for origin, some in given:
        known = [field.name for field in msgspec.structs.fields(settings)]
        for name, value in some.items():
            where = origin.format(name.replace("_", "-"))
            if name not in known:
                hint = did_you_mean(name, known)
                raise DescriptionError(f"{where}: there is no such setting{hint}; {see_help(parser)}")
            values[name], origins[name] = _with_zero(value), where
    try:
        return msgspec.convert(values, settings, strict=False)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$.")
        name = path.rstrip("`").split("[")[0]
        if name:
            reason = not_valid(settings, name, values[name], origins[name])
        raise DescriptionError(f"{reason}; {see_help(parser)}") from None


def not_valid(settings: type[msgspec.Struct], name: str, value: Any, origin: str) -> str:
    """The message about a value, with what the field takes."""
    kind = next(field.type for field in msgspec.structs.fields(settings) if field.name == name)
    shown = " ".join(map(str, value)) if isinstance(value, list | tuple) else value
    return str(invalid(origin, shown, _expected(msgspec.inspect.type_info(kind))))


def _expected(info: Any) -> str:
    """What a type takes, in words."""
    inspect = msgspec.inspect
    match info:
        case inspect.Metadata():
            return _expected(info.type)
        case inspect.UnionType():
            return " or ".join(_expected(one) for one in info.types if not isinstance(one, inspect.NoneType))
        case inspect.LiteralType():
            return f"one of {', '.join(map(str, info.values))}"
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType():
            return f"a whole number{_bounds(info)}"
        case inspect.FloatType():
            return f"a number{_bounds(info)}"
        case inspect.VarTupleType() | inspect.ListType():
            return f"{info.min_length or 'none'} or more, each {_expected(info.item_type)}"
        case inspect.TupleType():
            return f"{len(info.item_types)} numbers: {', then '.join(map(_expected, info.item_types))}"
    return "a text that is not empty" if getattr(info, "min_length", None) else "a text"


def _bounds(info: Any) -> str:
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    given = [f"{text} {getattr(info, name):.15g}" for name, text in words.items() if getattr(info, name) is not None]
    return f", {' and '.join(given)}" if given else ""


def _with_zero(value: Any) -> Any:
    """A number without a digit before its point, as it is taken here: ".5" is 0.5."""
    return f"0{value}" if isinstance(value, str) and re.fullmatch(r"\.\d+([eE][+-]?\d+)?", value) else value


def flag(field_name: str) -> str:
    """The flag of a field."""
    return "--" + field_name.replace("_", "-")


def see_help(parser: argparse.ArgumentParser) -> str:
    """The end of a message about a flag."""
    return f"see `{parser.prog} --help`"


def _described(annotation: Any) -> tuple[type, str, list[str]]:
    """Whether a field is bool, tuple (any sequence) or str (one value), its help, and its choices if any."""
    info = msgspec.inspect.type_info(annotation)
    help_text = ""
    if isinstance(info, msgspec.inspect.Metadata):
        help_text, info = (info.extra_json_schema or {}).get("description", ""), info.type
    if isinstance(info, msgspec.inspect.UnionType):  # or None
        info = next((one for one in info.types if not isinstance(one, msgspec.inspect.NoneType)), info)
    if isinstance(info, msgspec.inspect.LiteralType):
        return str, help_text, [str(value) for value in info.values]
    if isinstance(info, msgspec.inspect.BoolType):
        return bool, help_text, []
    if isinstance(info, msgspec.inspect.VarTupleType | msgspec.inspect.ListType):
        return tuple, help_text, []
    return str, help_text, []


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.default in (msgspec.NODEFAULT, None, "", ()) or field.default is False:
        return ""
    shown = " ".join(map(str, field.default)) if isinstance(field.default, tuple) else field.default
    return f" (default: {shown})"
