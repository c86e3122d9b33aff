"""The mini-app: which circuits are cut on how many slots, what is measured beside them, and what that shows."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import msgspec
import numpy as np

from pilot import Pilot
from pilot.quantum.aer import warm_up
from pilot.quantum.cutting import plan, predict
from pilot_miniapps.circuit_cutting import drawing, whole
from pilot_miniapps.circuit_cutting.predicted import Predicted
from pilot_miniapps.circuit_cutting.problem import Problem
from pilot_miniapps.circuit_cutting.rounds import Rounds, Row
from pilot_miniapps.circuit_cutting.runs import Cutter
from pilot_miniapps.frame import MiniApp, Oracle, Outcome, Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

#: Of the paper's circuit in pieces of so many qubits: time from plan to value over the work in it.
BARS = {(34, 17): "<= 1.6", (34, 12): "<= 1.3"}
#: A value that is further from the exact one, in standard errors, is wrong.
FARTHEST = 4.0
#: Two ways to compute the same exact value agree so far.
EXACT = 1e-8
#: The exact value of a circuit on more qubits is that of its matrix product state.
WIDEST_STATE_VECTOR = 20
#: Qubits that the simulator adds to a piece: one for each measurement at a cut that gates follow.
ADDED_QUBITS = 2

Size = Annotated[int, msgspec.Meta(ge=1, le=40)]
Width = Annotated[int, msgspec.Meta(ge=2, le=40)]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What can be chosen."""

    circuit: Annotated[
        str | None,
        msgspec.Meta(description="OpenQASM 2 or 3, OriginIR or QIR file; without it, the paper's circuit on --qubits"),
    ] = None
    observable: Annotated[
        str | None,
        msgspec.Meta(description="Pauli string such as ZZII, qubit 0 last; without it, Z on the top qubit"),
    ] = None
    qubits: Annotated[int, msgspec.Meta(ge=2, le=1000, description="qubits of the paper's circuit")] = 34
    repetitions: Annotated[int, msgspec.Meta(ge=1, le=100, description="repetitions in the paper's circuit")] = 2
    subcircuit_size: Annotated[
        tuple[Size, ...],
        msgspec.Meta(min_length=1, description="most qubits of a piece; give it again for another size"),
    ] = (17, 12)
    num_samples: Annotated[
        int, msgspec.Meta(ge=1, description="terms of the decomposition that are drawn; where it has fewer, all")
    ] = 1000
    shots: Annotated[int, msgspec.Meta(ge=2, le=10**9, description="shots of each subexperiment")] = 4096
    exact: Annotated[
        bool, msgspec.Meta(description="compare with the exact value; without, the rounds are compared with their mean")
    ] = True
    whole: Annotated[
        tuple[Width, ...],
        msgspec.Meta(description="qubits of the paper's circuit that is run whole, too; give it again for another"),
    ] = (16, 18, 20, 22, 24)
    repeat: Annotated[int, msgspec.Meta(ge=1, le=1000, description="rounds; medians are reported")] = 5
    seed: Annotated[
        int, msgspec.Meta(ge=0, le=2**32, description="of the search for cuts, the drawn terms and the shots")
    ] = 111


class CircuitCutting(MiniApp):
    """A circuit too wide to run, cut into pieces that pilots run side by side: figure 5 of the Pilot-Quantum paper.

    By default the circuit of the paper: 34 qubits, efficient SU(2) ansatz, linear entanglement, two repetitions, all
    angles 0.4, cut to pieces of 17 and of 12 qubits; half of the tasks on Ray, half on Dask. Each round times it from
    the plan to the value, and the subexperiments alone in one process. It also runs on the first of the pilots alone,
    and beside it narrower circuits of the same kind, whole and cut in two.

    The oracle is the exact value: of the state vector up to 20 qubits, above of the matrix product state.
    """

    Settings = Settings
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "laptop": {},
        "demo": {"repeat": 1, "whole": (16, 20)},
        "paper": {"repeat": 5, "whole": (16, 18, 20, 22, 24, 26)},
        "small": {"qubits": 8, "subcircuit_size": (4, 3), "shots": 1000, "whole": (4, 6), "repeat": 1},
    }

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.problem = (
            Problem.of_paper(settings.qubits, settings.repetitions, settings.observable)
            if settings.circuit is None
            else Problem.from_file(Path(settings.circuit), settings.observable)
        )

    def memory(self) -> int:
        pieces = [size + ADDED_QUBITS for size in self.settings.subcircuit_size]
        return int(2 * 16 * 2 ** max(*pieces, *self.settings.whole, WIDEST_STATE_VECTOR))

    def warm_up(self) -> Callable[[], object]:
        return warm_up

    def plan(self) -> Mapping[str, Any]:
        settings, problem, shown = self.settings, self.problem, {}
        for size in settings.subcircuit_size:
            planned = plan(
                problem.circuit, problem.observable, size, num_samples=settings.num_samples, seed=settings.seed
            )
            shown[f"pieces of {size} qubits"] = (
                f"{len(planned.cuts)} cuts, {planned.num_subexperiments} subexperiments, {planned.num_distinct} of "
                f"them distinct, overhead {planned.overhead:.4g}, about {predict(planned).seconds:.3g} s on one slot"
            )
        return shown

    # ---- the work -----------------------------------------------------------------------------------------------

    def work(self, run: Run) -> Outcome:
        predicted = Predicted.on(run)
        cutter = Cutter(run=run, num_samples=self.settings.num_samples, shots=self.settings.shots)
        cut = self._rounds(run, cutter, predicted)
        for one in cut:
            self._report(run, one)
        fewer = [self._on(run.pilots[:number], cutter, predicted, cut) for number in range(1, len(run.pilots))]
        cut = [*cut, *itertools.chain.from_iterable(fewer)]
        exact = self._exact(cut)
        narrow, full = self._narrower(run, cutter, predicted) if self.settings.circuit is None else ([], [])
        pairs = [*((one, exact) for one in cut), *narrow]
        values = [one.values() | {"exact": its} for one, its in pairs]
        times = [{"seconds": [each.seconds for each in one.runs]} for one, _ in pairs]
        rows = [*(one.row() for one, _ in pairs), *(row for row, _ in full)]
        return Outcome(
            oracle=self._oracle(pairs, full),
            rows=[msgspec.structs.asdict(row) for row in rows],
            details={
                "rounds": [one | seconds for one, seconds in zip(values, times, strict=True)],
                "state_vector": self._curve(predicted),
            },
            results={"rounds": values, "whole": [row.value for row, _ in full]},
        )

    def _rounds(self, run: Run, cutter: Cutter, predicted: Predicted) -> list[Rounds]:
        """The circuit in pieces of each size on all pilots; each round in turn before and behind the work alone."""
        names = [pilot.name for pilot in run.pilots]
        found = []
        for size in self.settings.subcircuit_size:
            runs, work = [], []
            for number in range(self.settings.repeat):
                seed = self.settings.seed + number
                if number % 2:
                    work.append(cutter.work(self.problem, size, seed))
                runs.append(cutter.cut(f"cut {size}, round {number}", self.problem, size, seed, names))
                if not number % 2:
                    work.append(cutter.work(self.problem, size, seed))
            found.append(self._found(size, run.slots, runs, work, predicted.cut(runs[0].planned, names)))
        return found

    def _report(self, run: Run, one: Rounds) -> None:
        ratios = one.over_work
        bar = BARS.get((one.qubits, one.size)) if self._is_papers and len(ratios) > 1 else None  # once is no median
        spread = (min(ratios), max(ratios))
        key = f"over_work_{one.size}"
        run.figure(key, statistics.median(ratios), "ratio", bar, spread, len(ratios), timed=True)

    def _on(
        self, pilots: Sequence[Pilot], cutter: Cutter, predicted: Predicted, every: Sequence[Rounds]
    ) -> list[Rounds]:
        """The circuit in pieces of each size on some of the pilots, once; `every`: on all, whose first round it is."""
        names = [pilot.name for pilot in pilots]
        slots = sum(pilot.description.cores * pilot.description.number_of_nodes for pilot in pilots)
        found = []
        for on_all in every:
            size, key = on_all.size, f"cut {on_all.size}, {len(names)} of the pilots"
            one = cutter.cut(key, self.problem, size, self.settings.seed, names)
            found.append(self._found(size, slots, [one], on_all.work[:1], predicted.cut(one.planned, names)))
        return found

    def _found(self, size: int, slots: int, runs: Any, work: Any, predicted: float) -> Rounds:
        qubits = self.problem.circuit.num_qubits
        return Rounds(qubits=qubits, size=size, slots=slots, runs=runs, work=work, predicted=predicted)

    def _narrower(
        self, run: Run, cutter: Cutter, predicted: Predicted
    ) -> tuple[list[tuple[Rounds, float]], list[tuple[Row, float]]]:
        """Circuits of the same kind on fewer qubits, cut in two and whole; and the whole one by matrix product state.

        Returns:
            Those that were cut, each with its exact value; and for each whole one a row, and the value it should have.
        """
        names = [pilot.name for pilot in run.pilots]
        cut, full = [], []
        for width in sorted(set(self.settings.whole)):
            problem = self._of_width(width)
            row, exact = self._whole(run, predicted, width, whole.STATE_VECTOR)
            one = cutter.cut(f"{width} qubits cut in two", problem, width - width // 2, self.settings.seed, names)
            seconds = predicted.cut(one.planned, names)
            rounds = Rounds(
                qubits=width, size=width - width // 2, slots=run.slots, runs=[one], work=[], predicted=seconds
            )
            cut.append((rounds, exact))
            full.append((row, exact))
        full.append(self._whole(run, predicted, self.settings.qubits, whole.PRODUCT_STATE))
        return cut, full

    def _whole(self, run: Run, predicted: Predicted, width: int, method: str) -> tuple[Row, float]:
        """The paper's circuit without cuts, on one slot, alone, as the widest ones need all memory.

        Returns:
            A row for it, and its value by matrix product state, computed here.
        """
        problem = self._of_width(width)
        key = f"{width} qubits whole, {method}"
        task = run.submit(key, whole.timed_value, width, self.settings.repetitions, problem.observable, method)
        with run.progress([task], key):
            value, seconds = task.result()
        row = Row(
            circuit=whole.NAMES[method],
            qubits=width,
            slots=1,
            seconds=seconds,
            predicted=predicted.state_vector(problem) if method == whole.STATE_VECTOR else None,
            value=value,
        )
        return row, whole.exact_value(problem.circuit, problem.observable, whole.PRODUCT_STATE)

    # ---- what it shows ------------------------------------------------------------------------------------------

    @property
    def _is_papers(self) -> bool:
        """The circuit and its observable are the paper's."""
        return self.settings.circuit is None and self.settings.observable is None

    def _of_width(self, width: int) -> Problem:
        """A narrower circuit of the same kind, with Z on its top qubit."""
        observable = self.settings.observable if width == self.settings.qubits else None
        return Problem.of_paper(width, self.settings.repetitions, observable)

    def _exact(self, cut: Sequence[Rounds]) -> float:
        """The exact value; or the mean of all rounds, each by its error."""
        if self.settings.exact:
            circuit = self.problem.circuit
            method = whole.STATE_VECTOR if circuit.num_qubits <= WIDEST_STATE_VECTOR else whole.PRODUCT_STATE
            return whole.exact_value(circuit, self.problem.observable, method)
        runs = [each for one in cut for each in one.runs]
        return float(np.average([one.value for one in runs], weights=[one.error**-2 for one in runs]))

    def _oracle(self, pairs: Sequence[tuple[Rounds, float]], full: Sequence[tuple[Row, float]]) -> Oracle:
        deviations = [abs(deviation) for one, exact in pairs for deviation in one.deviations(exact)]
        apart = max((abs(row.value - exact) for row, exact in full), default=0.0)
        what = "the exact value" if self.settings.exact else "their mean"
        return Oracle(
            passed=max(deviations) <= FARTHEST and apart <= EXACT,
            deviation=max(deviations),
            unit="standard errors",
            text=(
                f"{len(deviations)} values of cut circuits are within {max(deviations):.2f} standard errors of {what}; "
                f"state vectors and matrix product states of whole ones differ by {apart:.1g}"
            ),
        )

    def _curve(self, predicted: Predicted) -> list[tuple[int, float]]:
        """(qubits, predicted seconds) of whole circuits by state vector, up to the circuit that is cut."""
        if self.settings.circuit is not None:
            return []
        widths = range(min([*self.settings.whole, self.settings.qubits]), self.settings.qubits + 1)
        return [(width, predicted.state_vector(self._of_width(width))) for width in widths]

    def draw(self, report: Mapping[str, Any]) -> Mapping[str, Drawing]:
        return {"circuit-cutting": drawing.drawn(report)}
