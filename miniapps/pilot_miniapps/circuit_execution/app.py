"""The mini-app: circuits by device and width, timed, and compared with independent values."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from pilot import DescriptionError, PilotDescription, Task, TaskDescription
from pilot_miniapps.circuit_execution import oracles
from pilot_miniapps.circuit_execution.devices import Device, check_pilots, check_widths, qpus_of
from pilot_miniapps.circuit_execution.measured import PAPER_CIRCUITS, Measurement, crossing, rates, verdict
from pilot_miniapps.circuit_execution.oracles import Check
from pilot_miniapps.circuit_execution.settings import Cell, Settings
from pilot_miniapps.circuit_execution.workload import values_together, warm_up
from pilot_miniapps.frame import MiniApp, Outcome, Run
from pilot_miniapps.frame.qpus import Needed, check_room

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure as Drawing

#: Qiskit's `Statevector` is the oracle up to so many qubits, and Aer's density matrix up to so many.
_WIDEST_IDEAL, _WIDEST_NOISY = 16, 6
#: What many small circuits in one task on a GPU must gain over one task each.
GPU_GAIN = ">= 5"


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
            "devices": ("cpu", "fake:manila"),
            "qubits": (2, 4),
            "qpu_qubits": (2, 3),
            "qpu_circuits": 2,
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
        widths = [max(self.settings.widths(device)) for device in self.settings.where() if not device.is_gpu]
        return 2 * (16 << max(widths, default=0))

    def qpus(self) -> Sequence[str]:
        return [one for one in self.settings.devices if one not in ("cpu", "gpu")]

    def plan(self) -> Mapping[str, Any]:
        """Circuits and, on simulators, the predicted seconds of one circuit by width."""
        from pilot.quantum import costs

        settings = self.settings
        seconds = {}
        for width in settings.qubits:
            circuit, _ = settings.workload(width).case(0)
            best = costs.choose(costs.estimate(costs.facts(circuit), settings.shots))
            seconds[str(width)] = None if best is None else best.seconds
        numbers = {device.name: len(settings.cells(device)) for device in settings.where()}
        circuits = {
            device.name: sum(len(cell.numbers) for cell in settings.cells(device)) for device in settings.where()
        }
        return {"measurements": numbers, "circuits": circuits, "seconds_a_circuit": seconds}

    def warm_up(self) -> Callable[[], object]:
        """Workers import Qiskit and Aer."""
        return warm_up

    def scaled(self, times: int) -> Settings:
        """`times` as many circuits of each width."""
        settings = self.settings
        return msgspec.structs.replace(
            settings, circuits=settings.circuits * times, qpu_circuits=settings.qpu_circuits * times
        )

    def check(self, pilots: Sequence[PilotDescription]) -> None:
        """The pilots have the devices, and snapshots have room for the circuits."""
        devices = self.settings.where()
        check_pilots(devices, pilots)
        widest, advice = max(self.settings.qpu_qubits), "leave out wider ones in qpu_qubits"
        check_room(Needed("devices", one.qpu, widest, "QPUs that are no simulators", advice) for one in devices)

    def work(self, run: Run) -> Outcome:
        """Measure cell by cell; the oracle's values are computed last."""
        settings = self.settings
        for pilot in run.pilots:
            pilot.wait()
        measurements = []
        for device in settings.where():
            check_widths(device, settings.widths(device), run.manager.qpus)
            # opens the device and compiles something before the clock starts
            self._submit_circuit(run, f"{device.name}/first", device, *settings.workload(2).case(10**6), 0).result()
            for cell in settings.cells(device):
                with run.part(f"make circuits for {device.name}"):
                    cases = [cell.workload.case(number) for number in cell.numbers] if cell.batch == 1 else []
                with run.part(device.name):
                    measurements.append(Measurement.of(cell, self._submit(run, cell, cases)))
        with run.part("oracle"):
            checked = self._check(run, measurements)
        self._report(run, measurements)
        details = {
            "labels": {device.name: device.label for device in settings.where()},
            "values": {one.cell.key: one.values for one in measurements},
        }
        return Outcome(oracle=verdict(checked), rows=[one.row() for one in measurements], details=details)

    # ---- what runs ------------------------------------------------------------------------------------------------

    def _submit(self, run: Run, cell: Cell, cases: Sequence[tuple[Any, Any]]) -> list[Task]:
        """Each circuit as a task; with batches, so many circuits as one task that makes them itself."""
        if cell.batch == 1:
            return [
                self._submit_circuit(run, f"{cell.key}/{number}", cell.device, *case, number)
                for number, case in zip(cell.numbers, cases, strict=True)
            ]
        tasks = []
        for first in range(0, len(cell.numbers), cell.batch):
            numbers = list(cell.numbers[first : first + cell.batch])
            key = f"{cell.key}/{numbers[0]}"
            args = (cell.workload, numbers, cell.device.is_gpu)
            wanted = TaskDescription(function=values_together, args=args, name=key, **cell.device.needs())
            tasks.append(run.submit_task(key, wanted))
        return tasks

    def _submit_circuit(self, run: Run, key: str, device: Device, circuit: Any, observable: Any, number: int) -> Task:
        shots = self.settings.shots_on(device)
        wanted = TaskDescription(
            circuit=circuit,
            observables=[observable],
            qpu=device.qpu,
            shots=shots,
            seed=None if shots is None else self.settings.seed + number,
            name=key,
            **device.needs(),
        )
        return run.submit_task(key, wanted)

    # ---- what comes out -------------------------------------------------------------------------------------------

    def _check(self, run: Run, measurements: Sequence[Measurement]) -> list[Check]:
        """The first circuits of each device, width and batch beside what an independent program says."""
        found = []
        expected = []
        for one in measurements:
            if one.cell.repetition == 0:
                numbers = list(one.cell.numbers[: self.settings.checked])
                expected.append((one, numbers, _expected(run, one.cell, numbers)))
        for one, numbers, task in expected:
            if task is None:
                continue
            bounds = [oracles.ROUNDING] * len(numbers)
            if not one.cell.device.is_simulator and not one.cell.device.is_snapshot:
                info = run.manager.qpus[one.cell.device.qpu]
                bounds = list(map(oracles.bound_of, oracles.fidelities(one.cell.workload, numbers, info)))
            for (value, error), exact, bound in zip(one.values, task.result(), bounds, strict=False):
                found.append(Check(value=value, standard_error=error, expected=exact, bound=bound))
        return found

    def _report(self, run: Run, measurements: Sequence[Measurement]) -> None:
        """The circuits per second of each device at its least and its greatest width, and what batches gain."""
        for device in self.settings.where():
            widths = self.settings.widths(device)
            for width in dict.fromkeys((min(widths), max(widths))):
                found = rates(measurements, device.name, width)
                for batch, its in found.items():
                    key = f"{device.key}_circuits_per_second_{width}" + (f"_batch_{batch}" if batch > 1 else "")
                    run.figure(key, median(its), "circuits/s", spread=(min(its), max(its)), n=len(its), timed=True)
                if width == min(widths) and len(found) > 1 and 1 in found:
                    gain = median(found[max(found)]) / median(found[1])
                    run.figure(
                        f"{device.key}_batch_gain", gain, "times", GPU_GAIN if device.is_gpu else None, timed=True
                    )
        width = crossing(measurements)
        if width is not None:
            run.figure("gpu_faster_from", width, "qubits", timed=True)

    def draw(self, report: Mapping[str, Any]) -> Mapping[str, Drawing]:
        """Time and circuits per second by width and device, beside the paper's points."""
        from pilot_miniapps.circuit_execution.plots import times

        return {"circuit-execution": times(report)}


def _expected(run: Run, cell: Cell, numbers: list[int]) -> Task | None:
    """The task that computes the oracle's values; None where the circuits are too wide for it."""
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
