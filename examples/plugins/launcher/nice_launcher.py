"""``nice://``: pilots on this machine that leave the processor to others."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import psutil

from pilot.descriptions import PilotDescription
from pilot.interfaces import Job, JobState, Launcher, Refusal

#: Runs the agent, and leaves its exit code where `status` looks, also after this process has ended.
SCRIPT = 'nice "$@" > agent.log 2>&1; echo $? > exit_code.new; mv exit_code.new exit_code'


#: Fields that only a batch system, or more than one node, gives a meaning.
OF_BATCH_SYSTEMS = (
    *("number_of_nodes", "queue", "qos", "project", "reservation", "constraint", "gres", "licenses", "exclusive"),
    *("scheduler_script_commands", "custom_attributes"),
)


class NiceLauncher(Launcher):
    """Starts each placeholder job under ``nice``."""

    poll_interval = 0.2

    def __init__(self) -> None:
        #: The jobs that this object has started; others are known by their id alone.
        self._shells: dict[str, subprocess.Popen[bytes]] = {}

    def refusal(self, resource: str, field: str) -> Refusal | None:
        """What this launcher would ignore; the agent and the manager carry out the other fields."""
        if field in ("modules", "venv", "conda_environment", "container"):
            return Refusal("nothing with nice://, whose agent runs with the Python of the manager: use local://")
        if field in OF_BATCH_SYSTEMS:
            return Refusal("nothing with nice://, which is this machine, without a batch system", applies=False)
        return None

    def check(self, description: PilotDescription) -> None:
        if description.resource != "nice://":
            raise description.wrong("resource", "nice://, without anything behind it")

    def submit(self, job: Job) -> str:
        shell = subprocess.Popen(
            ["sh", "-c", SCRIPT, "sh", *job.command],
            env={**os.environ, **job.environment},  # PILOT_AGENT marks the job's processes
            cwd=job.folder,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C in the user's terminal does not reach it
        )
        id = f"{shell.pid}@{psutil.Process(shell.pid).create_time()}"  # the number alone is used again
        self._shells[id] = shell
        return id

    def status(self, jobs: Mapping[str, Path]) -> Mapping[str, tuple[JobState, str]]:
        return {id: self._state(id, folder) for id, folder in jobs.items()}

    def _state(self, id: str, folder: Path) -> tuple[JobState, str]:
        if id in self._shells:
            self._shells[id].poll()  # else it stays as a zombie
        running = is_running(id)  # asked before: the exit code is there when the shell ends
        if (file := folder / "exit_code").exists():
            return JobState.ENDED, f"the agent ended with code {file.read_text().strip()}"
        return (JobState.RUNNING, "running") if running else (JobState.ENDED, "the agent was killed")

    def cancel(self, native_id: str, mark: str) -> None:
        while found := marked(mark):  # until none is left: one may have started another meanwhile
            for process in found:
                process.kill()
            psutil.wait_procs(found, timeout=5)
            time.sleep(0.01)
        if (shell := self._shells.pop(native_id, None)) is not None:
            shell.wait()


def is_running(id: str) -> bool:
    """True while the shell of this job runs."""
    pid, _, created = id.partition("@")
    try:
        process = psutil.Process(int(pid))
        return str(process.create_time()) == created and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def marked(mark: str) -> list[psutil.Process]:
    """The processes of the job with this mark: PILOT_AGENT is the mark, or the mark, a dot and more."""
    found = []
    for process in psutil.process_iter():
        try:
            if (
                process.environ().get("PILOT_AGENT", "").partition(".")[0] == mark
                and process.status() != psutil.STATUS_ZOMBIE
            ):
                found.append(process)
        except psutil.Error:  # of another user, or gone
            continue
    return found
