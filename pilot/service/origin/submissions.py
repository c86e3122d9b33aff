"""What a body asks for: every field with its range, its default, and the code of its error.

Where the API's page, its examples and the vendor's client differ, all are taken: a truth value or 0 and 1 for
``amendFlag``, a number or its digits for ``QMachineType``, a text or a list for ``QProg``. Fields that are not known
do not fail; `Submission.ignored` names them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from pilot.errors import did_you_mean
from pilot.service.origin.codes import ErrorCode, Machine, OriginError, TaskType, refused
from pilot.service.origin.hamiltonians import terms_of

#: Programs of one task, and bytes of each.
MAX_PROGRAMS = 200
MAX_PROGRAM_BYTES = 1 << 20
#: Shots of a task for a chip, and of one for a simulator.
CHIP_SHOTS = (10, 20_000)
SIMULATOR_SHOTS = (1, 1_000_000)
#: The greatest priority; the vendor's client goes up to 10.
MAX_PRIORITY = 1_000_000
#: Characters of a description, and qubits that a list may name.
MAX_TEXT, MAX_LISTED = 4096, 4096

#: Fields of the vendor's clients that say nothing of the task.
_PRIVATE = frozenset(
    {"token", "PilotOSMachineFlag", "callbackAddr", "QProgLength", "batchNo", "taskFrom", "ClusterID"}
    | {"qubitNum", "classicalbitNum"}
)
_TASK = frozenset({"QMachineType", "QProg", "TaskType", "ChipID", "Priority", "taskDescribe", "Configuration"})


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """``Configuration`` of a task, in this library's names."""

    #: Of each program; None: exact probabilities, which only simulators have.
    shots: int | None = 1000
    #: ``circuitOptimization`` and ``mappingFlag``: may the compiler change gates, and choose qubits.
    optimized: bool = True
    mapped: bool = True
    #: ``amendFlag``: the errors of the readout are corrected.
    corrected: bool = False
    #: ``use_cz_pattern``: two-qubit gates become CZ.
    cz: bool = False
    #: ``specified_block``: the qubits of the chip that the programs run on.
    block: tuple[int, ...] = ()
    #: ``IsProbCount``: counts are wanted beside probabilities; replies have both in any case.
    counts: bool = False
    #: ``max_supported_qubits``: of each piece of a distributed task.
    piece_qubits: int = 2
    #: ``hamiltonian``: terms and coefficients; and ``qubits``, which its numbers stand for, or that are measured.
    hamiltonian: tuple[tuple[str, float], ...] = ()
    qubits: tuple[int, ...] = ()


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """A task that is asked for, all fields checked but for the programs' texts."""

    machine: Machine
    type: TaskType
    programs: tuple[str, ...]
    chip: str = ""
    priority: int = 0
    description: str = ""
    configuration: Configuration = Configuration()
    #: The programs have to measure something.
    must_measure: bool = False
    #: What is not known of the body's fields, a sentence each.
    ignored: tuple[str, ...] = ()


def chip_submission(body: Mapping[str, Any]) -> Submission:
    """A task for a chip: the body of ``/task/realQuantum/run``.

    Raises:
        OriginError: a field is missing, of the wrong type or out of range.
    """
    machine = _machine(body)
    if machine is not Machine.CHIP:
        expected = "5, a chip; simulators are at /task/run"
        raise refused(ErrorCode.BACKEND_TYPE, "QMachineType", body.get("QMachineType"), expected)
    type = _task_type(body)
    programs = _programs(body)
    given = _configuration_of(body)
    configuration = _chip_configuration(given, type)
    if type in (TaskType.TOMOGRAPHY, TaskType.EXPECTATION, TaskType.DISTRIBUTED) and len(programs) > 1:
        message = f"QProg: {len(programs)} programs given; expected 1 for TaskType {type.value}: send a task for each"
        raise OriginError(message, code=ErrorCode.PROGRAM_LENGTH)
    return Submission(
        machine=machine,
        type=type,
        programs=programs,
        chip=_chip(body),
        priority=_priority(body, given),
        description=_text(body, "taskDescribe", ""),
        configuration=configuration,
        must_measure=type in (TaskType.MEASUREMENT, TaskType.TOMOGRAPHY),
        ignored=_ignored(body, given, (*_CHIP_FIELDS, "Priority", *_CLIENT_FIELDS)),
    )


def cloud_submission(body: Mapping[str, Any]) -> Submission:
    """A task of the vendor's cloud: the body of ``/oqcs/task/origin/submit.json``, which has no ``TaskType``.

    Raises:
        OriginError: as `chip_submission`; or the programs are not texts.
    """
    for field in ("QProgBytes", "Inst"):
        if field in body:
            message = f"{field}: programs in this form are not read here; send OriginIR as texts in QProg"
            raise OriginError(message, code=ErrorCode.ORIGINIR)
    machine = _machine(body)
    if machine is Machine.CHIP:
        return chip_submission({**body, "TaskType": TaskType.MEASUREMENT.value})
    if machine is Machine.CLOUD_TOMOGRAPHY:
        as_chip = {**body, "QMachineType": Machine.CHIP.value, "TaskType": TaskType.TOMOGRAPHY.value}
        return msgspec.structs.replace(chip_submission(as_chip), must_measure=False)
    return simulator_submission(body)


def simulator_submission(body: Mapping[str, Any]) -> Submission:
    """A task for a simulator: the body of ``/task/run``.

    Raises:
        OriginError: a field is missing, of the wrong type or out of range; or it asks for another simulator than the
            one of full amplitudes.
    """
    machine = _machine(body)
    if machine is not Machine.FULL_AMPLITUDE:
        expected = "0, the simulator of full amplitudes; the others are not offered"
        raise refused(ErrorCode.BACKEND_TYPE, "QMachineType", body.get("QMachineType"), expected)
    programs = _programs(body)
    given = _configuration_of(body)
    kind = _whole("measure_type", 1, 2, 1)(given.get("measure_type", 1))
    if kind == 1:
        shots = _whole("shot", *SIMULATOR_SHOTS, 1000)(given.get("shot", 1000))
        configuration = Configuration(shots=shots)
    else:
        if "qubits" not in given:
            raise _missing("Configuration.qubits", "the qubits whose probabilities are wanted, with measure_type 2")
        configuration = Configuration(shots=None, qubits=_qubits("qubits")(given["qubits"]))
        if not configuration.qubits:
            raise refused(ErrorCode.TASK_CONFIGURATION, "Configuration.qubits", [], "at least one qubit")
    return Submission(
        machine=machine,
        type=TaskType.MEASUREMENT,
        programs=programs,
        description=_text(body, "taskDescribe", ""),
        configuration=configuration,
        must_measure=kind == 1,
        ignored=_ignored(body, given, ("measure_type", "shot", "qubits")),
    )


# ---- fields at the top ----------------------------------------------------------------------------------------


def _missing(field: str, expected: str) -> OriginError:
    return OriginError(f"{field}: missing; expected {expected}", code=ErrorCode.JSON_FIELD)


def _machine(body: Mapping[str, Any]) -> Machine:
    given = body.get("QMachineType", Machine.CHIP.value)
    number = int(given) if isinstance(given, str) and given.isascii() and given.isdigit() and len(given) < 4 else given
    if isinstance(number, bool) or not isinstance(number, int):
        raise refused(ErrorCode.JSON_FIELD, "QMachineType", given, "a whole number or its digits, such as 5")
    try:
        return Machine(number)
    except ValueError:
        raise refused(ErrorCode.BACKEND_TYPE, "QMachineType", given, "0 (full amplitudes) or 5 (chip)") from None


def _task_type(body: Mapping[str, Any]) -> TaskType:
    known = "0 (measurement), 2 (tomography), 5 (expectation value) or 10 (distributed)"
    if "TaskType" not in body:
        raise _missing("TaskType", known)
    given = body["TaskType"]
    if isinstance(given, bool) or not isinstance(given, int):
        raise refused(ErrorCode.JSON_FIELD, "TaskType", given, f"a whole number: {known}")
    try:
        return TaskType(given)
    except ValueError:
        raise refused(ErrorCode.TASK_TYPE, "TaskType", given, known) from None


def _programs(body: Mapping[str, Any]) -> tuple[str, ...]:
    if "QProg" not in body:
        raise _missing("QProg", "a program in OriginIR, or a list of programs")
    given = body["QProg"]
    programs = [given] if isinstance(given, str) else given
    if not isinstance(programs, Sequence) or not all(isinstance(one, str) for one in programs):
        raise refused(ErrorCode.JSON_FIELD, "QProg", given, "a text, or a list of texts")
    if len(programs) > MAX_PROGRAMS:
        message = f"QProg: {len(programs)} programs given; expected at most {MAX_PROGRAMS}: send several tasks"
        raise OriginError(message, code=ErrorCode.PROGRAM_LENGTH)
    if not programs or not all(one.strip() for one in programs):
        raise OriginError("QProg: empty; expected programs with gates", code=ErrorCode.EMPTY_PROGRAM)
    longest = max(len(one) for one in programs)
    if longest > MAX_PROGRAM_BYTES:
        message = f"QProg: a program has {longest} characters; expected at most {MAX_PROGRAM_BYTES}"
        raise OriginError(message, code=ErrorCode.PROGRAM_LENGTH)
    return tuple(programs)


def _chip(body: Mapping[str, Any]) -> str:
    given = body.get("ChipID", "72")
    if isinstance(given, bool) or not isinstance(given, str | int):
        raise refused(ErrorCode.JSON_FIELD, "ChipID", given, 'a text, such as "72"')
    return str(given)


def _priority(body: Mapping[str, Any], configuration: Mapping[str, Any]) -> int:
    given = body.get("Priority", configuration.get("Priority", 0))
    if isinstance(given, bool) or not isinstance(given, int):
        raise refused(ErrorCode.JSON_FIELD, "Priority", given, "a whole number; larger ones go first")
    if not 0 <= given <= MAX_PRIORITY:
        raise refused(ErrorCode.PARAMETER, "Priority", given, f"0 (normal) to {MAX_PRIORITY}")
    return given


def _text(body: Mapping[str, Any], field: str, default: str) -> str:
    given = body.get(field, default)
    if not isinstance(given, str):
        raise refused(ErrorCode.JSON_FIELD, field, given, "a text")
    if len(given) > MAX_TEXT or "\0" in given:
        raise refused(ErrorCode.PARAMETER, field, given, f"at most {MAX_TEXT} characters, none of them NUL")
    return given


def _configuration_of(body: Mapping[str, Any]) -> Mapping[str, Any]:
    given = body.get("Configuration", {})
    if not isinstance(given, Mapping):
        raise refused(ErrorCode.JSON_FIELD, "Configuration", given, 'an object, such as {"shot": 1000}')
    return given


# ---- Configuration --------------------------------------------------------------------------------------------

_Reader = Callable[[Any], Any]


def _truth(field: str) -> _Reader:
    def read(given: Any) -> bool:
        if not isinstance(given, bool):
            raise refused(ErrorCode.JSON_FIELD, f"Configuration.{field}", given, "true or false")
        return given

    return read


def _flag(field: str) -> _Reader:
    def read(given: Any) -> bool:
        if not isinstance(given, bool) and not (isinstance(given, int) and given in (0, 1)):
            raise refused(ErrorCode.JSON_FIELD, f"Configuration.{field}", given, "0 or 1, or true or false")
        return bool(given)

    return read


def _whole(field: str, least: int, most: int, default: int) -> _Reader:
    def read(given: Any) -> int:
        if isinstance(given, bool) or not isinstance(given, int):
            raise refused(ErrorCode.JSON_FIELD, f"Configuration.{field}", given, f"a whole number, such as {default}")
        if not least <= given <= most:
            raise refused(ErrorCode.TASK_CONFIGURATION, f"Configuration.{field}", given, f"{least} to {most}")
        return given

    return read


def _qubits(field: str) -> _Reader:
    def read(given: Any) -> tuple[int, ...]:
        name, expected = f"Configuration.{field}", "a list of different qubits by number, from 0 on"
        if not isinstance(given, Sequence) or isinstance(given, str):
            raise refused(ErrorCode.JSON_FIELD, name, given, expected)
        if not all(isinstance(one, int) and not isinstance(one, bool) for one in given):
            raise refused(ErrorCode.JSON_FIELD, name, given, expected)
        if len(given) > MAX_LISTED or len(set(given)) < len(given) or any(one < 0 for one in given):
            raise refused(ErrorCode.TASK_CONFIGURATION, name, given, expected)
        return tuple(given)

    return read


#: Fields of a task for a chip: the name in `Configuration`, and what reads and checks it.
_CHIP_FIELDS: dict[str, tuple[str, _Reader]] = {
    "shot": ("shots", _whole("shot", *CHIP_SHOTS, 1000)),
    "circuitOptimization": ("optimized", _truth("circuitOptimization")),
    "mappingFlag": ("mapped", _truth("mappingFlag")),
    "amendFlag": ("corrected", _flag("amendFlag")),
    "use_cz_pattern": ("cz", _truth("use_cz_pattern")),
    "specified_block": ("block", _qubits("specified_block")),
    "IsProbCount": ("counts", _truth("IsProbCount")),
    "isProbcount": ("counts", _truth("isProbcount")),
    "max_supported_qubits": ("piece_qubits", _whole("max_supported_qubits", 1, 1000, 2)),
    "hamiltonian": ("hamiltonian", lambda given: tuple(terms_of(given))),
    "qubits": ("qubits", _qubits("qubits")),
}
#: Fields that have one value here, or a few that mean the same.
_CLIENT_FIELDS: dict[str, _Reader] = {
    "PointLabel": _whole("PointLabel", 0, 1, 1),
    "construction_type": _whole("construction_type", 0, 0, 0),
    "compileOnly": _flag("compileOnly"),
}


def _chip_configuration(given: Mapping[str, Any], type: TaskType) -> Configuration:
    for field, read in _CLIENT_FIELDS.items():
        if field in given and read(given[field]) and field == "compileOnly":
            expected = "false: programs are compiled and run"
            raise refused(ErrorCode.TASK_CONFIGURATION, "Configuration.compileOnly", given[field], expected)
    wanted = {name: read(given[field]) for field, (name, read) in _CHIP_FIELDS.items() if _is_given(given, field, type)}
    configuration = Configuration(**wanted)
    if type is TaskType.EXPECTATION and not configuration.hamiltonian:
        raise _missing("Configuration.hamiltonian", 'the Hamiltonian, such as \'"Z0": 0.5,"Z0 Z1": -1\'')
    if type in (TaskType.MEASUREMENT, TaskType.TOMOGRAPHY) and configuration.hamiltonian:
        expected = f"nothing with TaskType {type.value}; TaskType 5 gives expectation values"
        raise refused(ErrorCode.TASK_CONFIGURATION, "Configuration.hamiltonian", given["hamiltonian"], expected)
    if type is TaskType.DISTRIBUTED:
        _check_pieces(configuration)
    return configuration


def _check_pieces(configuration: Configuration) -> None:
    """Refuse what cannot be done for a program that is cut: its pieces are other circuits."""
    for field, given, expected in (
        ("amendFlag", configuration.corrected, "0: the errors of the readout of pieces are not corrected"),
        ("mappingFlag", not configuration.mapped, "true: pieces are laid out by the compiler"),
        ("specified_block", configuration.block, "[]: pieces are laid out by the compiler"),
    ):
        if given:
            shown = False if field == "mappingFlag" else given
            expected = f"{expected}, with TaskType 10"
            raise refused(ErrorCode.TASK_CONFIGURATION, f"Configuration.{field}", shown, expected)


def _is_given(given: Mapping[str, Any], field: str, type: TaskType) -> bool:
    """An empty Hamiltonian is none where none is needed: the vendor's client sends it so."""
    if field not in given:
        return False
    return field != "hamiltonian" or type is TaskType.EXPECTATION or given[field] not in ("", {})


def _ignored(body: Mapping[str, Any], configuration: Mapping[str, Any], known: Sequence[str]) -> tuple[str, ...]:
    top = [field for field in body if field not in _TASK and field not in _PRIVATE]
    inner = [field for field in configuration if field not in known]
    return tuple(
        [f"{field[:80]!r} is not known{did_you_mean(field[:80], _TASK)}" for field in top]
        + [f"Configuration.{field[:80]!r} is not known{did_you_mean(field[:80], known)}" for field in inner]
    )[:20]
