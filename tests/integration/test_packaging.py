"""The wheel holds our three packages and nothing else, every entry point in it can be loaded from it, and wheel and
sdist can be installed into an empty environment."""

from __future__ import annotations

import configparser
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

#: Loads each `module:name` with nothing but the unpacked wheel in front, and says where its module came from.
LOAD = """
import sys
from importlib.metadata import EntryPoint
for target in sys.argv[1:]:
    entry_point = EntryPoint("name", target, "group")
    entry_point.load()
    print(target, sys.modules[entry_point.module].__file__, flush=True)
"""

#: A program with the core alone: no extra is installed.
PROGRAM = """
import pilot
from pilot import PilotDescription, PilotManager

with PilotManager() as manager:
    manager.submit_pilot(PilotDescription(cores_per_node=1))
    print(pilot.__file__, manager.submit_task(pow, 2, 10).result(timeout=100))
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that is made from it."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    return next(built.glob("*.whl"))


@pytest.mark.network
def test_a_user_installs_it_into_an_empty_environment(built: Path, tmp_path: Path) -> None:
    """First the wheel with what it needs, then, instead of it, what is built of the sdist."""
    python = tmp_path / "environment/bin/python"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV"))}

    def run(*command: str | Path) -> str:
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run(sys.executable, "-m", "venv", tmp_path / "environment")
    for kind, flags in (("*.whl", ()), ("*.tar.gz", ("--force-reinstall", "--no-deps"))):
        install = (python, "-m", "pip", "install", "--quiet", *flags, "-c", ROOT / "constraints.txt")
        run(*install, next(built.glob(kind)))
        path, value = run(python, "-c", PROGRAM).split()
        assert (Path(path).is_relative_to(tmp_path), value) == (True, "1024")
        assert "process" in run(tmp_path / "environment/bin/pilot", "doctor")


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

    loaded = subprocess.run(
        [sys.executable, "-c", LOAD, *sorted(targets)],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert loaded.returncode == 0, f"after {loaded.stdout.splitlines()[-1:]}:\n{loaded.stderr}"
    for target, line in zip(sorted(targets), loaded.stdout.splitlines(), strict=True):
        assert line.startswith(f"{target} {tmp_path}/"), line
