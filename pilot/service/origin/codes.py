"""The numbers of Origin's API: machines, types of tasks, states and errors, and what they are of ours.

The numbers are those that the vendor's client package (pyqpanda3 0.5.1) has in its enumerations. 35 is a state
(cancelled) and an error (the chip is offline); the two never stand for one another.
"""

from __future__ import annotations

from enum import IntEnum

from pilot.errors import PilotError


class Machine(IntEnum):
    """``QMachineType``: what runs the programs."""

    FULL_AMPLITUDE = 0
    NOISE = 1
    PARTIAL_AMPLITUDE = 2
    SINGLE_AMPLITUDE = 3
    CHEMISTRY = 4
    CHIP = 5
    TOMOGRAPHY = 6
    CLOUD_TOMOGRAPHY = 7


class TaskType(IntEnum):
    """``TaskType`` of a task for a chip."""

    MEASUREMENT = 0
    TOMOGRAPHY = 2
    EXPECTATION = 5
    DISTRIBUTED = 10


class TaskState(IntEnum):
    """``taskState``: where a task is."""

    WAITING = 1
    COMPUTING = 2
    FINISHED = 3
    FAILED = 4
    QUEUING = 5
    BUILDING = 6
    BUILD_FAILED = 7
    TOO_LONG = 8
    BUILD_RUNNING = 9
    CANCELLED = 35


class ErrorCode(IntEnum):
    """``errCode``: why a request is refused, or a task failed."""

    NO_ERROR = 0
    DATABASE = 1
    ORIGINIR = 2
    JSON_FIELD = 3
    BACKEND = 4
    TASK_BUFFER_FULL = 5
    TOO_MANY_QUBITS = 6
    BACKEND_TYPE = 7
    TOO_MANY_CLOCKS = 8
    TASK_TYPE = 9
    SIMULATOR_START = 10
    COMPILER = 11
    ESTIMATE = 12
    GATE_CONFIGURATION = 13
    FIDELITY_MATRIX = 14
    TOMOGRAPHY_PROGRAM = 15
    EMPTY_PROGRAM = 16
    QUBIT_SIZE = 17
    QUBIT_TOPOLOGY = 18
    CHIP_PROGRAM = 19
    REPEATED_MEASUREMENT = 20
    OPERATOR_DATABASE = 21
    STATUS_BUFFER_FULL = 22
    CHIP_SOCKET = 23
    CLUSTER = 24
    CHIP_TOPOLOGY = 25
    TASK_CONFIGURATION = 26
    APPLICATION_NOT_FOUND = 27
    TASK_NOT_FOUND = 28
    SUBTASK_RESULT = 29
    SYSTEM_TIMEOUT = 30
    TERMINATED = 31
    URL = 32
    PARAMETER = 33
    PROGRAM_LENGTH = 34
    CHIP_OFFLINE = 35
    UNDEFINED = 36
    SUBGRAPH = 37
    TCP_START = 38
    TCP_HALTED = 39


class OriginError(PilotError):
    """A request that Origin's API refuses, or a task that failed: ``code`` is an `ErrorCode`."""

    def __init__(self, message: str, *, code: ErrorCode) -> None:
        super().__init__(message, code=code)


def refused(code: ErrorCode, field: str, given: object, expected: str) -> OriginError:
    """The error about a field that has a wrong value: its name, what was given, what is valid."""
    shown = repr(given)
    if len(shown) > 80:
        shown = f"{shown[:77]}..."
    return OriginError(f"{field}: {shown} is not valid; expected {expected}", code=code)
