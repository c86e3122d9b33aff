"""What the primitives share: who they submit to, the fields of their tasks, and how a run becomes a job."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from qiskit import QuantumCircuit
from qiskit.primitives import PrimitiveResult, PubResult

from pilot.descriptions import TaskDescription
from pilot.errors import DescriptionError
from pilot.quantum.primitives.jobs import PilotPrimitiveJob

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pilot.quantum.outcomes import Outcomes

#: Fields of `TaskDescription` that a primitive's tasks can be given.
TASK_FIELDS = (
    "min_fidelity",
    "mitigation",
    "optimization_level",
    "num_cpus",
    "num_gpus",
    "memory",
    "pilot",
    "pilots",
    "labels",
    "priority",
    "walltime",
    "timeout",
    "retries",
    "name",
)


class Manager(Protocol):
    """What runs tasks: a `PilotManager`, or anything that takes descriptions and gives futures."""

    def submit_tasks(self, descriptions: Iterable[TaskDescription], /) -> Sequence[Future[Any]]:
        """Send tasks on their way; does not block."""


class Plan(Protocol):
    """The tasks of one pub."""

    @property
    def descriptions(self) -> tuple[TaskDescription, ...]:
        """What is submitted."""

    def result(self, results: Sequence[Any], /) -> PubResult:
        """What the pub gives, from its tasks' results in order."""


def submit_plans(manager: Manager, plans: Sequence[Plan]) -> PilotPrimitiveJob:
    """The job of all these pubs, whose tasks are submitted at once; does not block."""
    tasks = manager.submit_tasks([one for plan in plans for one in plan.descriptions])
    return PilotPrimitiveJob(tasks, partial(_finish, plans))


def _finish(plans: Sequence[Plan], results: list[Any]) -> PrimitiveResult[PubResult]:
    left = iter(results)
    parts = [plan.result([next(left) for _ in plan.descriptions]) for plan in plans]
    return PrimitiveResult(parts, metadata={"version": 2})


def task_fields(owner: str, qpu: str | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that each task of a primitive has, checked.

    Args:
        owner: who was given them, for the message.
        qpu: as in ``TaskDescription.qpu``.
        given: fields of `TASK_FIELDS` by name.

    Raises:
        DescriptionError: an unknown name (the nearest known one is named), or a value that is not allowed.
    """
    for name in given:
        if name not in TASK_FIELDS:
            near = difflib.get_close_matches(name, TASK_FIELDS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            raise DescriptionError(
                f"{owner} has no option {name!r}{hint} It has: {', '.join(TASK_FIELDS)}", field=name, given=given[name]
            )
    fields = {"qpu": qpu, **given}
    TaskDescription(circuit=QuantumCircuit(), **fields)
    return fields


def check_gives_shots(owner: str, fields: Mapping[str, Any]) -> None:
    """Refuse what takes the shots out of the outcomes.

    Raises:
        DescriptionError: readout errors are to be mitigated, which gives weights that may be negative, not shots.
    """
    stages = fields.get("mitigation", ())
    names = [one if isinstance(one, str) else one.name for one in ([stages] if isinstance(stages, str) else stages)]
    if any("readout" in name.split("+") for name in names):
        raise DescriptionError(
            f"{owner}: mitigation {names!r} was given; allowed: all but 'readout', which gives weights instead of "
            "shots. Take the counts of TaskDescription(circuit=…, mitigation=…), or an estimator's expectation values",
            field="mitigation",
            given=stages,
        )


def shot_order(outcomes: Outcomes, rng: np.random.Generator) -> NDArray[np.intp]:
    """The number of each shot's outcome, `(shots,)`, in random order: who takes the first few takes a fair sample."""
    numbers = np.arange(len(outcomes.weights)).repeat(outcomes.weights.astype(np.intp))
    order: NDArray[np.intp] = rng.permutation(numbers)
    return order


def measures(circuit: QuantumCircuit) -> bool:
    """True when the circuit writes to a classical bit."""
    return any(entry.clbits for entry in circuit.data)
