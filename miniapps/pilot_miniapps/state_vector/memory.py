"""How many ranks, how much memory and how much traffic a state vector needs.

Plain formulas of the circuit, the qubits and the ranks; they know nothing of what the kernel counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

#: Bytes of an amplitude: two numbers of double precision, and of single precision.
DOUBLE, SINGLE = 16, 8
#: Bytes of a real number in the sums over the ranks.
REAL = 8
#: State vectors of the kernel for values: the state, and room to put it in another order.
VALUE_STATES = 2
#: More of them for the gradient, beside one for each qubit that is observed at a time: the copy that goes back.
GRADIENT_STATES = VALUE_STATES + 1
#: Of an NVIDIA A100 with 80 GB, in bytes.
A100 = 80e9
#: Figure 4 of Mantha et al., "Pilot-Quantum: A quantum-HPC middleware for resource, workload and task management"
#: (2024): the most qubits on so many GPUs with 80 GB each, values only, and with the adjoint gradient.
PAPER_GPUS, PAPER_QUBITS, PAPER_GRADIENT_QUBITS = 256, 41, 37


def states(batch: int | None) -> int:
    """How many state vectors the kernel holds: for values, or for the gradient with so many observed at a time."""
    return VALUE_STATES if batch is None else GRADIENT_STATES + batch


def state_bytes(qubits: int, amplitude: int = DOUBLE) -> int:
    """Bytes of one state vector."""
    return amplitude << qubits


def bytes_predicted(layers: int, qubits: int, ranks: int, batch: int | None = None) -> int:
    """Bytes that all ranks together hand to MPI for strongly entangling layers: for the values, or for the values
    and their gradient.

    Each layer but the first, whose state is a product, takes one exchange of each state vector. In an exchange a rank
    keeps one of as many blocks as there are ranks and sends the others, so the share ``1 - 1 / ranks`` of the state
    vector travels. The gradient takes the vector of each observed qubit back, and the state itself once for each batch.
    At the end, every rank gives its part of the sum of all values or derivatives.

    With up to five layers this holds from ``2 log2(ranks) + 6`` qubits on; fewer may take more exchanges.
    """
    if ranks == 1:
        return 0
    exchange = state_bytes(qubits) // ranks * (ranks - 1)
    values = (layers - 1) * exchange + ranks * REAL * qubits
    if batch is None:
        return values
    vectors = qubits + math.ceil(qubits / batch)
    return values + (layers - 1) * vectors * exchange + ranks * REAL * qubits * layers * qubits * 3


def ranks_needed(bytes_in_all: int, memory: float) -> int:
    """The least power of two of ranks with so much memory each that hold so many bytes."""
    return 1 << math.ceil(math.log2(max(1.0, bytes_in_all / memory)))


def model(qubits: Iterable[int], layers: int, batch: int, memory: float = A100) -> list[dict[str, Any]]:
    """A row for each number of qubits: ranks with so much memory each, and the bytes that each of them sends."""
    rows = []
    for number in qubits:
        values = ranks_needed(states(None) * state_bytes(number), memory)
        gradient = ranks_needed(states(batch) * state_bytes(number), memory)
        rows.append(
            {
                "qubits": number,
                "state_bytes": state_bytes(number),
                "ranks_one_single_state": ranks_needed(state_bytes(number, SINGLE), memory),
                "ranks_values": values,
                "ranks_gradient": gradient,
                "sent_by_rank_values": bytes_predicted(layers, number, values) // values,
                "sent_by_rank_gradient": bytes_predicted(layers, number, gradient, batch) // gradient,
            }
        )
    return rows
