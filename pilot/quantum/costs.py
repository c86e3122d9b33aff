"""What a circuit costs to simulate, by each method that could: predicted seconds and bytes.

`facts` looks at a circuit once, `estimate` turns the facts into one `Estimate` a method, `choose` takes the fastest
that fits. The state vector costs 2^n for every circuit; a matrix product state pays for entanglement, which
is bounded here from the circuit's gates alone; the stabilizer tableau is for Clifford circuits.

The bound is a minimum cut for each bond. The circuit is a tensor network: its wires have dimension 2, and a gate on
two qubits is two tensors joined by an index of its operator Schmidt rank. log2 of the state's Schmidt rank across a
bond is at most the capacity of the smallest cut between the qubits' ends on the left and those on the right, with
log2 of the dimensions as capacities (Cui et al., J. Math. Phys. 57, 062206 (2016); for rank and entanglement, Vidal,
Phys. Rev. Lett. 91, 147902 (2003)). A chain of gates that one qubit passes through costs 1, in either direction.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any

import numpy as np
from qiskit.circuit import Gate

from pilot.quantum.deferral import WITHOUT_EFFECT
from pilot.quantum.programs.definitions import opened

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from qiskit import QuantumCircuit
    from qiskit.circuit import CircuitInstruction

#: Gates that a stabilizer tableau follows, by the names that Aer's knows.
CLIFFORD = frozenset({"id", "x", "y", "z", "h", "s", "sdg", "sx", "sxdg", "cx", "cy", "cz", "swap", "ecr", "pauli"})
#: Gates of any size that simulators apply at once.
_WHOLE = frozenset({"unitary", "diagonal", "pauli", "mcx", "mcx_gray", "mcp", "mcphase"})
#: log2 of the operator Schmidt rank: 1 for these, for every partition of their qubits; twice the smaller side for
#: others.
_RANK_TWO = frozenset(  # exp(-i t P⊗Q), or controlled
    """
    cx cy cz ch cp crx cry crz cs csdg csx cu cu1 cu3 ecr rxx ryy rzz rzx ccx ccz mcx mcx_gray mcp mcphase mcz
    mcrx mcry mcrz c3x c4x
    """.split()  # noqa: SIM905 - thirty strings in quotes are no better to read
)
#: Bonds are bounded by minimum cuts from so many qubits on: below, a state vector costs next to nothing.
_CUT_FROM = 12
#: Minimum cuts up to so many (entangling gates × bonds); beyond, by counting the gates across each bond.
_CUT_UP_TO = 200_000
#: Exact probabilities are listed for up to so many measured bits, where they do not lie in memory anyway.
_LISTED = 26

#: Aer applies neighbouring gates on few qubits at once where there are more qubits than this; of so many qubits.
_FUSED_ABOVE, _BLOCK_QUBITS = 14, 5
#: Counts of up to so many measured bits are drawn from their probabilities, others by Aer (`aer.MAX_LISTED_BITS`).
_DRAWN = 14

# Measured with Aer 0.18.2 on one core of a server, double precision, circuits of nine families; noise and many sets of
# values with Aer 0.17.2. `benchmarks/simulation_costs.py` measures again and compares.
_START = 1.1e-3  #: seconds to start a run
_GATE = 2.1e-5  #: seconds a gate of any size: Qiskit's data becomes Aer's
_AMPLITUDE = 2.2e-9  #: seconds a gate and amplitude
_FUSED_GATE = 2.0e-5  #: seconds more for a gate where gates are put together
_FUSED_AMPLITUDE = 6.0e-10  #: seconds a gate and amplitude, there
_BLOCK_AMPLITUDE = 5.7e-9  #: seconds a block of gates and amplitude, there
_SET = 1.0e-4  #: seconds for one of many sets of values, for which a run is started once
_SET_GATE = 2.0e-6  #: the same, a gate
_SHOT = 2.0e-8  #: seconds to draw a shot from probabilities
_SHOT_BIT = 1.0e-7  #: seconds a shot and measured bit, where Aer samples a state vector
_TRAJECTORY = 4.5e-7  #: seconds a gate and shot, where each shot is followed by itself
_TRAJECTORY_AMPLITUDE = 5.8e-9  #: the same, for each amplitude
_DENSITY_ELEMENT = 3.7e-9  #: seconds a gate and element of a density matrix, noise included
_SITE_GATE = 1.3e-4  #: seconds a gate on a matrix product state
_BOND = 2.0e-5  #: seconds more for a two-qubit gate across one bond
_BOND_CUBE = 2.7e-9  #: the same, for each unit of (bond dimension)^3
_SITE = 1.6e-6  #: seconds a shot and qubit, sampling a matrix product state
_SITE_SQUARE = 5.0e-9  #: the same, for each unit of (bond dimension)^2, of which only a bound is known
_TABLEAU_GATE = 1.8e-5  #: seconds a gate
_TABLEAU_SHOT = 7.0e-7  #: seconds a shot
_TABLEAU_SHOT_BIT = 1.3e-8  #: the same, for each qubit and measured bit
_TABLEAU_OUTCOME = 7.5e-7  #: seconds an outcome and measured bit where the probabilities are listed: all may come
# Not measured: from the memory bandwidth of an H200 (4.8 TB/s, 32 bytes moved an amplitude) and a context's start.
_GPU_START = 0.5
_GPU_AMPLITUDE = 1.0e-11


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationFacts:
    """What decides how a circuit is simulated best."""

    #: Qubits that something is done to.
    qubits: int
    #: Gates, all and those on two or more qubits; without barriers, delays and measurements.
    gates: int
    entangling: int
    #: Groups of gates that follow each other, each on at most `_BLOCK_QUBITS` qubits.
    blocks: int
    #: Classical bits that are measured.
    measured: int
    #: Measurements and resets that something follows on their qubit: each takes a fresh qubit when it is deferred.
    midway: int
    #: Gates depend on measured bits, or there are instructions that are no gates: only shot by shot.
    dynamic: bool
    #: Only gates that a stabilizer tableau follows.
    clifford: bool
    #: log2 of the bond dimension is at most this, for each bond between neighbours, first qubit first: at the end, and
    #: for each entangling gate when it comes (bond, log2).
    bonds: tuple[int, ...]
    bond_work: tuple[tuple[int, int], ...]

    @property
    def bond(self) -> int:
        """The largest bond dimension is at most 2 to this power."""
        return max(self.bonds, default=0)


@dataclass(frozen=True, slots=True)
class Estimate:
    """One way to simulate a circuit, and what it takes."""

    #: Aer's name of the method: "statevector", "density_matrix", "matrix_product_state" or "stabilizer".
    method: str
    #: "CPU" or "GPU".
    device: str
    seconds: float
    bytes: float


def facts(circuit: QuantumCircuit, *, bonds: bool = True) -> SimulationFacts:
    """Look at a circuit: time is linear in its gates, with minimum cuts from 12 qubits on (about 1 ms a bond).

    Args:
        circuit: any.
        bonds: look for the bounds of a matrix product state too; without, `estimate` leaves that out.
    """
    used: set[int] = set()
    touched: list[tuple[tuple[int, ...], int]] = []
    clifford, dynamic, gates, midway = True, False, 0, 0
    blocks, block = 0, set[int]()
    measured: set[Any] = set()
    pending: dict[int, int] = {}  # qubit → measurements and resets so far that nothing followed
    for instruction, qubits in _steps(circuit, range(circuit.num_qubits)):
        name = instruction.name
        for qubit in qubits:
            midway += pending.pop(qubit, 0)
        if name == "reset":
            if qubits[0] in used:
                pending[qubits[0]] = 1
            continue
        used.update(qubits)
        if name == "measure":
            measured.update(instruction.clbits)
            pending[qubits[0]] = 1
            continue
        gates += 1
        if not blocks or len(block | set(qubits)) > _BLOCK_QUBITS:
            blocks, block = blocks + 1, set()
        block |= set(qubits)
        clifford = clifford and name in CLIFFORD
        dynamic = dynamic or not (instruction.is_standard_gate() or isinstance(instruction.operation, Gate))
        if len(qubits) > 1:
            touched.append((qubits, 1 if name in _RANK_TWO else 2 * (len(qubits) // 2)))
    order = {qubit: index for index, qubit in enumerate(sorted(used))}
    pairs = [(tuple(sorted(order[qubit] for qubit in qubits)), bits) for qubits, bits in touched]
    limits, work = _bonds(len(order), pairs) if bonds else ((), ())
    return SimulationFacts(
        qubits=len(order),
        gates=gates,
        entangling=len(touched),
        blocks=blocks,
        measured=len(measured),
        midway=midway,
        dynamic=dynamic,
        clifford=clifford,
        bonds=limits,
        bond_work=work,
    )


def counted(qubits: int, gates: int, measured: int = 0) -> SimulationFacts:
    """Facts of a circuit of which nothing else is looked at: what a state vector or a density matrix is predicted from.

    Args:
        qubits: that something is done to.
        gates: how many.
        measured: classical bits.
    """
    return SimulationFacts(
        qubits=qubits,
        gates=gates,
        entangling=0,
        blocks=gates,
        measured=measured,
        midway=0,
        dynamic=False,
        clifford=False,
        bonds=(),
        bond_work=(),
    )


def state_vector_seconds(qubits: int, gates: int, *, sets: bool = False) -> float:
    """What a state vector takes on one core, without measurements.

    Args:
        qubits: of the circuit.
        gates: how many.
        sets: it is one of many sets of values for the circuit's parameters, in one run.
    """
    start, each = (_SET, _SET_GATE) if sets else (_START, _GATE)
    return start + gates * (each + _AMPLITUDE * 2.0**qubits)


def estimate(
    about: SimulationFacts, shots: int | None, *, cores: int = 1, gpus: int = 0, noisy: bool = False
) -> list[Estimate]:
    """What each method that can run the circuit would take.

    Args:
        about: as `facts` gives it.
        shots: samples; None: exact probabilities.
        cores: threads of the simulator. The state vector gains from them above 14 qubits.
        gpus: a GPU is there: the state vector is predicted for it as well (from its memory's bandwidth, not measured).
        noisy: with a noise model: every shot a trajectory of its own, or a density matrix.

    Returns:
        Estimates in no order; never empty. `seconds` is infinite where a method cannot give what is asked.
    """
    fresh = 0 if about.dynamic or noisy else about.midway
    repeats = max(shots or 1, 1) if about.dynamic else 1
    width = about.qubits + fresh
    steps = about.gates + about.measured + fresh
    sampling = (shots or 0) * (_SHOT if about.measured <= _DRAWN else _SHOT_BIT * about.measured)
    never = inf if about.dynamic and shots is None else 0.0  # no exact probabilities
    speed = max(1.0, 0.8 * cores) if width > 14 else 1.0
    if noisy:
        trajectory = _TRAJECTORY + _TRAJECTORY_AMPLITUDE * 2.0**width / speed
        single = inf if shots is None else _START + steps * (_GATE + shots * trajectory)
        matrix = _START + steps * (_GATE + _DENSITY_ELEMENT * 4.0**width / speed * repeats) + sampling
        return [
            Estimate("statevector", "CPU", single, 16 * 2.0**width),
            Estimate("density_matrix", "CPU", never + matrix, 16 * 4.0**width),
        ]
    start = never + _START + steps * _GATE + sampling + (repeats * steps * _TRAJECTORY if repeats > 1 else 0.0)
    amplitudes = repeats * steps * 2.0**width
    passes = steps * _AMPLITUDE
    if width > _FUSED_ABOVE:
        start += steps * _FUSED_GATE
        passes = min(passes, steps * _FUSED_AMPLITUDE + about.blocks * _BLOCK_AMPLITUDE)
    vector = start + repeats * passes * 2.0**width / speed
    found = [Estimate("statevector", "CPU", vector, 16 * 2.0**width)]
    if gpus:
        on_gpu = start + _GPU_START + amplitudes * _GPU_AMPLITUDE
        found.append(Estimate("statevector", "GPU", on_gpu, 16 * 2.0**width))
    if about.bonds:
        found.append(_product_state(about, shots, fresh, repeats, never))
    if about.clifford:
        tableau = _START + steps * _TABLEAU_GATE * (repeats if about.dynamic or fresh else 1)
        tableau += (shots or 0) * (_TABLEAU_SHOT + _TABLEAU_SHOT_BIT * width * about.measured)
        if shots is None:
            tableau += _TABLEAU_OUTCOME * about.measured * 2.0 ** min(about.measured, 60)
        tableau += never if shots is not None or about.measured <= _LISTED else inf
        found.append(Estimate("stabilizer", "CPU", tableau, width * width / 2))
    return found


def choose(estimates: Iterable[Estimate], memory: float = inf) -> Estimate | None:
    """The fastest of those that need at most ``memory`` bytes; the state vector where another is not a quarter faster,
    as its time is the surest. None: none fits."""
    fitting = [estimate for estimate in estimates if estimate.bytes <= memory and estimate.seconds < inf]
    if not fitting:
        return None
    best = min(fitting, key=lambda estimate: estimate.seconds)
    for estimate in fitting:
        if (estimate.method, estimate.device) == ("statevector", "CPU") and estimate.seconds * 0.75 <= best.seconds:
            return estimate
    return best


def machine_memory() -> int:
    """Bytes of main memory of this machine, without regard to other users."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _product_state(about: SimulationFacts, shots: int | None, fresh: int, repeats: int, never: float) -> Estimate:
    """A matrix product state: gates by the bonds they cross, shots by all bonds. A fresh qubit adds a bit to a bond."""
    dimensions = np.exp2(np.minimum(np.array(about.bonds, dtype=float) + min(fresh, 30), 60.0))
    work = np.exp2(np.array([log for _, log in about.bond_work], dtype=float) + min(fresh, 30))
    run = about.gates * _SITE_GATE + len(work) * _BOND + _BOND_CUBE * float((work**3).sum())
    sites = _SITE * (about.qubits + fresh) + _SITE_SQUARE * float((dimensions**2).sum())
    if shots is None and about.measured > _LISTED:
        never = inf
    sampling = sites * (shots if shots is not None else 2.0 ** min(about.measured, 60))
    size = 32 * float((dimensions**2).sum() + about.qubits)
    return Estimate("matrix_product_state", "CPU", never + _START + repeats * run + sampling, size)


def _steps(circuit: QuantumCircuit, places: Sequence[int]) -> Iterator[tuple[CircuitInstruction, tuple[int, ...]]]:
    """The instructions that do something, and their qubits; gates of the user's own as what they are made of."""
    place = {qubit: places[index] for index, qubit in enumerate(circuit.qubits)}
    for instruction in circuit.data:
        if instruction.name in WITHOUT_EFFECT:
            continue
        qubits = tuple(place[qubit] for qubit in instruction.qubits)
        made_of = None
        if not (instruction.is_standard_gate() or instruction.name in _WHOLE or instruction.clbits):
            operation = instruction.operation
            made_of = opened(operation) if isinstance(operation, Gate) else None
        if made_of is None:
            yield instruction, qubits
        else:
            yield from _steps(made_of, qubits)


def _bonds(
    qubits: int, pairs: Sequence[tuple[tuple[int, ...], int]]
) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
    """The bound for each bond at the end, and (bond, bound) for each gate across it when it comes."""
    if qubits < 2:
        return (), ()
    limits = [min(bond + 1, qubits - bond - 1) for bond in range(qubits - 1)]
    crossing = [0] * (qubits - 1)
    for places, bits in pairs:
        for bond in range(places[0], places[-1]):
            crossing[bond] += bits
    bonds = [min(limit, count) for limit, count in zip(limits, crossing, strict=True)]
    if qubits >= _CUT_FROM and len(pairs) * qubits <= _CUT_UP_TO and max(bonds) > 1:
        bonds = [min(bond, cut) for bond, cut in zip(bonds, _minimum_cuts(qubits, pairs, bonds), strict=True)]
    grown = [0] * (qubits - 1)
    work: list[tuple[int, int]] = []
    for places, bits in pairs:
        for bond in range(places[0], places[-1]):
            grown[bond] = min(grown[bond] + bits, bonds[bond])
            work.append((bond, grown[bond]))
    return tuple(bonds), tuple(work)


def _minimum_cuts(qubits: int, pairs: Sequence[tuple[tuple[int, ...], int]], bonds: Sequence[int]) -> list[int]:
    """The minimum cut for each bond (see the module's docstring); where counting gave at most 1 already, that."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import maximum_flow

    edges: list[tuple[int, int, int]] = []  # (node, node, capacity); each gate has a node for each of its qubits
    last: list[int | None] = [None] * qubits
    node = 2  # 0 and 1: the ends on the left and on the right
    for places, bits in pairs:
        for step, place in enumerate(places):
            if step:
                edges.append((node - 1, node, bits))
            if (before := last[place]) is not None:
                edges.append((before, node, 1))
            last[place] = node
            node += 1
    ends = [(place, end) for place, end in enumerate(last) if end is not None]
    rows, columns, capacities = (np.array(part, dtype=np.int32) for part in zip(*edges, strict=True))
    owners, wires = (np.array(part, dtype=np.int32) for part in zip(*ends, strict=True))
    ones = np.ones(len(ends), dtype=np.int32)
    found = []
    for bond, bound in enumerate(bonds):
        if bound <= 1:
            found.append(bound)
            continue
        left = owners <= bond
        starts = np.concatenate([rows, columns, np.where(left, 0, wires)])
        stops = np.concatenate([columns, rows, np.where(left, wires, 1)])
        graph = coo_array((np.concatenate([capacities, capacities, ones]), (starts, stops)), shape=(node, node))
        found.append(int(maximum_flow(graph.tocsr(), 0, 1).flow_value))
    return found
