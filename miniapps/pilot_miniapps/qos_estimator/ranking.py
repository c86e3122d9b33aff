"""How good an order of QPUs is, circuit by circuit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

#: What a circuit has on each QPU: a score, or its fidelity.
Row = Mapping[str, float]


def spearman(scores: Mapping[str, Row], truth: Mapping[str, Row], qpus: Sequence[str]) -> list[float]:
    """Spearman's rank correlation over QPUs, of each circuit."""
    from scipy.stats import spearmanr

    return [
        float(spearmanr([scores[circuit][qpu] for qpu in qpus], [its[qpu] for qpu in qpus]).statistic)
        for circuit, its in truth.items()
    ]


def top1(scores: Mapping[str, Row], truth: Mapping[str, Row]) -> int:
    """Of how many circuits the best QPU is found."""
    return sum(_best(scores[circuit]) == _best(its) for circuit, its in truth.items())


def regret(scores: Mapping[str, Row], truth: Mapping[str, Row]) -> list[float]:
    """The share of the best fidelity that is lost where the QPU with the best score is taken, of each circuit."""
    return [1 - its[_best(scores[circuit])] / max(its.values()) for circuit, its in truth.items()]


def _best(row: Row) -> str:
    return max(row, key=lambda qpu: row[qpu])
