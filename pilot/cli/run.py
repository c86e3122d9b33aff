"""`pilot run`: a mini-app, with its settings as flags.

A mini-app is a class found by its entry point (group `pilot.miniapps`), as `RunnableMiniApp` describes it. The flags of
its settings, their help and the checks on their values are derived from its `Settings`; those of the run (`Flags`) are
the same for every mini-app.
"""

from __future__ import annotations

import argparse
import importlib.util
import inspect
import os
import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from pilot import registry
from pilot.cli import streams
from pilot.cli.flags import add_settings, flag, new_parser, parse, read_settings
from pilot.descriptions import PilotDescription
from pilot.errors import DescriptionError, PluginError, did_you_mean
from pilot.interfaces import Launcher
from pilot.interfaces.miniapps import RunnableMiniApp, RunRequest
from pilot.profiles import profile_tables
from pilot.toml_files import read_toml

#: The group of entry points.
MINIAPPS = "pilot.miniapps"
#: Where a value is from that was given on the command line.
_FLAG = "--{}"
EXIT_CODES = """\
exit codes: 0 done; 1 the result is wrong, a bar is missed, or something failed; 2 wrong input, or a run that cannot be
done here; 130 Ctrl-C, 143 SIGTERM (the same command with --resume continues)"""


Text = Annotated[str, msgspec.Meta(min_length=1)]


class Flags(msgspec.Struct, frozen=True, kw_only=True):
    """The flags of a run, whatever the mini-app."""

    preset: Annotated[
        Text | None, msgspec.Meta(description="a set of settings; flags and --config change single ones of them")
    ] = None
    config: Annotated[str | None, msgspec.Meta(description="TOML file with settings, named as the flags")] = None
    pilot: Annotated[
        tuple[str, ...],
        msgspec.Meta(description=f"a pilot: {PilotDescription.text_forms}; give it again for another"),
    ] = ()
    pilots: Annotated[
        str | None, msgspec.Meta(description="TOML file with pilots: one for each of its tables (a site profile)")
    ] = None
    output: Annotated[
        Text | None, msgspec.Meta(description="folder for the report (default: a new one, runs/NAME-TIME-PROCESS)")
    ] = None
    resume: Annotated[
        bool, msgspec.Meta(description="continue the run in --output, which was killed; give the same settings")
    ] = False
    scaling: Annotated[
        str | None, msgspec.Meta(description="run it with so many times the pilots' slots: 1,2,4; see --scaling-of")
    ] = None
    scaling_of: Annotated[
        Literal["slots", "nodes", "pilots"] | None,
        msgspec.Meta(description="what --scaling counts (default: nodes on a cluster, slots on this machine)"),
    ] = None
    plan: Annotated[bool, msgspec.Meta(description="show what would run, and start nothing")] = False


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The arguments of `pilot run`; those behind the name are the mini-app's own."""
    parser.add_argument("--list", action="store_true", help="list the mini-apps, and what they do")
    parser.add_argument("name", nargs="?", metavar="NAME", help="the mini-app; without one, this help is shown")
    parser.add_argument(
        "flags",
        nargs=argparse.REMAINDER,
        type=str,
        metavar="--flag VALUE",
        help="its settings: `pilot run NAME --help`",
    )
    parser.epilog = f"mini-apps: {', '.join(registry.names(MINIAPPS))}"
    parser.set_defaults(call=lambda options: _call(parser, options))


def _call(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    if not options.list:
        return run_miniapp(parser, options.name, options.flags)
    if options.name is not None:
        raise DescriptionError(f"run: --list takes no more arguments; {options.name!r} given")
    return list_all()


def list_all() -> int:
    """`pilot run --list`: each mini-app with the first line of its docstring, or what it needs."""
    names = registry.names(MINIAPPS)
    width = max(map(len, names), default=0)
    for name in names:
        try:
            about = (inspect.getdoc(registry.load(MINIAPPS, name)) or "").partition("\n")[0]
        except PluginError as error:
            about = f"cannot run here: {error}"
        print(f"{name:<{width}}  {about}")
    return 0


def run_miniapp(parser: argparse.ArgumentParser, name: str | None, words: list[str]) -> int:
    """Run the mini-app of this name with these flags; without a name, show the parser's help.

    Raises:
        DescriptionError: there is no such mini-app, or a flag is wrong.
        PluginError: it cannot be loaded.
    """
    if name is None:
        parser.print_help()
        return 0
    names = registry.names(MINIAPPS)
    if name not in names:
        raise DescriptionError(f"run: no mini-app {name!r}; there are {', '.join(names)}{did_you_mean(name, names)}")
    try:
        registry.check(MINIAPPS, name)
    except PluginError as error:  # a package is missing: nothing has gone wrong, but it cannot be done here
        raise DescriptionError(str(error), **error.data) from error
    miniapp: type[RunnableMiniApp] = registry.load(MINIAPPS, name)
    own = _parser(name, miniapp)
    given = parse(own, words, [flag(one) for one in _fields(Flags) | _fields(miniapp.Settings)])
    of_run = {key: given.pop(key) for key in _fields(Flags) & given.keys()}
    chosen = read_settings(Flags, own, (_FLAG, of_run))
    settings = read_settings(miniapp.Settings, own, _preset(miniapp, chosen), _config(chosen.config), (_FLAG, given))
    request = _request(name, words, chosen)
    _check_packages(name, miniapp)
    app = miniapp(settings)
    _check_qpus(app)
    _check_pilots(app, request)
    with streams.lasting():
        return app.run(request)


def _parser(name: str, miniapp: type[RunnableMiniApp]) -> argparse.ArgumentParser:
    settings: Any = getattr(miniapp, "Settings", None)
    if not (isinstance(settings, type) and issubclass(settings, msgspec.Struct)):
        text = f"the mini-app {name!r}: Settings is {settings!r:.80}; expected a msgspec.Struct: see RunnableMiniApp"
        raise PluginError(text, group=MINIAPPS, name=name)
    if taken := sorted(_fields(miniapp.Settings) & _fields(Flags)):
        raise PluginError(
            f"the mini-app {name!r} has settings that are flags of `pilot run`: {', '.join(taken)}; rename them",
            group=MINIAPPS,
            name=name,
        )
    parser = new_parser(f"pilot run {name}", inspect.getdoc(miniapp) or "")
    add_settings(parser, "settings", miniapp.Settings)
    add_settings(parser, "the run", Flags, negatable=False)
    parser.epilog = f"presets: {', '.join(miniapp.presets)}\n{EXIT_CODES}"
    return parser


def _fields(struct: type[msgspec.Struct]) -> set[str]:
    return {field.name for field in msgspec.structs.fields(struct)}


def _preset(miniapp: type[RunnableMiniApp], chosen: Flags) -> tuple[str, Mapping[str, Any]]:
    """The settings of the preset that was chosen, or is the usual one."""
    presets = miniapp.presets
    name = chosen.preset or ("scaling" if chosen.scaling and "scaling" in presets else "laptop")
    if name not in presets and chosen.preset is not None:
        raise DescriptionError(
            f"--preset: {name!r} given; there are {', '.join(presets)}{did_you_mean(name, presets)}", given=name
        )
    return f"preset {name}, {{}}", presets.get(name, {})


def _config(path: str | None) -> tuple[str, Mapping[str, Any]]:
    """The settings in a TOML file."""
    if path is None:
        return "", {}
    values = read_toml(path, "--config")
    return f"--config {path}, {{}}", {key.replace("-", "_"): value for key, value in values.items()}


def _request(name: str, words: list[str], chosen: Flags) -> RunRequest:
    if chosen.resume and chosen.output is None:
        raise DescriptionError("--resume: it needs the --output of the run that it continues")
    if chosen.scaling_of is not None and chosen.scaling is None:
        raise DescriptionError("--scaling-of: it needs --scaling, such as --scaling 1,2,4")
    output = chosen.output or f"runs/{name}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    return RunRequest(
        name=name,
        output=Path(output).expanduser(),
        pilots=tuple(_pilots(chosen)),
        resume=chosen.resume,
        scaling=_counts(chosen.scaling),
        scaling_of=chosen.scaling_of,
        plan=chosen.plan,
        command=shlex.join(["pilot", "run", name, *words]),
    )


def _counts(text: str | None) -> tuple[int, ...]:
    if text is None:
        return ()
    try:
        return tuple(int(one) for one in text.split(","))
    except ValueError:
        raise DescriptionError(
            f"--scaling: {text!r} given; expected whole numbers, such as 1,2,4", given=text
        ) from None


def _check_pilots(app: RunnableMiniApp, request: RunRequest) -> None:
    """Refuse pilots that cannot be had: their launcher does not take them, or their engine or a QPU is not there."""
    where = "--scaling" if request.scaling else "the mini-app's own pilot"
    its: Sequence[PilotDescription] = getattr(app, "wanted", lambda request: ())(request)
    for one in (*request.pilots, *its):
        try:
            registry.check_pilot(one, registry.made("pilot.launchers", one.resource.partition("://")[0], Launcher))
            registry.devices(one)
        except (DescriptionError, PluginError) as error:
            raise DescriptionError(f"{'--pilot' if one in request.pilots else where}: {error}", **error.data) from error


def _check_qpus(app: RunnableMiniApp) -> None:
    """Refuse settings that name a QPU which cannot be one: its kind, its name or its options. No vendor is asked."""
    try:
        for name in getattr(app, "qpus", tuple)():
            registry.make(name)
    except PluginError as error:
        raise DescriptionError(str(error), **error.data) from error


def _pilots(chosen: Flags) -> list[PilotDescription]:
    """The pilots that were asked for."""
    try:
        found = [PilotDescription.from_text(text) for text in chosen.pilot]
    except DescriptionError as error:
        raise DescriptionError(f"--pilot: {error}", **error.data) from error
    if chosen.pilots is None:
        return found
    try:
        tables: list[str | None] = [*profile_tables(chosen.pilots)]
        described = [(name, PilotDescription.from_toml(chosen.pilots, name)) for name in tables or [None]]
    except DescriptionError as error:
        raise DescriptionError(f"--pilots: {error}", **error.data) from error
    return found + [one if one.name else msgspec.structs.replace(one, name=name) for name, one in described]


def _check_packages(name: str, miniapp: type[RunnableMiniApp]) -> None:
    missing = [one for one in miniapp.packages if not _is_installed(one)]
    if missing:
        extra = ",".join(registry.extras(MINIAPPS, name)) or "miniapps"
        raise DescriptionError(
            f"the mini-app {name!r} needs {', '.join(missing)}, which is not installed: "
            f"pip install 'quantum-pilot[{extra}]'"
        )


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:  # the package that it is in is missing
        return False
