"""`pilot run`: a mini-app, with its settings as flags.

A mini-app is a class found by its entry point (group `pilot.miniapps`). Its settings are one frozen
`msgspec.Struct`; the flags, their help and the checks on their values are derived from that, so a mini-app
writes none of them.
"""

from __future__ import annotations

import argparse
import inspect
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

import msgspec
import msgspec.inspect

from pilot import registry
from pilot.cli import streams
from pilot.errors import DescriptionError, did_you_mean

if TYPE_CHECKING:
    pass

#: The group of entry points.
MINIAPPS = "pilot.miniapps"
S = TypeVar("S", bound=msgspec.Struct)


class MiniApp(Protocol):
    """A whole workload: `Settings` says what can be chosen, `run` does it."""

    Settings: ClassVar[type[msgspec.Struct]]

    def __init__(self, settings: Any) -> None:
        """`settings` is a `Settings`."""

    def run(self) -> None:
        """Do the work, show how it goes, and leave a report."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The arguments of `pilot run`; those behind the name are the mini-app's own."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="the mini-app; without one, this help is shown")
    parser.add_argument(
        "flags", nargs=argparse.REMAINDER, metavar="--flag VALUE", help="its settings: `pilot run NAME --help`"
    )
    parser.epilog = f"mini-apps: {', '.join(sorted(registry.names(MINIAPPS)))}"
    parser.set_defaults(call=lambda options: run_miniapp(parser, options.name, options.flags))


def run_miniapp(parser: argparse.ArgumentParser, name: str | None, flags: list[str]) -> int:
    """Run the mini-app of this name with these flags; without a name, show the parser's help.

    Raises:
        DescriptionError: there is no such mini-app, or a flag is wrong.
    """
    if name is None:
        parser.print_help()
        return 0
    names = sorted(registry.names(MINIAPPS))
    if name not in names:
        raise DescriptionError(f"run: no mini-app {name!r}; there are {', '.join(names)}{did_you_mean(name, names)}")
    miniapp: type[MiniApp] = registry.load(MINIAPPS, name)
    own = settings_parser(miniapp.Settings, prog=f"pilot run {name}", description=inspect.getdoc(miniapp) or "")
    work = miniapp(read_settings(miniapp.Settings, own, flags))
    with streams.lasting():
        work.run()
    return 0


def settings_parser(settings: type[msgspec.Struct], *, prog: str, description: str) -> argparse.ArgumentParser:
    """A parser with one flag a field: `--subcircuit-size` for `subcircuit_size`.

    A field's help is the `description` in its `msgspec.Meta`; a sequence's flag may be given again and again;
    a boolean's is `--flag` and `--no-flag`. Values stay text here: `read_settings` checks them.
    """
    parser = argparse.ArgumentParser(
        prog=prog,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    for field in msgspec.structs.fields(settings):
        kind, help_text, choices = _described(field.type)
        help_text += _default(field)
        options: dict[str, Any] = {"dest": field.name, "help": help_text.replace("%", "%%")}
        if kind is bool:
            options["action"] = argparse.BooleanOptionalAction
        else:
            options["metavar"] = "|".join(choices) or field.name.split("_")[-1].upper()
            options["action"] = "append" if kind is tuple else "store"
        parser.add_argument(_flag(field.name), **options)
    return parser


def read_settings(settings: type[S], parser: argparse.ArgumentParser, flags: list[str]) -> S:
    """The settings that `flags` choose, checked.

    Raises:
        DescriptionError: a flag is unknown, or its value is not of the field's type or within its bounds.
    """
    chosen, unknown = parser.parse_known_args(flags)
    if unknown:
        known = [_flag(field.name) for field in msgspec.structs.fields(settings)]
        raise DescriptionError(
            f"unknown argument {unknown[0]!r}{did_you_mean(unknown[0].split('=')[0], known)}; {_help(parser)}"
        )
    values = vars(chosen)
    try:
        return msgspec.convert(values, settings, strict=False)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$.")
        name = path.rstrip("`").split("[")[0]
        if name:
            reason = f"{_flag(name)}: {values[name]!r} given. {reason}"
        raise DescriptionError(f"{reason}; {_help(parser)}") from None


def _described(annotation: Any) -> tuple[type, str, list[str]]:
    """Whether a field is bool, tuple (any sequence) or str (one value), its help, and its choices if any."""
    info = msgspec.inspect.type_info(annotation)
    help_text = ""
    if isinstance(info, msgspec.inspect.Metadata):
        help_text, info = (info.extra_json_schema or {}).get("description", ""), info.type
    if isinstance(info, msgspec.inspect.LiteralType):
        return str, help_text, [str(value) for value in info.values]
    if isinstance(info, msgspec.inspect.BoolType):
        return bool, help_text, []
    if isinstance(info, msgspec.inspect.VarTupleType | msgspec.inspect.ListType):
        return tuple, help_text, []
    return str, help_text, []


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.default in (msgspec.NODEFAULT, None, ""):
        return ""
    shown = " ".join(field.default) if isinstance(field.default, tuple) else field.default
    return f" (default: {shown})"


def _flag(field_name: str) -> str:
    return "--" + field_name.replace("_", "-")


def _help(parser: argparse.ArgumentParser) -> str:
    return f"see `{parser.prog} --help`"
