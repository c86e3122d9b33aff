"""From a submission to a task of the service: which QPU, which options, what is kept with it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import msgspec

from pilot.resources import QPUInfo
from pilot.service.access import User
from pilot.service.origin.checker import Checker
from pilot.service.origin.checking import Facts, Question
from pilot.service.origin.chips import Chips, shape_of
from pilot.service.origin.codes import ErrorCode, Machine, OriginError, TaskType, refused
from pilot.service.origin.hamiltonians import factors, pauli_sum
from pilot.service.origin.submissions import Configuration, Submission
from pilot.service.store import NewTask

#: `NewTask.route` of these tasks.
ROUTE = "origin"
#: The simulator of the machines that are simulators.
SIMULATOR = "aer"


class Kept(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is kept with a task for its replies (`NewTask.extra`)."""

    machine: int
    type: int
    chip: str = ""
    #: ``Configuration`` as it was sent.
    configuration: dict[str, Any] = {}
    #: Of each program, the bits that it measures into.
    bits: tuple[tuple[int, ...], ...] = ()
    #: Of each program: qubits, depth, and expected seconds.
    estimates: tuple[tuple[int, int, float], ...] = ()
    #: Of a tomography: `Facts.ideal`.
    ideal: tuple[tuple[float, float], ...] = ()
    #: The programs as they were sent, where others run in their place.
    programs: tuple[str, ...] = ()


async def new_task(
    submission: Submission, user: User, chips: Chips, checker: Checker, body: Mapping[str, Any], received: float
) -> NewTask:
    """The task of a submission, its programs checked.

    Args:
        submission: fields, checked.
        user: who asks.
        chips: that are there.
        checker: of programs.
        body: as it was sent.
        received: when: seconds since the epoch.

    Raises:
        OriginError: a program is not right, or there is no such chip.
    """
    configuration = submission.configuration
    is_placed = not configuration.mapped
    qpu, info = SIMULATOR, None
    if submission.machine is Machine.CHIP:
        qpu, info = chips.find(submission.chip, is_placed=is_placed or bool(configuration.block) or configuration.cz)
        if configuration.cz:
            _check_cz(submission.chip, info)
    questions = [
        Question(
            text=text,
            type=int(submission.type),
            shots=configuration.shots,
            chip=shape_of(info),
            is_placed=is_placed,
            block=configuration.block,
            is_compact=submission.machine is Machine.CHIP and submission.type is not TaskType.DISTRIBUTED,
            kept=_kept_qubits(submission),
            listed=configuration.qubits if configuration.shots is None else (),
            must_measure=submission.must_measure,
        )
        for text in submission.programs
    ]
    facts = await checker.facts(user.name, questions)
    programs = tuple(one.text or text for one, text in zip(facts, submission.programs, strict=True))
    given = body.get("Configuration", {})
    kept = Kept(
        machine=int(submission.machine),
        type=int(submission.type),
        chip=submission.chip,
        configuration=dict(given),
        bits=tuple(one.bits for one in facts),
        estimates=tuple((one.qubits, one.depth, one.seconds) for one in facts),
        ideal=facts[0].ideal,
        programs=() if programs == submission.programs else submission.programs,
    )
    return NewTask(
        user=user.name,
        programs=programs,
        format="originir",
        options=_options(submission, qpu, facts[0]),
        route=ROUTE,
        name=submission.description[:200],
        extra=msgspec.to_builtins(kept),
        may_reuse=False,
        received=received,
        validated=time.time(),
    )


def _check_cz(chip: str, info: QPUInfo | None) -> None:
    """Refuse what the compiler would not do: it takes the gates that the chip has."""
    if info is None:
        message = f"ChipID: {chip!r} has not reported its gates yet; try again in a minute"
        raise OriginError(message, code=ErrorCode.CHIP_OFFLINE)
    if "cz" not in info.gates:
        expected = f"false: the two-qubit gates of {info.name} are not CZ"
        raise refused(ErrorCode.TASK_CONFIGURATION, "Configuration.use_cz_pattern", True, expected)


def _kept_qubits(submission: Submission) -> tuple[int, ...]:
    """Qubits that a result is asked of, whether a gate acts on them or not."""
    configuration = submission.configuration
    if configuration.shots is None or configuration.qubits:
        return configuration.qubits
    return tuple(sorted({qubit for term, _ in configuration.hamiltonian for _, qubit in factors(term)}))


def _options(submission: Submission, qpu: str, facts: Facts) -> dict[str, Any]:
    """Fields of the `TaskDescription`."""
    configuration = submission.configuration
    options: dict[str, Any] = {"qpu": qpu, "shots": configuration.shots, "priority": submission.priority}
    if submission.machine is not Machine.CHIP:
        return {name: value for name, value in options.items() if value}
    # the qubits stay where they are only below level 2, where the chip's gates act on their pairs
    is_placed = not configuration.mapped or bool(configuration.block)
    options["optimization_level"] = (1 if is_placed else 2) if configuration.optimized else 0
    if configuration.corrected:
        options["mitigation"] = ["readout"]
    if submission.type is TaskType.TOMOGRAPHY:
        options["tomography"] = [facts.places[one] for one in facts.measured]
    if configuration.hamiltonian:
        options["observables"] = [_observable(configuration, facts)]
    if submission.type is TaskType.DISTRIBUTED:
        options |= {"kind": "cut", "kwargs": {"max_qubits": configuration.piece_qubits}}
    return options


def _observable(configuration: Configuration, facts: Facts) -> dict[str, float]:
    numbered = configuration.qubits or tuple(range(len(facts.places)))
    return pauli_sum(configuration.hamiltonian, [facts.places[one] for one in numbered], facts.width)
