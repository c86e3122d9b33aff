"""Strict first come, first served on a log of a cluster: when each job starts, here and in AccaSim 1.1.3.

    python benchmarks/swf.py FILE [--nodes 120] [--cores 2] [--json FILE]

AccaSim is installed into an environment of its own below ``.peers``. Jobs without a run time are left out. A job has a
rank for each processor. `starts_equal` is the share of jobs that start within a second of each other.
"""

from __future__ import annotations

import lzma
import re
import subprocess
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import _bench
import peers

PEER = peers.Peer("accasim", "AccaSim", ("accasim==1.1.3", "setuptools"), versions=("accasim",))
#: A job in AccaSim's schedule: its number, and its start behind the nodes.
JOB = re.compile(r"(\d+);.*__(\d+-\d+-\d+ \d+:\d+:\d+);")
#: Numbers of the fields of a log: the job, its run time.
NUMBER, RUN_TIME = 0, 3


def jobs_of(path: Path) -> list[str]:
    """The lines of the jobs with a run time, in the order of the log."""
    with lzma.open(path, "rt") if path.suffix == ".xz" else path.open() as file:
        lines = [line.strip() for line in file if line.strip() and not line.startswith(";")]
    return [line for line in lines if float(line.split()[RUN_TIME]) >= 0]


def theirs(log: Path, nodes: int, cores: int) -> dict[int, float]:
    """The start of each job in AccaSim: seconds, by its number."""
    peers.install(PEER)
    script = Path(__file__).with_name("_accasim.py")
    command = [PEER.folder / "bin/python", script, log, str(nodes), str(cores), log.with_name("unused.json")]
    subprocess.run(command, check=True, capture_output=True)
    found = {}
    for line in log.with_name(f"sched-{log.name}").read_text().splitlines():
        match = JOB.match(line)
        assert match is not None, line
        found[int(match[1])] = datetime.fromisoformat(match[2]).replace(tzinfo=UTC).timestamp()
    return found


def main() -> None:
    parser = _bench.arguments(__doc__, engines=[])
    parser.add_argument("log", type=Path)
    parser.add_argument("--nodes", type=int, default=120)
    parser.add_argument("--cores", type=int, default=2)
    options = parser.parse_args()
    from pilot.qos.simulation import swf
    from pilot.qos.simulation.scenarios import named, on_nodes

    with tempfile.TemporaryDirectory(prefix="pilot-bench-") as folder:
        log = Path(folder, "log.swf")
        lines = jobs_of(options.log)
        log.write_text("\n".join(lines) + "\n")
        jobs = swf.read(log)
        ours = on_nodes(jobs, options.nodes, options.cores, named("fcfs", strict=True)).began_at
        accasim = theirs(log, options.nodes, options.cores)
    numbers = [int(line.split()[NUMBER]) for line in sorted(lines, key=lambda line: float(line.split()[1]))]
    differences = {number: ours[at] - accasim[number] for at, number in enumerate(numbers)}
    different = {number: one for number, one in differences.items() if abs(one) > 1}
    rows = [{"job": number, "ours - AccaSim (s)": one} for number, one in list(different.items())[:20]]
    _bench.report(
        "swf",
        {"starts_equal": (1 - len(different) / len(differences), _bench.Bar(">=", 1)), "jobs": (len(jobs), None)},
        rows=rows,
        configuration={"log": options.log.name, "nodes": options.nodes, "cores": options.cores},
        file=options.json,
    )


if __name__ == "__main__":
    main()
