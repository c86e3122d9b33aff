"""Where the workers of a pilot look for modules."""

from __future__ import annotations

import site
import sys
import sysconfig
from pathlib import Path

from pilot.descriptions import PilotDescription


def search_path(wanted: PilotDescription) -> tuple[str, ...]:
    """The sys.path of this process, for the pilot's workers. A pilot with a Python of its own gets none of the packages
    that are installed here: they would hide its own."""
    paths = [Path(path).absolute() for path in sys.path]
    if wanted.venv or wanted.conda_environment or wanted.container:
        library = Path(sysconfig.get_path("stdlib"))
        zipped = library.parent / f"python{sys.version_info[0]}{sys.version_info[1]}.zip"
        known = {*map(Path, (*site.getsitepackages(), site.getusersitepackages())), zipped}
        paths = [path for path in paths if path not in known and not path.is_relative_to(library)]
    return tuple(map(str, paths))
