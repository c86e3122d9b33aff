#!/usr/bin/env python3
"""This library at two commits, side by side: processor time of a task, of a single one, latency, memory.

    python scripts/compare.py BASE [HEAD] [--repeat 7] [--json FILE]

HEAD is the working tree where it is left out. Each measurement has a fresh interpreter; the two sides alternate. A
ratio is HEAD's over BASE's, the median over the alternations; `interval` is the 95 % interval of the worst one, drawn
again and again from its alternations (bootstrap).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHON = ROOT / ".venv/bin/python"
if __name__ == "__main__" and Path(sys.prefix) != ROOT / ".venv":
    os.execv(PYTHON, [PYTHON, *sys.argv])

import argparse  # noqa: E402
import contextlib  # noqa: E402
import random  # noqa: E402
import statistics  # noqa: E402

sys.path.insert(0, str(ROOT / "benchmarks"))
import _bench  # noqa: E402

#: What is measured: a script of benchmarks/, its settings, and which of its figures count.
MEASURED = (
    ("dispatch", {"tasks": [20_000], "versions": True}, ("plain us", "main us", "plain single us", "plain ms")),
    ("memory", {"few": 2_000, "many": 50_000, "trace": False}, ("many bytes",)),
)
DRAWS = 10_000


def alternations(base: Path, head: Path | None, repeat: int) -> dict[str, list[float]]:
    """The ratios of each figure, head over base, one for each alternation."""
    ratios: dict[str, list[float]] = {}
    for attempt in range(repeat):
        for script, settings, keys in MEASURED:
            figures: dict[str, _bench.Figures] = {}
            sides = [("base", base), ("head", head)]
            for side, tree in sides if attempt % 2 == 0 else reversed(sides):
                figures[side] = _bench.measured("our process", tree, script=script, **settings)
            for key in keys:
                ratios.setdefault(f"{script}: {key}", []).append(figures["head"][key] / figures["base"][key])
    return ratios


def interval(values: list[float]) -> list[float]:
    """Where the median lies with 95 %, by the bootstrap."""
    draw = random.Random(1)
    medians = sorted(statistics.median(draw.choices(values, k=len(values))) for _ in range(DRAWS))
    return [medians[int(0.025 * DRAWS)], medians[int(0.975 * DRAWS)]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", metavar="BASE", help="a commit")
    parser.add_argument("head", metavar="HEAD", nargs="?", help="another commit; default: the working tree")
    parser.add_argument("--repeat", type=int, default=7, help="alternations")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    options = parser.parse_args()
    with contextlib.ExitStack() as trees:
        base = trees.enter_context(_bench.checked_out(options.base))
        head = trees.enter_context(_bench.checked_out(options.head)) if options.head else None
        ratios = alternations(base, head, options.repeat)
    worst = max(ratios, key=lambda key: statistics.median(ratios[key]))
    low, high = interval(ratios[worst])
    sys.stdout.write(f"worst: {worst}\n")
    figures: dict[str, tuple[float | list[float], _bench.Bar | None]] = {
        "worst_ratio": (ratios[worst], _bench.Bar("<=", 1.05, "ratio")),
        "interval": ([low, high], None),
        **{f"ratio of {key}": (values, None) for key, values in ratios.items()},
    }
    rows = [{"figure": key, "ratios": values, "interval": interval(values)} for key, values in ratios.items()]
    configuration = {"base": options.base, "head": options.head, "repeat": options.repeat}
    _bench.report("compare", figures, rows=rows, configuration=configuration, file=options.json)


if __name__ == "__main__":
    main()
