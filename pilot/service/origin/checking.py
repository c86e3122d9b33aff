"""What is asked of a program before its task is accepted. Processes of their own (`checker`) run `check`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from pilot.errors import DescriptionError, PilotError
from pilot.service.origin.codes import ErrorCode, OriginError, TaskType

if TYPE_CHECKING:
    from qiskit import QuantumCircuit

#: Steps of gates of a program.
MAX_DEPTH = 20_000
#: Qubits whose state is reconstructed, and whose exact probabilities are listed.
MAX_TOMOGRAPHY_QUBITS, MAX_LISTED_QUBITS = 5, 20
#: Qubits of a program whose state without noise is computed beside its tomography.
MAX_IDEAL_QUBITS = 10
#: Gates of a program that is cut into pieces.
MAX_CUT_GATES = 500
#: Steps of the search for a layout.
_LAYOUT_STEPS = 100_000


class Chip(msgspec.Struct, frozen=True):
    """What is known of the QPU that a program is for."""

    qubits: int
    #: Pairs of qubits that two-qubit gates act on; None: all.
    coupling: tuple[tuple[int, int], ...] | None = None


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A program, and what it is to be checked and adapted for."""

    text: str
    type: int
    shots: int | None = None
    #: The widest QPU that may run it; None: a simulator, or nothing is known yet.
    chip: Chip | None = None
    #: The program's qubits are those of the chip; or they are laid out on these.
    is_placed: bool = False
    block: tuple[int, ...] = ()
    #: Qubits without a gate are left out, but for those in ``kept``: a chip need not have as many.
    is_compact: bool = False
    kept: tuple[int, ...] = ()
    #: It has to measure something.
    must_measure: bool = True
    #: Qubits whose probabilities are wanted; the program's own measurements are left out then.
    listed: tuple[int, ...] = ()


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What a program is, when it is right."""

    #: How many qubits it uses, its depth, and the seconds that it is expected to run.
    qubits: int
    depth: int
    seconds: float
    #: Qubits of the circuit that runs; and its qubit for each of the program's, -1: left out.
    width: int
    places: tuple[int, ...]
    #: Classical bits that it measures into, in order; and the qubits, by the program's numbers. Of a state that is
    #: reconstructed, where nothing is measured: all qubits that are used.
    bits: tuple[int, ...] = ()
    measured: tuple[int, ...] = ()
    #: Of a tomography, the state that the measured qubits have without noise: `(2**n, 2**n)`, row by row, real and
    #: imaginary parts. Empty: not known.
    ideal: tuple[tuple[float, float], ...] = ()
    #: OriginIR of the circuit that runs; "": the program itself.
    text: str = ""


class Fault(msgspec.Struct, frozen=True):
    """Why a program is refused: an `ErrorCode`, and a message."""

    code: int
    message: str


def check(questions: Sequence[Question]) -> list[Facts | Fault]:
    """Read programs of strangers, in another process with limits, and check them."""
    return [_checked(one) for one in questions]


def _checked(question: Question) -> Facts | Fault:
    from pilot.quantum.programs import load

    try:
        return _facts(question, load(question.text, "originir", untrusted=True).to_qiskit())
    except OriginError as error:
        return Fault(int(error.code), str(error))
    except DescriptionError as error:
        return Fault(int(ErrorCode.ORIGINIR), f"QProg: {error}")
    except PilotError as error:  # the process that parses does not start
        return Fault(int(ErrorCode.BACKEND), f"QProg: {error}")


def _facts(question: Question, given: QuantumCircuit) -> Facts:
    from pilot.quantum.needs import on_devices

    circuit = _without_settings(given)
    used = sorted({circuit.find_bit(qubit).index for entry in circuit.data for qubit in entry.qubits})
    if not used:
        raise OriginError("QProg: no gate in it; expected at least one", code=ErrorCode.EMPTY_PROGRAM)
    bits, measured = _measurements(question, circuit)
    depth = circuit.depth()
    if depth > MAX_DEPTH:
        message = f"QProg: the depth is {depth}; expected at most {MAX_DEPTH}"
        raise OriginError(message, code=ErrorCode.TOO_MANY_CLOCKS)
    _check_size(question, circuit, used, measured)
    kept = sorted({*used, *question.kept})
    if kept[-1] >= circuit.num_qubits:
        message = f"QProg: qubit {kept[-1]} is asked for; it has qubits 0 to {circuit.num_qubits - 1}"
        raise OriginError(message, code=ErrorCode.TASK_CONFIGURATION)
    running, places = _adapted(question, circuit, used, kept)
    if question.listed:
        running = _listing(running, question.listed)
        bits = tuple(range(len(question.listed)))
    is_tomography = question.type == TaskType.TOMOGRAPHY
    measured = measured or (tuple(used) if is_tomography else ())
    return Facts(
        qubits=len(used),
        depth=depth,
        seconds=on_devices(circuit, question.shots or 1, ["*"]).seconds,
        width=running.num_qubits,
        places=places,
        bits=bits,
        measured=measured,
        ideal=_ideal(circuit, used, measured) if is_tomography else (),
        text="" if running is given else _text_of(running),
    )


def _without_settings(circuit: QuantumCircuit) -> QuantumCircuit:
    """The circuit without what sets bits that nothing is measured into: a chip cannot, and results do not have them."""
    from qiskit.circuit.classical.expr import iter_vars

    measured = {bit for entry in circuit.data if entry.name == "measure" for bit in entry.clbits}
    settings = [entry.operation for entry in circuit.data if entry.name == "store"]
    for one in settings:
        used = {variable.var for side in (one.lvalue, one.rvalue) for variable in iter_vars(side)}
        if both := used & measured:
            bit = min(circuit.find_bit(bit).index for bit in both)
            message = f"QProg: c[{bit}] is measured, and set or read by an assignment; expected gates and measurements"
            raise OriginError(message, code=ErrorCode.CHIP_PROGRAM)
    if not settings:
        return circuit
    bare = circuit.copy_empty_like()
    for entry in circuit.data:
        if entry.name != "store":
            bare.append(entry, copy=False)
    return bare


def _measurements(question: Question, circuit: QuantumCircuit) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The bits that are measured into, and the qubits that are measured, each in order."""
    if circuit.has_control_flow_op():
        message = "QProg: QIF and QWHILE cannot run here; expected gates and measurements"
        raise OriginError(message, code=ErrorCode.CHIP_PROGRAM)
    pairs = [
        (circuit.find_bit(entry.qubits[0]).index, circuit.find_bit(entry.clbits[0]).index)
        for entry in circuit.data
        if entry.name == "measure"
    ]
    if question.must_measure and not pairs:
        message = "QProg: no MEASURE in it; expected at least one, such as MEASURE q[0],c[0]"
        raise OriginError(message, code=ErrorCode.CHIP_PROGRAM)
    for number, what in ((0, "qubit q"), (1, "bit c")):
        counts = Counter(pair[number] for pair in pairs)
        if twice := [one for one, count in counts.items() if count > 1]:
            message = f"QProg: the {what}[{twice[0]}] is measured more than once; expected one MEASURE of each"
            raise OriginError(message, code=ErrorCode.REPEATED_MEASUREMENT)
    return tuple(sorted(bit for _, bit in pairs)), tuple(sorted(qubit for qubit, _ in pairs))


def _check_size(question: Question, circuit: QuantumCircuit, used: Sequence[int], measured: Sequence[int]) -> None:
    is_cut = question.type == TaskType.DISTRIBUTED
    if question.chip is not None and not is_cut and len(used) > question.chip.qubits:
        message = f"QProg: it uses {len(used)} qubits; the chip has {question.chip.qubits}; TaskType 10 cuts it"
        raise OriginError(message, code=ErrorCode.TOO_MANY_QUBITS)
    if question.type == TaskType.TOMOGRAPHY and len(measured or used) > MAX_TOMOGRAPHY_QUBITS:
        message = (
            f"QProg: {len(measured or used)} qubits are measured; a state of at most {MAX_TOMOGRAPHY_QUBITS} is found"
        )
        raise OriginError(message, code=ErrorCode.QUBIT_SIZE)
    if len(question.listed) > MAX_LISTED_QUBITS:
        message = f"Configuration.qubits: {len(question.listed)} qubits; expected at most {MAX_LISTED_QUBITS}"
        raise OriginError(message, code=ErrorCode.QUBIT_SIZE)
    if is_cut and len(circuit.data) > MAX_CUT_GATES:
        message = f"QProg: {len(circuit.data)} gates; expected at most {MAX_CUT_GATES} with TaskType 10"
        raise OriginError(message, code=ErrorCode.PROGRAM_LENGTH)


# ---- the circuit that runs ------------------------------------------------------------------------------------


def _adapted(
    question: Question, circuit: QuantumCircuit, used: Sequence[int], kept: Sequence[int]
) -> tuple[QuantumCircuit, tuple[int, ...]]:
    """The circuit on the qubits that it is to have, and where each qubit of the program is in it."""
    if question.is_placed or question.block:
        if question.chip is None:
            message = "ChipID: no chip has reported its qubits yet; try again in a minute"
            raise OriginError(message, code=ErrorCode.CHIP_OFFLINE)
        width, layout = question.chip.qubits, _layout(question, question.chip, circuit, used)
        free = (one for one in range(width) if one not in layout.values())
        layout |= {qubit: next(free) for qubit in kept if qubit not in layout}
    elif question.is_compact and len(kept) < circuit.num_qubits:
        width, layout = len(kept), {qubit: place for place, qubit in enumerate(kept)}
    else:
        return circuit, tuple(range(circuit.num_qubits))
    return _moved(circuit, layout, width), tuple(layout.get(one, -1) for one in range(circuit.num_qubits))


def _layout(question: Question, chip: Chip, circuit: QuantumCircuit, used: Sequence[int]) -> dict[int, int]:
    """The chip's qubit for each that the program uses."""
    pairs = _pairs(circuit)
    allowed = list(question.block) or list(range(chip.qubits))
    if outside := [one for one in allowed if one >= chip.qubits]:
        message = f"Configuration.specified_block: qubit {outside[0]}; the chip has qubits 0 to {chip.qubits - 1}"
        raise OriginError(message, code=ErrorCode.SUBGRAPH)
    if len(used) > len(allowed):
        message = f"Configuration.specified_block: {len(allowed)} qubits; the program uses {len(used)}"
        raise OriginError(message, code=ErrorCode.QUBIT_SIZE)
    coupled = None if chip.coupling is None else {frozenset(pair) for pair in chip.coupling}
    if question.is_placed:
        if missing := [qubit for qubit in used if qubit not in allowed]:
            message = f"QProg: q[{missing[0]}] is not among the qubits that it may use, with mappingFlag false"
            raise OriginError(message, code=ErrorCode.SUBGRAPH)
        if coupled is not None and (apart := [pair for pair in pairs if pair not in coupled]):
            first, second = sorted(apart[0])
            message = f"QProg: q[{first}] and q[{second}] are not neighbours on the chip; allow mappingFlag"
            raise OriginError(message, code=ErrorCode.QUBIT_TOPOLOGY)
        return {qubit: qubit for qubit in used}
    found = _mapped(used, pairs, allowed, coupled)
    if found is None:
        message = (
            f"Configuration.specified_block: the program's {len(pairs)} pairs of qubits do not fit on neighbours "
            "among these qubits; give others"
        )
        raise OriginError(message, code=ErrorCode.QUBIT_TOPOLOGY)
    return found


def _pairs(circuit: QuantumCircuit) -> list[frozenset[int]]:
    """The pairs of qubits that gates act on."""
    found: dict[frozenset[int], None] = {}
    for entry in circuit.data:
        qubits = [circuit.find_bit(qubit).index for qubit in entry.qubits]
        if entry.name == "barrier" or len(qubits) < 2:
            continue
        if len(qubits) > 2:
            message = f"QProg: a gate on {len(qubits)} qubits has no place among neighbours; write it as smaller ones"
            raise OriginError(message, code=ErrorCode.QUBIT_TOPOLOGY)
        found[frozenset(qubits)] = None
    return list(found)


def _mapped(
    used: Sequence[int],
    pairs: Sequence[frozenset[int]],
    allowed: Sequence[int],
    coupled: set[frozenset[int]] | None,
) -> dict[int, int] | None:
    """A place among the allowed qubits for each that is used, so that all pairs are neighbours; None: there is none."""
    if coupled is None:
        return dict(zip(used, allowed, strict=False))
    import rustworkx

    chip, program = rustworkx.PyGraph(), rustworkx.PyGraph()
    nodes = {qubit: chip.add_node(qubit) for qubit in allowed}
    chip.add_edges_from_no_data([(nodes[a], nodes[b]) for a, b in map(tuple, coupled) if a in nodes and b in nodes])
    wanted = {qubit: program.add_node(qubit) for qubit in used}
    program.add_edges_from_no_data([(wanted[a], wanted[b]) for a, b in map(tuple, pairs)])
    mappings = rustworkx.vf2_mapping(chip, program, subgraph=True, induced=False, call_limit=_LAYOUT_STEPS)
    found = next(iter(mappings), None)
    return None if found is None else {program[theirs]: chip[ours] for ours, theirs in found.items()}


def _moved(circuit: QuantumCircuit, layout: dict[int, int], width: int) -> QuantumCircuit:
    """The circuit with its qubits at these places; qubits without a place have no gate."""
    from qiskit import QuantumCircuit
    from qiskit.circuit import ClassicalRegister, QuantumRegister

    moved = QuantumCircuit(QuantumRegister(width, "q"), global_phase=circuit.global_phase)
    if circuit.num_clbits:
        moved.add_register(ClassicalRegister(circuit.num_clbits, "c"))
    for entry in circuit.data:
        qubits = [layout[circuit.find_bit(qubit).index] for qubit in entry.qubits]
        moved.append(entry.operation, qubits, [circuit.find_bit(bit).index for bit in entry.clbits])
    return moved


def _listing(circuit: QuantumCircuit, qubits: Sequence[int]) -> QuantumCircuit:
    """The circuit that measures these qubits at its end, and nothing else."""
    from qiskit import QuantumCircuit
    from qiskit.circuit import ClassicalRegister, QuantumRegister

    from pilot.quantum.deferral import without_final_measurements

    bare = without_final_measurements(circuit)
    if any(entry.clbits for entry in bare.data):
        message = "QProg: it measures in its middle; expected gates only, with measure_type 2"
        raise OriginError(message, code=ErrorCode.CHIP_PROGRAM)
    listing = QuantumCircuit(
        QuantumRegister(circuit.num_qubits, "q"), ClassicalRegister(len(qubits), "c"), global_phase=bare.global_phase
    )
    for entry in bare.data:
        listing.append(entry.operation, [bare.find_bit(qubit).index for qubit in entry.qubits])
    for bit, qubit in enumerate(qubits):
        listing.measure(qubit, bit)
    return listing


def _ideal(circuit: QuantumCircuit, used: Sequence[int], measured: Sequence[int]) -> tuple[tuple[float, float], ...]:
    """The state of the measured qubits without noise, the first being the lowest bit of an index."""
    from qiskit.circuit import Barrier, Gate
    from qiskit.quantum_info import Statevector, partial_trace

    from pilot.quantum.deferral import without_final_measurements

    if len(used) > MAX_IDEAL_QUBITS:
        return ()
    bare = without_final_measurements(_moved(circuit, {qubit: place for place, qubit in enumerate(used)}, len(used)))
    if not all(isinstance(entry.operation, Gate | Barrier) for entry in bare.data):
        return ()
    others = [place for place, qubit in enumerate(used) if qubit not in measured]
    matrix = partial_trace(Statevector(bare), others).data
    return tuple((float(one.real), float(one.imag)) for one in matrix.ravel())


def _text_of(circuit: QuantumCircuit) -> str:
    from pilot.quantum.programs import Program

    return Program(circuit).dumps("originir")
