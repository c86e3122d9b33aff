"""What a plan for a cut circuit holds, how it runs, and how its results add up."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pilot.descriptions import TaskDescription
from pilot.errors import DescriptionError, invalid
from pilot.quantum.aer import run_circuits
from pilot.quantum.cutting.distributions import MAX_OUTCOMES, Readout, reconstruct_distribution
from pilot.quantum.cutting.reconstruction import reconstruct_sums
from pilot.quantum.cutting.results import CutCandidate, CutResult, Distribution, Prediction
from pilot.quantum.cutting.subexperiments import Subexperiments
from pilot.quantum.mitigation import listed, stages
from pilot.quantum.outcomes import Outcomes, draw_seeds, is_whole
from pilot.quantum.packing import pack
from pilot.quantum.runner import Runner, gather

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Future

    from numpy.typing import NDArray
    from qiskit import QuantumCircuit
    from qiskit.circuit import Qubit

    from pilot.quantum.cutting.cuts import Cut
    from pilot.quantum.cutting.decomposition import Decomposition
    from pilot.quantum.cutting.fragments import Fragment

    #: How subexperiments are handed out: like `PilotManager.map`, one task for each element of the sequences.
    Submit = Callable[..., Sequence[Future[Outcomes]]]

#: One shot says nothing about the error.
_FEWEST_SHOTS = 2


@dataclass(frozen=True, kw_only=True, eq=False)
class CutPlan:
    """Where a circuit is cut, what has to run, and how the results add up.

    A circuit that is better run whole has a plan too: one fragment, no cuts, and `reason` says why.
    """

    #: The Pauli strings on the whole circuit that are measured, qubit 0 rightmost.
    paulis: tuple[str, ...]
    #: `(n_observables, n_paulis)`: of each string in each observable. Qubits without any gate stay in the state 0,
    #: so a string with X or Y on one of them has 0.
    coefficients: NDArray[np.float64]
    #: `(n_observables,)`: the share of the identity, which needs no measurement.
    constants: NDArray[np.float64]
    cuts: tuple[Cut, ...]
    #: How many times the shots of the whole circuit are needed for the same error: the product of the cuts'
    #: gamma².
    overhead: float
    fragments: tuple[Fragment, ...]
    decomposition: Decomposition
    #: The measurements whose distribution is wanted; None: it is not.
    readout: Readout | None = None
    #: For each qubit of the circuit, its fragment and its column among that one's measured bits; None: not
    #: measured, or without a gate.
    places: tuple[tuple[int, int] | None, ...] = ()
    #: Why it is cut like this, or not at all.
    reason: str = ""
    #: What it is expected to take.
    prediction: Prediction | None = None
    #: Everything that was considered, with its numbers.
    candidates: tuple[CutCandidate, ...] = ()

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

    @property
    def width(self) -> int:
        """Qubits of the widest fragment."""
        return max(int(fragment.circuit.num_qubits) for fragment in self.fragments)

    @property
    def weights(self) -> NDArray[np.float64]:
        """`(n_distinct,)`: the sum of the magnitudes of the coefficients that each subexperiment's mean meets."""
        return np.concatenate(
            [
                np.repeat(self.decomposition.weights(number, len(fragment.choices)), len(fragment.groups))
                for number, fragment in enumerate(self.fragments)
            ]
        )

    def experiments(self) -> Iterator[QuantumCircuit]:
        """The distinct subexperiments, fragment by fragment."""
        for fragment in self.fragments:
            yield from fragment.experiments()

    def shots(self, total: int) -> NDArray[np.int64]:
        """`(n_distinct,)`: `total` shots dealt out in proportion to `weights`, at least two to each.

        A mean of weight `w` from `n` shots adds up to `w² / n` to the variance; for a given total the sum of
        these is least with `n` in proportion to `w`.

        Raises:
            DescriptionError: there are fewer than two shots for each subexperiment.
        """
        weights = self.weights
        if not is_whole(total, _FEWEST_SHOTS * len(weights)):
            least = f"a whole number of at least {_FEWEST_SHOTS * len(weights)}"
            raise invalid("total_shots", total, f"{least}: two for each of the {len(weights)} subexperiments")
        spare = total - _FEWEST_SHOTS * len(weights)
        wanted = (total * weights / weights.sum() - _FEWEST_SHOTS).clip(min=0)
        wanted *= spare / wanted.sum() if wanted.sum() else 0.0
        dealt = np.floor(wanted).astype(np.int64)
        left = spare - int(dealt.sum())  # to those that lost most by rounding
        dealt += left // len(dealt)
        dealt[np.argsort(dealt - wanted, kind="stable")[: left % len(dealt)]] += 1
        every: NDArray[np.int64] = dealt + _FEWEST_SHOTS
        return every

    def submit(
        self,
        submit: Submit,
        *,
        shots: int | None = 4096,
        total_shots: int | None = None,
        seed: int | None = None,
    ) -> Sequence[Future[Outcomes]]:
        """Hand out the distinct subexperiments to simulators, a task each; `combine` takes the results.

        Those that take longest are handed out first.

        Args:
            submit: called once, like `PilotManager.map`: a function and the sequences of its arguments.
            shots: samples of each subexperiment; None computes the outcomes' probabilities instead.
            total_shots: deal out these instead, as `CutPlan.shots` does.
            seed: of the shots.

        Raises:
            DescriptionError: too few shots.
        """
        numbers = self._shots(shots, total_shots)
        seeds = draw_seeds(seed, self.num_distinct)
        calls = [
            (number, choice, group)
            for number, fragment in enumerate(self.fragments)
            for choice in fragment.choices.tolist()
            for group in range(len(fragment.groups))
        ]
        order = self._longest_first()
        run = Subexperiments.of([fragment.template for fragment in self.fragments])
        columns = zip(*((*calls[place], numbers[place], seeds[place]) for place in order), strict=True)
        futures = dict(zip(order, submit(run, *columns), strict=True))
        return [futures[place] for place in range(len(calls))]

    def _longest_first(self) -> list[int]:
        """The numbers of the subexperiments, those that take longest first: then slots end at nearly the same time."""
        qubits = np.concatenate(
            [
                np.repeat(fragment.circuit.num_qubits + fragment.measures(), len(fragment.groups))
                for fragment in self.fragments
            ]
        )
        order: list[int] = np.argsort(-qubits, kind="stable").tolist()
        return order

    def descriptions(
        self,
        *,
        shots: int | None = 4096,
        total_shots: int | None = None,
        seed: int | None = None,
        qpu: str | None = None,
        **options: Any,
    ) -> list[TaskDescription]:
        """The distinct subexperiments as tasks, for `PilotManager.submit_tasks`; `combine` takes the results.

        Args:
            shots, total_shots, seed: as for `submit`.
            qpu: each is a circuit for this QPU; "*": for whichever is free. None: each is a function that
                simulates it on a core.
            options: further fields of each `TaskDescription`, such as `pilots`, `min_fidelity`, `mitigation`.

        Raises:
            DescriptionError: too few shots, or a field with a value that is not allowed; see `run` for mitigation.
        """
        self._check_mitigation(options.get("mitigation", ()))
        numbers = self._shots(shots, total_shots)
        described = []
        for number, (experiment, its_shots, its_seed) in enumerate(
            zip(self.experiments(), numbers, draw_seeds(seed, len(numbers)), strict=True)
        ):
            work: dict[str, Any] = {"function": run_circuits, "args": (pack(experiment), its_shots, (its_seed,))}
            if qpu is not None or options.get("noise_model") is not None:
                work = {"circuit": experiment, "shots": its_shots, "seed": its_seed, "qpu": qpu}
            described.append(TaskDescription(**{"name": f"subexperiment {number}", **work, **options}))
        return described

    def combine(
        self,
        results: Sequence[Outcomes | list[Outcomes]],
        *,
        manager: Runner | None = None,
        project: bool = True,
        max_outcomes: int = MAX_OUTCOMES,
    ) -> CutResult:
        """The values and the distribution from the results of all distinct subexperiments.

        Args:
            results: in the order of `experiments()`.
            manager: adds up on the pilots what is much work; without it all is done here.
            project: `distribution` holds the nearest probabilities; otherwise quasi-probabilities.
            max_outcomes: how many outcomes the distribution has at most.

        Raises:
            DescriptionError: there are more or fewer results than subexperiments.
        """
        if len(results) != self.num_distinct:
            expected = f"{self.num_distinct}, one for each subexperiment"
            raise invalid("results", results, expected, shown=f"a list of {len(results)}")
        outcomes = [each if isinstance(each, Outcomes) else each[0] for each in results]
        starts = np.cumsum([0, *(fragment.num_experiments for fragment in self.fragments)])
        samples = [
            fragment.samples(outcomes[start : start + fragment.num_experiments])
            for fragment, start in zip(self.fragments, starts, strict=False)
        ]
        result = reconstruct_sums(self.decomposition, samples, self.coefficients, self.constants, manager)
        of_fragments = [each.outcomes for each in samples]
        return replace(result, distribution=self._distribution(of_fragments, manager, project, max_outcomes))

    def run(
        self,
        manager: Runner,
        *,
        shots: int | None = 4096,
        total_shots: int | None = None,
        seed: int | None = None,
        qpu: str | None = None,
        project: bool = True,
        max_outcomes: int = MAX_OUTCOMES,
        **options: Any,
    ) -> CutResult:
        """Run the plan on the manager's pilots, all at the same time, and wait for the result.

        Args:
            manager: a `PilotManager`.
            shots: samples of each subexperiment; None: exact probabilities, which only simulators have.
            total_shots: deal out these instead, more to the subexperiments that count more.
            seed: of the shots, where these are computed.
            qpu: run the subexperiments on this QPU, as in `TaskDescription.qpu`; "*": each on whichever QPU
                of the pilots is free first. None: simulate them on the pilots' cores.
            project: `distribution` holds the nearest probabilities; otherwise quasi-probabilities.
            max_outcomes: how many outcomes the distribution has at most.
            options: further fields of each subexperiment's `TaskDescription`, such as `pilots`, `labels`,
                `min_fidelity` or `mitigation`.

        Raises:
            DescriptionError: too few shots, or an option that is not allowed: mitigation by "zne"; and by "readout"
                where a cut of a gate measures a qubit that goes on, which most do.
            Exception: the error of the first subexperiment that failed; those not yet run are cancelled.
                There is no result from a part of them.
        """
        if not is_whole(max_outcomes):
            raise invalid("max_outcomes", max_outcomes, "a whole number of at least 1")
        if qpu is None and not options:
            futures: Sequence[Future[Any]] = self.submit(manager.map, shots=shots, total_shots=total_shots, seed=seed)
        else:
            futures = manager.submit_tasks(
                self.descriptions(shots=shots, total_shots=total_shots, seed=seed, qpu=qpu, **options)
            )
        return self.combine(gather(futures), manager=manager, project=project, max_outcomes=max_outcomes)

    def _shots(self, shots: int | None, total_shots: int | None) -> list[int | None]:
        if total_shots is not None:
            return [int(each) for each in self.shots(total_shots)]
        if shots is None:
            return [None] * self.num_distinct
        if not is_whole(shots, _FEWEST_SHOTS):
            raise invalid("shots", shots, "a whole number of at least 2: one shot gives no standard error")
        return [int(shots)] * self.num_distinct

    def _check_mitigation(self, given: Any) -> None:
        """Refuse stages that cannot work here before anything runs."""
        chosen = stages(listed(given))
        if chosen.zero_noise is not None:
            raise DescriptionError(
                "mitigation: 'zne' extrapolates values, and the values of a cut circuit are put together here, not in "
                "its tasks; leave it out, or give the uncut circuit with its observables to a TaskDescription",
                field="mitigation",
            )
        if "readout" in chosen.stage.name.split("+") and any(map(_goes_on_after_measuring, self.experiments())):
            raise DescriptionError(
                "mitigation: 'readout' corrects qubits that are measured once, at their end, and cuts of gates here "
                "measure some in the middle; cut wires alone (mark them with CutWire), or leave it out",
                field="mitigation",
            )

    def _distribution(
        self, outcomes: Sequence[Sequence[Outcomes]], manager: Runner | None, project: bool, max_outcomes: int
    ) -> Distribution | None:
        if self.readout is None:
            return None
        return reconstruct_distribution(
            self.decomposition,
            [fragment.readouts(its) for fragment, its in zip(self.fragments, outcomes, strict=True)],
            self.places,
            self.readout,
            manager=manager,
            project=project,
            max_outcomes=max_outcomes,
        )


def _goes_on_after_measuring(circuit: QuantumCircuit) -> bool:
    """Something is done to a qubit after it was measured."""
    measured: set[Qubit] = set()
    for entry in circuit.data:
        if not measured.isdisjoint(entry.qubits):
            return True
        if entry.name == "measure":
            measured.update(entry.qubits)
    return False
