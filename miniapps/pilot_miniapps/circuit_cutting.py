"""A circuit too wide to run, cut into pieces that pilots run side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import msgspec
from qiskit import QuantumCircuit
from qiskit.circuit.library import efficient_su2
from rich.console import Console
from rich.table import Table

from pilot import DescriptionError, PilotDescription, PilotManager, TaskDescription
from pilot.quantum import load
from pilot.quantum.aer import exact_value, warm_up
from pilot.quantum.cutting import CutPlan, CutResult, gather, plan
from pilot_miniapps.pilots import ALLOWED, read_pilot
from pilot_miniapps.report import (
    Stopwatch,
    plot_timeline,
    task_progress,
    tasks_by_pilot,
    write_metrics,
    write_report,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pilot import Task

Positive = Annotated[int, msgspec.Meta(ge=1)]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What can be chosen. `pilot run circuit-cutting --help` shows these as flags."""

    circuit: Annotated[
        str | None,
        msgspec.Meta(description="OpenQASM 2 or 3, OriginIR or QIR file; without it, the paper's circuit on --qubits"),
    ] = None
    observable: Annotated[
        str | None,
        msgspec.Meta(description="Pauli string such as ZZII, qubit 0 last; without it, Z on the top qubit"),
    ] = None
    qubits: Annotated[int, msgspec.Meta(ge=2, description="qubits of the paper's circuit")] = 34
    repetitions: Annotated[int, msgspec.Meta(ge=1, description="repetitions in the paper's circuit")] = 2
    subcircuit_size: Annotated[int, msgspec.Meta(ge=1, description="most qubits of a piece")] = 17
    num_samples: Annotated[
        Positive | None,
        msgspec.Meta(description="draw this many terms of the decomposition; without it, take all"),
    ] = None
    shots: Annotated[int, msgspec.Meta(ge=2, description="shots of each subexperiment")] = 4096
    seed: Annotated[int, msgspec.Meta(ge=0, description="of the search for cuts, the drawn terms and the shots")] = 111
    pilot: Annotated[
        tuple[str, ...],
        msgspec.Meta(min_length=1, description=f"a pilot: {ALLOWED}; give it again for another"),
    ] = ("ray:1", "dask:1")
    exact: Annotated[bool, msgspec.Meta(description="compute the uncut circuit's value beside it")] = True
    output: Annotated[str, msgspec.Meta(description="folder for the report")] = "runs/circuit-cutting"

    def __post_init__(self) -> None:
        self.pilots()

    def pilots(self) -> list[PilotDescription]:
        """The pilots asked for."""
        return [read_pilot(text, number) for number, text in enumerate(self.pilot)]


class CircuitCutting:
    """Cut a circuit too wide to run into pieces, run these on pilots, and put the value together.

    By default the circuit of the Pilot-Quantum paper: 34 qubits, efficient SU(2) ansatz, linear entanglement,
    two repetitions, all parameters 0.4, cut to pieces of 17 qubits; half of the tasks on Ray, half on Dask.
    """

    Settings: ClassVar[type[msgspec.Struct]] = Settings

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.console = Console()
        self.watch = Stopwatch()

    def run(self) -> None:
        """Run it all; the report is in the folder `settings.output`."""
        settings, watch = self.settings, self.watch
        problem = read_problem(settings)
        folder = Path(settings.output)
        folder.mkdir(parents=True, exist_ok=True)
        with PilotManager(wait_for_pilot=0) as manager:
            warm = self._start_pilots(manager)
            with watch.part("plan"):  # while the pilots start
                planned = self._plan(*problem)
            with self.console.status("pilots start and import Qiskit"):
                manager.get_results(warm)
            watch.seconds["pilots"] = watch.elapsed
            with watch.part("run"):
                tasks = self._submit(manager, planned)
                with task_progress(tasks, "subexperiments", self.console):
                    exact = exact_value(*problem) if settings.exact else None
                    results = gather(tasks)
            with watch.part("reconstruct"):
                result = planned.combine(results)
        report = self._report(planned, result, exact, tasks)
        write_metrics(folder / "metrics.csv", tasks)
        write_report(folder / "report.json", report)
        plot(folder / "report.png", tasks, report)
        self._show(report, folder)

    def _start_pilots(self, manager: PilotManager) -> list[Task]:
        """Ask for the pilots, and for Qiskit on each of their workers; the tasks that see to that."""
        descriptions = self.settings.pilots()
        for description in descriptions:
            manager.submit_pilot(description)
        return manager.submit_tasks(
            TaskDescription(function=warm_up, pilot=description.name, name=f"warm-up {core}")
            for description in descriptions
            for core in range(description.cores_per_node * description.number_of_nodes)
        )

    def _plan(self, circuit: QuantumCircuit, observable: str) -> CutPlan:
        settings = self.settings
        planned = plan(
            circuit,
            observable,
            settings.subcircuit_size,
            num_samples=settings.num_samples,
            seed=settings.seed,
        )
        self.console.print(
            f"{circuit.num_qubits} qubits in {len(planned.fragments)} pieces by {len(planned.cuts)} cuts: "
            f"{planned.num_subexperiments} subexperiments, {planned.num_distinct} of them distinct"
        )
        return planned

    def _submit(self, manager: PilotManager, planned: CutPlan) -> list[Task]:
        def submit(function: Callable[..., Any], *arguments: Sequence[object]) -> list[Task]:
            return manager.submit_tasks(
                TaskDescription(function=function, args=its, name=f"subexperiment {number}")
                for number, its in enumerate(zip(*arguments, strict=True))
            )

        return planned.submit(submit, shots=self.settings.shots, seed=self.settings.seed)

    def _report(self, planned: CutPlan, result: CutResult, exact: float | None, tasks: list[Task]) -> dict[str, Any]:
        value, error = float(result.values[0]), float(result.standard_errors[0])
        parts = {name: round(seconds, 4) for name, seconds in self.watch.seconds.items()}
        return {
            "value": value,
            "standard_error": error,
            "exact": exact,
            "deviation_in_standard_errors": None if exact is None or not error else (value - exact) / error,
            "shot_error": float(result.shot_errors[0]),
            "sampling_error": float(result.sampling_errors[0]),
            "seconds": round(self.watch.elapsed, 3),
            "seconds_plan_to_value": round(sum(parts[part] for part in ("plan", "run", "reconstruct")), 3),
            "parts": parts,
            "subexperiments": planned.num_subexperiments,
            "distinct_subexperiments": planned.num_distinct,
            "cuts": [msgspec.to_builtins(cut) for cut in planned.cuts],
            "overhead": planned.overhead,
            "pilots": tasks_by_pilot(tasks),
            "settings": msgspec.to_builtins(self.settings),
        }

    def _show(self, report: dict[str, Any], folder: Path) -> None:
        table = Table("what", "value", title="circuit cutting", show_header=False)
        table.add_row("value", f"{report['value']:+.5f} ± {report['standard_error']:.5f}")
        if report["exact"] is not None:
            table.add_row("exact", f"{report['exact']:+.5f}")
        if report["deviation_in_standard_errors"] is not None:
            table.add_row("deviation", f"{report['deviation_in_standard_errors']:+.2f} standard errors")
        for part in ("pilots", "plan", "run", "reconstruct"):
            table.add_row(part, f"{report['parts'][part]:.2f} s")
        table.add_row("plan to value", f"{report['seconds_plan_to_value']:.2f} s, pilots warm")
        table.add_row("in all", f"{report['seconds']:.2f} s")
        for pilot, share in report["pilots"].items():
            table.add_row(pilot, f"{share['tasks']} tasks, {share['tasks_per_second']:.0f}/s")
        self.console.print(table)
        self.console.print(f"report: {folder}/report.json, metrics.csv, report.png")


def read_problem(settings: Settings) -> tuple[QuantumCircuit, str]:
    """The circuit and the observable that the settings name.

    Raises:
        DescriptionError: the file cannot be read, or is not OpenQASM 2 or 3.
    """
    if settings.circuit is None:
        circuit = efficient_su2(settings.qubits, entanglement="linear", reps=settings.repetitions)
        circuit = circuit.assign_parameters([0.4] * circuit.num_parameters)
    else:
        circuit = read_file(Path(settings.circuit))
    observable = settings.observable or "Z" + "I" * (circuit.num_qubits - 1)
    if len(observable) != circuit.num_qubits or set(observable) - set("IXYZ"):
        raise DescriptionError(
            f"--observable: {observable!r} is not valid; expected {circuit.num_qubits} letters of I, X, Y and Z, "
            "one for each qubit, qubit 0 last"
        )
    return circuit.remove_final_measurements(inplace=False), observable


def read_file(path: Path) -> QuantumCircuit:
    """The circuit in a file, in any format that `pilot.quantum.load` knows."""
    try:
        return load(path).to_qiskit()
    except DescriptionError as error:
        raise DescriptionError(f"--circuit: {path}: {error}", **error.data) from error


def plot(path: Path, tasks: Sequence[Task], report: dict[str, Any]) -> None:
    """The tasks over time on each worker, and the value beside the exact one."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4), layout="constrained")
    timeline, values = figure.subplots(1, 2, width_ratios=(3, 1))
    plot_timeline(timeline, tasks)
    values.errorbar([0], [report["value"]], yerr=[report["standard_error"]], fmt="o", capsize=6, label="cut")
    if report["exact"] is not None:
        values.axhline(report["exact"], color="black", linestyle="--", linewidth=1, label="uncut, exact")
    values.set_xticks([])
    values.set_title(f"{report['value']:.4f} ± {report['standard_error']:.4f}")
    values.legend(loc="lower right")
    figure.savefig(path, dpi=120)
