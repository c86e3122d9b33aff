"""Images compressed to circuits: figure 6 of the Pilot-Quantum paper."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import msgspec

from pilot import DescriptionError, PilotDescription, Task, TaskDescription
from pilot_miniapps.frame import MiniApp, Oracle, Outcome, Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

    from pilot_miniapps.qml.compressing import Compressed
    from pilot_miniapps.qml.images import Images

#: Bytes of a worker that compresses; most of it are NumPy and SciPy.
WORKER_BYTES = 200 * 2**20
#: So many circuits are simulated by Qiskit as well, spread over all images.
CHECKED = 64
#: How far both fidelities may be apart: rounding of some hundred gates.
TOLERANCE = 1e-10
SHOWN = 4


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What can be chosen."""

    images: Annotated[int, msgspec.Meta(ge=1, le=10_000_000, description="how many images")] = 20
    data: Annotated[
        str | None,
        msgspec.Meta(
            description="folder with CIFAR-10 or image files; without it, patches of scikit-learn's photographs"
        ),
    ] = None
    layers: Annotated[int, msgspec.Meta(ge=1, le=64, description="depth of the circuit")] = 4
    sweeps: Annotated[int, msgspec.Meta(ge=0, le=100_000, description="sweeps over all gates of a circuit")] = 100
    iterations: Annotated[int, msgspec.Meta(ge=0, le=100_000, description="iterations of BFGS at most")] = 50
    slots: Annotated[
        tuple[Annotated[int, msgspec.Meta(ge=1)], ...],
        msgspec.Meta(description="compress all images on so many slots at a time; give it again to compare; none: all"),
    ] = (1, 2)
    repeat: Annotated[int, msgspec.Meta(ge=1, le=1000, description="rounds of all numbers of slots; medians count")] = 2

    def __post_init__(self) -> None:
        if self.data is not None:
            from pilot_miniapps.qml.images import check_folder

            check_folder(self.data)


class Compression(MiniApp):
    """Compress images to circuits of 13 qubits, one task an image, one thread a task.

    By default the circuits of figure 6 of the Pilot-Quantum paper, depth 4 with 205 parameters, for patches of
    photographs: first matrix product states and sweeps, then BFGS. All images are compressed on one slot, and on two;
    the parallel efficiency is the time on one slot over twice the time on two.
    """

    Settings = Settings
    packages: ClassVar[Sequence[str]] = ("matplotlib", "numpy", "scipy", "sklearn", "PIL", "qiskit", "threadpoolctl")
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "laptop": {},
        "paper": {"images": 60_000, "slots": (), "repeat": 1},
        "scaling": {"images": 64, "slots": (), "repeat": 1},
        "small": {"images": 4, "sweeps": 10, "iterations": 10, "slots": (), "repeat": 1},
    }

    def pilots(self) -> Sequence[str]:
        return ("ray:2",)

    def memory(self) -> int:
        return self.pictures.nbytes + max(self.settings.slots, default=1) * WORKER_BYTES

    def plan(self) -> Mapping[str, Any]:
        from pilot_miniapps.qml.encoding import QUBITS
        from pilot_miniapps.qml.staircase import number_of_parameters

        settings = self.settings
        return {
            "images": "photographs of scikit-learn" if settings.data is None else settings.data,
            "tasks": settings.images * settings.repeat * max(len(settings.slots), 1),
            "parameters of each circuit": number_of_parameters(QUBITS, settings.layers),
        }

    def warm_up(self) -> Callable[[], object]:
        from pilot_miniapps.qml.compressing import warm_up

        return warm_up

    def scaled(self, times: int) -> Settings:
        return msgspec.structs.replace(self.settings, images=self.settings.images * times)

    @cached_property
    def pictures(self) -> Images:
        """The images, shape ``(images, 32, 32, 3)``."""
        from pilot_miniapps.qml.images import from_folder, patches

        count, data = self.settings.images, self.settings.data
        return patches(count) if data is None else from_folder(data, count)

    def check(self, pilots: Sequence[PilotDescription]) -> None:
        wanted, there = max(self.settings.slots, default=1), sum(one.cores * one.number_of_nodes for one in pilots)
        if wanted > there:
            raise DescriptionError(
                f"slots: {wanted} are wanted, and the pilots have {there}; give larger pilots, or fewer slots",
                field="slots",
                given=wanted,
            )

    def work(self, run: Run) -> Outcome:
        settings = self.settings
        counts = settings.slots or (run.slots,)
        passes: dict[int, list[_Pass]] = {count: [] for count in sorted(set(counts))}
        for number in range(settings.repeat):
            for count in list(passes)[:: -1 if number % 2 else 1]:  # forth and back: a drift hits all of them
                passes[count].append(self._compress(run, count, f"{number}/{count}"))
        first = next(iter(passes.values()))[0].found
        with run.part("oracle"):
            oracle = self._check(first)
        self._report(run, passes, first)
        fidelities = [one.fidelities for one in first]
        return Outcome(
            oracle=oracle,
            rows=[self._row(count, its, next(iter(passes.items()))) for count, its in passes.items()],
            details={"images": [self._image(one) for one in first], "shown": self._shown(first)},
            results={"fidelities": fidelities, "iterations": [one.iterations for one in first]},
        )

    def _compress(self, run: Run, slots: int, key: str) -> _Pass:
        """One pass over all images; at most so many tasks run at a time."""
        from pilot_miniapps.qml.compressing import compress

        settings = self.settings
        tasks: list[Task] = []
        with run.part(f"pass {key}"):
            begun = time.perf_counter()
            for number, image in enumerate(self.pictures):
                # tasks that are fewer than the slots of the pilots wait for one another
                before = tasks[number - slots : number - slots + 1] if number >= slots < run.slots else []
                wanted = TaskDescription(
                    function=compress,
                    args=(image, settings.layers, settings.sweeps, settings.iterations),
                    depends_on=before,
                    name=f"image {number}",
                )
                tasks.append(run.submit_task(f"{key}/{number}", wanted))
            with run.progress(tasks, f"images on {slots} slots"):
                found = run.manager.get_results(tasks)
            return _Pass(time.perf_counter() - begun, found)

    def _check(self, found: Sequence[Compressed]) -> Oracle:
        from pilot_miniapps.qml.encoding import QUBITS, encode
        from pilot_miniapps.qml.fidelity import fidelity

        chosen = range(0, len(found), -(-len(found) // CHECKED))
        deviation = max(
            abs(
                fidelity(found[number].parameters, encode(self.pictures[number] / 255), QUBITS, self.settings.layers)
                - found[number].fidelities[-1]
            )
            for number in chosen
        )
        text = f"the fidelities of {len(chosen)} images, and those of Qiskit's state vector with the same angles"
        return Oracle(deviation <= TOLERANCE, deviation, "fidelity", text)

    def _report(self, run: Run, passes: Mapping[int, Sequence[_Pass]], first: Sequence[Compressed]) -> None:
        fidelities = [one.fidelities[-1] for one in first]
        run.figure(
            "fidelity_mean",
            statistics.fmean(fidelities),
            "fidelity",
            ">= .9",
            spread=(min(fidelities), max(fidelities)),
            n=len(fidelities),
        )
        run.figure("parameters", len(first[0].parameters), "angles")
        run.figure(
            "threads", max(one.threads for its in passes.values() for each in its for one in each.found), "threads"
        )
        (fewest, base), *others = passes.items()
        for count, its in others:
            ratios = [fewest * one.seconds / (count * two.seconds) for one, two in zip(base, its, strict=True)]
            middle = _efficiency(count, its, (fewest, base))
            bar = ">= .9" if (fewest, count) == (1, 2) else None
            spread = (min(ratios), max(ratios))
            run.figure(f"efficiency_{count}", middle, "ratio", bar, spread=spread, n=len(ratios), timed=True)
            # on a busy machine: tasks that wait for a core are left out
            free = _slot_seconds(fewest, base) / _slot_seconds(count, its)
            run.figure(f"efficiency_{count}_cpu", free, "ratio", timed=True)

    def _row(self, count: int, its: Sequence[_Pass], base: tuple[int, Sequence[_Pass]]) -> dict[str, Any]:
        seconds = statistics.median(one.seconds for one in its)
        found = [one for each in its for one in each.found]
        return {
            "slots": count,
            "seconds": seconds,
            "images_per_second": self.settings.images / seconds,
            "efficiency": _efficiency(count, its, base),
            "sweep_seconds": statistics.fmean(one.seconds[0] for one in found),
            "bfgs_seconds": statistics.fmean(one.seconds[1] for one in found),
            "cpu_seconds": statistics.fmean(sum(one.cpu_seconds) for one in found),
        }

    def _image(self, one: Compressed) -> dict[str, Any]:
        names = ("fidelity_mps", "fidelity_sweeps", "fidelity")
        return {**dict(zip(names, one.fidelities, strict=True)), "iterations": one.iterations}

    def _shown(self, found: Sequence[Compressed]) -> list[dict[str, Any]]:
        """Some images and what their circuits give, from the worst to the best; pixels as bytes, row by row."""
        import numpy as np

        from pilot_miniapps.qml.encoding import QUBITS, decode
        from pilot_miniapps.qml.staircase import Staircase

        circuit = Staircase(QUBITS, self.settings.layers)
        order = sorted(range(len(found)), key=lambda number: found[number].fidelities[-1])
        places = sorted({round(place) for place in np.linspace(0, len(order) - 1, SHOWN)})
        shown = []
        for number in (order[place] for place in places):
            state = circuit.state(found[number].parameters)
            target_sign = np.sign(state.sum()) or 1.0  # all amplitudes of an image are positive
            restored = np.round(255 * decode(target_sign * state)).astype(np.uint8)
            shown.append(
                {
                    "image": number,
                    "fidelity": found[number].fidelities[-1],
                    "original": self.pictures[number].tobytes(),
                    "restored": restored.tobytes(),
                }
            )
        return shown

    def draw(self, report: Mapping[str, Any]) -> Mapping[str, Drawing]:
        from pilot_miniapps.qml.compression_plots import images, times

        return {"compression": times(report), "images": images(report)}


class _Pass(msgspec.Struct, frozen=True):
    """All images on a number of slots: the time from the first submission to the last result, and the results."""

    seconds: float
    found: Sequence[Any]


def _efficiency(count: int, its: Sequence[_Pass], base: tuple[int, Sequence[_Pass]]) -> float:
    """The time on the fewest slots over that on `count`, and over how many times more these are; medians."""
    fewest, first = base
    seconds, fewest_seconds = (statistics.median(one.seconds for one in each) for each in (its, first))
    return fewest * fewest_seconds / (count * seconds)


def _slot_seconds(count: int, its: Sequence[_Pass]) -> float:
    """Seconds of the slots in which no task ran, and processor seconds of the tasks. Without other work on the machine,
    that is the number of slots times the time."""
    found = [one for each in its for one in each.found]
    waited = sum(sum(one.seconds) - sum(one.cpu_seconds) for one in found)
    return count * sum(one.seconds for one in its) - waited
