"""Tasks of the kind "cut": a circuit that runs in pieces, and whose result is put together on a pilot.

    manager.submit_task(TaskDescription(kind="cut", circuit=circuit, shots=4000, qpu="*", kwargs={"max_qubits": 2}))

The result is the `Distribution` of the circuit's measurements (of all its qubits where it has none); with
``observables`` a `CutResult`, whose ``values`` and ``standard_errors`` are theirs. Like any task it has one key, is
written to the journal, and is cancelled as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import msgspec

from pilot.descriptions import TaskDescription
from pilot.errors import invalid
from pilot.quantum.cutting.planning import plan
from pilot.quantum.observables import are_given
from pilot.quantum.outcomes import is_whole
from pilot.quantum.requests import Request
from pilot.quantum.tasks import assemble

if TYPE_CHECKING:
    from pilot.interfaces import Offer, Prepared
    from pilot.quantum.cutting.cut_plan import CutPlan
    from pilot.quantum.cutting.results import CutResult, Distribution
    from pilot.quantum.outcomes import Outcomes

#: Distinct subexperiments of one task at most.
MAX_SUBEXPERIMENTS = 2000
#: What `kwargs` may have, and is given to `planning.plan`.
_SETTINGS = frozenset({"max_qubits", "max_overhead", "num_samples", "wires"})


@dataclass(frozen=True)
class Combine:
    """Makes the result of the subexperiments' outcomes."""

    plan: CutPlan

    def __call__(self, outcomes: Sequence[Outcomes]) -> CutResult | Distribution:
        result = self.plan.combine(outcomes)
        return result if result.distribution is None else result.distribution


def prepare(description: TaskDescription, offer: Offer) -> Prepared:
    """The subexperiments as tasks, and what puts their results together.

    Args:
        description: with its ``circuit``, ``shots`` of each subexperiment (None: exact), and ``kwargs``: ``max_qubits``
            of a piece, which must be given, and any of ``max_overhead``, ``num_samples`` and ``wires``
            (`planning.plan`).
        offer: what the pilots have.

    Raises:
        DescriptionError: the circuit cannot be read or cut within the limits, or a field is not as above.
    """
    settings = _settings(description)
    if description.shots == 1:
        raise description.wrong("shots", "a number of at least 2, of each subexperiment: one gives no standard error")
    unwanted = {
        "tomography": description.tomography is not False,
        "mitigation": bool(description.mitigation),
        "parameters": description.parameters is not None,
    }
    if field := next((name for name, is_given in unwanted.items() if is_given), ""):
        raise description.wrong(field, "nothing for a circuit that is cut")
    request = Request.of(description, offer)
    observables = description.observables if are_given(description.observables) else None
    planned = plan(request.circuit, observables, max_subexperiments=MAX_SUBEXPERIMENTS, **settings)
    circuits = list(planned.experiments())
    for number, circuit in enumerate(circuits):
        circuit.name = f"{request.circuit.name}, subexperiment {number}"
    widest = max(circuits, key=lambda one: one.num_qubits)
    combine = Combine(replace(planned, candidates=()))
    prepared = assemble(replace(request, circuit=widest), offer, circuits, combine)
    return msgspec.structs.replace(prepared, name=request.circuit.name)


def _settings(description: TaskDescription) -> dict[str, Any]:
    given = dict(description.kwargs)
    if unknown := sorted(set(given) - _SETTINGS):
        expected = f"for the kind 'cut' any of {', '.join(sorted(_SETTINGS))}"
        raise invalid("TaskDescription.kwargs", unknown[0], expected)
    if not is_whole(given.get("max_qubits")):
        raise invalid("TaskDescription.kwargs", given, "max_qubits: a whole number of at least 1")
    return given
