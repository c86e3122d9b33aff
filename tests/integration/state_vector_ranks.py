"""An MPI program for test_state_vector.py: simulates circuits on all ranks.

Usage: ``mpiexec -n RANKS python state_vector_ranks.py CIRCUITS``; the file holds a JSON list of circuits, each a list
of ``[angles, cnots]``. Rank 0 prints a JSON list with, for each, values, gradient and the bytes that all ranks sent; or
the error.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI
from pilot_miniapps.state_vector.kernel import Ranks, Simulation
from pilot_miniapps.state_vector.layers import Layer

world = MPI.COMM_WORLD


def simulated(circuit: Any, batch: int) -> dict[str, Any]:
    try:
        layers = [Layer(np.array(angles), tuple(map(tuple, cnots))) for angles, cnots in circuit]
        ranks = Ranks(world)
        simulation = Simulation(layers, ranks)
    except ValueError as error:
        return {"error": str(error)}
    values, of_values = simulation.values(), ranks.bytes_sent
    gradient = simulation.jacobian(batch)
    sent = [world.allreduce(of_values), world.allreduce(ranks.bytes_sent)]
    return {"values": values.tolist(), "gradient": gradient.tolist(), "bytes": sent}


found = [simulated(circuit, 1 + n % 3) for n, circuit in enumerate(json.loads(Path(sys.argv[1]).read_text()))]
if world.rank == 0:
    print(json.dumps(found))
