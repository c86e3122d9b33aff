"""Chains of dependent tasks whose head fails, or is cancelled: how long until the last link is over?

The clock runs from when the head is made to end to the end of the last task. The error of the last link must have the
head's as its cause, in both cases and at both lengths.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from concurrent.futures import CancelledError
from pathlib import Path

import _bench

LENGTHS = {1_000: 1.0, 100_000: 20.0}


def hold(gate: str) -> None:
    while not Path(gate).exists():
        time.sleep(0.005)
    raise ValueError("the head's own words")


def step(before: None) -> None:
    return before


def measure(links: int, how: str) -> tuple[float, bool]:
    """Seconds until the last task is over, from when the head is made to end; and whether its error has the cause."""
    from pilot import PilotDescription, PilotManager

    with tempfile.TemporaryDirectory(prefix="pilot-bench-") as folder, PilotManager(f"{folder}/session") as manager:
        manager.submit_pilot(PilotDescription(engine="process", cores_per_node=1)).wait()
        gate = Path(folder, "gate")
        last = head = manager.submit_task(hold, str(gate))
        for _ in range(links):
            last = manager.submit_task(step, last)
        while not head.running():
            time.sleep(0.01)
        began = time.perf_counter()
        if how == "cancelled":
            head.cancel()
        else:
            gate.touch()
        manager.wait_tasks()
        seconds = time.perf_counter() - began
        error = last.exception()
        wanted = CancelledError if how == "cancelled" else ValueError
        return seconds, error is not None and isinstance(error.__cause__, wanted)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    options = parser.parse_args()
    rows = []
    for links in LENGTHS:
        for how in ("failed", "cancelled"):
            sys.stderr.write(f"  {links:,} links, the head {how}\n")
            seconds, caused = measure(links, how)
            rows.append({"links": links, "head": how, "end_s": seconds, "cause": caused})
    figures = {
        f"end_s_{links}": (max(row["end_s"] for row in rows if row["links"] == links), _bench.Bar("<=", limit, "s"))
        for links, limit in LENGTHS.items()
    }
    figures["without_cause"] = (sum(not row["cause"] for row in rows), _bench.Bar("==", 0))
    _bench.report("chains", figures, rows=rows, configuration={"engine": "process"}, file=options.json)


if __name__ == "__main__":
    main()
