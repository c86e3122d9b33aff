"""OriginIR's statements to a Qiskit circuit.

Gates inside DAGGER and CONTROL become inverse and controlled gates, global phases included. Definitions are put
in where they are called. What classical bits hold is followed: a condition that no measurement decides is
decided here, a loop that counts is unrolled; what depends on outcomes becomes Qiskit's control flow.
"""

from __future__ import annotations

from contextlib import contextmanager
from itertools import product
from math import isfinite
from typing import TYPE_CHECKING

from qiskit.circuit import ClassicalRegister, Clbit, QuantumCircuit, QuantumRegister
from qiskit.circuit.classical import expr
from qiskit.circuit.library import MCPhaseGate, PhaseGate

from pilot.quantum.programs.definitions import inverse_of
from pilot.quantum.programs.originir import gates
from pilot.quantum.programs.originir.syntax import (
    MAX_DEPTH,
    Apply,
    Assign,
    Barrier,
    Bit,
    Control,
    Dagger,
    Definition,
    Expression,
    If,
    Measure,
    Name,
    Number,
    Operation,
    Place,
    Qubit,
    Reset,
    Source,
    Statement,
    While,
    calculate,
    read,
    wrong,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from qiskit.circuit import Gate

#: Qubits, and classical bits, of a program.
MAX_BITS = 100_000
#: Gates that a program may become, with definitions put in and loops unrolled.
MAX_GATES = 1_000_000
#: Rounds of a loop that counts.
MAX_ROUNDS = 10_000
#: Bits that one condition may read, unless it only compares each with 0 or 1.
MAX_CONDITION_BITS = 8

#: Gates in order, each with its qubits' numbers, and a global phase.
_Steps = tuple[list[tuple["Gate", list[int]]], float]


def loads(text: str) -> QuantumCircuit:
    """The circuit of an OriginIR program, with registers ``q`` and, where it has classical bits, ``c``.

    Raises:
        ProgramError: it is not OriginIR, or does what no circuit can; line and column are in the error.
    """
    return _Builder(read(text)).build()


class _Scope:
    """What names mean inside a definition: operands are qubits' numbers, parameters numbers."""

    def __init__(self, definition: Definition | None = None, qubits: Sequence[int] = ()) -> None:
        self.definition = definition
        self.qubits = dict(zip(definition.qubits, qubits, strict=True)) if definition else {}
        self.parameters: dict[str, float] = {}


class _Builder:
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
        self._scope = _Scope()
        self._depth = 0
        self._gates = 0

    def build(self) -> QuantumCircuit:
        self._run(self._source.statements)
        self._store(self._known, None)
        return self._circuit

    def _run(self, statements: Sequence[Statement]) -> None:
        for statement in statements:
            match statement:
                case Apply() if self._is_subroutine(statement):
                    self._call(statement)
                case Apply() | Dagger() | Control():
                    self._append(*self._steps(statement), statement.place)
                case Measure():
                    self._measure(statement)
                case Barrier():
                    self._circuit.barrier([each for qubit in statement.qubits for each in self._numbers(qubit)])
                case Reset():
                    for number in self._numbers(statement.qubit):
                        self._circuit.reset(number)
                case Assign():
                    self._assign(statement)
                case If():
                    self._branch(statement)
                case While():
                    self._loop(statement)

    def _append(self, steps: list[tuple[Gate, list[int]]], phase: float, place: Place) -> None:
        for gate, numbers in steps:
            self._circuit.append(gate, numbers, copy=False)
        if phase:
            self._circuit.global_phase += phase

    # gates

    def _steps(self, statement: Statement) -> _Steps:
        """The gates of a statement that is unitary."""
        match statement:
            case Apply():
                return self._applied(statement)
            case Dagger():
                return _inverse(self._all_steps(statement.body))
            case Control():
                controls = [self._one(qubit) for qubit in statement.qubits]
                return self._controlled(self._all_steps(statement.body), controls, statement.qubits)
        wrong(statement.place, f"{type(statement).__name__.upper()} cannot be inverted or controlled", "gates only")

    def _all_steps(self, statements: Sequence[Statement]) -> _Steps:
        steps: list[tuple[Gate, list[int]]] = []
        phase = 0.0
        for statement in statements:
            more, angle = self._steps(statement)
            steps += more
            phase += angle
        return steps, phase

    def _applied(self, statement: Apply) -> _Steps:
        gate = gates.find(statement.gate)
        definition = self._source.definitions.get(statement.gate)
        wanted = (gate.num_qubits, gate.num_parameters) if gate else _operands_of(definition)
        self._count(statement, wanted)
        angles = [self._number(each, "an angle") for each in statement.parameters]
        steps: list[tuple[Gate, list[int]]] = []
        phase = 0.0
        for numbers in self._broadcast(statement):
            if gate:
                parts = gate.parts(*angles)
                steps += [(each, [numbers[place] for place in places]) for each, places in parts.steps]
                phase += parts.phase
            elif definition:
                with self._inside(statement, definition, numbers, angles):
                    more, angle = self._all_steps(definition.body)
                steps += more
                phase += angle
            self._spend(statement.place, len(steps))
        result = _inverse((steps, phase)) if statement.dagger else (steps, phase)
        if statement.controls:
            controls = [self._one(qubit) for qubit in statement.controls]
            result = self._controlled(result, controls, statement.controls)
        return result

    def _count(self, statement: Apply, wanted: tuple[int, int]) -> None:
        given = (len(statement.qubits), len(statement.parameters))
        if given != wanted:
            wrong(
                statement.place,
                f"{statement.gate} has {_amount(*given)}",
                _amount(*wanted),
            )

    def _broadcast(self, statement: Apply) -> Iterator[list[int]]:
        """The operands; a gate on one whole register acts on each of its qubits."""
        if len(statement.qubits) == 1:
            for number in self._numbers(statement.qubits[0]):
                yield [number]
            return
        numbers = [self._one(qubit) for qubit in statement.qubits]
        self._distinct(numbers, statement.qubits)
        yield numbers

    def _distinct(self, numbers: Sequence[int], qubits: Sequence[Qubit]) -> None:
        for place, number in enumerate(numbers):
            if number in numbers[:place]:
                wrong(qubits[place].place, f"q[{number}] stands here twice", "different qubits")

    def _controlled(self, steps: _Steps, controls: list[int], qubits: Sequence[Qubit]) -> _Steps:
        self._distinct(controls, qubits)
        controlled: list[tuple[Gate, list[int]]] = []
        for gate, numbers in steps[0]:
            for control, qubit in zip(controls, qubits, strict=True):
                if control in numbers:
                    wrong(qubit.place, f"q[{control}] controls a gate on itself", "a qubit that no gate inside acts on")
            controlled.append((gate.control(len(controls), annotated=False), controls + numbers))
        if steps[1] and len(controls) == 1:
            controlled.append((PhaseGate(steps[1]), controls))
        elif steps[1]:
            controlled.append((MCPhaseGate(steps[1], len(controls) - 1), controls))
        return controlled, 0.0

    # definitions

    def _is_subroutine(self, statement: Apply) -> bool:
        definition = self._source.definitions.get(statement.gate)
        return bool(definition and definition.kind == "DEF" and not statement.dagger and not statement.controls)

    def _call(self, statement: Apply) -> None:
        """A DEF may measure, so its statements are run one by one."""
        definition = self._source.definitions[statement.gate]
        self._count(statement, _operands_of(definition))
        angles = [self._number(each, "an angle") for each in statement.parameters]
        for numbers in self._broadcast(statement):
            self._spend(statement.place, 1)
            with self._inside(statement, definition, numbers, angles):
                self._run(definition.body)

    @contextmanager
    def _inside(
        self, call: Apply, definition: Definition, numbers: Sequence[int], angles: Sequence[float]
    ) -> Iterator[None]:
        if self._depth >= MAX_DEPTH:
            wrong(call.place, "definitions are nested too deep", f"at most {MAX_DEPTH} in one another")
        outer, self._scope = self._scope, _Scope(definition, numbers)
        self._scope.parameters = dict(zip(definition.parameters, angles, strict=True))
        self._depth += 1
        yield
        self._scope, self._depth = outer, self._depth - 1

    def _spend(self, place: Place, gates: int) -> None:
        self._gates += max(1, gates)
        if self._gates > MAX_GATES:
            wrong(place, f"the program is more than {MAX_GATES} gates with its definitions and loops written out")

    # operands

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
        if reads:
            at = place or getattr(expression, "place", Place(1, 1))
            wrong(at, f"{what} depends on c[{min(reads)}], which is measured", "a number")
        value = self._value(expression, {})
        if not isfinite(value):
            wrong(getattr(expression, "place", place or Place(1, 1)), f"{what} is {value}", "a finite number")
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

    # classical bits and control flow

    def _measure(self, statement: Measure) -> None:
        numbers = self._numbers(statement.qubit)
        if statement.bit is not None:
            if len(numbers) != 1:
                wrong(statement.qubit.place, "the whole register is measured into one bit", "MEASURE q,c")
            bits = [self._bit(statement.bit)]
        else:
            bits = list(range(self._num_bits))
            if len(bits) != len(numbers):
                wrong(
                    statement.place,
                    f"{len(numbers)} qubits are measured into {len(bits)} bits",
                    "registers of one size",
                )
        for number, bit in zip(numbers, bits, strict=True):
            self._circuit.measure(number, bit)
        self._forget(bits)

    def _assign(self, statement: Assign) -> None:
        bit = self._bit(statement.bit)
        if self._reads(statement.value):
            self._circuit.store(self._circuit.clbits[bit], self._logical(statement.value, statement.place))
            self._forget({bit})
        else:
            self._known[bit] = self._number(statement.value, "the value", statement.place)

    def _store(self, bits: Iterable[int], place: Place | None) -> None:
        """Put what bits are known to hold into the circuit: before a measurement decides what follows, and at the end.

        A bit that counts beyond 1 cannot be held; at the end (no `place`) it is left as it is.
        """
        for bit in bits:
            value = self._known.get(bit)
            if value is None or value == self._held.get(bit):
                continue
            if value in (0, 1):
                self._circuit.store(self._circuit.clbits[bit], bool(value))
                self._held[bit] = value
            elif place:
                wrong(place, f"c[{bit}] holds {value:g} where a measurement decides what follows", "0 or 1")

    def _forget(self, bits: Iterable[int]) -> None:
        for bit in bits:
            self._known.pop(bit, None)
            self._held.pop(bit, None)

    def _branch(self, statement: If) -> None:
        if not self._reads(statement.condition):
            self._run(statement.then if self._value(statement.condition, {}) else statement.otherwise)
            return
        condition = self._condition(statement.condition, statement.place)
        changed = self._written(statement.then) | self._written(statement.otherwise)
        self._store(changed, statement.place)
        before = dict(self._known), dict(self._held)
        with self._circuit.if_test(condition) as otherwise:
            self._run(statement.then)
            self._store(changed, statement.place)
        if statement.otherwise:
            self._known, self._held = dict(before[0]), dict(before[1])
            with otherwise:
                self._run(statement.otherwise)
                self._store(changed, statement.place)
        self._forget(changed)

    def _loop(self, statement: While) -> None:
        """Unrolled when no measurement decides how often it runs, else Qiskit's loop."""
        asks = self._bits_in(statement.condition)
        if not self._reads(statement.condition) and not self._measured(statement.body) & asks:
            self._unroll(statement)
            return
        changed = self._written(statement.body)
        if not changed & asks:
            wrong(statement.place, "QWHILE never ends: nothing in it changes its condition")
        self._store(changed, statement.place)
        self._forget(changed)
        condition = self._condition(statement.condition, statement.place)
        with self._circuit.while_loop(condition):
            self._run(statement.body)
            self._store(changed, statement.place)
        self._forget(changed)

    def _unroll(self, statement: While) -> None:
        for _ in range(MAX_ROUNDS):
            if self._reads(statement.condition):
                self._loop(statement)
                return
            if not self._value(statement.condition, {}):
                return
            self._spend(statement.place, 1)
            self._run(statement.body)
        wrong(
            statement.place,
            f"QWHILE has not ended after {MAX_ROUNDS} rounds, and no measurement ends it",
            "a loop that ends: no chip can run it otherwise",
        )

    def _measured(self, statements: Sequence[Statement]) -> set[int]:
        """The bits that statements measure into, or set by what was measured."""
        return self._targets(statements, lambda each: isinstance(each, Measure) or bool(self._reads(each.value)))

    def _written(self, statements: Sequence[Statement]) -> set[int]:
        """The bits that statements give a value to."""
        return self._targets(statements, lambda each: True)

    def _targets(self, statements: Sequence[Statement], wanted: Callable[[Measure | Assign], bool]) -> set[int]:
        found: set[int] = set()
        for statement in statements:
            match statement:
                case Measure() | Assign() if wanted(statement):
                    found |= {self._bit(statement.bit)} if self._fixed(statement.bit) else set(range(self._num_bits))
                case Apply() if statement.gate in self._source.definitions:
                    found |= self._targets(self._source.definitions[statement.gate].body, wanted)
                case If():
                    found |= self._targets(statement.then, wanted) | self._targets(statement.otherwise, wanted)
                case While():
                    found |= self._targets(statement.body, wanted)
        return found

    def _fixed(self, bit: Bit | None) -> bool:
        return bit is not None and isinstance(bit.index, Number)

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
        return self._table(expression, reads)

    def _table(self, expression: Expression, reads: list[int]) -> expr.Expr:
        """An expression that calculates, by the outcomes for which it is true."""
        result: expr.Expr | None = None
        for outcome in product((0, 1), repeat=len(reads)):
            values = dict(zip(reads, outcome, strict=True))
            if not self._value(expression, values):
                continue
            row: expr.Expr | None = None
            for number, value in values.items():
                bit = expr.lift(self._circuit.clbits[number])
                bit = bit if value else expr.logic_not(bit)
                row = bit if row is None else expr.logic_and(row, bit)
            result = row if result is None else expr.logic_or(result, row)
        return expr.lift(False) if result is None else result


def _inverse(steps: _Steps) -> _Steps:
    return [(inverse_of(gate), numbers) for gate, numbers in reversed(steps[0])], -steps[1]


def _operands_of(definition: Definition | None) -> tuple[int, int]:
    return (len(definition.qubits), len(definition.parameters)) if definition else (0, 0)


def _amount(qubits: int, parameters: int) -> str:
    text = f"{qubits} qubit" + "s" * (qubits != 1)
    return text + f" and {parameters} parameter" + "s" * (parameters != 1)


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
