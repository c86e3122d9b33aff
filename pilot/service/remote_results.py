"""`CircuitResult`: what a service says of a circuit, with the methods of the results that a manager has."""

from __future__ import annotations

from typing import Any

import msgspec


class CircuitResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a circuit; which fields it has, ``kind`` says."""

    #: "counts", "probabilities", "expectation" or "tomography".
    kind: str
    shots: int | None = None
    counts: dict[str, int | float] = {}
    probabilities: dict[str, float] = {}
    #: Of each observable, in order.
    values: Any = None
    standard_errors: Any = None
    #: ``(2**n, 2**n)``, as lists of rows.
    real: Any = None
    imaginary: Any = None
    purity: float | None = None

    def get_counts(self) -> dict[str, int | float]:
        """Counts, or probabilities where they are exact, by bit string: bit 0 rightmost."""
        return self.counts or dict(self.probabilities)

    @property
    def density_matrix(self) -> list[list[complex]]:
        """``(2**n, 2**n)``: qubit 0 is the least significant bit of an index."""
        pairs = (zip(*rows, strict=True) for rows in zip(self.real, self.imaginary, strict=True))
        return [[complex(real, imaginary) for real, imaginary in row] for row in pairs]


def result_of(answer: Any) -> Any:
    """The result of one program or function."""
    if isinstance(answer, list):
        return [result_of(one) for one in answer]
    if answer["kind"] == "value":
        return answer["value"]
    for field in {"values", "standard_errors"} & answer.keys():
        answer = {**answer, field: _numbers(answer[field])}
    return msgspec.convert(answer, CircuitResult)


def _numbers(value: Any) -> Any:
    """JSON has no infinite numbers and no NaN: the service writes them as texts."""
    return [_numbers(one) for one in value] if isinstance(value, list) else float(value)
