"""Gates and depth of the largest piece, beside those of the whole circuit: figure 8 of QOS. Workers run it."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec
from qiskit import generate_preset_pass_manager

from pilot.qos.asking import ask
from pilot.qos.families import circuit
from pilot.qos.mitigator import Context, Goal, QosOptions, Variant
from pilot.qos.mitigator.stages.cutting import Cutting
from pilot.qos.mitigator.stages.freezing import Freezing
from pilot.quantum.targets import target_of
from pilot_miniapps.qos_mitigator.cases import problem_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from qiskit import QuantumCircuit
    from qiskit.transpiler import PassManager

#: Qiskit's optimization level, on both sides.
LEVEL = 3


class Static(msgspec.Struct, frozen=True):
    """One circuit, and its pieces.

    Attributes:
        family: of the circuit.
        qubits: of the circuit.
        cx: gates between qubits.
        depth: of the compiled circuit.
        largest_cx: of the piece with most of them.
        largest_depth: of the piece with the greatest depth.
        cutting_cx: as `largest_cx` where nothing is frozen.
        cutting_depth: as `largest_depth` where nothing is frozen.
        freezing_cx: as `largest_cx` where nothing is cut.
        freezing_depth: as `largest_depth` where nothing is cut.
        executed_cx: as `largest_cx`, of the circuits that run for the pieces: operations at the cuts included.
        executed_depth: as `largest_depth`, of these circuits.
        cx_sum: of all circuits that run.
        circuits: that run.
        overhead: of the shots.
        name: what was done.
    """

    family: str
    qubits: int
    cx: int
    depth: int
    largest_cx: int
    largest_depth: int
    cutting_cx: int
    cutting_depth: int
    freezing_cx: int
    freezing_depth: int
    executed_cx: int
    executed_depth: int
    cx_sum: int
    circuits: int
    overhead: float
    name: str


def static(snapshot: str, family: str, qubits: int, seed: int, budget: int, seeds: int, overhead: float) -> Static:
    """One circuit.

    Args:
        snapshot: of the device.
        family: of the circuit.
        qubits: of the circuit.
        seed: of the circuit.
        budget: frozen qubits and cuts.
        seeds: each circuit and each piece is compiled so often, and the result with the fewest gates is taken.
        overhead: of the shots, at most.
    """
    made = circuit(family, qubits, seed)
    objective = problem_of(family, made)
    options = QosOptions(budget=budget, max_overhead=overhead, max_circuits=10**6, objective=objective)
    info = ask(f"fake:{snapshot}")
    context = Context(goal=Goal.of(made, (), options), options=options, info=info, shots=1)
    base = context.goal.base()
    frozen = list(Freezing().variants(base, context))
    whole = _largest(snapshot, base, seeds)
    cut = [(one, _largest(snapshot, one, seeds)) for one in (base, *_cut([base], context))]
    alone = [(one, _largest(snapshot, one, seeds)) for one in (base, *frozen)]
    both = [(one, _largest(snapshot, one, seeds)) for one in _cut(frozen, context)]
    best, sizes = min([*cut, *alone, *both], key=lambda pair: pair[1][:2])
    only_cut, only_frozen = (min(its, key=lambda pair: pair[1][:2])[1] for its in (cut, alone))
    return Static(
        *(family, qubits, whole[0], whole[1], sizes[0], sizes[1], only_cut[0], only_cut[1]),
        *(only_frozen[0], only_frozen[1], *sizes[2:], len(best.circuits), best.overhead, best.name),
    )


def _cut(variants: Sequence[Variant], context: Context) -> Iterator[Variant]:
    for variant in variants:
        yield from (one for one in Cutting().variants(variant, context) if one.spent <= context.options.budget)


def _largest(snapshot: str, variant: Variant, seeds: int) -> tuple[int, int, int, int, int]:
    """Most gates between qubits and greatest depth of a piece; the same of the circuits that run; gates of all of them.

    Of each group of circuits the one with fewest operations is the piece, with next to nothing at its cuts, and the one
    with most stands for all that run.
    """
    groups: dict[int, list[QuantumCircuit]] = {}
    for made, group in zip(variant.circuits, variant.groups, strict=True):
        groups.setdefault(group, []).append(made)
    pieces = [_best(snapshot, min(its, key=lambda one: len(one.data)), seeds) for its in groups.values()]
    executed = [_best(snapshot, max(its, key=lambda one: len(one.data)), seeds) for its in groups.values()]
    return (
        max(size[0] for size in pieces),
        max(size[1] for size in pieces),
        max(size[0] for size in executed),
        max(size[1] for size in executed),
        sum(size[0] * len(its) for size, its in zip(executed, groups.values(), strict=True)),
    )


def _best(snapshot: str, made: QuantumCircuit, seeds: int) -> tuple[int, int]:
    """Gates between qubits and depth of the best of several compilations."""
    return min(_size(one.run(made)) for one in _managers(snapshot, seeds))


def _size(compiled: QuantumCircuit) -> tuple[int, int]:
    pairs = sum(len(entry.qubits) == 2 and entry.name != "barrier" for entry in compiled.data)
    return pairs, compiled.depth()


@lru_cache(maxsize=2)
def _managers(snapshot: str, seeds: int) -> list[PassManager]:
    target = target_of(ask(f"fake:{snapshot}"))
    return [generate_preset_pass_manager(LEVEL, target=target, seed_transpiler=seed) for seed in range(seeds)]


def successes(qubits: int, budget: int) -> tuple[float, float]:
    """The probability that nothing goes wrong in the VQE circuit of so many qubits on a line with gate errors of 1e-4
    (one qubit) and 1e-3 (two) and readout errors of 1e-2, cut so often into pieces of the same size: of all pieces
    together, and of the largest alone (figure 10b of QOS). A cut of a CX puts a gate on each of its qubits."""
    pieces = budget + 1
    largest = -(-qubits // pieces)
    whole = _success(qubits, qubits - 1 - budget, 2 * budget)
    return whole, _success(largest, largest - 1, min(2, budget))


def _success(qubits: int, pairs: int, more: int) -> float:
    return float((1 - 1e-4) ** (2 * qubits + more) * (1 - 1e-3) ** pairs * (1 - 1e-2) ** qubits)
