"""Results of tasks as JSON."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from pilot.errors import TaskError

#: Bytes of a result at most.
MOST_BYTES = 64 << 20


def encoded(results: list[Any]) -> bytes:
    """The results of a task, one for each of its programs, as JSON.

    Raises:
        TaskError: one is of a kind that JSON does not have, or they are too large.
    """
    try:
        found = msgspec.json.encode([_plain(one) for one in results])
    except (TypeError, ValueError, RecursionError) as error:
        raise TaskError(f"the result cannot be written as JSON: {error}") from error
    if len(found) > MOST_BYTES:
        raise TaskError(f"the result has {len(found):,} bytes; at most {MOST_BYTES:,} are kept")
    return found


def _plain(result: Any) -> Any:
    """By kind: bit strings have bit 0 rightmost, Pauli strings qubit 0 last; matrices are lists of their rows.

    Several sets of parameters have a list of results.
    """
    if isinstance(result, list | tuple) and result and all(map(_is_of_circuit, result)):
        return [_plain(one) for one in result]
    if hasattr(result, "get_counts"):
        counts = result.get_counts()
        if result.shots is None:
            return {"kind": "probabilities", "probabilities": counts}
        return {"kind": "counts", "shots": result.shots, "counts": counts}
    if hasattr(result, "density_matrix"):
        matrix = result.density_matrix
        return {
            "kind": "tomography",
            "real": matrix.real.tolist(),
            "imaginary": matrix.imag.tolist(),
            "purity": float(result.purity),
            "settings": dict(zip(result.settings, map(_by_bits, result.frequencies.tolist()), strict=True)),
        }
    if hasattr(result, "standard_errors"):
        values, errors = _checked(result.values), _checked(result.standard_errors)
        return {"kind": "expectation", "values": values, "standard_errors": errors}
    return {"kind": "value", "value": _checked(result)}


def _by_bits(frequencies: list[float]) -> dict[str, float]:
    """How often each outcome of a setting came, by its bit string; those that never came are left out."""
    width = (len(frequencies) - 1).bit_length()
    return {f"{number:0{width}b}": one for number, one in enumerate(frequencies) if one}


def _is_of_circuit(result: Any) -> bool:
    return any(hasattr(result, name) for name in ("get_counts", "density_matrix", "standard_errors"))


def _checked(value: Any) -> Any:
    """A value for JSON, which has no infinite numbers and no NaN: they become "inf", "-inf" and "nan"."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if hasattr(value, "tolist"):
        return _checked(value.tolist())
    if isinstance(value, list | tuple):
        return [_checked(one) for one in value]
    if isinstance(value, dict):
        return {str(key): _checked(one) for key, one in value.items()}
    return value
