"""`pilot run dispatch --scaling 1,2,4` on a private Slurm: nodes of one job each, tasks of one second.

    python benchmarks/cluster_scaling.py [--engine process] [--json FILE]

Runs the command as a user does on a login node; the figures are those of its report. Needs root and Slurm.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import _bench
import _cluster

#: The pilots: `all` is the partition of the private Slurm that has its four nodes.
SITE = """\
[nodes]
resource = "slurm://"
queue = "all"
engine = "{engine}"
cores_per_node = {cores}
walltime = 540
"""


def main() -> None:
    parser = _bench.arguments(__doc__, engines=())
    parser.add_argument("--engine", default="process", choices=("process", "ray", "dask"))
    parser.add_argument("--output", type=Path, metavar="DIR", help="keep the run in this folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="scaling-") as folder, _cluster.slurm():
        site, output = Path(folder, "site.toml"), options.output or Path(folder, "run")
        site.write_text(SITE.format(engine=options.engine, cores=_cluster.CORES))
        words = ["run", "dispatch", "--scaling", "1,2,4", "--pilots", str(site), "--output", str(output)]
        code = subprocess.run([sys.executable, "-m", "pilot.cli", *words], check=False).returncode
        if code > 1 or not (output / "report.json").exists():
            sys.exit(f"`pilot {' '.join(words)}` ended with {code}")
        report = json.loads((output / "report.json").read_text())
    figures: dict[str, Any] = {key: (figure["value"], None) for key, figure in report["figures"].items()}
    figures["efficiency_4"] = (report["figures"]["efficiency_4"]["value"], _bench.Bar(">=", 0.9, "ratio"))
    configuration = {"engine": options.engine, "cores_per_node": _cluster.CORES, **report["configuration"]}
    _bench.report("cluster_scaling", figures, rows=report["rows"], configuration=configuration, file=options.json)


if __name__ == "__main__":
    main()
