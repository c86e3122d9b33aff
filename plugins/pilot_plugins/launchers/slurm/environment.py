"""A Slurm job as the processes in it see it (srun(1), sbatch(1): "OUTPUT ENVIRONMENT VARIABLES")."""

from __future__ import annotations

import contextlib
import math
import os
import re
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from pilot.interfaces import JobEnvironment
from pilot.resources import Resources
from pilot_plugins.launchers.slurm.answers import seconds_of

#: Seconds that scancel, and squeue, may take.
SCANCEL_SECONDS = 2.0
SQUEUE_SECONDS = 5.0
#: What a job step sets for its processes, and a step inside it must not take for its own options (srun(1), "INPUT
#: ENVIRONMENT VARIABLES"); and what of that is about the whole job.
_STEP = ("SLURM_", "SRUN_")
_JOB = ("SLURM_JOB", "SLURM_CONF", "SLURM_CLUSTER_NAME", "SLURM_MPI_TYPE")


class SlurmEnvironment(JobEnvironment):
    """By the variables that Slurm sets; MPI ranks are job steps."""

    submit_command = "sbatch"
    mpi_program = "srun"
    rank_variables = ("SLURM_PROCID",)
    step_variables = ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURMD_NODENAME")

    def is_here(self) -> bool:
        return "SLURM_JOB_ID" in os.environ

    def node(self) -> str:
        return os.environ.get("SLURMD_NODENAME") or super().node()

    def end(self) -> float | None:
        """Before Slurm 23.02 there is no variable with it, and squeue is asked. Blocks for `SQUEUE_SECONDS` at most."""
        if end := os.environ.get("SLURM_JOB_END_TIME"):
            return float(end)
        command = ["squeue", "--noheader", "--states=all", f"--jobs={os.environ['SLURM_JOB_ID']}", "--format=%L"]
        try:
            answer = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SQUEUE_SECONDS
            )
        except (OSError, subprocess.SubprocessError):
            return None
        left = seconds_of(answer.stdout.strip())
        return None if math.isinf(left) else time.time() + left

    def whole_allocation(self) -> str | None:
        """As many cores of each node as all nodes have."""
        cores = re.findall(r"(?:^|,)(\d+)", os.environ.get("SLURM_JOB_CPUS_PER_NODE", "1"))  # such as 4(x2),3
        return f"srun://process:{min(map(int, cores))}:{os.environ.get('SLURM_JOB_NUM_NODES', '1')}"

    def clean(self, environment: Mapping[str, str]) -> dict[str, str]:
        return {
            name: value
            for name, value in super().clean(environment).items()
            if not name.startswith(_STEP) or name.startswith(_JOB)
        }

    def mpi_candidates(self) -> Sequence[tuple[str, ...]]:
        if shutil.which("srun") is None:
            return ()
        return ("srun", "--mpi=pmi2"), ("srun", "--mpi=pmix"), ("srun",)

    def mpi_command(
        self, words: Sequence[str], hosts: Mapping[str, int], needs: Resources, folder: Path
    ) -> tuple[list[str], dict[str, str]]:
        """srun(1): ``--overlap --mem=0`` shares what the job has, which the agent has distributed already;
        ``-m arbitrary`` places each rank as its hostfile says; ``-O`` since fractions may share a core."""
        command = [*words, "--overlap", "--mem=0", "-O", f"-N{len(hosts)}", f"-n{needs.ranks}"]
        command += ["--kill-on-bad-exit=1", "--quiet"]
        if needs.num_cpus >= 2:
            command.append(f"-c{int(needs.num_cpus)}")
        if not needs.num_gpus:
            command.append("--gres=none")
        if not os.environ.get("SLURM_JOB_ID"):
            return command, {}
        path = folder / "hosts"
        path.write_text("".join(f"{host}\n" * count for host, count in hosts.items()))
        return [*command, "-m", "arbitrary"], {"SLURM_HOSTFILE": str(path)}

    def mpi_fault(self, output: str) -> str | None:
        """MPICH 5 and Slurm's PMI2 sometimes lose a message in MPI_Init, and all ranks wait there."""
        lost = "mpi/pmi2: invalid client request"
        return f"Slurm could not read what MPI_Init sent ({lost})" if lost in output else None

    def end_ranks(self, variables: Mapping[str, str | None]) -> None:
        """``scancel --signal=KILL JOB.STEP`` (scancel(1)): also what ignores SIGTERM ends."""
        if not variables["SLURM_STEP_ID"]:
            return
        step = f"{variables['SLURM_JOB_ID']}.{variables['SLURM_STEP_ID']}"
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            subprocess.run(["scancel", "--signal=KILL", step], capture_output=True, timeout=SCANCEL_SECONDS)
