"""The local launcher: the placeholder job is a process on this machine."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from pilot.descriptions import PilotDescription
from pilot.interfaces import Job, JobState, Launcher
from pilot.wire.folders import remove_scratch
from pilot.wire.marks import identify
from pilot.wire.processes import end_marked, is_alive, start_apart


class LocalLauncher(Launcher):
    """``local://``: the agent is a process of its own session here, out of reach of the terminal's Ctrl-C."""

    poll_interval = 0.2
    #: Texts of `status`: the name of what runs, and that it runs.
    what = "agent"
    running = "running"

    def __init__(self) -> None:
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def check(self, description: PilotDescription) -> None:
        """One node; the numbers of cores and GPUs are those of the description."""
        if description.number_of_nodes != 1:
            raise description.wrong("number_of_nodes", "1 with local://, which is this machine")
        if description.resource not in ("local://", "local://localhost"):
            raise description.wrong("resource", "local:// or local://localhost")

    def command(self, job: Job) -> list[str]:
        """What is started for a job."""
        return list(job.command)

    def environment(self) -> dict[str, str]:
        """Its variables, besides the job's own."""
        return dict(os.environ)

    def end(self, child: subprocess.Popen[bytes]) -> None:
        """Ask a process that is to be ended to end its own processes elsewhere. Blocks."""

    def submit(self, job: Job) -> str:
        child = start_apart(self.command(job), self.environment() | job.environment, job.folder, job.log_path)
        native_id = identify(child.pid)
        self._children[native_id] = child
        return native_id

    def status(self, jobs: Mapping[str, Path]) -> Mapping[str, tuple[JobState, str]]:
        return {id: self._state(id) for id in jobs}

    def _state(self, native_id: str) -> tuple[JobState, str]:
        child = self._children.get(native_id)
        code = child.poll() if child is not None else None
        if code is not None:
            how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
            return JobState.ENDED, f"the {self.what} {how}"
        if child is not None or is_alive(native_id):
            return JobState.RUNNING, self.running
        return JobState.ENDED, f"the {self.what} is gone"

    def cancel(self, native_id: str, mark: str) -> None:
        child = self._children.pop(native_id, None)
        if child is not None:
            self.end(child)
        end_marked(mark)
        remove_scratch(mark)
        if child is not None:
            child.wait()
