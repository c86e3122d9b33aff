"""Marks of processes: what tells the processes of a pilot, of a worker and of a task apart."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

#: Environment variable that carries a pilot's mark to every process below its agent.
MARK = "PILOT_AGENT"
#: The variable with the level of the root logger of the manager's process, as it was when the pilot was submitted.
LOG_LEVEL = "QUANTUM_PILOT_LOG_LEVEL"


def worker_mark(mark: str, name: str) -> str:
    """The mark of the processes that a worker starts, below the mark of its pilot on this node."""
    return f"{mark}.w{name.rpartition('.')[2]}"


def nodes_mark(mark: str, number: int | str) -> str:
    """The mark of what a job of further nodes starts, below the mark of its pilot: it may share a host with the agent,
    which goes on when that job ends.

    Args:
        mark: of the pilot.
        number: of the job.
    """
    return f"{mark}.n{number}"


def children_record(name: str) -> Path:
    """The file to which the children of a worker write their identities (`identify`), one per line; on its host."""
    return Path(os.environ.get("TMPDIR", tempfile.gettempdir())) / f"{name}.children"


def identify(pid: int) -> str:
    """A process by pid and start time: no later process has the same."""
    return f"{pid}:{started(pid)}"


def started(pid: int) -> str:
    """Clock ticks from the host's start to the process's (proc(5), /proc/pid/stat, field 22): no clock that steps."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
