"""The mini-app: estimates beside independent values, study by study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from pilot import PilotDescription
from pilot_miniapps.frame import MiniApp, Oracle, Outcome, Run
from pilot_miniapps.frame.intervals import interval
from pilot_miniapps.frame.qpus import check_room, check_there
from pilot_miniapps.qos_estimator.ranking import regret, spearman, top1
from pilot_miniapps.qos_estimator.settings import COST_WIDTHS, SIMULATOR, Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure as Drawing

    from pilot_miniapps.qos_estimator.accuracy import Case

#: What computed fidelities may differ from Aer's density matrix by.
EQUAL = 1e-4
#: The device whose errors are ten times those of the others.
OUTLIER = "toronto"
#: Days of a task.
DAYS = 10


class QosEstimator(MiniApp):
    """Compare estimates of fidelity, cost and run time with independent values.

    Circuits of nine families on eleven devices: the fidelity that `pilot.qos` expects beside Aer's density matrices,
    also where a device's true errors are not those that it reports; what an estimate costs; wide circuits beside
    trajectories; a device over 120 days; the seconds that tasks take.
    """

    Settings: ClassVar[type[msgspec.Struct]] = Settings
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "laptop": {},
        "paper": {"trajectories": 1000},
        "small": {"snapshots": ("belem", "manila", "quito"), "qubits": 4, "jitters": 0, "study": ("exact",)},
    }
    packages: ClassVar[Sequence[str]] = ("qiskit", "qiskit_aer", "qiskit_ibm_runtime", "scipy")

    settings: Settings

    def pilots(self) -> Sequence[str | PilotDescription]:
        """One pilot of two cores; for run times it has the QPUs."""
        qpus = (SIMULATOR, *self.settings.qpus) if "runtime" in self.settings.study else ()
        return [PilotDescription(engine="process", cores_per_node=2, qpus=qpus, name="estimates")]

    def memory(self) -> int:
        """A density matrix of ten qubits in each worker, and its copies."""
        return 1 << 30

    def qpus(self) -> Sequence[str]:
        return [
            *self.settings.qpus,
            *(f"fake:{one}" for one in (*self.settings.snapshots, *self.settings.ladder_snapshots)),
        ]

    def check(self, pilots: Sequence[PilotDescription]) -> None:
        """The pilots have the QPUs, these have room for the circuits, and the calibrations can be read."""
        if "runtime" in self.settings.study:
            check_there("qpus", self.settings.qpus, pilots)
        check_room(self.settings.needed())
        if "drift" in self.settings.study:
            from pilot_miniapps.qos_estimator.drift import calibrations

            calibrations(self.settings.calibrations)

    def plan(self) -> Mapping[str, Any]:
        """Studies, and circuits of each."""
        return {"studies": list(self.settings.study), "devices": list(self.settings.snapshots)}

    def warm_up(self) -> Callable[[], object]:
        """Workers import Qiskit and Aer."""
        from pilot.quantum.aer import warm_up

        return warm_up

    def work(self, run: Run) -> Outcome:
        """The studies one after another."""
        studies = {
            "cost": self._cost,  # first: nothing else runs
            "exact": self._accuracy,
            "sizes": self._sizes,
            "ladder": self._ladder,
            "drift": self._drift,
            "runtime": self._run_times,
        }
        oracle = Oracle(passed=True, deviation=0.0, unit="of a fidelity", text="these studies have figures only")
        details: dict[str, Any] = {}
        for name, study in studies.items():
            if name in self.settings.study or (name == "exact" and "esp" in self.settings.study):
                with run.part(name):
                    details |= study(run)
        if "cases" in details:
            oracle = _verdict(details["cases"])
        return Outcome(oracle=oracle, details=details)

    # ---- fidelities ---------------------------------------------------------------------------------------------

    def _accuracy(self, run: Run) -> dict[str, Any]:
        from pilot_miniapps.qos_estimator.accuracy import Case, cases

        settings = self.settings
        tasks = [
            run.submit(f"cases/{one}", cases, one, settings.qubits, settings.seed, settings.jitters)
            for one in settings.snapshots
        ]
        with run.progress(tasks, "devices"):
            found = [msgspec.convert(one, Case) for task in tasks for one in msgspec.to_builtins(task.result())]
        truth, exact, formula = (_table(found, field) for field in ("truth", "estimate", "formula"))
        difference = _difference(found)
        if "exact" in settings.study:
            run.figure("exact.difference", difference, "", f"<= {EQUAL:g}", n=sum(one.exact for one in found))
            self._ranked(run, "exact", exact, truth, bars=(">= 0.99", "<= 0.0002"))
            run.figure("exact.top1_families", top1(exact, truth), "families", f">= {len(truth)}")
            self._jittered(run, "exact", exact, found, bars=(">= 0.9", ">= 0.88", "<= 0.006"))
        if "esp" in settings.study:
            self._ranked(run, "esp", formula, truth, bars=(">= 0.91", "<= 0.005"), outlier=">= 0.88")
            self._jittered(run, "esp", formula, found, bars=(">= 0.83", None, None))
            run.figure("esp.mean_deviation", fmean(abs(one.formula - one.truth) for one in found), "")
        return {"cases": found}

    def _ranked(
        self,
        run: Run,
        name: str,
        scores: Mapping[str, Mapping[str, float]],
        truth: Mapping[str, Mapping[str, float]],
        bars: tuple[str, str],
        outlier: str | None = None,
    ) -> None:
        qpus = self.settings.snapshots
        value, spread = interval(spearman(scores, truth, qpus))
        run.figure(f"{name}.spearman", value, "", bars[0], spread, len(truth))
        if len(rest := [qpu for qpu in qpus if qpu != OUTLIER]) > 2:
            value, spread = interval(spearman(scores, truth, rest))
            run.figure(f"{name}.spearman_without_toronto", value, "", outlier, spread, len(truth))
        value, spread = interval(regret(scores, truth))
        run.figure(f"{name}.regret", value, "", bars[1], spread, len(truth))

    def _jittered(
        self,
        run: Run,
        name: str,
        scores: Mapping[str, Mapping[str, float]],
        found: Sequence[Case],
        bars: tuple[str, str | None, str | None],
    ) -> None:
        """Figures where the true errors are others than those that devices report; the mean over all draws."""
        qpus = self.settings.snapshots
        truths = [_table(found, "jittered", number) for number in range(self.settings.jitters)]
        if not truths:
            return
        rest = [qpu for qpu in qpus if qpu != OUTLIER]
        figures = {
            "spearman_jittered": [fmean(spearman(scores, truth, qpus)) for truth in truths],
            "spearman_jittered_without_toronto": [fmean(spearman(scores, truth, rest)) for truth in truths]
            if len(rest) > 2
            else [],
            "regret_jittered": [fmean(regret(scores, truth)) for truth in truths],
        }
        for (key, values), bar in zip(figures.items(), bars, strict=True):
            if values:
                value, spread = interval(values)
                run.figure(f"{name}.{key}", value, "", bar, spread, len(values))

    # ---- the other studies --------------------------------------------------------------------------------------

    def _cost(self, run: Run) -> dict[str, Any]:
        from pilot_miniapps.qos_estimator.cost import Cost, cost

        for width in COST_WIDTHS:
            task = run.submit(f"cost/{width}", cost, self.settings.snapshots, width, self.settings.seed)
            its = msgspec.convert(msgspec.to_builtins(task.result()), Cost)
            spread = (min(its.cold), max(its.cold))
            run.figure(f"ms_cold_{width}", fmean(its.cold), "ms", "<= 50", spread, len(its.cold), timed=True)
            run.figure(f"ms_cold_{width}_median", median(its.cold), "ms", timed=True)
            if width == COST_WIDTHS[0]:
                run.figure("ms_cached", fmean(its.cached), "ms", "<= 1", (min(its.cached), max(its.cached)), timed=True)
        return {}

    def _sizes(self, run: Run) -> dict[str, Any]:
        from pilot.qos.families import FAMILIES
        from pilot_miniapps.qos_estimator.sizes import Sized, sized

        settings = self.settings
        first = "kolkata" if "kolkata" in settings.snapshots else settings.snapshots[0]
        widest = max(settings.widths)
        wanted = [(first, family, width) for width in settings.widths for family in FAMILIES]
        wanted += [(one, "ghz", widest) for one in settings.snapshots if one != first]
        tasks = [
            run.submit(f"sizes/{'/'.join(map(str, one))}", sized, *one, settings.seed, settings.trajectories)
            for one in wanted
        ]
        with run.progress(tasks, "circuits"):
            found = [msgspec.convert(msgspec.to_builtins(task.result()), Sized) for task in tasks]
        for width in settings.widths:
            its = [one for one in found if one.snapshot == first and one.qubits == width]
            for key, values in (("fidelity", [one.fidelity for one in its]), ("ceiling", [one.ceiling for one in its])):
                value, spread = interval(values)
                run.figure(f"sizes.{key}_{width}", value, "", None, spread, len(its))
        ghz = {one.snapshot: one.fidelity for one in found if (one.family, one.qubits) == ("ghz", widest)}
        run.figure("sizes.ghz_best_over_worst", max(ghz.values()) / min(ghz.values()), "ratio", n=len(ghz))
        return {"sizes": found}

    def _ladder(self, run: Run) -> dict[str, Any]:
        from pilot.qos.families import FAMILIES
        from pilot_miniapps.qos_estimator.ladder import Rung, rung

        settings = self.settings
        tasks = [
            run.submit(f"rung/{one}/{family}/{width}", rung, one, family, width, settings.seed, settings.trajectories)
            for one in settings.ladder_snapshots
            for width in settings.ladder_qubits
            for family in FAMILIES
        ]
        with run.progress(tasks, "circuits"):
            found = [msgspec.convert(msgspec.to_builtins(task.result()), Rung) for task in tasks]
        scores: dict[str, dict[str, float]] = {}
        truth: dict[str, dict[str, float]] = {}
        for one in found:
            scores.setdefault(f"{one.family}-{one.qubits}", {})[one.snapshot] = one.estimate
            truth.setdefault(f"{one.family}-{one.qubits}", {})[one.snapshot] = one.truth
        value, spread = interval(spearman(scores, truth, settings.ladder_snapshots))
        run.figure("ladder.spearman", value, "", ">= 0.85", spread, len(truth))
        run.figure("ladder.mean_deviation", fmean(abs(one.estimate - one.truth) for one in found), "", n=len(found))
        run.figure("ladder.standard_error", fmean(one.error for one in found), "", n=len(found))
        value, spread = interval(regret(scores, truth))
        run.figure("ladder.regret", value, "", None, spread, len(truth))
        return {"rungs": found}

    def _drift(self, run: Run) -> dict[str, Any]:
        import numpy as np

        from pilot_miniapps.qos_estimator.drift import AGES, calibrations, fidelities, ghz, placed, regret

        settings = self.settings
        days = calibrations(settings.calibrations)
        parts = [days[first : first + DAYS] for first in range(0, len(days), DAYS)]
        tasks = [run.submit(f"days/{number}", fidelities, part, settings.seed) for number, part in enumerate(parts)]
        tasks += [run.submit(f"ghz/{number}", ghz, part, settings.seed) for number, part in enumerate(parts)]
        with run.progress(tasks, "parts"):
            found = [task.result() for task in tasks[: len(parts)]]
            every_day = np.array([value for task in tasks[len(parts) :] for value in task.result()])
        exact, formula = (np.concatenate([one[kind] for one in found]) for kind in (0, 1))
        assert days[0].coupling is not None
        choices = [one.choice for one in placed(days[0].coupling, days[0].qubits, settings.seed)]
        for age in AGES:
            run.figure(f"regret_age_{age}", regret(exact, exact, choices, age), "", n=len(days) - age)
        stale, renewed = (regret(exact, formula, choices, age) for age in (1, 0))
        run.figure("regret_reestimated", renewed, "", n=len(days))
        run.figure("regret_ratio_reestimated", renewed / stale, "ratio", "<= 0.5", n=len(days))
        value, spread = interval(every_day.tolist())
        run.figure("ghz.fidelity", value, "", None, spread, len(days))
        falls = 1.0 - every_day[1:] / every_day[:-1]
        run.figure("ghz.falls_above_5_percent", int((falls > 0.05).sum()), "days", n=len(falls))
        run.figure("ghz.greatest_fall", 100.0 * float(falls.max()), "%", n=len(falls))
        first = days[0].calibrated or 0.0
        return {"days": [((one.calibrated or 0.0) - first) / 86_400.0 for one in days], "ghz": every_day.tolist()}

    def _run_times(self, run: Run) -> dict[str, Any]:
        from pilot_miniapps.qos_estimator.run_times import TESTED, errors, report, tasks_on, timed

        settings = self.settings
        count = round(settings.tasks * (1 + TESTED))
        done = {
            qpu: tasks_on(run, qpu, count, settings.seed + number)
            for number, qpu in enumerate((SIMULATOR, *settings.qpus))
        }
        tasks = [task for its in done.values() for task, _ in its]
        with run.progress(tasks, "tasks"):
            run.manager.wait_tasks(tasks)
        found = []
        for qpu, its in done.items():
            info = None if qpu == SIMULATOR else run.manager.qpus[qpu]
            found.append((qpu, errors(timed(its, info), info)))
        report(run, found)
        return {}

    def draw(self, report: Mapping[str, Any]) -> Mapping[str, Drawing]:
        """Estimates over what they estimate; the figures of the QOS paper about fidelities."""
        from pilot_miniapps.qos_estimator import plots

        details = report["details"]
        drawn = {}
        if {"cases", "rungs"} & details.keys():
            drawn["qos-estimator"] = plots.estimated(report)
        if "cases" in details:
            drawn["chosen"] = plots.chosen(details["cases"])
        if "sizes" in details:
            drawn["sizes"], drawn["devices"] = plots.sizes(details["sizes"]), plots.devices(details["sizes"])
        if "ghz" in details:
            drawn["days"] = plots.days(details["days"], details["ghz"])
        return drawn


def _table(found: Sequence[Case], field: str, number: int | None = None) -> dict[str, dict[str, float]]:
    """A value of each case by family and device; ``number``: of a list of values."""
    table: dict[str, dict[str, float]] = {}
    for one in found:
        value = getattr(one, field)
        table.setdefault(one.family, {})[one.snapshot] = value if number is None else value[number]
    return table


def _difference(found: Sequence[Case]) -> float:
    """The greatest, of the computed fidelities and Aer's."""
    return max((abs(one.truth - one.estimate) for one in found if one.exact), default=1.0)


def _verdict(found: Sequence[Case]) -> Oracle:
    return Oracle(
        passed=_difference(found) <= EQUAL and all(one.exact for one in found),
        deviation=_difference(found),
        unit="of a fidelity",
        text=f"{len(found)} fidelities beside those of Aer's density matrices, for circuits compiled the same way",
    )
