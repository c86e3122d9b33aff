"""The code blocks of README.md and docs/, the examples, and the programs of the migration pages: how many have run.

    python benchmarks/docs.py [--peers] [--json FILE]

Runs ``tests/docs``, with the pages about Slurm on a private one (root). With ``--peers`` the programs of other systems
that this library does not need run as well, each in an environment of its own below ``.peers``, made on demand.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import _bench
import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/docs"))
import page_blocks  # noqa: E402

#: Languages of blocks that something can run.
CODE = ("python", "sh", "toml")
PROGRAMS = ROOT / "examples/migration"
#: Systems that the tests have no packages of, and what to install.
PEERS = {"parsl": ("parsl",), "submitit": ("submitit",), "dask_jobqueue": ("dask-jobqueue", "distributed")}


class Noted:
    """A plugin of pytest: what the tests that passed say that they have run."""

    def __init__(self) -> None:
        self.run: dict[str, set[str]] = {"block": set(), "example": set(), "program": set()}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: Any) -> Iterator[None]:
        report: Any = yield
        if report.when == "call" and report.passed:
            for name, value in item.user_properties:
                if name in self.run:
                    self.run[name].add(value)
        return report


def run_peer(name: str) -> bool:
    """Whether the program of another system prints what its page shows, in its own environment."""
    folder = ROOT / ".peers" / f"docs-{name}"
    python = folder / "bin/python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PEERS[name]]
        subprocess.run(install, check=True)
    environment = {**os.environ, "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}"}
    with tempfile.TemporaryDirectory(prefix="pilot-docs-") as work:
        command = [str(python), str(PROGRAMS / name / "before.py")]
        done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, timeout=300)
    if done.returncode:
        sys.stderr.write(done.stderr)
    return done.returncode == 0 and done.stdout == (PROGRAMS / name / "output.txt").read_text()


def run_peers() -> set[str]:
    """The programs of other systems that print what their pages show; dask-jobqueue's on a private Slurm."""
    sys.path.insert(0, str(ROOT / "slurm"))
    from cluster import Cluster

    with tempfile.TemporaryDirectory(prefix="pilot-docs-") as folder:
        cluster = Cluster(folder, 19300)
        cluster.start()
        os.environ.update(cluster.environment)
        try:
            return {f"{name}/before.py" for name in PEERS if run_peer(name)}
        finally:
            cluster.stop()


def main() -> None:
    parser = _bench.arguments(__doc__, engines=(), repeat=1)
    parser.add_argument("--peers", action="store_true", help="also run the programs of Parsl, submitit, dask-jobqueue")
    options = parser.parse_args()
    noted = Noted()
    began = time.monotonic()
    with contextlib.redirect_stdout(sys.stderr):
        pytest.main(["-q", "-p", "no:cacheprovider", str(ROOT / "tests/docs")], plugins=[noted])
    seconds = time.monotonic() - began
    programs = noted.run["program"] | (run_peers() if options.peers else set())
    blocks = {
        block.id: block.language
        for page in page_blocks.pages()
        for block in page_blocks.blocks(page)
        if block.language in CODE
    }
    examples = {path.stem for path in (ROOT / "examples").glob("[0-9]*.py")}
    forms = {str(path.relative_to(PROGRAMS)) for path in PROGRAMS.glob("*/*.py")}
    if not options.peers:
        forms -= {f"{name}/before.py" for name in PEERS}
    figures: dict[str, tuple[float | list[float], _bench.Bar | None]] = {
        "blocks_run": (len(set(blocks) & noted.run["block"]), None),
        "blocks_skipped": (len(set(blocks) - noted.run["block"]), _bench.Bar("==", 0)),
        "examples_skipped": (len(examples - noted.run["example"]), _bench.Bar("==", 0)),
        "programs_skipped": (len(forms - programs), _bench.Bar("==", 0)),
        "seconds": (seconds, None),
    }
    rows = [
        {"what": f"blocks of {language}", "there": len(there), "run": len(there & noted.run["block"])}
        for language in CODE
        if (there := {id for id, of in blocks.items() if of == language})
    ]
    rows.append({"what": "examples", "there": len(examples), "run": len(examples & noted.run["example"])})
    rows.append({"what": "programs of migration pages", "there": len(forms), "run": len(forms & programs)})
    for id in sorted(set(blocks) - noted.run["block"]):
        sys.stderr.write(f"not run: {id}\n")
    _bench.report("docs", figures, rows=rows, configuration={"peers": options.peers}, file=options.json)


if __name__ == "__main__":
    main()
