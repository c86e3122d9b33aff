"""How often Slurm is called for 20 pilots over some minutes, from submission to the end: counted by wrappers on PATH.

The wrappers write a line for each call and then run the real program. Needs root and Slurm.
"""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path

import _bench
import _cluster

PROGRAMS = ("sbatch", "squeue", "sacct", "scancel", "scontrol", "sinfo")


def wrap(folder: Path) -> Path:
    """Put the wrappers first on PATH; the file that they write to."""
    log = folder / "calls"
    for name in PROGRAMS:
        real = shutil.which(name)
        wrapper = folder / name
        wrapper.write_text(f'#!/bin/sh\necho "$(date +%s.%N) {name}" >>{log}\nexec {real} "$@"\n')
        wrapper.chmod(0o755)
    os.environ["PATH"] = f"{folder}{os.pathsep}{os.environ['PATH']}"
    log.touch()
    return log


def main() -> None:
    from pilot import PilotDescription, PilotManager

    parser = _bench.arguments(__doc__, engines=(), repeat=1)
    parser.add_argument("--pilots", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=300.0)
    options = parser.parse_args()
    with _cluster.slurm(), tempfile.TemporaryDirectory(prefix="pilot-bench-") as folder:
        log = wrap(Path(folder))
        with PilotManager(Path(folder, "session")) as manager:
            began = time.time()
            for _ in range(options.pilots):
                manager.submit_pilot(
                    PilotDescription(
                        resource="slurm://", queue="all", engine="process", cores_per_node=1, walltime=1200
                    )
                )
            active = 0
            while time.time() - began < options.seconds:
                active = max(active, sum(pilot.state.value == "active" for pilot in manager.pilots))
                time.sleep(0.1)
            watched = time.time() - began
            interval = 5.0
            manager.close()
        calls = [line.split() for line in log.read_text().splitlines()]
        counts = Counter(name for moment, name in calls if float(moment) <= began + watched)
        ending = Counter(name for moment, name in calls if float(moment) > began + watched)
        polls = [float(moment) for moment, name in calls if name != "sbatch" and float(moment) <= began + watched]
        gaps = [later - earlier for earlier, later in itertools.pairwise(polls)]
        rows = [
            {
                "pilots": options.pilots,
                "most active": active,
                "seconds": watched,
                **{f"{name} calls": counts[name] for name in ("sbatch", "squeue", "sacct")},
                "intervals": int(watched / interval) + 1,
                "shortest gap s": min(gaps) if gaps else float("nan"),
                "to end them": ", ".join(f"{count} {name}" for name, count in ending.items()) or "none",
            }
        ]
    _bench.show(f"Calls of Slurm's programs (one poll is allowed each {interval:g} s)", rows, options.json)


if __name__ == "__main__":
    main()
