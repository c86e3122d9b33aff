"""Results in the forms of Origin's API, from those of the service."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from pilot.service.origin.codes import TaskType
from pilot.service.origin.tasks import Kept


class Forms(NamedTuple):
    """What a reply has of a result."""

    #: A text for each program; of a tomography, for each setting.
    results: list[str]
    #: Counts, in the same form; empty where there are none.
    counts: list[str]
    #: Further members of the reply.
    more: Mapping[str, Any]


def forms_of(stored: bytes, kept: Kept) -> Forms:
    """The result of a task that is done.

    Args:
        stored: the service's results, one for each program, as JSON.
        kept: with the task.
    """
    found: list[dict[str, Any]] = msgspec.json.decode(stored)
    if kept.type == TaskType.TOMOGRAPHY:
        return _tomography(found[0], kept.ideal)
    if found[0]["kind"] == "expectation":
        errors = [repr(float(one)) for one in found[0]["standard_errors"]]
        return Forms([repr(float(one)) for one in found[0]["values"]], [], {"standardError": errors})
    results, counts = [], []
    for one, bits in zip(found, kept.bits, strict=True):
        weights = _weights(one, bits)
        total = sum(weights.values())
        probabilities = _probabilities([weight / total for weight in weights.values()])
        results.append(_keyed(weights, probabilities))
        if one["kind"] == "counts":
            counts.append(_keyed(weights, [round(share * one["shots"]) for share in probabilities]))
    return Forms(results, counts, {})


def _weights(result: Mapping[str, Any], bits: Sequence[int]) -> dict[str, float]:
    """Weights by the bits that the program measures into, the first rightmost; without any, by all bits."""
    weights: dict[str, float] = {}
    for text, weight in result[result["kind"]].items():
        digits = text.replace(" ", "")
        key = "".join(digits[-1 - bit] for bit in reversed(bits)) if bits else digits
        weights[key] = weights.get(key, 0.0) + weight
    return dict(sorted(weights.items()))


def _probabilities(shares: list[float]) -> list[float]:
    """The shares; where the correction of errors has made some negative, the nearest probabilities."""
    if min(shares) >= 0:
        return shares
    from pilot.quantum.outcomes import nearest_probabilities

    nearest: list[float] = nearest_probabilities(shares).tolist()
    return nearest


def _keyed(keys: Mapping[str, Any], values: Sequence[float]) -> str:
    return msgspec.json.encode({"key": list(keys), "value": list(values)}).decode()


def _tomography(result: Mapping[str, Any], ideal: Sequence[tuple[float, float]]) -> Forms:
    """A distribution for each setting; the density matrix, row by row, the first qubit being the lowest bit of an
    index; and its fidelity to the state that the program makes without noise."""
    matrix = [
        (real, imaginary)
        for reals, imaginaries in zip(result["real"], result["imaginary"], strict=True)
        for real, imaginary in zip(reals, imaginaries, strict=True)
    ]
    settings: Mapping[str, Mapping[str, float]] = result["settings"]
    more = {
        "qSTResult": msgspec.json.encode([{"r": real, "i": imaginary} for real, imaginary in matrix]).decode(),
        "qSTSettings": list(settings),
    }
    if ideal:
        more["qSTFidelity"] = repr(_fidelity(matrix, ideal))
    return Forms([_keyed(one, _probabilities(list(one.values()))) for one in settings.values()], [], more)


def _fidelity(matrix: Sequence[tuple[float, float]], ideal: Sequence[tuple[float, float]]) -> float:
    from qiskit.quantum_info import DensityMatrix, state_fidelity

    width = math.isqrt(len(matrix))
    states = [
        DensityMatrix([[complex(*one) for one in flat[row * width : (row + 1) * width]] for row in range(width)])
        for flat in (matrix, ideal)
    ]
    return float(state_fidelity(*states, validate=False))
