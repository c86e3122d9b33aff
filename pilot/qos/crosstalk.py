"""Crosstalk that is declared, as calibrations have none: for studies of what it does."""

from __future__ import annotations

from itertools import combinations, product

import msgspec
import rustworkx

from pilot.resources import Calibration, CrosstalkFacts, QPUInfo


def with_crosstalk(info: QPUInfo, error: float) -> QPUInfo:
    """A device where any two gates on pairs of qubits that are one step apart disturb each other.

    Args:
        info: of the device, with its coupling.
        error: that two such gates have together when they run at the same time, beside their own.
    """
    declared = tuple(
        CrosstalkFacts(first, second, error)
        for one, other in neighbours(info)
        for first, second in product((one, one[::-1]), (other, other[::-1]))
    )
    calibration = msgspec.structs.replace(info.calibration or Calibration(), crosstalk=declared)
    return msgspec.structs.replace(info, calibration=calibration)


def neighbours(info: QPUInfo) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Pairs of connected pairs of qubits such that one step is between the two."""
    edges = sorted({(min(pair), max(pair)) for pair in info.coupling or ()})
    graph = rustworkx.PyGraph()
    graph.add_nodes_from(range(info.qubits))
    graph.add_edges_from_no_data(edges)
    steps = rustworkx.distance_matrix(graph)
    return [
        (one, other)
        for one, other in combinations(edges, 2)
        if not set(one) & set(other) and min(steps[a, b] for a in one for b in other) == 1
    ]
