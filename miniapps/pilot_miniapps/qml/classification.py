"""Four ways to train a variational classifier: figure 7 of the Pilot-Quantum paper."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import msgspec

from pilot import DescriptionError, PilotDescription, Task, TaskDescription
from pilot_miniapps.frame import MiniApp, Oracle, Outcome, Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

    from pilot_miniapps.qml.training import Timed, Trained

#: Bytes of a worker with JAX and PennyLane; and of each sample of a batch, while its gradient is computed.
WORKER_BYTES, SAMPLE_BYTES = 900 * 2**20, 4 * 2**20
#: Held-out images whose logits Qiskit computes as well; how far all may be apart, in single precision.
CHECKED, TOLERANCE = 8, 1e-3
#: The accuracy that each data set must exceed, by its number of classes.
ACCURACY_BARS = {2: "> .80", 10: "> .30"}


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What can be chosen."""

    batch: Annotated[
        tuple[Annotated[int, msgspec.Meta(ge=1, le=1024)], ...],
        msgspec.Meta(min_length=1, description="samples of a batch; give it again for another size"),
    ] = (2, 16, 64)
    way: Annotated[
        tuple[Literal["sequential", "vmap", "jit", "both"], ...],
        msgspec.Meta(min_length=1, description="a way to train; give it again for another"),
    ] = ("sequential", "vmap", "jit", "both")
    data: Annotated[
        tuple[Literal["digits", "photographs"], ...],
        msgspec.Meta(min_length=1, description="a data set to train with; give it again for the other"),
    ] = ("digits", "photographs")
    layers: Annotated[int, msgspec.Meta(ge=1, le=32, description="layers of the circuit whose steps are timed")] = 1
    training_layers: Annotated[int, msgspec.Meta(ge=1, le=32, description="layers of the trained circuit")] = 3
    steps: Annotated[int, msgspec.Meta(ge=1, le=100_000, description="steps of the training")] = 160
    training_batch: Annotated[int, msgspec.Meta(ge=1, le=1024, description="samples of a batch of the training")] = 16
    training_images: Annotated[
        int, msgspec.Meta(ge=1, le=1500, description="images for training, of each data set")
    ] = 300
    test_images: Annotated[int, msgspec.Meta(ge=1, le=1500, description="held-out images, of each data set")] = 200
    seed: Annotated[int, msgspec.Meta(ge=0, description="of the weights, the split and the batches")] = 0
    platform: Annotated[
        Literal["cpu", "gpu"], msgspec.Meta(description="where JAX computes: a core, or a GPU, for each task")
    ] = "cpu"

    def __post_init__(self) -> None:
        wanted, there = self.training_images + self.test_images, 520
        if wanted > there:
            raise DescriptionError(
                f"training_images and test_images: {wanted} in all; expected at most {there}, the patches of the "
                "photographs",
                field="training_images",
                given=self.training_images,
            )


class Classification(MiniApp):
    """Train a variational classifier of 13 qubits: sequentially, with vmap, with jit, with both.

    By default figure 7 of the Pilot-Quantum paper: the time of a step of the training loop against the size of the
    batch, PennyLane with JAX. Each way and size is a task with one core (or one GPU) and one thread. Classifiers of
    digits (ten classes) and of photographs (two) are trained as well, and tested with held-out images.
    """

    Settings = Settings
    packages: ClassVar[Sequence[str]] = ("matplotlib", "numpy", "jax", "optax", "pennylane", "qiskit", "sklearn", "PIL")
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "laptop": {},
        "paper": {"batch": (2, 4, 8, 16, 32, 64), "platform": "gpu"},
        "small": {
            "batch": (2,),
            "way": ("jit", "both"),
            "data": ("photographs",),
            "training_layers": 1,
            "training_batch": 2,
            "steps": 5,
            "test_images": 10,
        },
    }

    def pilots(self) -> Sequence[str | PilotDescription]:
        if self.settings.platform == "gpu":
            return (PilotDescription(engine="ray", cores_per_node=2, gpus_per_node=1),)
        return ("ray:2",)

    def memory(self) -> int:
        return 2 * (WORKER_BYTES + max(*self.settings.batch, self.settings.training_batch) * SAMPLE_BYTES)

    def plan(self) -> Mapping[str, Any]:
        settings = self.settings
        return {
            "tasks that time steps": len(set(settings.way)) * len(set(settings.batch)),
            "tasks that train": len(set(settings.data)),
            "weights that are trained": settings.training_layers * 13 * 3,
        }

    def warm_up(self) -> Callable[[], object]:
        from pilot_miniapps.qml.training import warm_up

        return warm_up

    def check(self, pilots: Sequence[PilotDescription]) -> None:
        if self.settings.platform == "gpu" and not any(one.gpus_per_node for one in pilots):
            raise DescriptionError(
                "platform: gpu, and no pilot has GPUs; choose cpu, or give a pilot with gpus_per_node",
                field="platform",
                given="gpu",
            )

    def work(self, run: Run) -> Outcome:
        settings = self.settings
        sets = self._data()
        with run.part("steps and training"):
            training = {name: self._train(run, name, *sets[name]) for name in dict.fromkeys(settings.data)}
            timing = {
                (way, size): self._time(run, way, size, *sets["digits"])
                for way in dict.fromkeys(settings.way)
                for size in sorted(set(settings.batch))
            }
            with run.progress([*training.values(), *timing.values()], "ways to train"):
                trained: dict[str, Trained] = {name: task.result() for name, task in training.items()}
                timed: dict[tuple[str, int], Timed] = {key: task.result() for key, task in timing.items()}
        with run.part("oracle"):
            oracle = self._check(trained, timed, sets)
        self._report(run, trained, timed)
        return Outcome(
            oracle=oracle,
            rows=[self._row(way, size, one) for (way, size), one in timed.items()],
            details={"training": {name: self._trained(one) for name, one in trained.items()}},
            results={name: {"losses": one.losses, "accuracy": one.accuracy} for name, one in trained.items()},
        )

    def _data(self) -> dict[str, tuple[Any, Any]]:
        """Images and labels by name, in a fixed random order: those for training first, then the held-out ones."""
        import numpy as np

        from pilot_miniapps.qml.images import digits, photographs

        chosen = {}
        for name, (images, labels) in {"digits": digits(), "photographs": photographs()}.items():
            count = self.settings.training_images + self.settings.test_images
            order = np.random.default_rng(self.settings.seed).permutation(len(images))[:count]
            chosen[name] = images[order], labels[order]
        return chosen

    def _train(self, run: Run, name: str, images: Any, labels: Any) -> Task:
        from pilot_miniapps.qml.training import train

        settings, split = self.settings, self.settings.training_images
        return self._submit(
            run,
            f"train/{name}",
            train,
            (images[:split], labels[:split], images[split:], labels[split:]),
            classes=_classes(name),
            layers=settings.training_layers,
            steps=settings.steps,
            batch=settings.training_batch,
            seed=settings.seed,
            platform=settings.platform,
        )

    def _time(self, run: Run, way: str, size: int, images: Any, labels: Any) -> Task:
        from pilot_miniapps.qml.training import time_steps

        settings = self.settings
        chosen = [number % len(images) for number in range(size)]
        return self._submit(
            run,
            f"time/{way}/{size}",
            time_steps,
            (way, images[chosen], labels[chosen]),
            classes=_classes("digits"),
            layers=settings.layers,
            seed=settings.seed,
            platform=settings.platform,
        )

    def _submit(self, run: Run, key: str, function: Callable[..., Any], args: tuple[Any, ...], **kwargs: Any) -> Task:
        gpus = 1 if self.settings.platform == "gpu" else 0
        wanted = TaskDescription(function=function, args=args, kwargs=kwargs, num_gpus=gpus, name=key)
        return run.submit_task(key, wanted)

    def _check(
        self,
        trained: Mapping[str, Trained],
        timed: Mapping[tuple[str, int], Timed],
        sets: Mapping[str, tuple[Any, Any]],
    ) -> Oracle:
        import numpy as np

        from pilot_miniapps.qml.classifier import SCALE
        from pilot_miniapps.qml.encoding import encode
        from pilot_miniapps.qml.expectation import expectation_values

        deviations = []
        for name, one in trained.items():
            held_out = sets[name][0][self.settings.training_images :][:CHECKED]
            for image, ours in zip(held_out, one.logits, strict=False):
                theirs = SCALE * expectation_values(one.weights, encode(image / 255), _classes(name))
                deviations.append(np.abs(theirs - ours).max())
        for (_, size), one in timed.items():
            base = timed[self.settings.way[0], size]
            deviations += [np.abs(one.gradient - base.gradient).max(), abs(one.loss - base.loss)]
        deviation = float(max(deviations))
        return Oracle(
            deviation <= TOLERANCE,
            deviation,
            "of a logit",
            f"logits of {CHECKED} held-out images of each set, and those by Qiskit; losses and gradients of all ways "
            f"to train, and those of {self.settings.way[0]}",
        )

    def _report(self, run: Run, trained: Mapping[str, Trained], timed: Mapping[tuple[str, int], Timed]) -> None:
        for name, one in trained.items():
            classes = _classes(name)
            enough = self.settings.steps >= Settings().steps  # the bars are those of a whole training
            bar = ACCURACY_BARS[classes] if enough else None
            run.figure(f"accuracy_{classes}", one.accuracy, "share", bar, n=len(one.logits))
        sizes = sorted(set(self.settings.batch))
        least, most = sizes[0], sizes[-1]
        seconds = {key: self._seconds(one) for key, one in timed.items()}
        for way, bar in (("vmap", None), ("jit", ">= 50"), ("both", None)):
            if ("sequential", least) in seconds and (way, least) in seconds:
                ratios = [seconds["sequential", size] / seconds[way, size] for size in sizes]
                middle, spread = statistics.median(ratios), (min(ratios), max(ratios))
                run.figure(f"{way}_speedup", middle, "ratio", bar, spread=spread, n=len(ratios), timed=True)
        for way in ("vmap", "both"):
            if least < most and (way, least) in seconds:
                bar = "<= 4" if (way, least, most) == ("vmap", 2, 64) else None
                run.figure(f"{way}_growth", seconds[way, most] / seconds[way, least], "ratio", bar, timed=True)

    def _seconds(self, one: Timed) -> float:
        """Of a step: the median. On a core, of the processor: there is one thread, and others may use the machine."""
        return statistics.median(one.cpu_seconds if self.settings.platform == "cpu" else one.seconds)

    def _row(self, way: str, size: int, one: Timed) -> dict[str, Any]:
        return {
            "way": way,
            "batch": size,
            "step_seconds": self._seconds(one),
            "sample_seconds": self._seconds(one) / size,
            "wall_seconds": statistics.median(one.seconds),
            "first_seconds": one.first_seconds,
            "steps": len(one.seconds),
        }

    def _trained(self, one: Trained) -> dict[str, Any]:
        return {"losses": one.losses, "accuracy": one.accuracy, "seconds": one.seconds}

    def draw(self, report: Mapping[str, Any]) -> Mapping[str, Drawing]:
        from pilot_miniapps.qml.classification_plots import training, ways

        return {"classifier": ways(report), "training": training(report)}


def _classes(name: str) -> int:
    return 10 if name == "digits" else 2
