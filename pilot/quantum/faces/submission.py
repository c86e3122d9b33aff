"""What the primitives share: who they submit to, the fields of their tasks, and how a run becomes a job."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from qiskit import QuantumCircuit
from qiskit.primitives import PrimitiveResult, PubResult

from pilot.descriptions import TaskDescription
from pilot.errors import DescriptionError, did_you_mean, invalid
from pilot.quantum.faces.jobs import PilotPrimitiveJob
from pilot.quantum.noise import PackedNoiseModel
from pilot.quantum.outcomes import draw_seeds
from pilot.quantum.runner import Runner
from pilot.resources import ANY_QPU

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pilot.quantum.outcomes import Outcomes

#: Fields of `TaskDescription` that a primitive's tasks can be given.
TASK_FIELDS = tuple(
    """
    min_fidelity mitigation noise_model optimization_level num_cpus num_gpus memory pilot pilots labels priority
    expected_duration timeout retries name share_qpu
    """.split()  # noqa: SIM905 - sixteen strings in quotes are no better to read
)


def coerced(kind: Any, pub: Any, default: float | None) -> Any:
    """A pub of Qiskit's, with its values for parameters.

    Raises:
        TypeError, ValueError: it is not a pub; Qiskit's errors.
        DescriptionError: values are complex; Qiskit drops their imaginary parts with a warning.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", np.exceptions.ComplexWarning)
        try:
            return kind.coerce(pub, default)
        except np.exceptions.ComplexWarning as error:
            raise DescriptionError(
                "parameters: complex values are not valid; expected real numbers (values.real drops imaginary parts)",
                field="parameters",
            ) from error


class Plan(Protocol):
    """The tasks of one pub."""

    @property
    def descriptions(self) -> tuple[TaskDescription, ...]:
        """What is submitted."""

    def result(self, results: Sequence[Any], /) -> PubResult:
        """What the pub gives, from its tasks' results in order."""


def submit_pubs(
    manager: Runner,
    plan: Callable[[Any, int], Plan],
    pubs: Sequence[Any],
    seed: np.random.Generator | int | None,
    tags: Sequence[str] = (),
) -> PilotPrimitiveJob:
    """The job of all these pubs, whose tasks are submitted at once; does not block.

    Args:
        manager: runs the tasks.
        plan: makes the tasks of a pub, with a seed of its own.
        pubs: checked.
        seed: of all.
        tags: of the job.
    """
    plans = [plan(pub, its_seed) for pub, its_seed in zip(pubs, draw_seeds(seed, len(pubs)), strict=True)]
    tasks = manager.submit_tasks([one for plan in plans for one in plan.descriptions])
    return PilotPrimitiveJob(tasks, partial(_finish, plans, tasks), tags)


def _finish(plans: Sequence[Plan], tasks: Sequence[Future[Any]], results: list[Any]) -> PrimitiveResult[PubResult]:
    parts = []
    first = 0
    for plan in plans:
        own = slice(first, first + len(plan.descriptions))
        first = own.stop
        part = plan.result(results[own])
        if plan.descriptions:
            named = plan.descriptions[0].qpu
            part.metadata["qpu"] = ran_on(tasks[own], named if isinstance(named, str) else "aer")
        parts.append(part)
    return PrimitiveResult(parts, metadata={"version": 2})


def task_fields(owner: str, qpu: str | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that each task of a primitive has, checked.

    Args:
        owner: who was given them, for the message.
        qpu: as in ``TaskDescription.qpu``.
        given: fields of `TASK_FIELDS` by name.

    Raises:
        DescriptionError: an unknown name (the nearest known one is named), or a value that is not valid.
    """
    for name in given:
        if name not in TASK_FIELDS:
            raise DescriptionError(
                f"{owner} has no option {name!r}{_instead(name)}. It has: {', '.join(TASK_FIELDS)}",
                field=name,
                given=given[name],
            )
    fields = {"qpu": qpu, **given}
    if fields.get("noise_model") is not None:
        fields["noise_model"] = PackedNoiseModel.of(fields["noise_model"])
    TaskDescription(circuit=QuantumCircuit(), **fields)
    return fields


#: What serves here in the place of other primitives' options.
_INSTEAD = {
    "options": "give each option by its name, as docs/quantum.md lists them under 'Options of qiskit-ibm-runtime'",
    "mode": "give the manager first, and qpu='fake:kolkata' or another device",
    "backend": "give the manager first, and qpu='fake:kolkata' or another device",
    "default_shots": "give options={'default_shots': …}, or default_precision=1/sqrt(shots)",
    "default_precision": "give default_shots=ceil(1/precision**2)",
    "resilience_level": "give options={'resilience_level': …}, or mitigation=['readout'] for 1, "
    "mitigation=['readout', 'zne'] for 2",
    "dynamical_decoupling": "give options={'dynamical_decoupling': …}, or mitigation=['dd']",
    "twirling": "give options={'twirling': …}, or mitigation=['twirling']",
    "seed_simulator": "give seed",
    "run_options": "give each option by its name",
    "backend_options": "give each option by its name, such as noise_model",
}


def _instead(name: str) -> str:
    """What to use instead of an option of other primitives, or the nearest name."""
    return f": {_INSTEAD[name]}" if name in _INSTEAD else did_you_mean(name, TASK_FIELDS)


def ran_on(tasks: Sequence[Future[Any]], fallback: str) -> str:
    """The names of the QPUs that ran these tasks, "aer" for this library's own simulator.

    Args:
        tasks: all over.
        fallback: for tasks without a record of it.
    """
    names = []
    for task in tasks:
        for part in getattr(task, "parts", ()) or (task,):
            info = getattr(part, "info", None)
            names.append(getattr(info, "qpu", None) or ("aer" if fallback == ANY_QPU else fallback))
    return ", ".join(dict.fromkeys(names))


def check_gives_shots(owner: str, fields: Mapping[str, Any]) -> None:
    """Refuse what takes the shots out of the outcomes.

    Raises:
        DescriptionError: readout errors are to be mitigated, which gives weights that may be negative, not shots.
    """
    stages = fields.get("mitigation", ())
    names = [one if isinstance(one, str) else one.name for one in ([stages] if isinstance(stages, str) else stages)]
    if any("readout" in name.split("+") for name in names):
        raise invalid(
            f"{owner}.mitigation",
            stages,
            "all but 'readout', which gives weights instead of shots. Take the counts of "
            "TaskDescription(circuit=…, mitigation=…), or an estimator's expectation values",
            shown=repr(names),
        )


def shot_order(outcomes: Outcomes, rng: np.random.Generator) -> NDArray[np.intp]:
    """The number of each shot's outcome, `(shots,)`, in random order: who takes the first few takes a fair sample."""
    numbers = np.arange(len(outcomes.weights)).repeat(outcomes.weights.astype(np.intp))
    order: NDArray[np.intp] = rng.permutation(numbers)
    return order
