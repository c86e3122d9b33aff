#!/usr/bin/env python3
"""Runs mini-apps as on a laptop, and makes docs/images/gallery of their plots.

    python scripts/gallery.py [--runs FOLDER]

With ``--runs`` the plots are taken from runs that are there, ``FOLDER/NAME``. The files are smaller than those of a
run: 60 kB at most, for the page. It takes some minutes.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs/images/gallery"
MOST_BYTES = 60_000
#: By mini-app, the plots that the page shows.
PLOTS = {
    "dispatch": ("dispatch",),
    "circuit-execution": ("circuit-execution",),
    "error-mitigation": ("error-mitigation",),
    "variational": ("variational",),
    "circuit-cutting": ("circuit-cutting", "timeline"),
    "qos-scheduler": ("front",),
}


def shrink(plot: Path, target: Path) -> None:
    """Write a plot with fewer pixels and colours, until it is small enough."""
    picture = Image.open(plot).convert("RGB")
    for width in (1400, 1200, 1000, 850, 700):
        height = round(picture.height * width / picture.width)
        small = picture.resize((width, height), Image.Resampling.LANCZOS) if width < picture.width else picture
        small.quantize(64, dither=Image.Dither.NONE).save(target, optimize=True)
        if target.stat().st_size <= MOST_BYTES:
            return
    raise SystemExit(f"{plot} cannot be made smaller than {MOST_BYTES} bytes")


def run(name: str, folder: Path) -> None:
    """Run a mini-app; a bar that is missed does not matter here."""
    command = [sys.executable, "-m", "pilot.cli", "run", name, "--preset", "laptop", "--output", str(folder)]
    subprocess.run(command, check=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, metavar="FOLDER", help="runs that are there")
    options = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pilot-gallery-") as made:
        runs = options.runs or Path(made)
        for name, plots in PLOTS.items():
            if not options.runs:
                run(name, runs / name)
            for plot in plots:
                target = f"{name}.png" if plot == plots[0] else f"{name}-{plot}.png"
                shrink(runs / name / f"{plot}.png", FOLDER / target)


if __name__ == "__main__":
    main()
