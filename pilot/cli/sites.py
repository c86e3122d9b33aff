"""`pilot sites`: the profiles of sites that there are; what one gives to a pilot, and from where; whether it fits."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from pilot import sites
from pilot.cli import doctor, streams, tables
from pilot.cli.findings import Finding, show_findings
from pilot.descriptions import PilotDescription
from pilot.errors import DescriptionError
from pilot.profiles import LIMITS, Profile

_BARE = re.compile(r"[A-Za-z0-9_-]+")


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """One line of `pilot sites ls`."""

    name: str
    file: str
    about: str = ""
    #: What ``site`` may be.
    pilots: tuple[str, ...] = ()
    #: Why it cannot be used; "": it can.
    problem: str = ""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The commands of `pilot sites`, with their arguments."""
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, text: str, call: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        description = f"{text[0].upper()}{text[1:]}."
        command = commands.add_parser(name, help=text, description=description, allow_abbrev=False)
        command.add_argument("--json", action="store_true", help="print JSON")
        command.set_defaults(call=call)
        return command

    add("ls", "list the sites that have a profile", lambda options: list_all(options.json))
    showing = add(
        "show",
        "show what a site gives to a pilot, and in which line of which file",
        lambda options: show(options.site, options.json),
    )
    showing.add_argument("site", metavar="NAME[:TABLE]", help="the site, or one of its kinds of pilots")
    checking = add(
        "check",
        "check profiles, and whether they fit the cluster that this is",
        lambda options: check(options.sites, options.json),
    )
    checking.add_argument("sites", nargs="*", metavar="NAME[:TABLE]", help="sites (default: all)")


def list_all(as_json: bool) -> int:
    """List the sites.

    Returns:
        0, or 1 when one of them cannot be used.
    """
    found = [_site(name, path) for name, path in sites.files().items()]
    is_broken = int(any(one.problem for one in found))
    if as_json:
        print(json.dumps(msgspec.to_builtins(found), indent=2))
        return is_broken
    if not found:
        _say_none()
    _print_table([one for one in found if not one.problem])
    for one in found:
        if one.problem:
            streams.say(f"{one.name} cannot be used: {one.problem}")
    return is_broken


def _say_none() -> None:
    where = ", ".join(map(str, sites.search_path()))
    streams.say(f"no sites in {where}; {sites.SITES} names other files and folders")


def show(site: str, as_json: bool) -> int:
    """Print a site's fields and limits as TOML, with the place of each.

    Raises:
        DescriptionError: there is no such site, or a value in it is not valid.
    """
    shown = {}
    for name in _names(site):
        PilotDescription(site=name)  # its values are valid
        defaults = sites.find(name)
        given = defaults.fields | ({LIMITS: defaults.limits} if defaults.limits else {})
        shown[name] = {key: {"value": value, "place": defaults.place(key)} for key, value in given.items()}
    if as_json:
        print(json.dumps(shown, indent=2))
        return 0
    for number, (name, fields) in enumerate(shown.items()):
        print(f"{chr(10) if number else ''}# site = {json.dumps(name)}")
        lines = {f"{_key(key)} = {_toml(one['value'])}": one["place"] for key, one in fields.items()}
        width = max(map(len, lines), default=0)
        for line, place in lines.items():
            print(f"{line:<{width}}  # {place}")
    return 0


def check(names: Sequence[str], as_json: bool) -> int:
    """Print, for each kind of pilot of these sites, or of all, whether it can be made here.

    Returns:
        0, or 1 when something does not fit.
    """
    if not names and not sites.files():
        _say_none()
    findings: list[Finding] = []
    pilots: dict[str, PilotDescription] = {}
    for site in names or sites.files():
        try:
            for name in _names(site):
                pilots[name] = PilotDescription(site=name)
        except DescriptionError as error:
            findings.append(Finding(topic=site, state="broken", what=str(error), advice="correct it", needed=True))
    findings += doctor.examine_pilots(pilots)
    show_findings(findings, as_json)
    return int(any(one.state != "ok" for one in findings))


def _site(name: str, path: Path) -> Site:
    try:
        profile, names = Profile(path), _names(name)
        for one in names:
            PilotDescription(site=one)
    except DescriptionError as error:
        return Site(name=name, file=str(path), problem=str(error))
    return Site(name=name, file=str(path), about=str(profile.about), pilots=tuple(names))


def _names(site: str) -> list[str]:
    """A site's kinds of pilots, as a description names them; of ``NAME:TABLE`` that one.

    Raises:
        DescriptionError: there is no such site, or its file cannot be read.
    """
    path = sites.files().get(site)
    tables = list(Profile(path).tables) if path is not None else []
    return [f"{site}:{table}" for table in tables] or [site]


def _print_table(found: Sequence[Site]) -> None:
    from rich.table import Table

    if not found:
        return
    table = Table("site", "pilots", "about", "file")
    for one in found:
        table.add_row(one.name, ", ".join(one.pilots), one.about, one.file)
    tables.show(table, 200)


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else json.dumps(name)


def _toml(value: Any) -> str:
    """A value of a profile as TOML writes it."""
    if isinstance(value, dict):
        inner = ", ".join(f"{_key(key)} = {_toml(one)}" for key, one in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False)
