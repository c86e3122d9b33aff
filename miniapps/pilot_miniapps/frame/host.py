"""What figures were measured on: the machine, the versions of packages, and the commit."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Iterable
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

#: Packages on which figures depend.
PACKAGES = (
    "quantum-pilot",
    "numpy",
    "scipy",
    "ray",
    "distributed",
    "qiskit",
    "qiskit-aer",
    "qiskit-addon-cutting",
    "mthree",
    "pennylane",
    "pennylane-lightning",
    "jax",
    "optax",
    "scikit-learn",
    "mpi4py",
)


@cache
def reference_ms() -> float:
    """How fast this machine is: the least processor time of 15 rounds of a million stores, in milliseconds; measured
    once in a process."""
    times = []
    for _ in range(15):
        d: dict[int, int] = {}
        began = time.process_time()
        for i in range(1_000_000):
            d[i & 1023] = i
        times.append(time.process_time() - began)
    return 1000 * min(times)


def host(reference: float | None = None) -> dict[str, Any]:
    """The machine; `reference` is its `reference_ms`, measured now where it is not given."""
    return {
        "cpus": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "reference_ms": reference_ms() if reference is None else reference,
    }


def versions(more: Iterable[str] = ()) -> dict[str, str]:
    """The versions of the packages that figures depend on, of those installed, and of `more`."""
    found = {"python": platform.python_version()}
    for name in (*PACKAGES, *more):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def commit(file: Path) -> str | None:
    """The commit of the git checkout that a source file is from, with "-dirty" where the checkout has changes; None:
    the file is of no checkout."""

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", *words], cwd=file.parent, capture_output=True, text=True, check=False)
        except OSError:  # there is no git
            return None
        return None if done.returncode else done.stdout.strip()

    if not git("ls-files", "--error-unmatch", file.name):  # a checkout around site-packages is not this one
        return None
    return git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
