"""What runs pages, and notes which of their blocks ran."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import page_blocks
import pytest
from page_blocks import Block

RUNNER = Path(__file__).with_name("page_runner.py")
#: What follows a page's last block, where a manager of the page may be open.
CLOSE = "import contextlib\nwith contextlib.suppress(NameError):\n    manager.close()\n"


class Runner:
    """Runs pages one after the other, each in a process of its own."""

    def __init__(self, sessions: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(RUNNER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "QUANTUM_PILOT_SESSIONS": str(sessions)},
        )

    def run(self, blocks: list[Block], folder: Path, before: str = "", changes: dict[str, str] | None = None) -> str:
        """What the blocks print, when they run in this folder as one program.

        Args:
            blocks: of a page, in order.
            folder: an empty one.
            before: what the page takes for granted.
            changes: names of a site, and what stands for them here.
        """

        def here(text: str) -> str:
            for name, other in (changes or {}).items():
                text = text.replace(name, other)
            return text

        page = blocks[0].page
        whole = [("before", 1, before, None)]
        whole += [(page, block.line, here(block.text), block.output) for block in blocks]
        whole += [("end", 1, CLOSE, None)]
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({"folder": str(folder), "blocks": whole}) + "\n")
        self._process.stdin.flush()
        code = self._process.stdout.readline().strip()
        output = (folder / "output.txt").read_text()
        assert code == "0", f"{page} ended with code {code}:\n{output}"
        return output

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=60)


def _conftest(folder: str) -> ModuleType:
    """What the tests of another folder share."""
    path = page_blocks.ROOT / "tests" / folder / "conftest.py"
    spec = importlib.util.spec_from_file_location(f"conftest_of_{folder}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_slurm = _conftest("cluster")
cluster, idle_cluster = _slurm.cluster, _slurm.idle_cluster


@pytest.fixture(scope="session")
def make_runner(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Runner]:
    """Starts a `Runner`, with the environment of that moment."""
    return lambda: Runner(tmp_path_factory.mktemp("sessions"))


@pytest.fixture(scope="module")
def runner(make_runner: Callable[[], Runner]) -> Iterator[Runner]:
    one = make_runner()
    yield one
    one.close()


Ran = Callable[[list[Block]], None]


@pytest.fixture
def ran(record_property: Callable[[str, object], None]) -> Ran:
    """``ran(blocks)``: this test has run them, as they stand on their page or with the names of a site replaced."""
    return lambda blocks: [record_property("block", block.id) for block in blocks] and None


@pytest.fixture
def run_block(runner: Runner, ran: Ran, tmp_path: Path) -> Callable[[Block], str]:
    """``run_block(block)``: what it prints as a program of its own."""

    def run(block: Block) -> str:
        output = runner.run([block], tmp_path)
        ran([block])
        return output

    return run


@pytest.fixture
def run_page(runner: Runner, ran: Ran, tmp_path: Path) -> Callable[..., str]:
    """``run_page(page, before="", changes={})``: what it prints; all of its blocks of Python have run."""

    def run(page: str, before: str = "", changes: dict[str, str] | None = None) -> str:
        blocks = page_blocks.python(page)
        assert blocks, f"{page} has no block of Python"
        output = runner.run(blocks, tmp_path, before, changes)
        ran(blocks)
        return output

    return run
