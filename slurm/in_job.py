"""Run by manager_in_job.sbatch: a manager whose pilot fills the allocation that it is in."""

import os

from pilot import PilotDescription, PilotManager


def work(number: int) -> int:
    return number * number


with PilotManager(os.environ["SESSION"], progress=True) as manager:
    pilot = manager.submit_pilot(
        PilotDescription(
            resource="srun://",  # a step of this job, on all of its nodes
            engine="ray",
            number_of_nodes=int(os.environ["SLURM_JOB_NUM_NODES"]),
            cores_per_node=int(os.environ["SLURM_CPUS_PER_TASK"]),
        )
    )
    tasks = manager.map(work, range(1000))
    print("sum of squares:", sum(manager.get_results(tasks)))
    print("nodes:", sorted({task.info.node for task in tasks}))
