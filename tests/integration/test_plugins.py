"""The examples of plugins, as an outsider has them: copied, installed, and run through the contract suite of their
kind. They import public modules only."""

from __future__ import annotations

import ast
import contextlib
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples/plugins"
KINDS = ("launcher", "engine", "qpu", "policy", "kind", "miniapp")
#: What a plugin may import of the library.
PUBLIC = {
    "pilot",
    "pilot.descriptions",
    "pilot.errors",
    "pilot.interfaces",
    "pilot.plots",
    "pilot.resources",
    "pilot.results",
    "pilot.states",
    "pilot.testing",
    "pilot.worker",
    "pilot_miniapps.frame",
}


@pytest.fixture(scope="module")
def suites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """The tests of each example run, all at once: in a copy of it, installed into a virtual environment."""
    folder = tmp_path_factory.mktemp("plugins")
    python = folder / "environment/bin/python"
    call(sys.executable, "-m", "venv", "--without-pip", str(folder / "environment"))
    site = next((folder / "environment/lib").glob("python*/site-packages"))
    ours = sysconfig.get_path("purelib")  # with the library, pip and hatchling
    (site / "outer.pth").write_text(f"import site; site.addsitedir({ours!r})\n")
    for kind in KINDS:
        shutil.copytree(EXAMPLES / kind, folder / kind, ignore=shutil.ignore_patterns("__pycache__"))
    options = ("--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check")
    call(str(python), "-m", "pip", "install", *options, *(str(folder / kind) for kind in KINDS))
    with contextlib.ExitStack() as stack:
        yield {kind: stack.enter_context(started(python, folder / kind)) for kind in KINDS}


def started(python: Path, folder: Path) -> subprocess.Popen[str]:
    """The tests of one example."""
    options = ("-q", "-W", "error", "-p", "no:cacheprovider", f"--basetemp={folder}.tmp")
    return subprocess.Popen(
        [str(python), "-m", "pytest", *options],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def call(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_its_contract_suite_passes(kind: str, suites: dict[str, subprocess.Popen[str]]) -> None:
    shown, _ = suites[kind].communicate(timeout=300)
    assert suites[kind].returncode == 0, shown
    assert " passed" in shown


@pytest.mark.parametrize("kind", KINDS)
def test_it_imports_what_is_public(kind: str) -> None:
    for file in (EXAMPLES / kind).glob("*.py"):
        assert {name for name in imported(file) if name.partition(".")[0].startswith("pilot")} <= PUBLIC


def imported(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_short(kind: str) -> None:
    assert sum(len(file.read_text().splitlines()) for file in (EXAMPLES / kind).iterdir() if file.is_file()) < 200


def test_each_example_is_tested() -> None:
    assert {path.name for path in EXAMPLES.iterdir()} == set(KINDS)
