"""Where to cut a circuit: a search over the sizes of pieces, within limits."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from qiskit.quantum_info import PauliList

from pilot.errors import DescriptionError, invalid
from pilot.quantum.cutting.costs import predict
from pilot.quantum.cutting.cut_plan import CutPlan
from pilot.quantum.cutting.cuts import gates_alone, is_marked, take_apart, with_cuts
from pilot.quantum.cutting.decomposition import Decomposition, terms_of
from pilot.quantum.cutting.distributions import Readout
from pilot.quantum.cutting.fragments import Fragment
from pilot.quantum.cutting.results import CutCandidate, Prediction
from pilot.quantum.expectation import distinct_terms
from pilot.quantum.observables import operators
from pilot.quantum.outcomes import is_whole
from pilot.quantum.programs.gate_names import truly_named

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray
    from qiskit import QuantumCircuit

#: A width that no piece has.
_ANY = 1 << 30
#: How many further sizes are tried to say what would keep to the limits.
_HINTS = 4


def plan(
    circuit: QuantumCircuit,
    observables: Any = None,
    max_qubits: int | Sequence[int] | None = None,
    *,
    distribution: bool | None = None,
    num_samples: int | None = None,
    wires: bool = True,
    max_overhead: float | None = None,
    max_subexperiments: int | None = None,
    predict: Callable[[CutPlan], Prediction] = predict,
    seed: int = 111,
) -> CutPlan:
    """Cut `circuit` into pieces, for the expectation values of `observables`, its distribution, or both.

    Not to cut is a possible answer: a plan without cuts, and its `reason` says why.

    Args:
        circuit: gates without free parameters. Barriers are left out, and measurements at the end say which
            distribution is wanted. Where it already holds cuts of the add-on (`CutWire`, `TwoQubitQPDGate`),
            exactly those are made.
        observables: one or several, in any form that a circuit task takes (`pilot.quantum.observables.operators`):
            Pauli strings, mappings, lists of pairs, Qiskit's operators. Each gives one value with its error.
        max_qubits: the widest piece. Of several sizes, such as `range(8, 18)`, the one is taken that is
            predicted to be done first. Sizes that hold the whole circuit stand for running it whole. None:
            any width, so only marked cuts are made.
        distribution: the distribution of the circuit's own measurements is wanted, with its own registers and
            bit order; of all qubits if it has none. Default: if `observables` is None.
        num_samples: draw this many of the decomposition's terms instead of taking all, for more error and
            less work. Terms more probable than one in `num_samples` are taken exactly.
        wires: look for cuts of wires too. Cuts of gates alone are looked for first, and kept unless wires
            cost less.
        max_overhead: how many times the shots of the whole circuit the same error may need, at most.
        max_subexperiments: how many distinct circuits may have to run, at most.
        predict: what a plan takes; `Predictor.predict` knows the pilots.
        seed: of the search's order and of the drawn terms.

    Raises:
        DescriptionError: the circuit, an observable or a number is not as above, there would be too many
            terms, or no size keeps to the limits; the message says what would.
    """
    sizes = _sizes(max_qubits)
    _check(num_samples, max_overhead, max_subexperiments)
    maker = _Maker(circuit, observables, distribution, num_samples, wires=wires, seed=seed)
    found: list[tuple[CutCandidate, CutPlan | None]] = []
    for size in maker.sizes(sizes):
        try:
            made = maker.make(size)
        except DescriptionError as error:
            if len(sizes) == 1:
                raise
            found.append((_impossible(size, str(error)), None))
            continue
        found.append((_candidate(made, size, predict(made), max_overhead, max_subexperiments), made))
    candidates = tuple(candidate for candidate, _ in found)
    possible = [(candidate, made) for candidate, made in found if not candidate.rejected and made is not None]
    if not possible:
        raise DescriptionError(_what_would_do(maker, candidates, max_overhead, max_subexperiments))
    best, chosen = min(possible, key=lambda pair: (pair[0].prediction.seconds, pair[0].cuts))
    if math.isinf(best.prediction.seconds):
        raise DescriptionError(
            "max_qubits: no size can run: "
            + "; ".join(map(str, candidates))
            + "; allow narrower pieces, or more memory"
        )
    return replace(
        chosen,
        reason=_reason(maker, chosen, best, candidates),
        prediction=best.prediction,
        candidates=candidates,
    )


class _Maker:
    """Makes the plan of one circuit for any size of pieces."""

    def __init__(
        self,
        circuit: QuantumCircuit,
        observables: Any,
        distribution: bool | None,
        num_samples: int | None,
        *,
        wires: bool,
        seed: int,
    ) -> None:
        self.num_samples, self.wires, self.seed = num_samples, wires, seed
        wanted = observables is None if distribution is None else distribution
        self._take(observables, circuit.num_qubits, wanted)
        circuit = truly_named(circuit)
        self.gates = gates_alone(circuit)
        self.readout = Readout.of(circuit) if wanted else None
        self.marked = is_marked(self.gates)

    def _take(self, observables: Any, width: int, distribution: bool) -> None:
        """The terms that are measured, and what each observable has of them."""
        if observables is None and not distribution:
            raise DescriptionError("observables: none given, and distribution=False; ask for at least one of them")
        self.coefficients: NDArray[np.float64] = np.zeros((0, 0))
        self.constants: NDArray[np.float64] = np.zeros(0)
        codes: NDArray[np.int8] = np.zeros((0, width), dtype=np.int8)
        if observables is not None:
            codes, self.coefficients, self.constants = distinct_terms(operators(observables, width), width)
        if not len(codes) and not distribution:  # multiples of the identity; a fragment measures something
            codes = np.zeros((1, width), dtype=np.int8)
            self.coefficients = np.zeros((len(self.constants), 1))
        self.paulis = PauliList.from_symplectic(codes >> 1 == 1, codes & 1 == 1)

    def sizes(self, wanted: Sequence[int]) -> Iterator[int]:
        """The sizes that give different plans, the widest first."""
        if self.marked:
            yield max(wanted)
            return
        whole = False
        for size in sorted(set(wanted), reverse=True):
            if size < self.gates.num_qubits or not whole:
                yield size
            whole = whole or size >= self.gates.num_qubits

    def make(self, size: int) -> CutPlan:
        """The plan for pieces of at most `size` qubits."""
        cut = self.marked or size >= self.gates.num_qubits
        marked = self.gates if cut else with_cuts(self.gates, size, wires=self.wires, seed=self.seed)
        pieces = take_apart(marked, self._all_paulis())
        if pieces.width > size:
            raise DescriptionError(
                f"max_qubits: {size} given, but the cuts leave a piece of {pieces.width} qubits; "
                "allow more qubits, or leave the cuts out of the circuit for them to be found"
            )
        terms, coefficients, draws = terms_of(pieces.bases, self.num_samples, self.seed)
        fragments = tuple(
            Fragment.build(piece, observables, terms, distribution=self.readout is not None)
            for piece, observables in zip(pieces.circuits, pieces.observables, strict=True)
        )
        return CutPlan(
            paulis=tuple(self.paulis.to_labels()) if len(self.paulis) else (),
            coefficients=self.coefficients * _idle_factors(pieces.idle_observables, len(self.paulis)),
            constants=self.constants,
            cuts=pieces.cuts,
            overhead=math.prod(float(basis.overhead) for basis in pieces.bases),
            fragments=fragments,
            decomposition=Decomposition(
                coefficients=coefficients,
                draws=draws,
                choices=tuple(fragment.choice_of_term for fragment in fragments),
            ),
            readout=self.readout,
            places=self._places(pieces.places) if self.readout else (),
        )

    def _all_paulis(self) -> PauliList:
        """The observables; then, for the distribution, Z on all measured qubits."""
        if self.readout is None:
            return self.paulis
        z = np.zeros((1, self.gates.num_qubits), dtype=bool)
        z[0, list(self.readout.qubits)] = True
        return PauliList.from_symplectic(
            np.concatenate([self.paulis.z, z]), np.concatenate([self.paulis.x, np.zeros_like(z)])
        )

    def _places(self, places: Sequence[tuple[int, int] | None]) -> tuple[tuple[int, int] | None, ...]:
        """For each qubit its fragment and its place among that one's measured qubits, which are in order."""
        assert self.readout is not None
        measured = sorted(place for qubit in self.readout.qubits if (place := places[qubit]) is not None)
        column: dict[tuple[int, int], int] = {}
        for fragment, _ in measured:
            its = [place for place in measured if place[0] == fragment]
            column.update((place, number) for number, place in enumerate(its))
        return tuple((place[0], column[place]) if place is not None and place in column else None for place in places)


def _sizes(max_qubits: int | Sequence[int] | None) -> list[int]:
    # a cut wire goes on on a qubit of its own, so pieces may have more qubits than the circuit
    given: Any = [_ANY] if max_qubits is None else max_qubits
    several = isinstance(given, Iterable) and not isinstance(given, str)
    sizes = list(given) if several else [given]
    if not sizes or not all(is_whole(size) for size in sizes):
        raise invalid("max_qubits", max_qubits, "a whole number of at least 1, or several of them")
    return [int(size) for size in sizes]


def _check(num_samples: int | None, max_overhead: float | None, max_subexperiments: int | None) -> None:
    if num_samples is not None and not is_whole(num_samples):
        raise invalid("num_samples", num_samples, "at least 1, or None for all terms")
    if max_overhead is not None and not (_is_number(max_overhead) and max_overhead >= 1):
        raise invalid("max_overhead", max_overhead, "at least 1 (1: no cuts)")
    if max_subexperiments is not None and not is_whole(max_subexperiments):
        raise invalid("max_subexperiments", max_subexperiments, "at least 1")


def _is_number(given: object) -> bool:
    return isinstance(given, Real) and not isinstance(given, bool | np.bool_)


def _impossible(size: int, problem: str) -> CutCandidate:
    """A size for which there is no plan."""
    nothing = Prediction(seconds=math.inf, run_seconds=math.inf, reconstruct_seconds=0.0, memory=0.0, problem=problem)
    return CutCandidate(
        max_qubits=size, cuts=1, overhead=math.inf, num_distinct=0, prediction=nothing, rejected=problem
    )


def _candidate(
    made: CutPlan, size: int, prediction: Prediction, max_overhead: float | None, max_subexperiments: int | None
) -> CutCandidate:
    broken = []
    if max_overhead is not None and made.overhead > max_overhead * (1 + 1e-9):
        broken.append(f"overhead {made.overhead:.4g}, above max_overhead={max_overhead:g}")
    if max_subexperiments is not None and made.num_distinct > max_subexperiments:
        broken.append(f"{made.num_distinct} subexperiments, above max_subexperiments={max_subexperiments}")
    return CutCandidate(
        max_qubits=size,
        cuts=len(made.cuts),
        overhead=made.overhead,
        num_distinct=made.num_distinct,
        prediction=prediction,
        rejected=" and ".join(broken),
    )


def _what_would_do(
    maker: _Maker, candidates: Sequence[CutCandidate], max_overhead: float | None, max_subexperiments: int | None
) -> str:
    """The limits cannot be met: what was found, and what would do."""
    widest = max(candidate.max_qubits for candidate in candidates)
    width = maker.gates.num_qubits
    hints = []
    if not maker.marked:
        tried = np.unique(np.linspace(min(widest + 1, width), width, _HINTS, dtype=int))
        for size in tried.tolist():
            try:
                made = maker.make(size)
            except DescriptionError:
                continue
            nothing = Prediction(seconds=0.0, run_seconds=0.0, reconstruct_seconds=0.0, memory=0.0)
            if not _candidate(made, size, nothing, max_overhead, max_subexperiments).rejected:
                what = f"cut to an overhead of {made.overhead:.4g}" if made.cuts else "not cut"
                hints.append(f"max_qubits={size} ({what}, {made.num_distinct} subexperiments)")
                break
    made_at_all = [candidate for candidate in candidates if math.isfinite(candidate.overhead)]
    if max_overhead is not None and made_at_all:
        hints.append(f"max_overhead={min(candidate.overhead for candidate in made_at_all):.4g}")
    if max_subexperiments is not None and made_at_all:
        hints.append(f"max_subexperiments={min(candidate.num_distinct for candidate in made_at_all)}")
        hints.append("num_samples, to draw fewer terms")
    return (
        f"no plan meets the limits: {'; '.join(map(str, candidates))}; these limits can be met: {', or '.join(hints)}"
    )


def _reason(maker: _Maker, made: CutPlan, best: CutCandidate, candidates: Sequence[CutCandidate]) -> str:
    width = maker.gates.num_qubits
    if maker.marked:
        return "cut where the circuit is marked"
    if len(candidates) > 1:
        what = f"cut into pieces of at most {best.max_qubits} qubits" if made.cuts else "not cut"
        return f"{what}: predicted to be done first ({'; '.join(map(str, candidates))})"
    if made.cuts:
        return f"cut: its {width} qubits are more than the {best.max_qubits} that a piece may have"
    if width > best.max_qubits:
        return f"not cut: it falls apart by itself into pieces of at most {made.width} qubits"
    if best.max_qubits == _ANY:
        return "not cut: no cuts are marked, and no max_qubits was given"
    return f"not cut: its {width} qubits fit into the {best.max_qubits} that a piece may have"


def _idle_factors(paulis: PauliList | None, number: int) -> NDArray[np.float64]:
    """Qubits without gates stay in the state 0: Z is 1 there, X and Y are 0."""
    if paulis is None:
        return np.ones(number)
    return np.asarray(~paulis.x[:number].any(axis=1), dtype=np.float64)
