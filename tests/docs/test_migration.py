"""The programs of the migration pages print the same in both forms: what their pages show."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import page_blocks
import pytest

PROGRAMS = page_blocks.ROOT / "examples/migration"
#: By page, the packages of the other form; those of Slurm alone run in test_slurm_pages.py.
NEEDS = {
    "process_pool": "concurrent.futures",
    "joblib": "joblib",
    "dask": "distributed",
    "ray": "ray",
    "parsl": "parsl",
    "submitit": "submitit",
    "qiskit_ibm_runtime": "qiskit_ibm_runtime",
}
#: Numbers on a QPU, which agree within their errors.
MEASURED = {"qiskit_ibm_runtime": 0.05}
NUMBER = re.compile(r"-?\d+\.\d+")


def agree(printed: str, shown: str, within: float) -> bool:
    """Whether two texts are equal but for their numbers, and these are as close as that."""
    values, others = ([float(one) for one in NUMBER.findall(text)] for text in (printed, shown))
    return NUMBER.sub("", printed) == NUMBER.sub("", shown) and all(
        abs(one - other) <= within for one, other in zip(values, others, strict=True)
    )


def forms() -> list[str]:
    """Ours of each page, and the other one where its package is installed."""
    here = [name for name, package in NEEDS.items() if importlib.util.find_spec(package)]
    return [*(f"{name}/after.py" for name in NEEDS), *(f"{name}/before.py" for name in here)]


@pytest.mark.parametrize("form", forms())
def test_program(form: str, tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    name = form.partition("/")[0]
    command = [sys.executable, str(PROGRAMS / form)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    shown = (PROGRAMS / name / "output.txt").read_text()
    assert agree(done.stdout, shown, MEASURED.get(name, 0.0)), done.stdout
    record_property("program", form)


def test_every_program_has_a_page_that_shows_it() -> None:
    folders = {path.name for path in PROGRAMS.iterdir()}
    assert folders == {*NEEDS, "dask_jobqueue"}
    for name in folders:
        page = (page_blocks.DOCS / "migration" / f"{name}.md").read_text()
        assert all(f"examples/migration/{name}/{file}" in page for file in ("before.py", "after.py", "output.txt"))
        assert f"`{name}`" in (page_blocks.DOCS / "migration/index.md").read_text()


def test_numbers_are_compared() -> None:
    assert agree("a 1.00 b\n", "a 1.04 b\n", 0.05)
    assert not agree("a 1.00 b\n", "a 1.06 b\n", 0.05)
    assert not agree("a 1.00 b\n", "a 1.00 c\n", 0.05)
