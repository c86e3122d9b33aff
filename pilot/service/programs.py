"""What the service has done on its pilots: texts parsed, circuits estimated. Workers import this file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from pilot.errors import DescriptionError, PilotError

if TYPE_CHECKING:
    from pilot.resources import QPUInfo


class Refusal(msgspec.Struct, frozen=True):
    """Why a text is no program."""

    message: str
    #: Where, both from 1 on; None: not known.
    line: int | None = None
    column: int | None = None
    expected: str | None = None


def parse(texts: Sequence[tuple[str, str]]) -> list[Any]:
    """Read texts of strangers, in another process with limits.

    Args:
        texts: each with its format; "": recognised by how it begins.

    Returns:
        For each a circuit, or a `Refusal`.
    """
    return [_parsed(text, format) for text, format in texts]


def _parsed(text: str, format: str) -> Any:
    from pilot.quantum.programs import load

    try:
        return load(text, format or None, untrusted=True).to_qiskit()
    except DescriptionError as error:
        data = error.data
        return Refusal(str(error), data.get("line"), data.get("column"), data.get("expected"))


def estimate(
    text: str, format: str, infos: Sequence[QPUInfo], shots: int | None, level: int
) -> Refusal | list[dict[str, Any]]:
    """What is expected of a circuit on each QPU, measured as a whole where it measures nothing itself.

    Args:
        text: of a stranger.
        format: of the text; "": recognised by how it begins.
        infos: what the QPUs report.
        shots: that are estimated for; None: exact, by simulators alone.
        level: of the compiler, 0 to 3.
    """
    from pilot.interfaces.qpus import measures
    from pilot.qos.estimator import Estimator

    circuit = _parsed(text, format)
    if isinstance(circuit, Refusal):
        return circuit
    if not measures(circuit):
        circuit.measure_all()
    estimator, found = Estimator(), []
    for info in infos:
        about: dict[str, Any] = {"qpu": info.name, "wait_seconds": info.expected_wait}
        try:
            one = estimator.estimate(circuit, info, shots=shots, level=level)
        except PilotError as error:
            found.append(about | {"error": str(error)})
            continue
        found.append(
            about
            | {
                "fidelity": one.fidelity,
                "fidelity_spread": one.fidelity_spread,
                "seconds": one.seconds,
                "seconds_spread": one.seconds_spread,
                "memory_bytes": one.memory,
            }
        )
    return found
