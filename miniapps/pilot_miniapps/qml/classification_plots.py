"""The plots of `qml-classifier`, from its report: figure 7 of the Pilot-Quantum paper, and the training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pilot import plots
from pilot_miniapps.qml.classifier import WAYS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LABELS = {"both": "vmap + jit"}


def ways(report: Mapping[str, Any]) -> Figure:
    """Time of a step of the training loop against the size of the batch, for the four ways."""
    figure, axes = plots.new(width="single", height=3.0)
    sizes = sorted({row["batch"] for row in report["rows"]})
    for series, way in enumerate(WAYS):
        its = [row for row in report["rows"] if row["way"] == way]
        seconds = [row["step_seconds"] for row in its]
        if its:
            plots.lines(axes, [row["batch"] for row in its], seconds, series=series, label=LABELS.get(way, way))
    with plots.style():
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(sizes, [str(size) for size in sizes])
    plots.label(axes, x="batch (samples)", y="time of a training step (s)")
    figure.legend(loc="outside upper center", ncols=2, fontsize=7, frameon=False)
    place = "one core, one thread" if report["configuration"]["platform"] == "cpu" else "one GPU"
    layers = report["configuration"]["layers"]
    plots.caption(
        figure,
        f"Variational classifier of 13 qubits, {layers} layer{'s' if layers > 1 else ''}, PennyLane with JAX; each "
        f"task on {place}. Medians, after compilation.",
    )
    return figure


def training(report: Mapping[str, Any]) -> Figure:
    """The loss of each batch during the training, with the accuracy on held-out images."""
    figure, axes = plots.new(width="single", height=2.9)
    for series, (name, one) in enumerate(report["details"]["training"].items()):
        label = f"{name}: {one['accuracy']:.0%} of held-out images right"
        plots.lines(axes, range(1, len(one["losses"]) + 1), one["losses"], series=series, label=label, marker="")
    with plots.style():
        axes.set_ylim(bottom=0)
    plots.label(axes, x="step of the training", y="loss of the batch (nats)")
    figure.legend(loc="outside upper center", fontsize=7, frameon=False)
    settings = report["configuration"]
    plots.caption(
        figure,
        f"{settings['training_layers']} layers, batches of {settings['training_batch']}, "
        f"{settings['training_images']} images for training and {settings['test_images']} held out, of each set.",
    )
    return figure
