"""What each rank of an MPI task runs."""

import sys

from mpi4py import MPI

print(f"rank {MPI.COMM_WORLD.Get_rank()} of {MPI.COMM_WORLD.Get_size()}: {' '.join(sys.argv[1:])}", flush=True)
