#!/usr/bin/env python3
"""Draws docs/images/task_states.svg and pilot_states.svg from the tables of `pilot.states`.

python scripts/state_diagrams.py [FOLDER]
"""

from __future__ import annotations

import sys
from enum import Enum
from pathlib import Path
from typing import Any

from pilot import plots
from pilot.states import PILOT_STEPS, TASK_STEPS, PilotState, TaskState

ROOT = Path(__file__).resolve().parents[1]
T, P = TaskState, PilotState
#: Where a state stands: column and row, the first row on top.
TASKS: dict[Enum, tuple[float, float]] = {
    T.WAITING: (0, 0),
    T.QUEUED: (1, 0),
    T.BOUND: (2, 0),
    T.RUNNING: (3, 0),
    T.DONE: (4, 0),
    T.FAILED: (4, 1),
    T.CANCELLED: (4, 2),
}
PILOTS: dict[Enum, tuple[float, float]] = {
    P.NEW: (0, 0),
    P.QUEUED: (1, 0),
    P.STARTING: (2, 0),
    P.ACTIVE: (3, 0),
    P.DRAINING: (4, 0),
    P.DONE: (5, 0),
    P.FAILED: (5, 1),
    P.CANCELLED: (5, 2),
}


def draw(steps: dict[Any, frozenset[Any]], places: dict[Enum, tuple[float, float]], folder: Path, name: str) -> None:
    """One diagram: a box for each state, an arrow for each step. Ends have a thick frame. The usual way is
    blue, the way back orange, other ends grey."""
    figure, axes = plots.new(width="double", height=2.9)
    with plots.style():
        for state, (x, y) in places.items():
            box = {"boxstyle": "round,pad=0.45", "facecolor": "white", "linewidth": 0.8 if steps[state] else 1.8}
            axes.text(x, -y, state.value, ha="center", va="center", bbox=box, zorder=3)
        for state, following in steps.items():
            for other in following - {state}:
                usual = other.value not in ("failed", "cancelled") and places[other][0] - places[state][0] in (1, 2)
                colour = plots.COLOURS[0] if usual else plots.GREY
                back = places[other][0] < places[state][0]
                drawn = arrow(axes, places[state], places[other], plots.COLOURS[1] if back else colour)
                drawn.arrow_patch.set_gid(f"{state.value}-{other.value}")
        columns, rows = (max(place[axis] for place in places.values()) for axis in (0, 1))
        axes.set_xlim(-0.5, columns + 0.5)
        axes.set_ylim(-rows - 0.4, 0.35 * (columns - 1))
        axes.axis("off")
        figure.savefig(folder / f"{name}.svg", bbox_inches="tight", metadata={"Date": None})


def arrow(axes: Any, start: tuple[float, float], end: tuple[float, float], colour: str) -> Any:
    """From one box to another; back, or over a box, in a bow above."""
    (x, y), (u, v) = start, end
    bend = 0.3 if u < x else -0.3
    bow = f"arc3,rad={bend if y == v and u - x != 1 else 0}"
    look = {
        "arrowstyle": "-|>",
        "shrinkA": 15,
        "shrinkB": 17,
        "connectionstyle": bow,
        "linewidth": 0.8,
        "color": colour,
    }
    return axes.annotate("", (u, -v), (x, -y), arrowprops=look, zorder=1 if colour == plots.GREY else 2)


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs/images"
    draw(TASK_STEPS, TASKS, folder, "task_states")
    draw(PILOT_STEPS, PILOTS, folder, "pilot_states")


if __name__ == "__main__":
    main()
