"""Circuits of every kind through each format and back, and programs that are wrong on purpose.

`formats.py circuits`: all circuits of mqt-bench at 5 qubits (or the nearest width that they exist in) and 200
random ones. A circuit without measurements in the middle is compared by its unitary, up to a global phase; one
that acts on outcomes, or is wide, by its distribution. What a format cannot express is listed with the reason.

`formats.py malformed`: 2,000 mutations of valid programs of the four text formats, parsed as untrusted ones.
"""

from __future__ import annotations

import argparse
import random
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import _bench
import numpy as np
from qiskit import QuantumCircuit
from qiskit.circuit.random import random_circuit
from qiskit.quantum_info import Operator

from pilot.errors import DescriptionError, ProgramError
from pilot.quantum import load
from pilot.quantum.aer import run_circuit
from pilot.quantum.programs import sandbox
from pilot.quantum.programs.definitions import opened
from pilot.quantum.programs.parsing import TEXT_FORMATS
from pilot.quantum.programs.program import Program

FORMATS = ("qiskit", "openqasm2", "openqasm3", "originir", "qir", "pennylane")
MAX_UNITARY_QUBITS = 9
#: Where no exact distribution exists, so many samples; `SAMPLED` is above the noise of two samplings.
SHOTS = 40_000
SAMPLED = 0.05


# circuits


def mqt_circuits(width: int) -> dict[str, QuantumCircuit]:
    """By name; those that do not exist in this width in the nearest that does."""
    from mqt.bench import BenchmarkLevel, get_benchmark
    from mqt.bench.benchmarks import get_available_benchmark_names

    circuits = {}
    for name in get_available_benchmark_names():
        for number in sorted(range(2, 20), key=lambda each: (abs(each - width), each)):
            try:
                circuits[f"{name}-{number}"] = get_benchmark(name, BenchmarkLevel.ALG, number)
                break
            except (ValueError, AssertionError):
                continue
    return circuits


def random_circuits(number: int) -> dict[str, QuantumCircuit]:
    """On 2 to 5 qubits; every fifth one with measurements in the middle, resets and conditions."""
    circuits = {}
    for seed in range(number):
        dynamic = seed % 5 == 0
        circuit = random_circuit(
            2 + seed % 4, 6, max_operands=min(4, 2 + seed % 4), conditional=dynamic, reset=dynamic, seed=seed
        )
        circuit.name = f"random-{seed}"
        circuits[circuit.name] = circuit
    return circuits


def there_and_back(circuit: QuantumCircuit, format: str) -> QuantumCircuit:
    """The circuit written in a format and read again."""
    if format == "qiskit":
        return load(circuit, "qiskit").to_qiskit()
    if format == "pennylane":
        return load(tape_of(circuit), "pennylane").to_qiskit()
    return load(Program(circuit).dumps(format), format).to_qiskit()


def tape_of(circuit: QuantumCircuit) -> Any:
    """A PennyLane tape of the same gates, as far as PennyLane has names for them."""
    import pennylane as qml

    named = {
        "h": qml.Hadamard,
        "x": qml.X,
        "y": qml.Y,
        "z": qml.Z,
        "s": qml.S,
        "t": qml.T,
        "sx": qml.SX,
        "rx": qml.RX,
        "ry": qml.RY,
        "rz": qml.RZ,
        "p": qml.PhaseShift,
        "u": qml.U3,
        "cx": qml.CNOT,
        "cz": qml.CZ,
        "cy": qml.CY,
        "ch": qml.CH,
        "swap": qml.SWAP,
        "cp": qml.ControlledPhaseShift,
        "crx": qml.CRX,
        "cry": qml.CRY,
        "crz": qml.CRZ,
        "rxx": qml.IsingXX,
        "ryy": qml.IsingYY,
        "rzz": qml.IsingZZ,
        "ccx": qml.Toffoli,
        "cswap": qml.CSWAP,
    }
    operations: list[Any] = []
    measured: list[int] = []

    def put(operation: Any, wires: list[int]) -> None:
        if operation.name == "measure":
            measured.append(wires[0])
        elif operation.name == "barrier":
            operations.append(qml.Barrier(wires))
        elif operation.name in ("sdg", "tdg"):
            operations.append(qml.adjoint((qml.S if operation.name == "sdg" else qml.T)(wires)))
        elif operation.name in named:
            operations.append(named[operation.name](*map(float, operation.params), wires=wires))
        elif getattr(operation, "num_clbits", 0) or operation.name in ("reset", "if_else"):
            raise DescriptionError(f"this script writes no {operation.name} for PennyLane")
        elif operation.num_qubits <= 3:
            operations.append(qml.QubitUnitary(Operator(operation).reverse_qargs().data, wires))
        else:
            definition = opened(operation)
            for inner in definition.data:
                put(inner.operation, [wires[definition.find_bit(qubit).index] for qubit in inner.qubits])

    for instruction in circuit.data:
        put(instruction.operation, [circuit.find_bit(qubit).index for qubit in instruction.qubits])
    wires = list(range(circuit.num_qubits))
    identities = [qml.Identity(wire) for wire in wires]
    return qml.tape.QuantumScript(identities + operations, [qml.counts(wires=measured)] if measured else [])


def distance(first: QuantumCircuit, second: QuantumCircuit, *, outcomes_only: bool = False) -> float:
    """Of unitaries up to a phase, where both have one; else the total variation of the distributions."""
    unitaries = [None if outcomes_only else _unitary(each) for each in (first, second)]
    if unitaries[0] is not None and unitaries[1] is not None:
        overlap = abs(np.trace(unitaries[0].conj().T @ unitaries[1])) / len(unitaries[0])
        return float(abs(1 - overlap)) if len(unitaries[0]) == len(unitaries[1]) else 1.0
    distributions = [_distribution(each) for each in (first, second)]
    keys = {*distributions[0], *distributions[1]}
    return sum(abs(distributions[0].get(key, 0) - distributions[1].get(key, 0)) for key in keys) / 2


def is_unitary(circuit: QuantumCircuit) -> bool:
    """Gates, and then measurements."""
    return _unitary(circuit) is not None


def _unitary(circuit: QuantumCircuit) -> Any:
    if circuit.num_qubits > MAX_UNITARY_QUBITS:
        return None
    gates = circuit.remove_final_measurements(inplace=False)
    if gates.num_qubits != circuit.num_qubits or any(each.clbits for each in gates.data):
        return None
    try:
        return Operator(gates).data
    except Exception:  # resets, conditions: it has none
        return None


def _distribution(circuit: QuantumCircuit) -> dict[str, float]:
    """By all classical bits; without any, by measuring every qubit."""
    if not any(each.clbits for each in circuit.data):
        circuit = circuit.copy()
        circuit.measure_all()
    try:
        outcomes, total = run_circuit(circuit, None, 1), 1.0
    except DescriptionError:
        outcomes, total = run_circuit(circuit, SHOTS, 1), float(SHOTS)
    rows = outcomes.bits()
    distribution: dict[str, float] = {}
    for row, weight in zip(rows, outcomes.weights, strict=True):
        key = "".join(map(str, row[::-1]))
        distribution[key] = distribution.get(key, 0) + float(weight) / total
    return distribution


def circuits(number: int, width: int) -> _bench.Written:
    """The table, and its figures."""
    work = {**mqt_circuits(width), **random_circuits(number)}
    same: Counter[str] = Counter()
    by_distribution: Counter[str] = Counter()
    refused: dict[str, list[str]] = {}
    failures: list[str] = []
    seconds: Counter[str] = Counter()
    for name, circuit in work.items():
        for format in FORMATS:
            began = time.perf_counter()
            try:
                back = there_and_back(circuit, format)
            except ProgramError as error:
                failures.append(f"{name} {format}: {error}")
                continue
            except DescriptionError as error:
                refused.setdefault(f"{format}: {str(error)[:110]}", []).append(name)
                continue
            finally:
                seconds[format] += time.perf_counter() - began
            far = distance(circuit, back)
            unitary = is_unitary(circuit)
            if far > (1e-9 if unitary else SAMPLED):
                failures.append(f"{name} {format}: differs by {far:.3g}")
            else:
                same[format] += 1
                by_distribution[format] += not unitary
    print(
        f"{len(work)} circuits: {len(work) - number} of mqt-bench at {width} qubits or the nearest width, "
        f"{number} random"
    )
    print(f"{'format':10} {'same':>5} {'(by distribution)':>18} {'refused':>8} {'seconds':>8}")
    for format in FORMATS:
        lost = sum(len(names) for reason, names in refused.items() if reason.startswith(format + ":"))
        print(f"{format:10} {same[format]:5} {by_distribution[format]:18} {lost:8} {seconds[format]:8.1f}")
    for reason, names in sorted(refused.items()):
        print(f"refused  {reason} [{len(names)}: {', '.join(names[:4])}{' ...' * (len(names) > 4)}]")
    for failure in failures:
        print(f"FAILED   {failure}")
    return {
        "circuits": (len(work), None),
        "same": (sum(same.values()), None),
        "refused_with_a_reason": (sum(map(len, refused.values())), None),
        "different": (len(failures), _bench.Bar("==", 0)),
    }


# malformed programs

_PIECES = ["(", ")", "[", "]", "{", "}", ";", ",", "q", "c", "-1", "99", "1e999", "->", "//", "\n", "\0", "é", '"']
_WORDS = [
    "gate",
    "if",
    "CONTROL",
    "ENDDAGGER",
    "QIF",
    "while",
    "qreg",
    "QINIT 3",
    "MEASURE q,c",
    "call void",
    "i64",
    "*",
]


def valid_programs() -> list[tuple[str, str]]:
    """Format and text: small programs with most of what each language has."""
    programs = []
    for seed in range(6):
        circuit = random_circuit(3, 3, measure=True, max_operands=3, seed=seed)
        programs += [(format, Program(circuit).dumps(format)) for format in TEXT_FORMATS]
    dynamic = QuantumCircuit(2, 2)
    dynamic.h(0)
    dynamic.measure(0, 0)
    with dynamic.if_test((dynamic.clbits[0], 1)) as otherwise:
        dynamic.x(1)
    with otherwise:
        dynamic.y(1)
    programs += [(format, Program(dynamic).dumps(format)) for format in TEXT_FORMATS if format != "qir"]
    programs.append(
        (
            "originir",
            "QINIT 4\nCREG 4\nQGATE two a,b,(t)\nRX a,(t/2)\nCNOT a,b\nENDQGATE\n"
            "DEF sub(q[0],q[1]) (x)\nRZ q[0],(x)\nCZ q[0],q[1]\nENDDEF\n"
            "two q[0],q[1],(PI/2)\nsub(q[1],q[2]) (0.3)\nDAGGER\nCONTROL q[3]\nU4 q[0],(0.1,0.2,0.3,0.4)\nENDCONTROL\n"
            "ENDDAGGER\nMEASURE q,c\nQWHILE c[0]==1&&c[1]<2\nH q[0]\nMEASURE q[0],c[0]\nENDQWHILE\n",
        )
    )
    programs.append(
        (
            "openqasm3",
            'OPENQASM 3.0;\ninclude "stdgates.inc";\nconst int n = 3;\nqubit[n] q;\nbit[n] c;\n'
            "def flip(qubit a, angle t) -> bit { rx(t) a; return measure a; }\n"
            "for int i in [0:n-1] { h q[i]; }\nc[0] = flip(q[0], pi/2**2);\n"
            "switch (c) { case 1, 2 { x q[0]; } default { ctrl @ x q[0], q[1]; } }\nwhile (c[0] ^ c[1]) "
            "{ c[0] = measure q[0]; }\n",
        )
    )
    return programs


def mutated(text: str, chance: random.Random) -> str:
    """One to four changes: characters, tokens and lines deleted, doubled, swapped, or replaced by strange ones."""
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(text) + 1)
        kind = chance.randrange(9)
        if kind == 0:
            text = text[:place] + text[place + chance.randint(1, 8) :]
        elif kind == 1:
            text = text[:place] + chance.choice(_PIECES) + text[place:]
        elif kind == 2:
            text = text[:place] + chance.choice(_WORDS) + " " + text[place:]
        elif kind == 3:
            text = text[:place]
        elif kind == 4:
            lines = text.split("\n")
            chance.shuffle(lines)
            text = "\n".join(lines)
        elif kind == 5:
            lines = text.split("\n")
            text = "\n".join(line for line in lines if chance.random() > 0.2)
        elif kind == 6:
            text = text[:place] + chance.choice("([{-!") * chance.choice((3, 300, 30_000)) + text[place:]
        elif kind == 7:
            digits = [index for index, character in enumerate(text) if character.isdigit()]
            if digits:
                index = chance.choice(digits)
                text = text[:index] + chance.choice(("9", "99999999999", "-1", "1e308", "0")) + text[index + 1 :]
        else:
            other = chance.randrange(len(text) + 1)
            text = text[:place] + text[other : other + 40] + text[place:]
    return text


def _memory() -> int:
    """The most that the idle parsing processes have ever had in memory, MiB."""
    peaks = [0]
    for child in sandbox._pool._idle:
        status = Path(f"/proc/{child.process.pid}/status").read_text(encoding="ascii")
        peaks += [int(line.split()[1]) >> 10 for line in status.split("\n") if line.startswith("VmHWM")]
    return max(peaks)


def malformed(number: int) -> _bench.Written:
    """The table, and its figures."""
    chance = random.Random(5)
    programs = valid_programs()
    result: dict[str, Counter[str]] = {format: Counter() for format in TEXT_FORMATS}
    load("QINIT 1", untrusted=True)
    idle = peak = _memory()
    slowest = 0.0
    bad: list[str] = []
    for count in range(number):
        format, text = programs[count % len(programs)]
        text = mutated(text, chance)
        began = time.perf_counter()
        try:
            load(text, format, untrusted=True)
            outcome = "still valid"
        except ProgramError as error:
            outcome = "error with its place" if error.line else "error without a place"
            if not error.line:
                bad.append(f"{format}: {str(error)[:150]}")
        except DescriptionError as error:
            outcome = "error without a place"
            bad.append(f"{format}: {type(error).__name__}: {str(error)[:150]}")
        took = time.perf_counter() - began
        slowest = max(slowest, took)
        if took > 5:
            bad.append(f"{format}: {took:.2f} s")
        result[format][outcome] += 1
        peak = max(peak, _memory())
    columns = ["still valid", "error with its place", "error without a place"]
    print(f"{number} mutated programs, seed 5")
    print(f"{'format':10} " + " ".join(f"{column:>22}" for column in columns))
    for format in TEXT_FORMATS:
        print(f"{format:10} " + " ".join(f"{result[format][column]:22}" for column in columns))
    print(f"slowest {slowest:.2f} s; most memory of a parsing process {peak} MiB, of which {idle} MiB are Qiskit's")
    for each in bad[:20]:
        print(f"BAD      {each}")
    return {
        "mutated": (number, None),
        "slowest_s": (slowest, None),
        "parser_mib": (peak, None),
        "slow_or_without_a_place": (len(bad), _bench.Bar("==", 0)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["circuits", "malformed", "both"], default="both", nargs="?")
    parser.add_argument("--random", type=int, default=200, help="random circuits")
    parser.add_argument("--width", type=int, default=5, help="qubits of mqt-bench's circuits")
    parser.add_argument("--malformed", type=int, default=2000, help="mutated programs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    figures: _bench.Written = {}
    if given.what != "malformed":
        figures |= circuits(given.random, given.width)
    if given.what != "circuits":
        figures |= malformed(given.malformed)
    configuration = {"what": given.what, "random": given.random, "width": given.width, "malformed": given.malformed}
    _bench.report("formats", figures, rows=[], configuration=configuration, file=given.json)


if __name__ == "__main__":
    main()
