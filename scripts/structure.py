#!/usr/bin/env python3
"""The structure of the source tree in figures: import cycles, private accesses, words of Slurm, sizes.

    python scripts/structure.py [--json FILE] [--base COMMIT] [--list]

Reads the files of `pilot/` and `plugins/`; imports none of them. With ``--base`` the source lines are compared with
those of that commit. ``--list`` prints each place that counts.
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
import ast  # noqa: E402
import io  # noqa: E402
import re  # noqa: E402
import tokenize  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from dataclasses import dataclass, field  # noqa: E402

sys.path.insert(0, str(ROOT / "benchmarks"))
import _bench  # noqa: E402

#: Names with an underscore that are not ours, and why they are used.
THIRD_PARTY = {
    "_exit": "of os: ends a forked child without the exit handlers of its parent",
    "_replace": "of named tuples: public, the underscore only keeps it apart from the fields",
    "_fields": "the same",
    "_append": "of Qiskit's QuantumCircuit: appends without checking the instruction again, as `append` does",
    "_options": "of Qiskit's BackendV2: what its subclasses set",
    "_dtype": "of PennyLane's measurements: has no public name",
    "_custom_noise_passes": "of Aer's NoiseModel: a copy of a model would lose them",
    "_stack": "of openqasm3's symbol table: a subroutine has a scope of its own",
    "_config": "of multiprocessing's processes: where a task's temporary files are",
    "_parent_process": "of multiprocessing: a forked child of a task is no child of the pilot's process",
    "_lru_cache_wrapper": "of functools: the type of cached functions",
    "_value_": "of enum: public, the underscores keep it apart from members",
    "_member_map_": "of enum: the same",
    "_member_type_": "of enum: the same",
    **dict.fromkeys(
        (
            *("_PICKLE_BY_VALUE_MODULES", "_DYNAMIC_CLASS_TRACKER_BY_ID", "_class_setstate", "_make_skeleton_class"),
            *("_make_skeleton_enum", "_lookup_class_or_track", "_dynamic_class_reduce"),
        ),
        "of cloudpickle: classes of scripts stay the same class from task to task, which it has no option for",
    ),
}

#: Commands and variables of Slurm.
SLURM = re.compile(r"\b(SLURM[A-Z_]*|sbatch|squeue|sacct|scancel|scontrol|sinfo|srun|salloc)\b")
#: Where these may stand: fields of the description that a batch system has, and what `pilot doctor` prints of it.
SLURM_PLACES = ("pilot/descriptions/pilots.py", "pilot/cli/doctor.py")

#: What did not exist at the base: interfaces for users and authors of plugins, and what they bring.
NEW = (
    "pilot/testing/",
    *("pilot/interfaces/observers.py", "pilot/manager/observers.py", "pilot/manager/metrics.py"),
    *("pilot/interfaces/policies.py", "pilot/manager/forgetting.py"),
    *("plugins/pilot_plugins/launchers/slurm/environment.py", "plugins/pilot_plugins/launchers/slurm/preflight.py"),
)


@dataclass
class Module:
    """One file, parsed."""

    path: str
    text: str
    name: str = field(init=False)
    tree: ast.Module = field(init=False)

    def __post_init__(self) -> None:
        dotted = self.path.removeprefix("plugins/").removesuffix(".py").replace("/", ".")
        self.name = dotted.removesuffix(".__init__")
        self.tree = ast.parse(self.text)


def modules(root: Path) -> dict[str, Module]:
    """All modules of the library and its plugins, by name."""
    files = sorted(path for folder in ("pilot", "plugins") for path in (root / folder).rglob("*.py"))
    found = [Module(str(path.relative_to(root)), path.read_text()) for path in files]
    return {module.name: module for module in found}


def imported(module: Module, known: dict[str, Module]) -> set[str]:
    """The modules that this one imports: at its top, in functions, and for types only."""
    found = set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in known else node.module)
    return {name for name in found if name in known and name != module.name}


def cycles(known: dict[str, Module]) -> list[list[str]]:
    """Groups of modules that import each other, each as large as it is (Tarjan's strongly connected components)."""
    edges = {name: imported(module, known) for name, module in known.items()}
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    groups = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in edges[name]:
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            group = []
            while not group or group[-1] != name:
                group.append(stack.pop())
            if len(group) > 1:
                groups.append(sorted(group))

    sys.setrecursionlimit(10_000)
    for name in edges:
        if name not in index:
            visit(name)
    return groups


def defined(module: Module) -> set[str]:
    """The private names that a module's classes and the module itself define."""
    found = set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and is_own(node.value):
            found.add(node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return {name for name in found if is_private(name)}


def is_private(name: str) -> bool:
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__"))


def is_own(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def private_accesses(module: Module) -> Iterator[str]:
    """Where a module reads or sets a private name that neither it nor one of its classes defines."""
    own = defined(module)
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr) and not is_own(node.value):
            if node.attr not in own and node.attr not in THIRD_PARTY:
                yield f"{module.path}:{node.lineno}: {ast.unparse(node)}"
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                if is_private(alias.name) and (node.module or "").startswith("pilot") and node.module != module.name:
                    yield f"{module.path}:{node.lineno}: {node.module}.{alias.name}"


def slurm_words(module: Module) -> Iterator[str]:
    """Commands and variables of Slurm in a module of the core, also in comments; and its name in code."""
    if not module.path.startswith("pilot/") or module.path in SLURM_PLACES:
        return
    for number, line in enumerate(module.text.splitlines(), 1):
        for match in SLURM.finditer(line):
            yield f"{module.path}:{number}: {match[0]}"
    for token in tokenize.generate_tokens(io.StringIO(module.text).readline):
        if token.type == tokenize.NAME and "slurm" in token.string.lower():
            yield f"{module.path}:{token.start[0]}: {token.string}"


def classes(module: Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ClassDef):
            assert node.end_lineno is not None
            yield node.end_lineno - node.lineno + 1, f"{module.path}: class {node.name}"


def lines(known: dict[str, Module]) -> int:
    """Source lines, without the modules that are new."""
    return sum(module.text.count("\n") for module in known.values() if not module.path.startswith(NEW))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    parser.add_argument("--base", metavar="COMMIT", help="compare the number of source lines with that commit")
    parser.add_argument("--list", action="store_true", help="print each place that counts")
    options = parser.parse_args()

    known = modules(ROOT)
    found = {
        "import_cycles": [", ".join(group) for group in cycles(known)],
        "private_accesses": [place for module in known.values() for place in private_accesses(module)],
        "slurm_words": [place for module in known.values() for place in slurm_words(module)],
    }
    largest_class = max(one for module in known.values() for one in classes(module))
    largest_file = max((module.text.count("\n"), module.path) for module in known.values())
    if options.list:
        for key, places in found.items():
            sys.stdout.writelines(f"{key}: {place}\n" for place in places)
    sys.stdout.write(f"largest class: {largest_class[1]}; largest file: {largest_file[1]}\n")

    figures: dict[str, tuple[float | list[float], _bench.Bar | None]] = {
        key: (len(places), _bench.Bar("==", 0)) for key, places in found.items()
    }
    figures["largest_class_lines"] = (largest_class[0], _bench.Bar("<=", 350, "lines"))
    figures["largest_file_lines"] = (largest_file[0], _bench.Bar("<=", 450, "lines"))
    bar = None
    if options.base:
        with _bench.checked_out(options.base) as tree:
            before = lines(modules(tree))
        figures["source_lines_before"] = (before, None)
        bar = _bench.Bar("<=", before - 700, "lines")
    figures["source_lines"] = (lines(known), bar)
    rows = [{"figure": key, "place": place} for key, places in found.items() for place in places]
    _bench.report("structure", figures, rows=rows, configuration={"base": options.base}, file=options.json)


if __name__ == "__main__":
    main()
