"""What an OriginIR program says: statements and expressions, each with its place."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from pilot.quantum.programs.conditions import OPERATIONS
from pilot.quantum.programs.problems import program_error

if TYPE_CHECKING:
    from pilot.errors import ProgramError


class Place(NamedTuple):
    """Where something stands, both from 1 on."""

    line: int
    column: int


def error_at(place: Place, problem: str, expected: str | None = None) -> ProgramError:
    """The error that names the place."""
    return program_error("originir", problem, line=place.line, column=place.column, expected=expected)


def wrong(place: Place, problem: str, expected: str | None = None) -> NoReturn:
    """Raise the error that names the place."""
    raise error_at(place, problem, expected)


@dataclass(slots=True)
class Number:
    value: float


@dataclass(slots=True)
class Name:
    """A parameter of a QGATE or DEF."""

    name: str
    place: Place


@dataclass(slots=True)
class Bit:
    """``c[index]``."""

    index: Expression
    place: Place


@dataclass(slots=True)
class Operation:
    """One operand or two; the second comes last."""

    sign: str
    operands: tuple[Expression, ...]
    place: Place
    depth: int


Expression = Number | Name | Bit | Operation


@dataclass(slots=True)
class Qubit:
    """``q[index]``, the whole register (neither index nor name), or an operand of a QGATE by its name."""

    place: Place
    index: Expression | None = None
    name: str | None = None


@dataclass(slots=True)
class Apply:
    place: Place
    gate: str
    qubits: list[Qubit]
    parameters: list[Expression]
    dagger: bool = False
    controls: list[Qubit] = field(default_factory=list)


@dataclass(slots=True)
class Measure:
    place: Place
    qubit: Qubit
    bit: Bit | None


@dataclass(slots=True)
class Barrier:
    place: Place
    qubits: list[Qubit]


@dataclass(slots=True)
class Reset:
    place: Place
    qubit: Qubit


@dataclass(slots=True)
class Assign:
    place: Place
    bit: Bit
    value: Expression


@dataclass(slots=True)
class Dagger:
    place: Place
    body: list[Statement]


@dataclass(slots=True)
class Control:
    place: Place
    qubits: list[Qubit]
    body: list[Statement]


@dataclass(slots=True)
class If:
    place: Place
    condition: Expression
    then: list[Statement]
    otherwise: list[Statement]


@dataclass(slots=True)
class While:
    place: Place
    condition: Expression
    body: list[Statement]


Statement = Apply | Measure | Barrier | Reset | Assign | Dagger | Control | If | While


@dataclass(slots=True)
class Definition:
    """A QGATE, whose operands have names, or a DEF, whose operands are called q[0], q[1] ..."""

    place: Place
    kind: str
    name: str
    qubits: list[str]
    parameters: list[str]
    body: list[Statement]


@dataclass(slots=True)
class Source:
    """A whole program; `num_bits` is None where no CREG says."""

    num_qubits: int
    num_bits: int | None
    statements: list[Statement]
    definitions: dict[str, Definition]


def calculate(sign: str, values: list[float], place: Place) -> float:
    """One operation on numbers; comparisons and the like give 0 or 1.

    Raises:
        ProgramError: a division by zero, or a result beyond all floats.
    """
    try:
        if len(values) == 1:
            return float(not values[0]) if sign == "!" else -values[0]
        return float(OPERATIONS[sign](*values))
    except (ZeroDivisionError, OverflowError) as error:
        raise error_at(place, str(error)) from None
