"""Where to cut a circuit, and everything that has to run for its expectation values."""

from __future__ import annotations

import math
from concurrent.futures import FIRST_EXCEPTION, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from qiskit import QuantumCircuit, generate_preset_pass_manager
from qiskit.circuit import Qubit
from qiskit.exceptions import QiskitError
from qiskit.quantum_info import PauliList
from qiskit_addon_cutting import find_cuts, partition_problem
from qiskit_addon_cutting.automated_cut_finding import DeviceConstraints, OptimizationParameters
from qiskit_addon_cutting.instructions import CutWire, Move
from qiskit_addon_cutting.qpd import TwoQubitQPDGate, WeightType, generate_qpd_weights

from pilot.errors import DescriptionError
from pilot.quantum.circuits import pack, run_circuits
from pilot.quantum.cutting.fragments import Fragment
from pilot.quantum.cutting.reconstruction import CutResult, Decomposition, reconstruct

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Future

    from numpy.typing import NDArray
    from qiskit_addon_cutting.qpd import QPDBasis

    from pilot.quantum.outcomes import Outcomes

    #: How subexperiments are handed out: like `PilotManager.map`, one task for each element of the sequences.
    Submit = Callable[..., "list[Future[list[Outcomes]]]"]

#: More terms than this are a mistake: `num_samples` keeps them down.
MAX_TERMS = 1_000_000
#: Steps back that the search for cuts may take: a tenth of a second for the 34-qubit circuit; ten thousand
#: find nothing better in two seconds.
_BACKJUMPS = 100
#: Gates that the search and the decompositions know, on two qubits at most.
_KNOWN_GATES = (  # noqa: SIM905 - forty strings in quotes are no better to read
    "x y z h s sdg t tdg sx sxdg p r rx ry rz u u1 u2 u3 id "
    "cx cy cz ch cp crx cry crz cs csdg csx dcx ecr iswap rxx ryy rzz swap"
).split()
_MARKED_CUTS = frozenset({"cut_wire", "qpd_2q"})


class Mapper(Protocol):
    """What runs a plan: `PilotManager`, or anything else whose `map` gives futures."""

    def map(self, fn: Callable[..., list[Outcomes]], /, *iterables: Sequence[object]) -> list[Future[list[Outcomes]]]:
        """Call `fn` on each set of arguments, somewhere."""
        ...


@dataclass(frozen=True, kw_only=True)
class Cut:
    """One cut: of a gate between two qubits, or of a wire."""

    kind: Literal["gate", "wire"]
    #: The name of the cut gate; `wire` for a wire.
    name: str
    #: The qubits of the whole circuit that it is at.
    qubits: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class CutPlan:
    """Where a circuit is cut, what has to run, and how the results add up."""

    #: Pauli strings on the whole circuit, qubit 0 rightmost.
    observables: tuple[str, ...]
    cuts: tuple[Cut, ...]
    #: How many times the shots of the whole circuit are needed for the same error: the product of the cuts'
    #: gamma².
    overhead: float
    fragments: tuple[Fragment, ...]
    decomposition: Decomposition
    #: `(n_observables,)`: what the qubits without any gate contribute, 1 or 0.
    idle_factors: NDArray[np.float64]

    @property
    def num_terms(self) -> int:
        """How many products of fragments the value is a sum of."""
        return len(self.decomposition.coefficients)

    @property
    def num_subexperiments(self) -> int:
        """How many circuits there are if each term's are counted, as in the literature."""
        return self.num_terms * sum(len(fragment.groups) for fragment in self.fragments)

    @property
    def num_distinct(self) -> int:
        """How many of them differ: this many run."""
        return sum(fragment.num_experiments for fragment in self.fragments)

    def experiments(self) -> Iterator[QuantumCircuit]:
        """The distinct subexperiments, fragment by fragment."""
        for fragment in self.fragments:
            yield from fragment.experiments()

    def submit(
        self, submit: Submit, *, shots: int | None = 4096, seed: int | None = None
    ) -> list[Future[list[Outcomes]]]:
        """Hand out the distinct subexperiments, a task each; `combine` takes their results in this order.

        Args:
            submit: called once, like `PilotManager.map`: a function and the sequences of its arguments.
            shots: samples of each subexperiment; None computes the outcomes' probabilities instead.
            seed: of the shots.
        """
        if shots is not None and shots < 2:
            raise DescriptionError(f"shots: {shots} given, at least 2 allowed (one says nothing about the error)")
        payloads = [pack(experiment) for experiment in self.experiments()]
        seeds = np.random.SeedSequence(seed).generate_state(len(payloads)) >> 1  # Aer takes 31 bits
        return submit(run_circuits, payloads, [shots] * len(payloads), [(int(seed),) for seed in seeds])

    def combine(self, results: Sequence[list[Outcomes]]) -> CutResult:
        """The values from the results of all distinct subexperiments, in the order of `experiments()`."""
        remaining = iter(results)
        means, variances = [], []
        for fragment in self.fragments:
            mean, variance = fragment.means([next(remaining)[0] for _ in range(fragment.num_experiments)])
            means.append(mean)
            variances.append(variance)
        means[0] = means[0] * self.idle_factors
        variances[0] = variances[0] * self.idle_factors
        return reconstruct(self.decomposition, means, variances)

    def run(self, manager: Mapper, *, shots: int | None = 4096, seed: int | None = None) -> CutResult:
        """Run the plan on all of the manager's pilots and wait for the values.

        Raises:
            Exception: the error of the first subexperiment that failed; those not yet run are cancelled.
                There is no value from a part of them.
        """
        return self.combine(gather(self.submit(manager.map, shots=shots, seed=seed)))


def gather(futures: Sequence[Future[list[Outcomes]]]) -> list[list[Outcomes]]:
    """Wait for all results; the first failure cancels what has not run and is raised."""
    done, pending = wait(futures, return_when=FIRST_EXCEPTION)
    for future in pending:
        future.cancel()
    for future in done:
        future.result()
    return [future.result() for future in futures]


def plan(
    circuit: QuantumCircuit,
    observables: str | Sequence[str] | PauliList,
    max_qubits: int,
    *,
    num_samples: int | None = None,
    wires: bool = True,
    seed: int = 111,
) -> CutPlan:
    """Cut `circuit` into pieces of at most `max_qubits` qubits, for the expectation values of `observables`.

    Args:
        circuit: gates without free parameters. Barriers and measurements at the end are left out. Where it
            already holds cuts of the add-on (`CutWire`, `TwoQubitQPDGate`), exactly those are made.
        observables: Pauli strings, qubit 0 rightmost, or a `PauliList` without phases.
        max_qubits: the widest piece.
        num_samples: draw this many of the decomposition's terms instead of taking all, for more error and
            less work. Terms more probable than one in `num_samples` are taken exactly.
        wires: look for cuts of wires too. Cuts of gates alone are looked for first, and kept unless wires
            cost less.
        seed: of the search's order and of the drawn terms.

    Raises:
        DescriptionError: the circuit, an observable or a number is not as above, or there would be too many
        terms.
    """
    if max_qubits < 1:
        raise DescriptionError(f"max_qubits: {max_qubits} given, at least 1 allowed")
    if num_samples is not None and num_samples < 1:
        raise DescriptionError(f"num_samples: {num_samples} given, at least 1 allowed, or None for all terms")
    paulis = _paulis(observables, circuit.num_qubits)
    cut, final_wires, cuts = _with_wires_moved(_with_cuts(_gates_alone(circuit), max_qubits, wires=wires, seed=seed))
    problem = partition_problem(cut, observables=_on_wires(paulis, final_wires, cut.num_qubits))
    _check_widths(problem.subcircuits, max_qubits)
    terms, coefficients, draws = _terms(problem.bases, num_samples, seed)
    labels = sorted(problem.subcircuits)
    fragments = tuple(
        Fragment.build(problem.subcircuits[label], problem.subobservables[label], terms) for label in labels
    )
    return CutPlan(
        observables=tuple(paulis.to_labels()),
        cuts=cuts,
        overhead=math.prod(float(basis.overhead) for basis in problem.bases),
        fragments=fragments,
        decomposition=Decomposition(
            coefficients=coefficients,
            draws=draws,
            choices=tuple(fragment.choice_of_term for fragment in fragments),
        ),
        idle_factors=_idle_factors(problem.subobservables.get(None), len(paulis)),
    )


def _paulis(observables: str | Sequence[str] | PauliList, num_qubits: int) -> PauliList:
    given = [observables] if isinstance(observables, str) else observables
    try:
        paulis = given if isinstance(given, PauliList) else PauliList(list(given))
    except (QiskitError, ValueError) as error:
        raise DescriptionError(
            f"observables: {observables!r} given; each is a string of I, X, Y and Z, one letter a qubit, qubit 0 last"
        ) from error
    if paulis.num_qubits != num_qubits:
        raise DescriptionError(
            f"observables: they have {paulis.num_qubits} letters, the circuit has {num_qubits} qubits; "
            "give one letter a qubit, qubit 0 last"
        )
    if paulis.phase.any():
        raise DescriptionError("observables: one has a sign or phase; give it without and put the factor on the value")
    return paulis


def _gates_alone(circuit: QuantumCircuit) -> QuantumCircuit:
    """The circuit as gates on one or two qubits."""
    if circuit.parameters:
        names = sorted(parameter.name for parameter in circuit.parameters)
        raise DescriptionError(f"circuit: parameters {names} have no values; assign them first, `assign_parameters`")
    gates = circuit.remove_final_measurements(inplace=False)
    unsuitable = {entry.operation.name for entry in gates.data if entry.clbits or entry.operation.name == "reset"}
    if unsuitable:
        raise DescriptionError(
            f"circuit: {sorted(unsuitable)} in the middle of it cannot be cut; "
            "give a circuit of gates, measured at its end"
        )
    bare = QuantumCircuit(gates.qubits)
    for entry in gates.data:
        if entry.operation.name != "barrier":
            bare._append(entry)
    if set(bare.count_ops()) - {*_KNOWN_GATES, *_MARKED_CUTS}:
        rewrite = generate_preset_pass_manager(optimization_level=0, basis_gates=_KNOWN_GATES)
        try:
            bare = rewrite.run(bare)
        except QiskitError as error:
            raise DescriptionError(f"circuit: it cannot be written in gates on one or two qubits: {error}") from error
    return bare


def _with_cuts(circuit: QuantumCircuit, max_qubits: int, *, wires: bool, seed: int) -> QuantumCircuit:
    """The circuit with marked cuts: its own if it has some, else the cheapest that the search finds."""
    if circuit.num_qubits <= max_qubits or _MARKED_CUTS.intersection(circuit.count_ops()):
        return circuit
    found = []
    for wire_cuts in (False, True) if wires else (False,):
        search = OptimizationParameters(seed=seed, wire_lo=wire_cuts, max_gamma=math.inf, max_backjumps=_BACKJUMPS)
        found.append(find_cuts(circuit, search, DeviceConstraints(max_qubits)))
    cheapest: QuantumCircuit = min(found, key=lambda result: float(result[1]["sampling_overhead"]))[0]
    return cheapest


def _with_wires_moved(circuit: QuantumCircuit) -> tuple[QuantumCircuit, list[int], tuple[Cut, ...]]:
    """Each cut of a wire as a move onto a qubit of its own.

    The add-on's `cut_wires` is not used: it loses count when the cuts of one wire alternate with those of
    another.

    Returns:
        The circuit on more qubits; the qubit on which each wire ends; all cuts in order.
    """
    moved = QuantumCircuit(circuit.qubits)
    wire = list(range(circuit.num_qubits))
    cuts = []
    for entry in circuit.data:
        places = tuple(circuit.find_bit(qubit).index for qubit in entry.qubits)
        if isinstance(entry.operation, CutWire):
            (place,) = places
            moved.add_bits([Qubit()])
            target = moved.num_qubits - 1
            moved.append(TwoQubitQPDGate.from_instruction(Move()), [wire[place], target])
            wire[place] = target
            cuts.append(Cut(kind="wire", name="wire", qubits=places))
            continue
        if isinstance(entry.operation, TwoQubitQPDGate):
            cuts.append(Cut(kind="gate", name=entry.operation.label.removeprefix("cut_"), qubits=places))
        moved.append(entry.operation, [wire[place] for place in places])
    return moved, wire, tuple(cuts)


def _on_wires(paulis: PauliList, final_wires: list[int], num_qubits: int) -> PauliList:
    """The observables on the qubits where their wires end."""
    z, x = (np.zeros((len(paulis), num_qubits), dtype=bool) for _ in "zx")
    z[:, final_wires], x[:, final_wires] = paulis.z, paulis.x
    return PauliList.from_symplectic(z, x)


def _check_widths(pieces: dict[int, QuantumCircuit], max_qubits: int) -> None:
    if not pieces:
        raise DescriptionError("circuit: it has no gates")
    widest = max(piece.num_qubits for piece in pieces.values())
    if widest > max_qubits:
        raise DescriptionError(
            f"max_qubits: {max_qubits} given, but the cuts leave a piece of {widest} qubits; "
            "allow more qubits, or leave the cuts out of the circuit for them to be found"
        )


def _terms(
    bases: Sequence[QPDBasis], num_samples: int | None, seed: int
) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.int64]]:
    """The decomposition's terms (the map of each cut, `(n_terms, n_cuts)`), coefficients, and draws.

    Weights are the add-on's, as is what it makes of them: the exact ones above `1 / num_samples`, a sample of
    the rest; the coefficient is the weight's share times the product of all kappa, with the sign of the exact
    coefficient.
    """
    number = math.prod(len(basis.coeffs) for basis in bases)
    if num_samples is None and number > MAX_TERMS:
        raise DescriptionError(
            f"num_samples: the {len(bases)} cuts have {number:,} terms, too many to take all; "
            "say how many to sample, 1000 for example, or allow wider pieces (max_qubits)"
        )
    state = np.random.get_state()
    np.random.seed(seed % 2**32)
    try:
        weights = generate_qpd_weights(bases, math.inf if num_samples is None else num_samples)
    finally:
        np.random.set_state(state)
    terms = np.array(list(weights), dtype=np.intp).reshape(len(weights), len(bases))
    redundancy = np.array([weight for weight, _ in weights.values()])
    kappa = math.prod(float(basis.kappa) for basis in bases)
    signs = np.ones(len(terms))
    for cut, basis in enumerate(bases):
        signs *= np.sign(np.asarray(basis.coeffs, dtype=float))[terms[:, cut]]
    sampled = np.array([kind is WeightType.SAMPLED for _, kind in weights.values()])
    return terms, redundancy / redundancy.sum() * kappa * signs, _draws(np.where(sampled, redundancy, 0.0))


def _draws(redundancy: NDArray[np.float64]) -> NDArray[np.int64]:
    """How often each term was drawn: the add-on draws as often as the weight to sample, rounded up."""
    total = redundancy.sum()
    if not total:
        return np.zeros(len(redundancy), dtype=np.int64)
    draws: NDArray[np.int64] = np.rint(redundancy * (math.ceil(total - 1e-6) / total)).astype(np.int64)
    return draws


def _idle_factors(paulis: PauliList | None, number: int) -> NDArray[np.float64]:
    """Qubits without gates stay in the state 0: Z is 1 there, X and Y are 0."""
    if paulis is None:
        return np.ones(number)
    return np.asarray(~paulis.x.any(axis=1), dtype=np.float64)
