"""The architecture page names each file of the source tree, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/architecture.md").read_text()
#: Title of a section with tables of files → the files and folders that the tables name.
TABLES = {
    folder: {
        name
        for cell in re.findall(r"^\| (`[^|]*) \|", text, re.MULTILINE)
        for name in re.findall(r"`([a-z_0-9]+(?:\.py|/))`", cell)
    }
    for folder, text in re.findall(r"^### `(pilot/[a-z_]*/?)`[^\n]*\n(.*?)(?=^##)", PAGE, re.MULTILINE | re.DOTALL)
}
PACKAGES = [ROOT / "pilot", *sorted(path.parent for path in (ROOT / "pilot").glob("*/__init__.py"))]


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_each_file_is_in_its_folders_table(package: Path) -> None:
    files = {path.name for path in package.glob("*.py")} - {"__init__.py", "__main__.py"}
    if package.name in ("quantum", "qos", "service"):
        files |= {f"{path.parent.name}/" for path in package.glob("*/__init__.py")}
    assert TABLES[f"{package.relative_to(ROOT)}/"] == files
