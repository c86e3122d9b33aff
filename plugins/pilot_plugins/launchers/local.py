"""The local launcher: the placeholder job is a process on this machine."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from pilot.agent.gpus import gpu_facts
from pilot.descriptions import PilotDescription
from pilot.interfaces import Job, JobState, Launcher, Refusal
from pilot.wire.folders import remove_scratch
from pilot.wire.marks import identify
from pilot.wire.processes import end_marked, end_process, is_alive, most_workers, start_apart
from pilot_plugins.launchers import preparation
from pilot_plugins.launchers.fields import no_batch_system

#: The file that a job leaves which refuses itself.
REFUSED = "refused"
_REFUSED = {
    **no_batch_system("local://"),
    "number_of_nodes": Refusal("1 with local://, which is this machine", applies=False),
    "interface": Refusal("none with local://, whose processes are all on this machine", applies=False),
    "container": Refusal(
        "none with local://, whose agent runs on this machine as it is: give venv or conda_environment, or reach this "
        "machine by ssh://"
    ),
}
_NO_MODULES = Refusal(
    "none on this host, whose shells have no command `module`: load them before you start Python, or install "
    "Environment Modules or Lmod"
)
#: Prepares, and becomes the agent or what starts it. It works in the job's folder.
_SCRIPT = """
refuse() {{ printf '%s\\n' "$1" >{refused}.new && mv {refused}.new {refused}; exit 1; }}
{functions}
{prepare}
exec "$@"
"""


class LocalLauncher(Launcher):
    """``local://``: the agent is a process of its own session here, out of reach of the terminal's Ctrl-C."""

    poll_interval = 0.2
    #: Texts of `status`: the name of what runs, and that it runs.
    what = "agent"
    running = "running"

    def __init__(self) -> None:
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def refusal(self, resource: str, field: str) -> Refusal | None:
        if field == "modules" and not preparation.has_modules():
            return _NO_MODULES
        return _REFUSED.get(field)

    def check(self, description: PilotDescription) -> None:
        """This machine, and no more GPUs than it has; the number of cores is that of the description, as long as this
        machine can start a worker for each."""
        if description.resource not in ("local://", "local://localhost"):
            raise description.wrong("resource", "local:// or local://localhost")
        if description.cores > (most := most_workers()):
            raise description.wrong(
                "cores_per_node",
                f"at most {most} with {description.resource}: a core has a worker with two threads and two open files, "
                "and this host allows no more (`ulimit -Hn`, `ulimit -u`, /proc/sys/kernel/pid_max)",
            )
        check_gpus(description)

    def command(self, job: Job) -> list[str]:
        """What is started for a job, after its preparation."""
        return list(preparation.command(job))

    def environment(self) -> dict[str, str]:
        """Its variables, besides the job's own."""
        return dict(os.environ)

    def end(self, child: subprocess.Popen[bytes]) -> None:
        """Ask a process that is to be ended to end its own processes elsewhere. Blocks."""

    def submit(self, job: Job) -> str:
        (job.folder / REFUSED).unlink(missing_ok=True)  # of the job that this pilot had before
        child = start_apart(
            _prepared(job, self.command(job)), self.environment() | job.environment, job.folder, job.log_path
        )
        native_id = identify(child.pid)
        self._children[native_id] = child
        return native_id

    def status(self, jobs: Mapping[str, Path]) -> Mapping[str, tuple[JobState, str]]:
        return {id: self._state(id, folder) for id, folder in jobs.items()}

    def _state(self, native_id: str, folder: Path) -> tuple[JobState, str]:
        child = self._children.get(native_id)
        code = child.poll() if child is not None else None
        if code is None and (child is not None or is_alive(native_id)):
            return JobState.RUNNING, self.running
        if reason := _read(folder / REFUSED):
            return JobState.REFUSED, reason
        if code is None:
            return JobState.ENDED, f"the {self.what} is gone"
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        return JobState.ENDED, f"the {self.what} {how}"

    def cancel(self, native_id: str, mark: str) -> None:
        child = self._children.pop(native_id, None)
        if child is not None:
            self.end(child)
        end_process(native_id)
        end_marked(mark)
        remove_scratch(mark)
        if child is not None:
            child.wait()


def check_gpus(description: PilotDescription) -> None:
    """Raise DescriptionError when this host has fewer GPUs than the description asks for."""
    names, (variable, *_) = gpu_facts(description.gpus_per_node, {**os.environ, **description.environment})
    if len(names) < description.gpus_per_node:
        listed = f" ({', '.join(names)})" if names else ""
        raise description.wrong(
            "gpus_per_node",
            f"at most {len(names)} with {description.resource}, the GPUs of this host{listed}: those in {variable}, or "
            f"else those that nvidia-smi lists; where it does not know them, set {variable} in environment",
        )


def _prepared(job: Job, command: list[str]) -> list[str]:
    """The command, behind the preparation that the description asks for."""
    lines = preparation.lines(job)
    if not lines:
        return command
    script = _SCRIPT.format(refused=REFUSED, functions=preparation.FUNCTIONS, prepare="\n".join(lines))
    return ["bash", "-c", script, "pilot", *command]


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
