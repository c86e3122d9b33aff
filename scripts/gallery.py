#!/usr/bin/env python3
"""Runs mini-apps as on a laptop, and makes docs/images/gallery of their plots; and docs/images/plots, of the page that
makes them.

    python scripts/gallery.py [--runs FOLDER] [--page]

With ``--runs`` the plots are taken from runs that are there, ``FOLDER/NAME``; with ``--page`` only those of the
page are made. The files are smaller than those of a run: 60 kB at most, for the page. It takes some minutes.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/docs"))
import page_blocks  # noqa: E402
import page_list  # noqa: E402

FOLDER = ROOT / "docs/images/gallery"
MOST_BYTES = 60_000
#: The page whose blocks save pictures, and those that it shows.
PAGE, PICTURES = "docs/plots.md", ("counts", "sweep", "state", "timeline")
#: By mini-app, the plots that the page shows.
PLOTS = {
    "dispatch": ("dispatch",),
    "circuit-execution": ("circuit-execution",),
    "error-mitigation": ("error-mitigation",),
    "variational": ("variational",),
    "circuit-cutting": ("circuit-cutting", "timeline"),
    "qos-scheduler": ("front",),
}


def shrink(plot: Path, target: Path, colours: int = 64) -> None:
    """Write a plot with fewer pixels and colours, until it is small enough."""
    picture = Image.open(plot).convert("RGB")
    for width in (1400, 1200, 1000, 850, 700):
        height = round(picture.height * width / picture.width)
        small = picture.resize((width, height), Image.Resampling.LANCZOS) if width < picture.width else picture
        small.quantize(colours, dither=Image.Dither.NONE).save(target, optimize=True)
        if target.stat().st_size <= MOST_BYTES:
            return
    raise SystemExit(f"{plot} cannot be made smaller than {MOST_BYTES} bytes")


def run(name: str, folder: Path) -> None:
    """Run a mini-app; a bar that is missed does not matter here."""
    command = [sys.executable, "-m", "pilot.cli", "run", name, "--preset", "laptop", "--output", str(folder)]
    subprocess.run(command, check=False)


def draw_page(folder: Path) -> None:
    """Run the blocks of the page, and keep its pictures."""
    code = "\n".join([page_list.HERE[PAGE], *(block.text for block in page_blocks.python(PAGE)), "manager.close()"])
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True)
    target = ROOT / "docs/images/plots"
    target.mkdir(parents=True, exist_ok=True)
    for name in PICTURES:
        shrink(folder / f"{name}.png", target / f"{name}.png", 256)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, metavar="FOLDER", help="runs that are there")
    parser.add_argument("--page", action="store_true", help=f"only the pictures of {PAGE}")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pilot-gallery-") as made:
        draw_page(Path(made))
    if options.page:
        return
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
