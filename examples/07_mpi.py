"""An MPI program, a function on every rank of a communicator, and a rank that fails while the others wait for it."""

import sys

from pilot import PilotDescription, PilotManager, TaskDescription

PROGRAM = "from mpi4py import MPI; print(f'rank {MPI.COMM_WORLD.rank} of {MPI.COMM_WORLD.size}')"


def pi(steps: int) -> float:
    """Each rank adds up its share; all of them get the sum."""
    from mpi4py import MPI

    world = MPI.COMM_WORLD
    share = sum(4 / (1 + ((i + 0.5) / steps) ** 2) for i in range(world.rank, steps, world.size)) / steps
    return float(world.allreduce(share))


def fails_on_rank_1() -> None:
    from mpi4py import MPI

    if MPI.COMM_WORLD.rank == 1:
        raise ValueError("no such molecule")
    MPI.COMM_WORLD.Barrier()


if __name__ == "__main__":
    with PilotManager() as manager:
        manager.submit_pilot(PilotDescription(engine="process", cores_per_node=2))
        program = manager.submit_task(TaskDescription(mpi=[sys.executable, "-c", PROGRAM], ranks=2))
        function = manager.submit_task(TaskDescription(function=pi, args=[100_000], ranks=2))
        failing = manager.submit_task(TaskDescription(function=fails_on_rank_1, ranks=2))
        print("each rank printed:", program.result().stdout)
        print("each rank returned:", function.result())
        error = failing.exception()
        print(f"{error!r}: {error.__notes__[0]}" if error else "no error")
