"""The contract of QPUs, which run circuits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from pilot.errors import QPUError
from pilot.resources import QPUInfo

if TYPE_CHECKING:
    from qiskit import QuantumCircuit
    from qiskit.transpiler import Target
else:
    QuantumCircuit = Any  # help(Run) works without Qiskit, too


def measures(circuit: QuantumCircuit) -> bool:
    """Whether something in a circuit, or in its blocks, writes to a classical bit: a condition alone only reads one."""
    return "measure" in circuit.count_ops() or any(_writes(entry.operation) for entry in circuit.data if entry.clbits)


def _writes(operation: Any) -> bool:
    blocks = getattr(operation, "blocks", None)  # of control flow
    return blocks is None or any(map(measures, blocks))


def _no_job(job: str) -> None:
    """The native id of a job is not needed."""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One job of a QPU."""

    #: Compiled for `QPU.target`, at most `QPUInfo.max_circuits`.
    circuits: Sequence[QuantumCircuit]
    #: Of each circuit; None: exact probabilities (simulators only).
    shots: int | None
    #: One for each circuit; used by simulators, ignored by devices.
    seeds: Sequence[int]
    #: Called with the job's native id once it is submitted, when it has one.
    on_job: Callable[[str], None] = _no_job

    def check(self, info: QPUInfo) -> None:
        """For `QPU.run`: whether a QPU that says this of itself takes the job.

        Raises:
            QPUError: there are too many circuits, qubits or shots, or none; or a circuit measures nothing, or has
                parameters without a value.
        """
        for wrong in self._faults(info):
            raise QPUError(wrong, qpu=info.name)

    def _faults(self, info: QPUInfo) -> Iterator[str]:
        name, shots, number = info.name, self.shots, len(self.circuits)
        if info.max_circuits is not None and number > info.max_circuits:
            yield f"{name} takes {info.max_circuits} circuits a job, not {number}: split them"
        if len(self.seeds) != number:
            yield f"{name}: {number} circuits and {len(self.seeds)} seeds: one each is needed"
        if shots is None and not info.simulator:
            yield f"{name} has no exact probabilities: give a number of shots"
        if shots is not None and shots < 1:
            yield f"{name} takes 1 shot or more, not {shots}"
        if shots is not None and info.max_shots is not None and shots > info.max_shots:
            yield f"{name} takes {info.max_shots} shots a circuit, not {shots}: split them"
        for circuit in self.circuits:
            if circuit.num_qubits > info.qubits:
                yield f"{name} has {info.qubits} qubits, circuit {circuit.name!r} has {circuit.num_qubits}"
            if circuit.parameters:
                names = ", ".join(parameter.name for parameter in circuit.parameters)
                yield f"circuit {circuit.name!r} has parameters without a value: {names}"
            if not measures(circuit):
                yield f"circuit {circuit.name!r} measures nothing: add `circuit.measure_all()`"


class CircuitResult(Protocol):
    """The result of one circuit: an `Outcomes` of `pilot.quantum.outcomes`."""

    def get_counts(self) -> Mapping[str, float]:
        """How often each bit string was measured, or its probability; in the form of Qiskit's ``get_counts``."""


class QPU(ABC):
    """Runs circuits: a device, a vendor's service, or a simulator of one.

    One object in one worker process, which opens it once and runs job after job on it. All methods may block; all but
    `cancel` are called from one thread. A job is a list of circuits with one number of shots.
    """

    #: True: a device; one worker at a time has it. False: each worker may have one (a simulator on the pilot's cores).
    exclusive = True

    def __init__(self, name: str, address: str) -> None:
        """Make it; nothing is asked or opened yet.

        Args:
            name: as in ``PilotDescription.qpus``: "fake:kolkata".
            address: what is behind the colon ("kolkata"), a query included ("kolkata?queue=2"); "" without colon.

        Raises:
            DescriptionError: the address is not valid; the message says what is expected.
        """
        self.name = name
        self.address = address

    def open(self) -> None:  # noqa: B027 - nothing to do is right for many
        """Connect, and open a session where there is such a thing.

        Raises:
            QPUUnavailable: it cannot be reached; the message has its error text, and what to check next.
            QPUError: it refuses, and will refuse later.
        """

    @abstractmethod
    def info(self) -> QPUInfo:
        """Its properties now. Called after `open`."""

    @abstractmethod
    def target(self) -> Target | None:
        """The target for which circuits are compiled, from the calibration that `info` reports; None: circuits are not
        compiled."""

    @abstractmethod
    def run(self, run: Run) -> Sequence[CircuitResult | Mapping[str, float]]:
        """Run one job and wait for it.

        Returns:
            For each circuit in order its counts by bit string (bit 0 rightmost, registers set apart by a space, the
            circuit's first rightmost: as Qiskit's ``get_counts``), or its probabilities where `Run.shots` is None; or
            an `Outcomes`.

        Raises:
            QPUError: the job failed; the message has the vendor's error text.
            QPUUnavailable: another try may succeed.
            QPUCancelled: `cancel` ended it.
        """

    def cancel(self) -> None:  # noqa: B027
        """End the job that `run` waits for, also at the vendor. Called from another thread; does not wait."""

    def cancel_job(self, job: str) -> None:  # noqa: B027
        """End a job whose process died, by the native id that `on_job` got. Nothing happens when it is over."""

    def close(self) -> None:  # noqa: B027
        """End the session."""
