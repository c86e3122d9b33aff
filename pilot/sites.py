"""Sites: profiles that administrators, or users, keep in one place, each known by the name of its file."""

from __future__ import annotations

import os
from pathlib import Path

from pilot.errors import DescriptionError, did_you_mean, invalid
from pilot.profiles import Defaults, Profile

#: Environment variable: files and folders with profiles, with colons between them; it replaces `FOLDER`.
SITES = "QUANTUM_PILOT_SITES"
#: Where administrators put them.
FOLDER = "/etc/quantum-pilot/sites.d"


def search_path() -> list[Path]:
    """The files and folders with profiles, first come first served.

    Raises:
        DescriptionError: the variable names something that is not there.
    """
    named = os.environ.get(SITES, "")
    if not named:
        return [Path(FOLDER)]
    paths = [Path(one).expanduser() for one in named.split(os.pathsep) if one]
    for path in paths:
        if not path.exists():
            expected = f"files and folders that are there, with {os.pathsep!r} between them; {path} is not"
            raise invalid(SITES, named, expected)
    return paths


def files() -> dict[str, Path]:
    """The profile of each site, by name; of two with one name the first of the search path.

    Raises:
        DescriptionError: as `search_path`.
    """
    found: dict[str, Path] = {}
    for path in search_path():
        for file in sorted(path.glob("*.toml")) if path.is_dir() else [path] if path.is_file() else []:
            found.setdefault(file.stem, file)
    return found


def find(site: str) -> Defaults:
    """What a site, ``NAME`` or ``NAME:TABLE``, gives to a pilot.

    Raises:
        DescriptionError: there is no such site or table (with those that there are), its file cannot be read, or names
            another site.
    """
    name, _, table = site.partition(":")
    there = files()
    if name not in there:
        where = ", ".join(map(str, search_path()))
        listed = (
            f"one of {', '.join(there)}" if there else f"a profile, and there is none in {where}: see `pilot sites`"
        )
        raise invalid("PilotDescription.site", site, f"{listed}{did_you_mean(name, there)}")
    found = Profile(there[name]).defaults(table or None)
    if "site" in found.fields:
        raise DescriptionError(f"{found.place('site')}: a site's profile cannot name a site", field="site")
    return found
