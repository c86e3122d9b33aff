#!/usr/bin/env python3
"""Writes docs/peers.md and its plots from the JSON file of benchmarks/peers.py.

    python scripts/peers.py [FILE]

FILE (default: benchmarks/results/peers.json) is what the benchmark writes with ``--json``. No figure is typed by hand.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pilot import plots

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/peers.md"
PLOT = "peers"
#: Columns of the table: heading and key.
COLUMNS = {
    "start to first result, s": "start s",
    "round trip of one task, ms": "round trip ms",
    "processor time of a task, µs": "cpu us",
    "efficiency at 10 ms": "efficiency",
}


def main() -> None:
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "benchmarks/results/peers.json"
    found = json.loads(file.read_text())
    measured = [row for row in found["rows"] if "reason" not in row]
    draw(measured, found["configuration"])
    PAGE.write_text(page(found, measured, [row for row in found["rows"] if "reason" in row]))


def page(found: Mapping[str, Any], measured: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]]) -> str:
    """The text of the page."""
    settings, host = found["configuration"], found["host"]
    rounds, nap = settings["repeat"], 1000 * settings["nap"]
    lines = [
        "# Beside others",
        "",
        "Written by `make bench-peers`. Each system runs tasks on two workers of one machine, in a fresh process, all",
        f"systems in turn, {rounds} times. Figures are medians, with the least and the greatest. Each task is a call",
        "of its own with a result of its own. The tasks are short on purpose: what is left is what the system takes.",
        "Systems differ in what they do for it: ours writes each task and its state to disk, so that a manager that is",
        "killed can be joined again.",
        "",
        f"{host['cpus']} cores, Python {host['python']}, load {host['load']:.1f}; commit {found['commit'][:7]}.",
        "",
        f"![Tasks a second, and the round trip of one task, by system](images/{PLOT}.png)",
        "",
        "## Tasks without work, a second",
        "",
        *table(measured, {f"{count:,}": f"{count} tasks/s" for count in settings["tasks"]}),
        "",
        "## One task",
        "",
        f"Processor time is that of all processes, over {settings['tasks'][-1]:,} tasks. Efficiency is the share of",
        f"work in the time of the two workers, with {settings['naps']:,} tasks of {nap:g} ms.",
        "",
        *table(measured, COLUMNS),
        "",
        "## Ratios",
        "",
        "Ours over the other system, both of the same round, with the same engine where there is one: of rates, where",
        "more is better, and of processor time, round trips and starts, where less is.",
        "",
        "| ratio | median | least | greatest |",
        "| --- | --- | --- | --- |",
        *(
            f"| {key.replace('_', ' ')} | {' | '.join(map(shown, (one['value'], *one['spread'])))} |"
            for key, one in found["figures"].items()
        ),
        "",
        "## Systems",
        "",
        "| system | what runs | versions |",
        "| --- | --- | --- |",
        *(f"| {row['system']} | {row['what']} | {row['versions']} |" for row in measured),
        "",
    ]
    if others:
        lines += ["Not measured:", "", *(f"- {row['system']} ({row['what']}): {row['reason']}" for row in others), ""]
    return "\n".join(lines)


def table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> list[str]:
    """A row for each system, each figure with its spread."""
    lines = [f"| system | {' | '.join(columns)} |", f"| --- |{' --- |' * len(columns)}"]
    for row in rows:
        cells = []
        for key in columns.values():
            low, high = row["spread"][key]
            cells.append(shown(row[key]) + (f" ({shown(low)} to {shown(high)})" if low != high else ""))
        lines.append(f"| {row['system']} | {' | '.join(cells)} |")
    return lines


def shown(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def draw(rows: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> None:
    """Rates over the number of tasks, and for each system what one task takes."""
    figure, (left, right) = plots.new(1, 2, width="double", height=3.4, width_ratios=(1.2, 1))
    counts = settings["tasks"]
    for series, row in enumerate(rows):
        keys = [f"{count} tasks/s" for count in counts]
        spread = tuple(zip(*(row["spread"][key] for key in keys), strict=True))
        filled = "white" if series >= len(plots.COLOURS) else plots.COLOURS[series]
        plots.lines(
            left,
            counts,
            [row[key] for key in keys],
            series=series,
            label=row["system"],
            spread=(spread[0], spread[1]),
            markerfacecolor=filled,
        )
    with plots.style():
        left.set_xscale("log", base=2)
        left.set_yscale("log")
        left.set_xticks(counts, [f"{count:,}" for count in counts])
        left.minorticks_off()
        left.legend(loc="upper left", bbox_to_anchor=(0, -0.22), ncols=3)
    plots.label(left, x="tasks without work at once", y="tasks/s")
    _trips(right, rows)
    figure.savefig(ROOT / "docs/images" / f"{PLOT}.png", dpi=100)


def _trips(axes: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    """Bars: the round trip of one task."""
    places = range(len(rows))
    with plots.style():
        colours = [plots.COLOURS[0] if row["system"].startswith("ours") else plots.GREY for row in rows]
        axes.barh(places, [row["round trip ms"] for row in rows], color=colours, height=0.7)
        for place, row in zip(places, rows, strict=True):
            text = f" {row['round trip ms']:.3g}"
            axes.text(row["round trip ms"], place, text, va="center", fontsize=6.5)
        axes.set_xscale("log")
        axes.set_yticks(places, [row["system"] for row in rows])
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.margins(x=0.25)
    plots.label(axes, x="round trip of one task (ms)")


if __name__ == "__main__":
    main()
