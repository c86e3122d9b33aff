"""The plots of a simulation: waits, use of the places, fidelity against wait."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pilot import plots
from pilot.qos.simulation.log import Log

#: Points of a plot at most.
MOST_POINTS = 5000


def draw(log: Log, folder: Path) -> list[Path]:
    """Draw all of them into this folder; the files that were written."""
    folder.mkdir(parents=True, exist_ok=True)
    figure, (left, middle, right) = plots.new(1, 3, width="double", height=2.7)
    over = log.end
    waits = np.sort(log.waits(over))
    waits = waits[~np.isnan(waits)]
    some = np.unique(np.linspace(0, len(waits) - 1, MOST_POINTS).astype(int)) if len(waits) else np.zeros(0, int)
    plots.lines(left, waits[some].tolist(), ((some + 1) / max(len(waits), 1)).tolist(), marker="")
    plots.label(left, x="wait (s)", y="share of jobs")
    there = log.capacity(float(log.submitted_at[0]) if len(log.submitted_at) else 0.0, over)
    share = np.divide(log.busy(), there, out=np.zeros(len(there)), where=there > 0)
    plots.lines(middle, range(len(log.places)), np.sort(share).tolist(), marker="")
    plots.label(middle, x="place, by use", y="busy share")
    known = np.flatnonzero(~np.isnan(log.fidelity))[:: max(1, len(log.fidelity) // MOST_POINTS)]
    with plots.style():
        right.scatter((log.began_at - log.submitted_at)[known], log.fidelity[known], s=2, linewidths=0)
    plots.label(right, x="wait (s)", y="fidelity (estimate)")
    return plots.save(figure, folder, "simulation")
