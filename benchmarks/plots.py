"""A session of 100,000 tasks on one page: reading its journal, drawing it, and writing a PDF.

    python benchmarks/plots.py [--tasks N] [--json FILE]

`seconds` of CPU time is all of that, from the journal that one pilot of two slots has left to the file; `kib` is the
size of the file. `wide_seconds` is the same for tasks of 256 slots, without the journal.
"""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from time import process_time
from typing import Any

import _bench

from pilot import PilotDescription, PilotManager, plots


def recorded(folder: Path, tasks: int) -> None:
    """Run tasks in a session in this folder."""
    with PilotManager(folder) as manager:
        manager.submit_pilot(PilotDescription(engine="process", cores_per_node=2))
        manager.wait_tasks([manager.submit_task(_bench.noop, number) for number in range(tasks)])


def wide(tasks: int) -> plots.SessionSpans:
    """A session of as many tasks on 256 slots."""
    dice, free, spans = random.Random(0), [0.0] * 256, []
    for number in range(tasks):
        slot = number % len(free)
        ended = free[slot] + dice.expovariate(1.0)
        spans.append(plots.TaskSpan("p", str(slot), free[slot], ended, 0.0))
        free[slot] = ended
    return plots.SessionSpans([plots.PilotSpan("p", 0.0, 0.0, None, slots=len(free))], spans, [], 0)


def main() -> None:
    parser = _bench.arguments(__doc__, engines=[], repeat=3)
    parser.add_argument("--tasks", type=int, default=100_000)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="pilot-bench-") as made:
        file = Path(made, "session.pdf")
        recorded(Path(made, "session"), options.tasks)
        other = wide(options.tasks)
        for _ in range(options.repeat):
            began = process_time()
            with PilotManager.read(Path(made, "session")) as session:
                spans = session.spans()
            read = process_time()
            plots.save_as(plots.session_figure(spans), file)
            drawn = process_time()
            size = file.stat().st_size / 1024
            plots.save_as(plots.session_figure(other), file)
            rows.append({"read s": read - began, "draw s": drawn - read, "KiB": size, "wide s": process_time() - drawn})
    assert len(spans.tasks) == options.tasks
    figures: dict[str, Any] = {
        "seconds": ([row["read s"] + row["draw s"] for row in rows], _bench.Bar("<=", 5, "s")),
        "wide_seconds": ([row["wide s"] for row in rows], _bench.Bar("<=", 5, "s")),
        "kib": (max(row["KiB"] for row in rows), _bench.Bar("<=", 500, "KiB")),
    }
    _bench.report("plots", figures, rows=rows, configuration={"tasks": options.tasks}, file=options.json)


if __name__ == "__main__":
    main()
