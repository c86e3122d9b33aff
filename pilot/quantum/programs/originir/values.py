"""What OriginIR's expressions mean where they stand: qubits, indices, angles, conditions on outcomes."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING

from qiskit.circuit import ClassicalRegister, Clbit, QuantumCircuit, QuantumRegister
from qiskit.circuit.classical import expr

from pilot.quantum.programs.conditions import truth_of
from pilot.quantum.programs.originir.statements import (
    Bit,
    Definition,
    Expression,
    Measure,
    Name,
    Number,
    Operation,
    Place,
    Qubit,
    Source,
    calculate,
    wrong,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Qubits, and classical bits, of a program.
MAX_BITS = 100_000
#: Bits that one condition may read, unless it only compares each with 0 or 1.
MAX_CONDITION_BITS = 8


class Scope:
    """What names mean inside a definition: operands are qubits' numbers, parameters numbers."""

    def __init__(self, definition: Definition | None = None, qubits: Sequence[int] = ()) -> None:
        self.definition = definition
        self.qubits = dict(zip(definition.qubits, qubits, strict=True)) if definition else {}
        self.parameters: dict[str, float] = {}


class Values:
    """A circuit being built, and what is known of its classical bits."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._num_bits = _bits_used(source) if source.num_bits is None else source.num_bits
        for what, number in (("qubits", source.num_qubits), ("classical bits", self._num_bits)):
            if number > MAX_BITS:
                wrong(Place(1, 1), f"{number} {what}", f"at most {MAX_BITS}")
        self._circuit = QuantumCircuit(QuantumRegister(source.num_qubits, "q"))
        if self._num_bits:
            self._circuit.add_register(ClassicalRegister(self._num_bits, "c"))
        #: The values of classical bits that no measurement has decided.
        self._known: dict[int, float] = dict.fromkeys(range(self._num_bits), 0)
        #: Those of them that the circuit's own bits hold.
        self._held = dict(self._known)
        self._scope = Scope()

    def _numbers(self, qubit: Qubit) -> list[int]:
        """The numbers of one qubit, or of the whole register."""
        scope = self._scope
        if qubit.name is not None:
            return [scope.qubits[qubit.name]]
        if qubit.index is None:
            return list(scope.qubits.values()) if scope.definition else list(range(self._source.num_qubits))
        index = self._index(qubit.index, qubit.place)
        if scope.definition:
            if f"q[{index}]" not in scope.qubits:
                names = ", ".join(scope.qubits)
                wrong(qubit.place, f"{scope.definition.name} has no operand q[{index}]", names)
            return [scope.qubits[f"q[{index}]"]]
        if not 0 <= index < self._source.num_qubits:
            wrong(qubit.place, f"there is no qubit q[{index}]", f"q[0] to q[{self._source.num_qubits - 1}]")
        return [index]

    def _one(self, qubit: Qubit) -> int:
        numbers = self._numbers(qubit)
        if len(numbers) != 1 or (qubit.index is None and qubit.name is None and self._scope.definition is None):
            if len(numbers) == 1:
                return numbers[0]
            wrong(qubit.place, "the whole register stands here", "one qubit, q[...]")
        return numbers[0]

    def _bit(self, bit: Bit) -> int:
        index = self._index(bit.index, bit.place)
        if not 0 <= index < self._num_bits:
            last = f"c[0] to c[{self._num_bits - 1}]" if self._num_bits else "a CREG in the program's second line"
            wrong(bit.place, f"there is no classical bit c[{index}]", last)
        return index

    def _index(self, expression: Expression, place: Place) -> int:
        value = self._number(expression, "an index", place)
        if value != int(value):
            wrong(place, f"the index is {value:g}", "a whole number")
        return int(value)

    def _number(self, expression: Expression, what: str, place: Place | None = None) -> float:
        """The value of an expression that no measurement decides."""
        reads = self._reads(expression)
        at = place if place is not None else _place_of(expression)
        if reads:
            wrong(at, f"{what} depends on c[{min(reads)}], which is measured", "a number")
        value = self._value(expression, {})
        if not isfinite(value):
            wrong(at, f"{what} is {value}", "a finite number")
        return value

    def _value(self, expression: Expression, outcomes: dict[int, int]) -> float:
        match expression:
            case Number():
                return expression.value
            case Name():
                return self._scope.parameters[expression.name]
            case Bit():
                number = self._bit(expression)
                return outcomes[number] if number in outcomes else self._known[number]
            case Operation():
                values = [self._value(each, outcomes) for each in expression.operands]
                return calculate(expression.sign, values, expression.place)

    def _reads(self, expression: Expression) -> set[int]:
        """The measured bits that an expression reads."""
        match expression:
            case Bit():
                number = self._bit(expression)
                return set() if number in self._known else {number}
            case Operation():
                return set().union(*(self._reads(each) for each in expression.operands))
        return set()

    def _bits_in(self, expression: Expression) -> set[int]:
        match expression:
            case Bit():
                return {self._bit(expression)}
            case Operation():
                return set().union(*(self._bits_in(each) for each in expression.operands))
        return set()

    def _condition(self, expression: Expression, place: Place) -> tuple[Clbit, bool] | expr.Expr:
        """Qiskit's condition: one bit's value where that is all, else an expression."""
        simple = self._one_bit(expression)
        if simple is not None:
            return self._circuit.clbits[simple[0]], simple[1]
        return self._logical(expression, place)

    def _one_bit(self, expression: Expression) -> tuple[int, bool] | None:
        """The bit, and its value, that an expression asks for: ``c[0]``, ``!c[0]``, ``c[0]==1``."""
        match expression:
            case Bit() if self._reads(expression):
                return self._bit(expression), True
            case Operation(sign="!", operands=(operand,)):
                inner = self._one_bit(operand)
                return inner and (inner[0], not inner[1])
            case Operation(sign="==" | "!=" as sign, operands=(Bit() as bit, Number(value=value))) if self._reads(
                bit
            ) and value in (0, 1):
                return self._bit(bit), (value == 1) == (sign == "==")
        return None

    def _logical(self, expression: Expression, place: Place) -> expr.Expr:
        """The truth of an expression over measured bits, as Qiskit's expression."""
        simple = self._one_bit(expression)
        if simple is not None:
            bit = expr.lift(self._circuit.clbits[simple[0]])
            return bit if simple[1] else expr.logic_not(bit)
        reads = sorted(self._reads(expression))
        if not reads:
            return expr.lift(bool(self._value(expression, {})))
        if isinstance(expression, Operation) and expression.sign in ("&&", "||", "!"):
            operands = [self._logical(each, place) for each in expression.operands]
            join = {"&&": expr.logic_and, "||": expr.logic_or, "!": expr.logic_not}[expression.sign]
            return join(*operands)
        if len(reads) > MAX_CONDITION_BITS:
            wrong(place, f"the condition calculates with {len(reads)} bits", f"at most {MAX_CONDITION_BITS}")
        rows = [
            bool(self._value(expression, {bit: row >> place & 1 for place, bit in enumerate(reads)}))
            for row in range(2 ** len(reads))
        ]
        return truth_of([self._circuit.clbits[bit] for bit in reads], rows)


def _place_of(expression: Expression) -> Place:
    return Place(1, 1) if isinstance(expression, Number) else expression.place


def _bits_used(source: Source) -> int:
    """How many classical bits a program without CREG has: as many as it names."""
    largest = -1

    def look(found: object) -> None:
        nonlocal largest
        if isinstance(found, Bit):
            if isinstance(found.index, Number):
                largest = max(largest, int(found.index.value))
            look(found.index)
        elif isinstance(found, Measure) and found.bit is None:
            largest = max(largest, source.num_qubits - 1)
        elif isinstance(found, list | tuple):
            for each in found:
                look(each)
        elif hasattr(found, "__dataclass_fields__"):
            for name in found.__dataclass_fields__:
                look(getattr(found, name))

    look(source.statements)
    look([definition.body for definition in source.definitions.values()])
    return largest + 1
