"""The mini-app: circuits by device and width, timed, and compared with independent values."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import msgspec
import numpy as np

from pilot import DescriptionError, PilotDescription, Task, TaskDescription
from pilot_miniapps.circuit_execution.devices import Device, check_pilots, check_widths, qpus_of
from pilot_miniapps.circuit_execution.workload import Workload, values_together
from pilot_miniapps.frame import MiniApp, Oracle, Outcome, Run

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure as Drawing

    from pilot_miniapps.circuit_execution.oracles import Check

#: The paper's times are for so many circuits of each width.
PAPER_CIRCUITS = 1024
#: Qiskit's `Statevector` is the oracle up to so many qubits, and Aer's density matrix up to so many.
_WIDEST_IDEAL, _WIDEST_NOISY = 16, 6

Width = Annotated[int, msgspec.Meta(ge=2, le=64)]
Number = Annotated[int, msgspec.Meta(ge=1, le=100_000)]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What can be chosen."""

    devices: Annotated[
        tuple[str, ...],
        msgspec.Meta(
            min_length=1,
            description="where circuits run: cpu and gpu (Qiskit Aer), or QPUs of the pilots such as fake:guadalupe, "
            "ibm:ibm_fez or aer:statevector?precision=single, options behind the ?",
        ),
    ] = ("cpu", "fake:guadalupe")
    qubits: Annotated[
        tuple[Width, ...], msgspec.Meta(min_length=1, description="widths of the circuits on simulators")
    ] = (2, 4, 6, 8, 10, 12, 14, 16)
    circuits: Annotated[Number, msgspec.Meta(description="circuits of each width on simulators")] = 64
    qpu_qubits: Annotated[
        tuple[Width, ...], msgspec.Meta(min_length=1, description="widths of the circuits on other QPUs")
    ] = (2, 4, 6)
    qpu_circuits: Annotated[
        Number, msgspec.Meta(description="circuits of each width on other QPUs; the paper ran 8 on IBM's")
    ] = 8
    depth: Annotated[int, msgspec.Meta(ge=1, le=1000, description="layers of random gates on 1 and 2 qubits")] = 6
    size: Annotated[int, msgspec.Meta(ge=1, le=1000, description="random Pauli strings in an observable")] = 1
    shots: Annotated[
        Number | None,
        msgspec.Meta(description="of each circuit on simulators; without it, values are exact"),
    ] = None
    qpu_shots: Annotated[Number, msgspec.Meta(description="of each circuit on other QPUs")] = 1024
    batches: Annotated[
        tuple[Number, ...],
        msgspec.Meta(
            min_length=1,
            description="circuits of one task on cpu and gpu, one measurement for each; 1: each circuit is a task; "
            "more need exact values",
        ),
    ] = (1, 32)
    repetitions: Annotated[
        int, msgspec.Meta(ge=1, le=100, description="of each measurement, with other circuits, for the spread")
    ] = 3
    checked: Annotated[
        int, msgspec.Meta(ge=1, description="circuits of each width that are compared with the oracle")
    ] = 16
    seed: Annotated[int, msgspec.Meta(ge=0, description="of circuits, observables and shots")] = 1

    def __post_init__(self) -> None:
        if self.shots is not None and max(self.batches) > 1:
            raise ValueError(
                f"batches: {list(self.batches)} is not valid with shots: circuits that share a task have exact values; "
                "give batches 1, or no shots"
            )
        for name in ("devices", "qubits", "qpu_qubits", "batches"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ValueError(f"{name}: {list(values)} is not valid: a value comes twice")

    def where(self) -> list[Device]:
        """The devices."""
        return [Device(name) for name in self.devices]


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """Circuits that are measured together: of one width, on one device."""

    device: Device
    workload: Workload
    #: The numbers of the circuits.
    numbers: range
    #: Circuits of one task.
    batch: int
    repetition: int

    @property
    def key(self) -> str:
        """The first part of its tasks' keys."""
        return f"{self.device.name}/{self.workload.qubits}/{self.batch}/{self.repetition}"


class CircuitExecution(MiniApp):
    """Run random circuits with random observables on simulators and QPUs, and time them.

    Figure 3 of the Pilot-Quantum paper: the time of 1,024 random circuits of 2 to 28 qubits on Aer (CPU, GPU), a
    cloud's simulator and an IBM QPU. Times are from the first submission to the last result, pilots warm, circuits made
    before; those of fewer circuits are scaled to 1,024, as the paper does for the QPU.
    """

    Settings: ClassVar[type[msgspec.Struct]] = Settings
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "laptop": {},
        "small": {
            "devices": ("cpu",),
            "qubits": (2, 4),
            "circuits": 8,
            "batches": (1, 4),
            "repetitions": 1,
            "checked": 8,
        },
        "paper": {
            "qubits": tuple(range(2, 29, 2)),
            "circuits": PAPER_CIRCUITS,
            "devices": ("cpu", "fake:sherbrooke"),
            "qpu_qubits": (2, 4, 6, 8),
            "batches": (1,),
        },
    }
    packages: ClassVar[Sequence[str]] = ("qiskit", "qiskit_aer")

    settings: Settings

    def pilots(self) -> Sequence[str | PilotDescription]:
        """One pilot of two cores that has the QPUs, and a GPU where one is wanted."""
        devices = self.settings.where()
        gpus = int(any(device.is_gpu for device in devices))
        if gpus:
            _check_gpu()
        return [
            PilotDescription(engine="ray", cores_per_node=2, gpus_per_node=gpus, qpus=qpus_of(devices), name="circuits")
        ]

    def memory(self) -> int:
        """A state vector on each core of a pilot's; GPUs have their own memory."""
        widths = [max(self._widths(device)) for device in self.settings.where() if not device.is_gpu]
        return 2 * (16 << max(widths, default=0))

    def plan(self) -> Mapping[str, Any]:
        """Circuits and, on simulators, the predicted seconds of one circuit by width."""
        from pilot.quantum import costs

        settings = self.settings
        seconds = {}
        for width in settings.qubits:
            circuit, _ = self._workload(width).case(0)
            best = costs.choose(costs.estimate(costs.facts(circuit), settings.shots))
            seconds[str(width)] = None if best is None else best.seconds
        numbers = {device.name: len(self._cells(device)) for device in settings.where()}
        circuits = {device.name: sum(len(cell.numbers) for cell in self._cells(device)) for device in settings.where()}
        return {"measurements": numbers, "circuits": circuits, "seconds_a_circuit": seconds}

    def warm_up(self) -> Callable[[], object]:
        """Workers import Qiskit and Aer."""
        from pilot.quantum.aer import warm_up

        return warm_up

    def scaled(self, times: int) -> Settings:
        """`times` as many circuits of each width."""
        settings = self.settings
        return msgspec.structs.replace(
            settings, circuits=settings.circuits * times, qpu_circuits=settings.qpu_circuits * times
        )

    def work(self, run: Run) -> Outcome:
        """Measure cell by cell; the oracle's values are computed last."""
        devices = self.settings.where()
        check_pilots(devices, [pilot.description for pilot in run.pilots])
        for pilot in run.pilots:
            pilot.wait()
        rows: list[dict[str, Any]] = []
        checked: list[Check] = []
        for device in devices:
            check_widths(device, self._widths(device), run.manager.qpus)
            self._warm_device(run, device)
            for cell in self._cells(device):
                with run.part(f"make circuits for {device.name}"):
                    cases = [cell.workload.case(number) for number in cell.numbers] if cell.batch == 1 else []
                with run.part(device.name):
                    tasks = self._submit(run, cell, cases)
                    values = _values(tasks)
                rows.append(_row(cell, tasks, values))
        with run.part("oracle"):
            checked = self._check(run, rows)
        self._report(run, rows)
        return Outcome(oracle=_verdict(checked), rows=[_public(row) for row in rows], details=self._details(rows))

    # ---- what runs ------------------------------------------------------------------------------------------------

    def _workload(self, width: int) -> Workload:
        settings = self.settings
        return Workload(qubits=width, depth=settings.depth, size=settings.size, seed=settings.seed)

    def _widths(self, device: Device) -> tuple[int, ...]:
        return self.settings.qubits if device.is_simulator else self.settings.qpu_qubits

    def _shots(self, device: Device) -> int | None:
        return self.settings.shots if device.is_simulator else self.settings.qpu_shots

    def _cells(self, device: Device) -> list[Cell]:
        settings = self.settings
        number = settings.circuits if device.is_simulator else settings.qpu_circuits
        return [
            Cell(
                device=device,
                workload=self._workload(width),
                numbers=range(repetition * number, (repetition + 1) * number),
                batch=batch,
                repetition=repetition,
            )
            for width in self._widths(device)
            for repetition in range(settings.repetitions)
            for batch in (settings.batches if device.name in ("cpu", "gpu") else (1,))
        ]

    def _warm_device(self, run: Run, device: Device) -> None:
        """Open it, and compile something, before the clock starts."""
        circuit, observable = self._workload(2).case(10**6)
        run.submit_task(f"{device.name}/warm-up", self._description(device, circuit, observable, 0)).result()

    def _submit(self, run: Run, cell: Cell, cases: Sequence[tuple[Any, Any]]) -> list[Task]:
        if cell.batch == 1:
            return [
                run.submit_task(f"{cell.key}/{number}", self._description(cell.device, *case, number))
                for number, case in zip(cell.numbers, cases, strict=True)
            ]
        return [
            run.submit_task(
                f"{cell.key}/{numbers[0]}",
                TaskDescription(
                    function=values_together,
                    args=(cell.workload, numbers, cell.device.is_gpu),
                    name="batch",
                    **cell.device.needs(),
                ),
            )
            for numbers in (
                list(cell.numbers[first : first + cell.batch]) for first in range(0, len(cell.numbers), cell.batch)
            )
        ]

    def _description(self, device: Device, circuit: Any, observable: Any, number: int) -> TaskDescription:
        shots = self._shots(device)
        return TaskDescription(
            circuit=circuit,
            observables=[observable],
            qpu=device.qpu,
            shots=shots,
            seed=None if shots is None else self.settings.seed + number,
            **device.needs(),
        )

    # ---- what comes out -------------------------------------------------------------------------------------------

    def _check(self, run: Run, rows: Sequence[Mapping[str, Any]]) -> list[Check]:
        """The first circuits of each device and width beside what an independent program says."""
        from pilot_miniapps.circuit_execution import oracles

        tasks: list[tuple[Mapping[str, Any], Task | None, Sequence[int]]] = []
        for row in rows:
            cell: Cell = row["cell"]
            numbers = list(cell.numbers[: self.settings.checked])
            what = self._expected(run, cell, numbers)
            if cell.repetition == 0 and what is not None:
                tasks.append((row, what, numbers))
        found = []
        for row, task, numbers in tasks:
            cell = row["cell"]
            bounds = [oracles.ROUNDING] * len(numbers)
            if not cell.device.is_simulator and not cell.device.is_snapshot:
                info = run.manager.qpus[cell.device.qpu]
                bounds = list(map(oracles.bound_of, oracles.fidelities(cell.workload, numbers, info)))
            for (value, error), expected, bound in zip(row["values"], task.result(), bounds, strict=False):
                found.append(oracles.Check(value=value, standard_error=error, expected=expected, bound=bound))
        return found

    def _expected(self, run: Run, cell: Cell, numbers: list[int]) -> Task | None:
        """The task that computes the oracle's values; None where the circuits are too wide for it."""
        from pilot_miniapps.circuit_execution import oracles

        width = cell.workload.qubits
        if cell.device.is_snapshot and width <= _WIDEST_NOISY:
            snapshot = cell.device.qpu.partition(":")[2].partition("?")[0]
            function: Callable[..., Any] = partial(oracles.noisy_values, snapshot=snapshot)
            key = f"oracle/{snapshot}/{width}"
        elif not cell.device.is_snapshot and width <= _WIDEST_IDEAL:
            function, key = oracles.ideal_values, f"oracle/ideal/{width}"
        else:
            return None
        return run.submit(f"{key}/{numbers[0]}-{numbers[-1]}", function, cell.workload, numbers)

    def _report(self, run: Run, rows: Sequence[Mapping[str, Any]]) -> None:
        """The circuits per second of each device at its least and its greatest width, and what batches gain."""
        for device in self.settings.where():
            for width in dict.fromkeys((min(self._widths(device)), max(self._widths(device)))):
                rates = _rates(rows, device, width)
                for batch, its in rates.items():
                    key = f"{device.key}_circuits_per_second_{width}" + (f"_batch_{batch}" if batch > 1 else "")
                    run.figure(key, float(np.median(its)), "1/s", spread=(min(its), max(its)), n=len(its))
                if device.is_gpu and width == min(self._widths(device)) and len(rates) > 1 and 1 in rates:
                    gain = float(np.median(rates[max(rates)]) / np.median(rates[1]))
                    run.figure(f"{device.key}_batch_gain", gain, "times", ">= 5", timed=True)
        crossing = _crossing(rows)
        if crossing is not None:
            run.figure("gpu_faster_from", crossing, "qubits", timed=True)

    def _details(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        return {
            "labels": {device.name: device.label for device in self.settings.where()},
            "values": [
                {"device": row["device"], "qubits": row["qubits"], "batch": row["batch"], "values": row["values"]}
                for row in rows
            ],
        }

    def draw(self, report: Mapping[str, Any]) -> Mapping[str, Drawing]:
        """Time and circuits per second by width and device, beside the paper's points."""
        from pilot_miniapps.circuit_execution.plots import times

        return {"circuit-execution": times(report)}


def _check_gpu() -> None:
    """Refuse a GPU of this host where there is none.

    Raises:
        DescriptionError: it says what to do.
    """
    import shutil
    import subprocess

    program = shutil.which("nvidia-smi")
    listed = subprocess.run([program, "-L"], capture_output=True, text=True, check=False).stdout if program else ""
    if "GPU " not in listed or os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        raise DescriptionError(
            "devices: gpu needs a GPU, and nvidia-smi lists none on this host: name pilots on a host that has one "
            "(gpus_per_node and qpus = ['aer:statevector?device=GPU']), with qiskit-aer-gpu, or leave gpu out",
            field="devices",
            given="gpu",
        )


def _values(tasks: Sequence[Task]) -> list[tuple[float, float]]:
    """Values and standard errors, in the order of the circuits."""
    found: list[tuple[float, float]] = []
    for task in tasks:
        result = task.result()
        if isinstance(result, list):
            found += [(value, 0.0) for value in result]
        else:
            found.append((float(result.values[0]), float(result.standard_errors[0])))
    return found


def _row(cell: Cell, tasks: Sequence[Task], values: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """What was measured. Times are those of the tasks' records, so that a resumed run has them too."""
    submitted = [task.info.submitted for task in tasks if task.info.submitted is not None]
    finished = [task.info.finished for task in tasks if task.info.finished is not None]
    seconds = max(finished) - min(submitted)
    return {
        "device": cell.device.name,
        "qubits": cell.workload.qubits,
        "batch": cell.batch,
        "repetition": cell.repetition,
        "circuits": len(cell.numbers),
        "seconds": seconds,
        "circuits_per_second": len(cell.numbers) / seconds,
        "seconds_for_1024": seconds / len(cell.numbers) * PAPER_CIRCUITS,
        "cell": cell,
        "values": list(values),
    }


def _public(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in ("cell", "values")}


def _rates(rows: Sequence[Mapping[str, Any]], device: Device, width: int) -> dict[int, list[float]]:
    """Circuits per second of each repetition, by the circuits of a task."""
    found: dict[int, list[float]] = {}
    for row in rows:
        if (row["device"], row["qubits"]) == (device.name, width):
            found.setdefault(row["batch"], []).append(row["circuits_per_second"])
    return found


def _crossing(rows: Sequence[Mapping[str, Any]]) -> int | None:
    """The least width from which on the GPU is faster than the CPU, each with its best batch; None: there is none."""
    best: dict[tuple[str, int], float] = {}
    for row in rows:
        place = (row["device"], row["qubits"])
        best[place] = max(best.get(place, 0.0), row["circuits_per_second"])
    widths = sorted({qubits for device, qubits in best if device == "gpu" and ("cpu", qubits) in best})
    crossing = None
    for width in reversed(widths):
        if best["gpu", width] <= best["cpu", width]:
            break
        crossing = width
    return crossing


def _verdict(checked: Sequence[Check]) -> Oracle:
    """All values are right; the deviation is that of the worst, of sampled ones if there are some."""
    from pilot_miniapps.circuit_execution.oracles import allowed_errors

    sampled = [one for one in checked if one.standard_error]
    exact = [one for one in checked if not one.standard_error]
    allowed = allowed_errors(len(sampled))
    farthest = max((one.deviation() for one in sampled), default=0.0)
    difference = max((abs(one.value - one.expected) for one in exact), default=0.0)
    return Oracle(
        passed=bool(checked) and all(one.passes(allowed) for one in checked),
        deviation=farthest if sampled else difference,
        unit="standard errors" if sampled else "1",
        text=f"{len(exact)} exact values agree with Qiskit's Statevector to {difference:.1e}; {len(sampled)} sampled "
        f"ones with theirs (noise: Aer's density matrix) to {farthest:.1f} standard errors, {allowed:.1f} allowed",
    )
