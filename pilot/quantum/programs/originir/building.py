"""OriginIR's statements to a Qiskit circuit.

Gates inside DAGGER and CONTROL become inverse and controlled gates, global phases included. Definitions are put
in where they are called. What classical bits hold is followed: a condition that no measurement decides is
decided here, a loop that counts is unrolled; what depends on outcomes becomes Qiskit's control flow.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from qiskit.circuit import QuantumCircuit, library

from pilot.quantum.programs.definitions import inverse_of
from pilot.quantum.programs.originir import gates
from pilot.quantum.programs.originir.operands import MAX_DEPTH
from pilot.quantum.programs.originir.statements import (
    Apply,
    Assign,
    Barrier,
    Bit,
    Control,
    Dagger,
    Definition,
    If,
    Measure,
    Number,
    Place,
    Qubit,
    Reset,
    Source,
    Statement,
    While,
    error_at,
    wrong,
)
from pilot.quantum.programs.originir.syntax import read
from pilot.quantum.programs.originir.values import Scope, Values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from qiskit.circuit import Gate

#: Gates that a program may become, with definitions put in and loops unrolled.
MAX_GATES = 1_000_000
#: Rounds of a loop that counts.
MAX_ROUNDS = 10_000
#: Gates and barriers in order, each with its qubits' numbers, and a global phase.
_Step = tuple["Gate | library.Barrier", list[int]]
_Steps = tuple[list[_Step], float]


def loads(text: str) -> QuantumCircuit:
    """The circuit of an OriginIR program, with registers ``q`` and, where it has classical bits, ``c``.

    Raises:
        ProgramError: it is not OriginIR, or does what no circuit can; line and column are in the error.
    """
    return _Builder(read(text)).build()


class _Builder(Values):
    def __init__(self, source: Source) -> None:
        super().__init__(source)
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
                case Apply() | Dagger() | Control() | Barrier():
                    self._append(*self._steps(statement))
                case Measure():
                    self._measure(statement)
                case Reset():
                    for number in self._numbers(statement.qubit):
                        self._circuit.reset(number)
                case Assign():
                    self._assign(statement)
                case If():
                    self._branch(statement)
                case While():
                    self._loop(statement)

    def _append(self, steps: list[_Step], phase: float) -> None:
        for gate, numbers in steps:
            self._circuit.append(gate, numbers, copy=False)
        if phase:
            self._circuit.global_phase += phase

    # gates

    def _steps(self, statement: Statement) -> _Steps:
        """The gates of a statement that is unitary; a barrier stands among them as it is."""
        match statement:
            case Apply():
                return self._applied(statement)
            case Barrier():
                numbers = list(dict.fromkeys(each for qubit in statement.qubits for each in self._numbers(qubit)))
                return [(library.Barrier(len(numbers)), numbers)], 0.0
            case Dagger():
                return _inverse(self._all_steps(statement.body))
            case Control():
                controls = [self._one(qubit) for qubit in statement.qubits]
                return self._controlled(self._all_steps(statement.body), controls, statement.qubits)
        what = type(statement).__name__.upper()
        raise error_at(statement.place, f"{what} cannot be inverted or controlled", "gates only")

    def _all_steps(self, statements: Sequence[Statement]) -> _Steps:
        steps: list[_Step] = []
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
        more = gate.num_optional if gate else 0
        self._count(statement, wanted, more)
        angles = [self._number(each, "an angle") for each in statement.parameters]
        steps: list[_Step] = []
        phase, spent = 0.0, 0
        for numbers in self._broadcast(statement):
            if gate:
                parts = gate.parts(*angles)
                steps += [(each, [numbers[place] for place in places]) for each, places in parts.steps]
                phase += parts.phase
            elif definition:
                with self._inside(statement, definition, numbers, angles):
                    inner, angle = self._all_steps(definition.body)
                steps += inner
                phase += angle
            self._spend(statement.place, len(steps) - spent)
            spent = len(steps)
        result = _inverse((steps, phase)) if statement.dagger else (steps, phase)
        if statement.controls:
            controls = [self._one(qubit) for qubit in statement.controls]
            result = self._controlled(result, controls, statement.controls)
        return result

    def _count(self, statement: Apply, wanted: tuple[int, int], optional: int = 0) -> None:
        given = (len(statement.qubits), len(statement.parameters))
        if given[0] != wanted[0] or not wanted[1] <= given[1] <= wanted[1] + optional:
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
        controlled: list[_Step] = []
        for gate, numbers in steps[0]:
            if isinstance(gate, library.Barrier):
                controlled.append((gate, numbers))
                continue
            for control, qubit in zip(controls, qubits, strict=True):
                if control in numbers:
                    wrong(qubit.place, f"q[{control}] controls a gate on itself", "a qubit that no gate inside acts on")
            controlled.append((gate.control(len(controls), annotated=False), controls + numbers))
        if steps[1] and len(controls) == 1:
            controlled.append((library.PhaseGate(steps[1]), controls))
        elif steps[1]:
            controlled.append((library.MCPhaseGate(steps[1], len(controls) - 1), controls))
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
        outer, self._scope = self._scope, Scope(definition, numbers)
        self._scope.parameters = dict(zip(definition.parameters, angles, strict=True))
        self._depth += 1
        yield
        self._scope, self._depth = outer, self._depth - 1

    def _spend(self, place: Place, gates: int) -> None:
        self._gates += max(1, gates)
        if self._gates > MAX_GATES:
            wrong(place, f"the program is more than {MAX_GATES} gates with its definitions and loops written out")

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
                    found |= self._target(statement.bit)
                case Apply() if statement.gate in self._source.definitions:
                    found |= self._targets(self._source.definitions[statement.gate].body, wanted)
                case If():
                    found |= self._targets(statement.then, wanted) | self._targets(statement.otherwise, wanted)
                case While():
                    found |= self._targets(statement.body, wanted)
        return found

    def _target(self, bit: Bit | None) -> set[int]:
        """The bit, or all bits where it is all of them or is not known yet."""
        if bit is not None and isinstance(bit.index, Number):
            return {self._bit(bit)}
        return set(range(self._num_bits))


def _inverse(steps: _Steps) -> _Steps:
    return [(inverse_of(gate), numbers) for gate, numbers in reversed(steps[0])], -steps[1]


def _operands_of(definition: Definition | None) -> tuple[int, int]:
    return (len(definition.qubits), len(definition.parameters)) if definition else (0, 0)


def _amount(qubits: int, parameters: int) -> str:
    text = f"{qubits} qubit" + "s" * (qubits != 1)
    return text + f" and {parameters} parameter" + "s" * (parameters != 1)
