"""Runs in workers: functions that the contract suite of engines submits."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path


def pid() -> int:
    """The worker."""
    return os.getpid()


def look() -> tuple[str | None, str, int]:
    """The variable WORD, the directory, the worker."""
    return os.environ.get("WORD"), str(Path.cwd()), os.getpid()


def look_and_leave(earlier: str) -> tuple[str, tuple[str | None, str, int]]:
    """As `look`, and then set the variable and leave the directory."""
    found = look()
    os.environ["WORD"] = "changed"
    os.chdir("/")
    return earlier, found


def nap(seconds: float) -> None:
    """Sleep."""
    time.sleep(seconds)


def note(path: str, word: str, seconds: float = 0.0) -> str:
    """Add a line to a file, sleep, and return the word."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, f"{word}\n".encode())  # in one call: other tasks write to the same file
    os.close(descriptor)
    time.sleep(seconds)
    return word


def span(seconds: float) -> tuple[float, float]:
    """Sleep; when that began and ended."""
    began = time.monotonic()
    time.sleep(seconds)
    return began, time.monotonic()


def wait(path: str) -> None:
    """Return when there is such a file."""
    while not Path(path).exists():
        time.sleep(0.01)


def meet(path: str, number: int, seconds: float = 60.0) -> bool:
    """Whether so many calls are under way at one time."""
    note(path, str(os.getpid()))
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if len(Path(path).read_text().splitlines()) >= number:
            return True
        time.sleep(0.01)
    return False


def fail(text: str) -> None:
    """Raise."""
    raise LookupError(text)


def speak() -> None:
    """Write to both streams, from here and from a child process."""
    sys.stdout.write("to stdout\n")
    sys.stderr.write("to stderr\n")
    subprocess.run(["sh", "-c", "echo from a child; echo a complaint >&2"], check=True)


def die() -> None:
    """Kill the worker."""
    os.kill(os.getpid(), 9)


def leave() -> None:
    """Exit, as a script does."""
    sys.exit(3)


def total(numbers: Sequence[int], more: dict[str, int]) -> int:
    """The sum of all."""
    return sum(numbers) + more["x"]


def threads() -> set[int]:
    """How many threads each numerical library uses."""
    import numpy as np
    import threadpoolctl

    np.ones((300, 300)) @ np.ones((300, 300))
    return {pool["num_threads"] for pool in threadpoolctl.threadpool_info()}
