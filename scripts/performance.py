#!/usr/bin/env python3
"""Writes docs/performance.md, and the table of figures in README.md, from the JSON files of the benchmarks.

    python scripts/performance.py [FOLDER]

FOLDER (default: benchmarks/results) has what the scripts in benchmarks/ and scripts/ write with ``--json``. No figure
is typed by hand: one that has no file there is listed as not measured.
"""

from __future__ import annotations

import ast
import json
import shlex
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/performance.md"
README = ROOT / "README.md"
BEGIN, END = "<!-- figures: written by scripts/performance.py -->", "<!-- end of figures -->"
#: Rows of a table that are shown.
MOST_ROWS = 60

#: The sections of the page, and their files in order.
SECTIONS = {
    "Tasks": (
        *("dispatch", "dispatch.start", "latency", "granularity", "balance", "memory", "memory.forget", "values"),
        *(
            "imports",
            "threads",
            "callables",
            "chains",
            "failures",
            "events",
            "dispatch.varied",
            "controller",
            "pilot_quantum",
        ),
        *("balance.optimum", "chaos.process", "chaos.ray", "chaos.dask", "strangers"),
        *("dispatch.map", "dispatch.executables", "latency.pool", "memory.map", "notebooks", "plots"),
    ),
    "Circuits": (
        *(
            "circuits",
            "circuits.ratios",
            "cutting.exact",
            "cutting.predicted",
            "cutting.addon",
            "qpus",
            "formats",
            "gates",
            "errors",
        ),
        *("mitigation", "simulation_costs", "gpu"),
    ),
    "Mini-apps": ("miniapps", "resume"),
    "The service": (
        *("service.load", "service.origin", "service.kill.sqlite", "service.kill.postgresql"),
        *("service.store.sqlite", "service.store.postgresql"),
        *("service.fuzz", "service.policies", "dashboard"),
    ),
    "Scheduling of circuits": ("planning", "simulator"),
    "Variational loops": ("variational",),
    "On a private Slurm of four nodes, all on the same cores": (
        *("cluster_scaling", "cluster_start", "cluster_dispatch", "cluster_mpi", "cluster_calls", "cluster_failures"),
        "cluster_dispatch.executables",
    ),
    "The source tree": ("structure", "compare", "busy_test", "plugins", "docs"),
}

#: What README.md shows: a question, the file, and where its figure is.
SHOWN = (
    ("no-op tasks a second on a Ray pilot, over bare Ray", "dispatch", ("engine", "ray", "ratio")),
    ("the same on a Dask pilot, over bare Dask", "dispatch", ("engine", "dask", "ratio")),
    ("two unequal pilots: makespan over its lower bound", "balance", ("scenario", "late", "ratio")),
    (
        "circuits of 2 to 12 qubits a second, over one Ray task each with `transpile`",
        "circuits",
        ("", "", "times faster"),
    ),
    ("memory of the manager for a finished task, bytes", "memory", ("engine", "process", "bytes a task")),
)


def command(name: str) -> str:
    script = name.partition(".")[0]
    folder = "benchmarks" if (ROOT / "benchmarks" / f"{script}.py").exists() else "scripts"
    return f"{folder}/{script}{'.py' if (ROOT / folder / f'{script}.py').exists() else ''}"


def command_line(name: str, found: dict[str, Any]) -> str:
    """What was typed for these figures."""
    return shlex.join(["python", command(name), *found["arguments"]])


def about(name: str) -> str:
    """The first sentence of the script's docstring."""
    path = ROOT / command(name)
    text = ast.get_docstring(ast.parse(path.read_text())) if path.exists() else None
    return " ".join((text or "").split("\n\n")[0].split())


def shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value).replace("|", "\\|")


def table(rows: list[dict[str, Any]]) -> list[str]:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
    lines += [f"| {' | '.join(shown(row.get(column, '')) for column in columns)} |" for row in rows[:MOST_ROWS]]
    if len(rows) > MOST_ROWS:
        lines += ["", f"{len(rows) - MOST_ROWS} more rows are in the file."]
    return lines


def figures(found: dict[str, Any]) -> list[dict[str, Any]]:
    """One row for each figure: its value, how it scattered, and whether it reaches its bar."""
    rows = []
    for key, one in found["figures"].items():
        low, high = one.get("spread", (one["value"], one["value"]))
        scatter = f"{shown(low)} to {shown(high)}, n = {one['n']}" if one.get("n", 1) > 1 else ""
        bar = one.get("scaled_bar", one.get("bar", ""))
        met = "" if "met" not in one else "met" if one["met"] else "**missed**"
        rows.append({"figure": key, "value": one["value"], "spread": scatter, "bar": bar, "": met})
    return rows


def section(name: str, file: Path) -> list[str]:
    if not file.exists():
        return [f"### {name}", "", f"{about(name)} Not measured: `python {command(name)}`.", ""]
    found = json.loads(file.read_text())
    host = found["host"]
    where = f"{host['cpus']} cores, Python {host['python']}, load {host['load']:.1f}"
    if "reference_ms" in host:
        where += f", reference {host['reference_ms']:.0f} ms"
    lines = [
        f"### {name}",
        "",
        about(name),
        "",
        f"`{command_line(name, found)}`; {where}",
    ]
    lines[-1] += f"; commit {found['commit'][:7]}." if found.get("commit") else "."
    if found.get("figures"):
        lines += ["", *table(figures(found))]
    elif found.get("rows"):
        lines += ["", *table(found["rows"])]
    return [*lines, ""]


def page(folder: Path) -> str:
    lines = [
        "# Performance",
        "",
        "Written by `make bench` from the JSON files in `benchmarks/results`. A script runs ours and the alternative",
        "in the same run, in turn, each in a fresh process; figures are medians. A bar in seconds or per second is",
        "scaled to the machine: it holds as written where the reference (15 rounds of a million stores, the least",
        "time) is 40 ms.",
        "",
    ]
    for title, names in SECTIONS.items():
        lines += [f"## {title}", ""]
        for name in names:
            lines += section(name, folder / f"{name}.json")
    return "\n".join(lines).rstrip() + "\n"


def picked(folder: Path, what: str, name: str, where: tuple[str, str, str]) -> dict[str, Any]:
    """A row for README.md: one figure of a file's rows, of the last row that has this value in this column."""
    file = folder / f"{name}.json"
    if not file.exists():
        return {"what": what, "command": f"`python {command(name)}`", "figure": "not measured"}
    found = json.loads(file.read_text())
    column, value, key = where
    row = [row for row in found["rows"] if not column or row.get(column) == value][-1]
    return {"what": what, "command": f"`{command_line(name, found)}`", "figure": shown(row[key])}


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "benchmarks/results"
    PAGE.write_text(page(folder))
    rows = [picked(folder, *one) for one in SHOWN]
    before, _, rest = README.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    README.write_text("\n".join([before + BEGIN, *table(rows), END + after]))


if __name__ == "__main__":
    main()
