"""Runs pages, each in a child that finds the usual packages loaded: a process that is told of one page a line.

A line on standard input is JSON with ``folder`` and ``blocks``: a list of [where, line, code, output], the output being
None or what the block has to print, where … stands for any text. The answer is a line with an exit code. What a page
printed is in the file ``output.txt`` of its folder.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import re
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

PACKAGES = ("numpy", "pilot.manager.manager", "qiskit.circuit.library", "pilot.quantum.faces", "pilot.quantum.cutting")


class Both(io.StringIO):
    """Keeps what is written, and writes it to a file as well."""

    def __init__(self, file: Any) -> None:
        super().__init__()
        self._file = file

    def write(self, text: str) -> int:
        self._file.write(text)
        self._file.flush()
        return super().write(text)


def matches(shown: str, printed: str) -> bool:
    """Whether a page shows what was printed; blanks at the ends of lines do not count."""
    lines = "\n".join(line.rstrip() for line in printed.strip().splitlines())
    pattern = ".*?".join(re.escape(part) for part in shown.strip().split("…"))
    return re.fullmatch(pattern, lines, re.DOTALL) is not None


def run(folder: str, blocks: list[tuple[str, int, str, str | None]]) -> int:
    """Run the blocks of a page as one program: the exit code."""
    main = ModuleType("__main__")
    main.__file__ = str(Path(folder, "page.py"))
    sys.modules["__main__"] = main
    sys.path.insert(0, folder)
    sys.argv = [main.__file__]
    for where, line, code, shown in blocks:
        printed = Both(sys.stdout)
        try:
            with contextlib.redirect_stdout(printed):
                exec(compile("\n" * (line - 1) + code, where, "exec"), main.__dict__)
        except BaseException:
            traceback.print_exc()
            return 1
        if shown is not None and not matches(shown, printed.getvalue()):
            sys.stderr.write(f"{where}:{line} shows:\n{shown}\nand prints:\n{printed.getvalue()}\n")
            return 1
    return 0


def child(folder: str, blocks: list[tuple[str, int, str, str | None]]) -> int:
    """As `run`, with streams of its own."""
    os.chdir(folder)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    output = os.open("output.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    return run(folder, blocks)


def main() -> int:
    for package in PACKAGES:
        importlib.import_module(package)
    for line in sys.stdin:
        work = json.loads(line)
        if not (pid := os.fork()):
            return child(**work)
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
