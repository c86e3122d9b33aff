"""Every registered mini-app, one command each, with its laptop preset: how long it takes, whether its result is right.

    python benchmarks/miniapps.py [--apps NAME ...] [--output DIR] [--json FILE]

The time is that of the whole command, start and end of its pilots included; its bar holds where `reference_ms` is 40,
and is scaled elsewhere. A run whose own figures miss their bars is named, and makes this command fail as well.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import _bench

#: Seconds that a mini-app may take.
MOST_SECONDS = 120.0
#: Seconds after which it is ended.
END_SECONDS = 900.0


def run(name: str, folder: Path) -> dict[str, Any]:
    """Run it; one row of the table."""
    command = [sys.executable, "-m", "pilot.cli", "run", name, "--preset", "laptop", "--output", str(folder / name)]
    sys.stderr.write(f"  {' '.join(command[2:])}\n")
    began = time.perf_counter()
    try:
        code = subprocess.run(command, stdout=subprocess.DEVNULL, check=False, timeout=END_SECONDS).returncode
    except subprocess.TimeoutExpired:
        code = -1
    seconds = time.perf_counter() - began
    path = folder / name / "report.json"
    report = json.loads(path.read_text()) if path.exists() else {}
    missed = [key for key, figure in report.get("figures", {}).items() if figure.get("met") is False]
    passed = bool(report.get("oracle", {}).get("passed", False))
    return {"name": name, "seconds": seconds, "passed": passed, "code": code, "missed": " ".join(missed)}


def main() -> None:
    from pilot import registry

    names = registry.names("pilot.miniapps")
    parser = _bench.arguments(__doc__, engines=())
    parser.add_argument("--apps", nargs="+", choices=names, default=names, metavar="NAME", help="which mini-apps")
    parser.add_argument("--output", type=Path, metavar="DIR", help="keep the runs in this folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="miniapps-") as folder:
        rows = [run(name, options.output or Path(folder)) for name in options.apps]
    figures: dict[str, Any] = {}
    for row in rows:
        figures[f"{row['name']}.seconds"] = (row["seconds"], _bench.Bar("<=", MOST_SECONDS, "s"))
        figures[f"{row['name']}.oracle_passed"] = (float(row["passed"]), _bench.Bar("==", 1))
        figures[f"{row['name']}.bars_missed"] = (float(len(row["missed"].split())), _bench.Bar("==", 0))
    _bench.report("miniapps", figures, rows=rows, configuration={"preset": "laptop"}, file=options.json)


if __name__ == "__main__":
    main()
