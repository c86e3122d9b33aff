"""`Qernel`: a circuit that is to run, as it was given; `Progress`: what has become of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pilot.descriptions import TaskDescription
from pilot.errors import StateError
from pilot.qos.features import Properties, properties_of
from pilot.quantum.packing import pack, unpack

if TYPE_CHECKING:
    from qiskit import QuantumCircuit

    from pilot.manager.handles import Task
    from pilot.manager.manager import PilotManager
    from pilot.resources import QPUEstimate


class Stage(Enum):
    """Where a Qernel is."""

    SUBMITTED = "submitted"
    """It waits for its estimates, or for a QPU."""
    ESTIMATED = "estimated"
    """What is expected of it on each QPU is known."""
    SCHEDULED = "scheduled"
    """It was sent to the pilot of a QPU."""
    RUNNING = "running"
    """The QPU's worker runs it; not reported of Qernels that take only a moment."""
    DONE = "done"
    """It has results."""
    FAILED = "failed"
    """It ended with an error."""
    CANCELLED = "cancelled"
    """It was cancelled."""


_ENDS = (Stage.FAILED, Stage.CANCELLED)
#: Stage → those that may follow. One whose attempt was lost is scheduled again.
NEXT: Mapping[Stage, frozenset[Stage]] = MappingProxyType(
    {
        Stage.SUBMITTED: frozenset({Stage.ESTIMATED, Stage.SCHEDULED, *_ENDS}),
        Stage.ESTIMATED: frozenset({Stage.SCHEDULED, *_ENDS}),
        Stage.SCHEDULED: frozenset({Stage.RUNNING, Stage.DONE, *_ENDS}),
        Stage.RUNNING: frozenset({Stage.SCHEDULED, Stage.DONE, *_ENDS}),
        Stage.DONE: frozenset(),
        Stage.FAILED: frozenset(),
        Stage.CANCELLED: frozenset(),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Qernel:
    """A circuit with what is wanted for it. It never changes."""

    #: Its number among those of its `QOS`.
    id: int
    #: QPY of the circuit.
    program: bytes
    properties: Properties
    shots: int
    #: Further fields of its `TaskDescription`.
    wanted: Mapping[str, Any]
    #: The Qernels that it is made of or a part of.
    parents: tuple[int, ...] = ()

    @classmethod
    def of(
        cls, id: int, circuit: QuantumCircuit, shots: int, wanted: Mapping[str, Any], parents: tuple[int, ...] = ()
    ) -> Qernel:
        """That of a circuit as it is now."""
        return cls(
            id=id,
            program=pack(circuit),
            properties=properties_of(circuit),
            shots=shots,
            wanted=MappingProxyType(dict(wanted)),
            parents=parents,
        )

    def run(self, manager: PilotManager) -> Task[Any]:
        """Send it on its way through the stages that it asks for: ``wanted["qos"]``, ``wanted["share_qpu"]``. Does not
        block.

        Raises:
            DescriptionError: a field is not valid.
            NoPilotError: no pilot has a QPU that can run it.
        """
        return manager.submit_task(TaskDescription(circuit=self.circuit, shots=self.shots, **self.wanted))

    @property
    def circuit(self) -> QuantumCircuit:
        """A copy of the circuit."""
        (circuit,) = unpack(self.program)
        return circuit


@dataclass(slots=True)
class Progress:
    """What has become of a Qernel."""

    #: The stages that it was in, and when it entered each: wall clock, seconds since the epoch.
    entered: list[tuple[Stage, float]]
    estimates: tuple[QPUEstimate, ...] = ()
    #: Qernels that were made of it.
    children: list[int] = field(default_factory=list)

    @property
    def stage(self) -> Stage:
        """Where it is."""
        return self.entered[-1][0]

    def advance(self, stage: Stage, at: float) -> None:
        """It enters a stage.

        Raises:
            StateError: the stage may not follow that which it is in.
        """
        if stage not in NEXT[self.stage]:
            raise StateError(f"a Qernel goes from {self.stage.value} to no {stage.value}")
        self.entered.append((stage, at))

    def seconds(self, now: float) -> dict[Stage, float]:
        """How long it was in each stage so far; of the last one nothing when it is over."""
        ends = [at for _, at in self.entered[1:]] + [now if NEXT[self.stage] else self.entered[-1][1]]
        found: dict[Stage, float] = {}
        for (stage, begin), end in zip(self.entered, ends, strict=True):
            found[stage] = found.get(stage, 0.0) + max(0.0, end - begin)
        return found
