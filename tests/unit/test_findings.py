"""Each test that FINDINGS.md names exists."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
CONTRACTS = "".join(path.read_text() for path in sorted((TESTS.parent / "pilot/testing").glob("*.py")))
_ROW = re.compile(r"^\|(?P<what>[^|]+)\|(?P<report>[^|]*)\|(?P<test>[^|]+)\|$")


def rows() -> list[tuple[str, str]]:
    """What was wrong and the cell with the tests, of each row but the tables' heads."""
    found = []
    for line in (TESTS / "FINDINGS.md").read_text().splitlines():
        row = _ROW.match(line)
        if row and row["what"].strip() != "what was wrong" and not row["what"].strip().startswith("---"):
            found.append((row["what"].strip(), row["test"].strip()))
    return found


def test_every_line_of_a_table_is_a_row_of_three_cells():
    lines = (TESTS / "FINDINGS.md").read_text().splitlines()
    assert [line for line in lines if line.startswith("|") and not _ROW.match(line)] == []
    assert rows()


@pytest.mark.parametrize(("what", "cell"), rows())
def test_the_named_tests_exist(what, cell):
    """A cell names tests as `unit/quantum/test_x.py::test_name`, or says "left: …" with a reason."""
    names = re.findall(r"`([\w/]+\.py)::(\w+)(?:\[[^`]*\])?`", cell)
    if not names:
        assert cell.startswith("left: ") and len(cell) > 20, f"no test and no reason: {what}"
    for file, test in names:
        source = (TESTS / file).read_text() + CONTRACTS  # a test of a contract suite stands in pilot.testing
        assert re.search(rf"^\s*(async )?def {test}\(", source, re.MULTILINE), f"{file} has no {test}"
