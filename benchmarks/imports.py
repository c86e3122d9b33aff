"""What `import pilot` costs in a fresh interpreter, above the bare interpreter itself."""

from __future__ import annotations

import statistics
import subprocess
import sys
from time import perf_counter

import _bench


def milliseconds(code: str, repeat: int) -> float:
    """Median time of `python -c code`, after one run that fills the caches."""
    times = []
    for _ in range(repeat + 1):
        began = perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        times.append(1000 * (perf_counter() - began))
    return statistics.median(times[1:])


def main() -> None:
    options = _bench.arguments(__doc__, engines=(), repeat=10).parse_args()

    bare = milliseconds("pass", options.repeat)
    rows = []
    for module in ("pilot", "concurrent.futures", "asyncio"):
        with_it = milliseconds(f"import {module}", options.repeat)
        rows.append({"module": module, "interpreter ms": bare, "with import ms": with_it, "import ms": with_it - bare})
    _bench.show("Import time", rows, options.json)


if __name__ == "__main__":
    main()
