"""``srun://``: the pilot runs inside the Slurm allocation that this process is in, as one job step on its nodes."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from pilot.descriptions import PilotDescription
from pilot.interfaces import Job, JobState, Launcher
from pilot.wire.folders import remove_scratch
from pilot.wire.processes import end_marked, identify, is_alive, start_apart
from pilot_plugins.launchers.slurm.environment import SlurmEnvironment

#: Seconds that srun has to end its step when it is asked to.
END_SECONDS = 15.0


class SrunLauncher(Launcher):
    """For batch scripts whose program makes a manager and has the nodes already. No job is submitted: several pilots
    share the allocation as their descriptions say (`number_of_nodes`, `cores_per_node`)."""

    poll_interval = 0.2
    remote = True

    def __init__(self) -> None:
        self._steps: dict[str, subprocess.Popen[bytes]] = {}

    def check(self, description: PilotDescription) -> None:
        """An allocation with enough nodes, and the cores of each said."""
        if description.resource != "srun://":
            raise description.wrong("resource", "srun://")
        if "SLURM_JOB_ID" not in os.environ or shutil.which("srun") is None:
            raise description.wrong(
                "resource", "srun:// inside a Slurm allocation only (salloc, sbatch); else slurm://"
            )
        if description.number_of_nodes > (nodes := int(os.environ.get("SLURM_JOB_NUM_NODES", "1"))):
            raise description.wrong("number_of_nodes", f"at most {nodes}, the nodes of Slurm job {_job()}")
        if description.cores_per_node is None:
            raise description.wrong("cores_per_node", "the cores of each node that this pilot may use")

    def submit(self, job: Job) -> str:
        nodes = str(job.description.number_of_nodes)
        # The step holds no cores and no memory (--overlap, --mem=0), so that steps inside it (MPI tasks) get them.
        command = ["srun", "--overlap", "--mem=0", "--nodes", nodes, "--ntasks", nodes, "--ntasks-per-node=1"]
        command += ["--cpus-per-task", str(job.description.cores_per_node), "--mpi=none", "--kill-on-bad-exit=0"]
        command += ["--no-kill", "--job-name", job.description.name or job.pilot]
        environment = SlurmEnvironment().clean(os.environ) | job.environment
        step = start_apart([*command, *job.command], environment, job.folder, job.log_path)
        native_id = identify(step.pid)
        self._steps[native_id] = step
        return native_id

    def status(self, jobs: Mapping[str, Path]) -> Mapping[str, tuple[JobState, str]]:
        return {id: self._state(id) for id in jobs}

    def _state(self, native_id: str) -> tuple[JobState, str]:
        step = self._steps.get(native_id)
        if step is not None and (code := step.poll()) is not None:
            return JobState.ENDED, f"the job step ended with code {code}"
        if step is not None or is_alive(native_id):
            return JobState.RUNNING, f"a step of Slurm job {_job()}"
        return JobState.ENDED, "the job step is gone"

    def cancel(self, native_id: str, mark: str) -> None:
        step = self._steps.pop(native_id, None)
        if step is not None and step.poll() is None:
            step.terminate()  # srun passes it on to every process of the step
            try:
                step.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                step.kill()
        end_marked(mark)
        remove_scratch(mark)
        if step is not None:
            step.wait()


def _job() -> str:
    return os.environ.get("SLURM_JOB_ID", "?")
