"""The wheel holds our three packages and nothing else, and every entry point in it can be loaded from it."""

from __future__ import annotations

import configparser
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

#: Loads `module:name` with nothing but the unpacked wheel in front, and says where the module came from.
LOAD = """
import sys
from importlib.metadata import EntryPoint
entry_point = EntryPoint("name", sys.argv[1], "group")
entry_point.load()
print(sys.modules[entry_point.module].__file__)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    return next(folder.glob("*.whl"))


def test_top_level_names(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name.split("/")[0] for name in archive.namelist()}
    version = wheel.name.split("-")[1]
    assert names == {"pilot", "pilot_plugins", "pilot_miniapps", f"quantum_pilot-{version}.dist-info"}


def test_licence_and_type_marker_travel_along(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert "pilot/py.typed" in names


def test_entry_points_load_from_the_wheel(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    entry_points = configparser.ConfigParser(delimiters=("=",))
    entry_points.optionxform = str  # type: ignore[assignment, method-assign]
    entry_points.read(next(tmp_path.glob("*.dist-info/entry_points.txt")))
    targets = {target for group in entry_points.sections() for target in entry_points[group].values()}
    assert {"pilot.cli.main:main", "pilot_plugins.launchers.local:LocalLauncher"} <= targets

    for target in sorted(targets):
        loaded = subprocess.run(
            [sys.executable, "-c", LOAD, target],
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert loaded.returncode == 0, f"{target}:\n{loaded.stderr}"
        assert Path(loaded.stdout.splitlines()[-1]).is_relative_to(tmp_path), target
