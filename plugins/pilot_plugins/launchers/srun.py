"""``srun://``: the pilot runs inside the Slurm allocation that this process is in, as one job step on its nodes."""

from __future__ import annotations

import os
import shutil
import subprocess

from pilot.descriptions import PilotDescription
from pilot.interfaces import Job, Refusal
from pilot_plugins.launchers import preparation
from pilot_plugins.launchers.fields import no_batch_system
from pilot_plugins.launchers.local import LocalLauncher
from pilot_plugins.launchers.slurm.environment import SlurmEnvironment

_REFUSED = no_batch_system("srun://", "the job that this program is in has it already: give it to sbatch or salloc")
#: Seconds that srun has to end its step when it is asked to.
END_SECONDS = 15.0


class SrunLauncher(LocalLauncher):
    """For batch scripts whose program makes a manager and has the nodes already. No job is submitted: several pilots
    share the allocation by their descriptions (`number_of_nodes`, `cores_per_node`)."""

    remote = True
    what = "job step"

    def __init__(self) -> None:
        super().__init__()
        self.running = f"a step of Slurm job {os.environ.get('SLURM_JOB_ID', '?')}"

    def refusal(self, resource: str, field: str) -> Refusal | None:
        return _REFUSED.get(field)

    def check(self, description: PilotDescription) -> None:
        """An allocation with enough nodes, and ``cores_per_node`` given."""
        if description.resource != "srun://":
            raise description.wrong("resource", "srun://")
        if "SLURM_JOB_ID" not in os.environ or shutil.which("srun") is None:
            raise description.wrong(
                "resource", "srun:// inside a Slurm allocation only (salloc, sbatch); slurm:// elsewhere"
            )
        if description.number_of_nodes > (nodes := int(os.environ.get("SLURM_JOB_NUM_NODES", "1"))):
            job = os.environ["SLURM_JOB_ID"]
            raise description.wrong("number_of_nodes", f"at most {nodes}, the nodes of Slurm job {job}")
        if description.cores_per_node is None:
            raise description.wrong("cores_per_node", "the cores of each node that this pilot may use")

    def command(self, job: Job) -> list[str]:
        nodes = str(job.description.number_of_nodes)
        # The step holds no cores and no memory (--overlap, --mem=0), so that steps inside it (MPI tasks) get them.
        command = ["srun", "--overlap", "--mem=0", "--nodes", nodes, "--ntasks", nodes, "--ntasks-per-node=1"]
        command += ["--cpus-per-task", str(job.description.cores_per_node), "--mpi=none", "--kill-on-bad-exit=0"]
        command += ["--no-kill", "--job-name", job.description.name or job.pilot]
        return [*command, *preparation.command(job)]

    def environment(self) -> dict[str, str]:
        return SlurmEnvironment().clean(os.environ)

    def end(self, child: subprocess.Popen[bytes]) -> None:
        if child.poll() is None:
            child.terminate()  # srun passes it on to every process of the step
            try:
                child.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
