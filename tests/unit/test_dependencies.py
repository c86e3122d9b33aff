"""What is imported is declared, and private imports of other packages are listed with their reason."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILES = [path for folder in ("pilot", "plugins", "miniapps") for path in sorted((ROOT / folder).rglob("*.py"))]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
#: Ours, and what type checkers bring with them.
OURS = {"pilot", "pilot_plugins", "pilot_miniapps", "typing_extensions"}


def imports(path: Path) -> set[str]:
    """Dotted names of what a file imports from other packages, those of the standard library left out."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if (top := name.partition(".")[0]) not in OURS | sys.stdlib_module_names and top}


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_imported_package_is_declared() -> None:
    listed = [*PROJECT["dependencies"], *(one for extra in PROJECT["optional-dependencies"].values() for one in extra)]
    declared = {normalised(match[0]) for one in listed if (match := re.match(r"[A-Za-z0-9._-]+", one))}
    providers = packages_distributions()
    missing = {}
    for path in FILES:
        for name in imports(path):
            owners = {normalised(owner) for owner in providers.get(name.partition(".")[0], [])}
            if owners and not owners & declared:  # none where an extra is not installed
                missing[name] = path.name
    assert not missing


def test_private_imports_are_listed_with_their_reason() -> None:
    page = (ROOT / "docs/dependencies.md").read_text()
    private = {
        name: path.name
        for path in FILES
        for name in imports(path)
        if any(part.startswith("_") and not part.startswith("__") for part in name.split("."))
    }
    assert {name: file for name, file in private.items() if f"`{name}`" not in page} == {}
    assert re.findall(r"^\| `([\w.]+)` \|", page, re.MULTILINE) != []
