"""The command `pilot`.

    pilot run                      the mini-apps there are
    pilot run NAME --help          a mini-app's settings, as flags
    pilot run NAME [--flag VALUE]  run it
    pilot submit FILE --shots N    run circuits: OpenQASM 2 and 3, OriginIR, QIR
    pilot qpus [NAME ...]          what QPUs say of themselves
    pilot doctor [--json]          what works here, and what to do where it does not

A mini-app is a class found by its entry point (group `pilot.miniapps`). Its settings are one frozen
`msgspec.Struct`; the flags, their help and the checks on their values are derived from that, so a mini-app
writes none of them.
"""

from __future__ import annotations

import argparse
import inspect
import json
import signal
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

import msgspec
import msgspec.inspect

from pilot import registry
from pilot.cli import qpus, streams, submit
from pilot.cli.interruption import Interrupted, taken
from pilot.errors import DescriptionError, PilotError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pilot.cli.interruption import Interruption

MINIAPPS = "pilot.miniapps"
_SIGNS = {"ok": "✓", "absent": "–", "broken": "✗"}
#: Exit status when nobody reads the output any more: 128 and SIGPIPE's number, as shells say it.
_UNREAD = 128 + signal.SIGPIPE
S = TypeVar("S", bound=msgspec.Struct)


class MiniApp(Protocol):
    """A whole workload: `Settings` says what can be chosen, `run` does it."""

    Settings: ClassVar[type[msgspec.Struct]]

    def __init__(self, settings: Any) -> None:
        """`settings` is a `Settings`."""

    def run(self) -> None:
        """Do the work, show how it goes, and leave a report."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        The exit status: 0 done, 1 failed, 2 wrong input, 128 and the signal's number when a signal ended it: 130 for
        Ctrl-C, 143 for SIGTERM, 129 for SIGHUP; 141 when nobody reads its output any more, as of ``yes | head``.
    """
    streams.prepare()
    with taken(for_good=argv is None) as interruption:
        try:
            code = _coded(list(sys.argv[1:] if argv is None else argv), interruption)
            streams.end()
        except SystemExit as ended:  # argparse's, and rich's when nobody reads
            if not isinstance(ended.__context__, BrokenPipeError):
                try:
                    streams.end()
                except OSError:
                    streams.give_up_output()
                raise
            code = _UNREAD
        except BrokenPipeError:
            code = _UNREAD
        except OSError as error:
            what = f"{error.filename}: " if error.filename else ""
            streams.say(f"pilot: {what}{error.strerror or error}")
            code = 1
        else:
            return code
        streams.give_up_output()
        return code if interruption.number is None else 128 + interruption.number


def _coded(argv: list[str], interruption: Interruption) -> int:
    """The exit status, after a line that says what went wrong."""
    number = 0
    try:
        return _run(argv, interruption)
    except (KeyboardInterrupt, Interrupted):
        number = interruption.number or signal.SIGINT
    except Exception as error:
        number = interruption.number or 0  # then it came of the signal, as where an import was broken off
        if not number:
            if not isinstance(error, PilotError):
                raise
            streams.say(f"pilot: {error}")
            return 2 if isinstance(error, DescriptionError) else 1
    streams.say("\npilot: stopped")
    return 128 + number


def _run(argv: list[str], interruption: Interruption) -> int:
    parser = argparse.ArgumentParser(prog="pilot", description="Pilot jobs for quantum-HPC.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"quantum-pilot {version('quantum-pilot')}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    commands.add_parser("run", help="run a mini-app")
    send = commands.add_parser("submit", help="run circuits that are in files", allow_abbrev=False)
    submit.add_flags(send)
    ask = commands.add_parser("qpus", help="what QPUs say of themselves", allow_abbrev=False)
    ask.add_argument("names", nargs="*", metavar="NAME", help="such as fake:kolkata; none: the kinds that there are")
    ask.add_argument("--json", action="store_true", help="as JSON")
    look = commands.add_parser("doctor", help="what works here, and what to do where it does not", allow_abbrev=False)
    look.add_argument("--json", action="store_true", help="a list of findings as JSON")
    look.add_argument("--site", metavar="FILE", help="check a site profile against this cluster instead")
    send.set_defaults(call=lambda options: submit.submit(options, interruption))
    ask.set_defaults(call=lambda options: qpus.show(options.names, options.json))
    look.set_defaults(call=lambda options: examine(options.json, options.site))
    if argv[:1] == ["run"]:  # its flags are the mini-app's, --help among them
        return run_miniapp(argv[1:])
    options = parser.parse_args(argv)
    code: int = options.call(options)
    return code


def examine(as_json: bool, site: str | None) -> int:
    """`pilot doctor`: 0 when everything is there that ``local://`` needs, or that the site profile asks for."""
    from pilot.cli import doctor

    findings = doctor.examine_site(site) if site else doctor.examine()
    good = doctor.works_locally(findings)
    if as_json:
        print(json.dumps(msgspec.to_builtins(findings), indent=2))
        return 0 if good else 1
    width = max((len(finding.topic) for finding in findings), default=0)
    for finding in findings:
        print(f"{_SIGNS[finding.state]} {finding.topic:<{width}}  {finding.what}")
        if finding.advice:
            print(f"  {'':<{width}}  → {finding.advice}")
    return 0 if good else 1


def run_miniapp(argv: list[str]) -> int:
    """`pilot run`: `argv` is the mini-app's name and its flags; without a name, the names are listed."""
    names = sorted(registry.names(MINIAPPS))
    listing = argparse.ArgumentParser(
        prog="pilot run",
        usage="pilot run NAME [--flag VALUE ...]",
        description="Run a mini-app. There are: " + ", ".join(names) + ". `pilot run NAME --help` lists its flags.",
    )
    if not argv or argv[0] in {"-h", "--help"}:
        listing.print_help()
        return 0
    name, *flags = argv
    if name not in names:
        raise DescriptionError(f"run: no mini-app {name!r}; there are {', '.join(names)}{did_you_mean(name, names)}")
    miniapp: type[MiniApp] = registry.load(MINIAPPS, name)
    parser = settings_parser(miniapp.Settings, prog=f"pilot run {name}", description=inspect.getdoc(miniapp) or "")
    work = miniapp(read_settings(miniapp.Settings, parser, flags))
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
