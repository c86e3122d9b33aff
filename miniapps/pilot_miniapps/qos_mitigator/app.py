"""The mini-app: the mitigator, study by study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from pilot import PilotDescription
from pilot_miniapps.frame import MiniApp, Oracle, Outcome, Run
from pilot_miniapps.frame.qpus import check_room
from pilot_miniapps.qos_mitigator import report
from pilot_miniapps.qos_mitigator.settings import HARM_QUBITS, Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure as Drawing

#: Seeds of circuits: the model was compared with those below the first.
CHOICE_SEED, HARM_SEED = 100, 300
#: Figure 4b of QOS: widths, and the least fidelity.
UTILISED, FLOOR = (4, 6, 8, 10, 12), 0.75
#: Figure 10b of QOS.
BUDGETS, WIDE = (0, 1, 4, 8), (100, 200, 400, 600, 800, 1000)
NOTE = (
    "Published: QOS (arXiv 2406.19120), figures 8 (CX -70.5 %, depth -46 %), 9 (2.6 and 456 times the fidelity at 12 "
    "and 24 qubits, on hardware, at more shots than the unmitigated side), 10a (31.3 times the quantum and 16.6 times "
    "the classical work). Here both sides have the same number of shots, and noise is that of a snapshot."
)


class QosMitigator(MiniApp):
    """Show what the mitigator of QOS is worth: pieces, choices, fidelities, costs.

    Circuits of nine families: gates and depth of the largest piece; the variant that is chosen beside all others;
    fidelity and values of observables at equal shots; frozen QAOA; circuits of 24 qubits; seconds and circuits. Noise
    is exact: outcomes are drawn from the probabilities that the calibration of a snapshot gives.
    """

    Settings: ClassVar[type[msgspec.Struct]] = Settings
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "laptop": {},
        "paper": {"study": ("static", "choice", "fidelity", "harm", "large", "freezing", "cost")},
        "small": {
            "study": ("freezing",),
            "snapshots": ("manila",),
            "small_qubits": 4,
            "frozen_graphs": 2,
            "shots": 1024,
            "seeds": 2,
        },
    }
    packages: ClassVar[Sequence[str]] = ("qiskit", "qiskit_aer", "qiskit_ibm_runtime", "scipy")

    settings: Settings

    def __init__(self, settings: Any) -> None:
        super().__init__(settings)
        #: What plots need beside the studies' rows.
        self._details: dict[str, Any] = {}

    def pilots(self) -> Sequence[str | PilotDescription]:
        """One pilot of two cores."""
        return [PilotDescription(engine="process", cores_per_node=2, name="studies")]

    def memory(self) -> int:
        """The state of twelve qubits with noise, and its copies, in each worker."""
        return 3 << 30

    def qpus(self) -> Sequence[str]:
        return [f"fake:{one}" for one in (*self.settings.snapshots, *self.settings.choice_snapshots)]

    def check(self, pilots: Sequence[PilotDescription]) -> None:
        """The devices have room for the circuits."""
        check_room(self.settings.needed())

    def plan(self) -> Mapping[str, Any]:
        """Studies and devices."""
        return {"studies": list(self.settings.study), "devices": list(self.settings.snapshots)}

    def warm_up(self) -> Callable[[], object]:
        """Workers import Qiskit and Aer."""
        from pilot.quantum.aer import warm_up

        return warm_up

    def work(self, run: Run) -> Outcome:
        """The studies one after another."""
        studies = {
            "cost": self._cost,
            "static": self._static,
            "choice": self._choice,
            "fidelity": self._fidelity,
            "harm": self._harm,
            "large": self._large,
            "freezing": self._freezing,
        }
        details: dict[str, Any] = {}
        for name, study in studies.items():
            if name in self.settings.study:
                with run.part(name):
                    details[name] = study(run)
        equal = [one.equal for one in details.get("freezing", ())]
        text = "energies of problems with all spins frozen beside those of all states"
        if not equal:
            text = "nothing was compared: only the study freezing has independent values"
        oracle = Oracle(passed=all(equal), deviation=float(equal.count(False)), unit="problems", text=text)
        return Outcome(oracle=oracle, rows=report.rows(details), note=NOTE, details=details | self._details)

    def _cost(self, run: Run) -> list[Any]:
        from pilot.qos.families import FAMILIES
        from pilot_miniapps.qos_mitigator.cost import Cost, cost

        given = self.settings
        calls = {f"cost/{family}": (given.snapshots[0], family, given.qubits, 0, given.shots, 3) for family in FAMILIES}
        return report.cost(run, self._results(run, cost, calls, Cost, "circuits"))

    def _static(self, run: Run) -> list[Any]:
        from pilot_miniapps.qos_mitigator.cases import cases
        from pilot_miniapps.qos_mitigator.static import Static, static, successes

        given = self.settings
        calls = {
            f"static/{width}/{family}/{seed}": (
                *(given.snapshots[0], family, width, seed, given.budget, given.compilations, given.max_overhead),
            )
            for width in given.widths
            for family, seed in cases(given.graphs)
        }
        self._details["success"] = {budget: {width: successes(width, budget) for width in WIDE} for budget in BUDGETS}
        report.successes(run, {budget: successes(WIDE[-1], budget) for budget in BUDGETS})
        return report.static(run, self._results(run, static, calls, Static, "circuits"), given.widths)

    def _choice(self, run: Run) -> list[Any]:
        from pilot_miniapps.qos_mitigator.cases import round_robin
        from pilot_miniapps.qos_mitigator.choice import Choosing, choosing

        given = self.settings
        calls = {
            f"choice/{family}/{seed}": (
                *(given.choice_snapshots[number % len(given.choice_snapshots)], family, given.small_qubits, seed),
                *(given.shots, given.draws, given.errors),
            )
            for number, (family, seed) in enumerate(round_robin(given.circuits, CHOICE_SEED))
        }
        return report.choice(run, self._results(run, choosing, calls, Choosing, "circuits"))

    def _fidelity(self, run: Run) -> list[Any]:
        from pilot.qos.families import FAMILIES
        from pilot_miniapps.qos_mitigator.cases import cases
        from pilot_miniapps.qos_mitigator.fidelity import Case, case, utilisation

        given = self.settings
        calls = {
            f"fidelity/{snapshot}/{family}/{seed}": (
                *(snapshot, family, given.qubits, seed, given.shots, given.seeds, given.errors),
            )
            for snapshot in given.snapshots
            for family, seed in cases(given.graphs)
        }
        asked = self._results(run, case, calls, Case | None, "circuits")
        found = [one for one in asked if one is not None]
        run.figure("left_out", len(asked) - len(found), "circuits", n=len(asked))
        widths = tuple(width for width in UTILISED if width <= given.qubits)
        tasks = [
            run.submit(f"utilisation/{family}", utilisation, given.snapshots[0], family, widths, FLOOR, given.shots)
            for family in FAMILIES
        ]
        used = [task.result() for task in tasks]
        self._details["utilisation"] = dict(zip(FAMILIES, used, strict=True))
        return report.fidelity(run, found, used)

    def _harm(self, run: Run) -> list[Any]:
        from pilot_miniapps.qos_mitigator.cases import round_robin
        from pilot_miniapps.qos_mitigator.harm import Harm, harm

        given = self.settings
        calls = {
            f"harm/{family}/{seed}": (
                *(
                    given.choice_snapshots[number % len(given.choice_snapshots)],
                    family,
                    HARM_QUBITS[number % len(HARM_QUBITS)],
                ),
                *(seed, given.harm_shots, given.draws, given.errors),
            )
            for number, (family, seed) in enumerate(round_robin(given.harm_circuits, HARM_SEED))
        }
        tasks = [run.submit(key, harm, *args) for key, args in calls.items()]
        with run.progress(tasks, "circuits"):
            found = [msgspec.convert(one, Harm) for task in tasks for one in msgspec.to_builtins(task.result())]
        return report.harm(run, found)

    def _large(self, run: Run) -> list[Any]:
        from pilot_miniapps.qos_mitigator.large import FAMILIES, Large, large

        given = self.settings
        calls = {
            f"large/{family}": (given.snapshots[0], family, given.large_qubits, given.shots, given.seeds)
            for family in FAMILIES
        }
        return report.large(run, self._results(run, large, calls, Large, "circuits"))

    def _freezing(self, run: Run) -> list[Any]:
        from pilot_miniapps.qos_mitigator.cases import GRAPHS, round_robin
        from pilot_miniapps.qos_mitigator.freezing import Frozen, frozen

        given = self.settings
        calls = {
            f"freezing/{family}/{seed}": (
                *(given.snapshots[0], family, given.small_qubits, seed, given.shots, given.seeds),
            )
            for family, seed in round_robin(given.frozen_graphs, 0, GRAPHS)
        }
        return report.freezing(run, self._results(run, frozen, calls, Frozen, "graphs"))

    def _results(
        self, run: Run, function: Callable[..., Any], calls: Mapping[str, Sequence[Any]], kind: Any, what: str
    ) -> list[Any]:
        """Of the calls by their keys; a resumed run has them as plain values."""
        tasks = [run.submit(key, function, *args) for key, args in calls.items()]
        with run.progress(tasks, what):
            return [msgspec.convert(msgspec.to_builtins(task.result()), kind) for task in tasks]

    def draw(self, report: Mapping[str, Any]) -> Mapping[str, Drawing]:
        """A figure for each study that has one."""
        from pilot_miniapps.qos_mitigator.plots import drawings

        return drawings(report)
