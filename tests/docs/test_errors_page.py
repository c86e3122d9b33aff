"""The page of errors has every error of the library, with what else it is."""

from __future__ import annotations

import concurrent.futures
import pickle
import re

import page_blocks

import pilot
from pilot import errors

PAGE = (page_blocks.DOCS / "howto/errors.md").read_text()
ROWS = dict(re.findall(r"^\| `(\w+)` \|([^|]*)\|[^|\n]+\|[^|\n]+\|$", PAGE, re.MULTILINE))
PUBLIC = {
    name: cls for name, cls in vars(errors).items() if isinstance(cls, type) and issubclass(cls, errors.PilotError)
}


def test_every_error_has_a_row() -> None:
    assert set(ROWS) == set(PUBLIC)
    assert set(PUBLIC) <= set(pilot.__all__)


def test_rows_name_what_else_an_error_is() -> None:
    others = {**PUBLIC, "BrokenExecutor": concurrent.futures.BrokenExecutor, "PicklingError": pickle.PicklingError}
    others |= {cls.__name__: cls for cls in (ValueError, RuntimeError, TimeoutError)}
    for name, also in ROWS.items():
        said = {others[word] for word in re.findall(r"`(\w+)`", also)}
        usual = (Exception, errors.PilotError, errors.TaskError)
        is_also = {base for base in PUBLIC[name].__bases__ if base not in usual}
        assert said == is_also, name


def test_every_error_is_in_the_reference() -> None:
    reference = (page_blocks.DOCS / "reference/pilot.rst").read_text()
    assert all(f"autoexception:: pilot.{name}\n" in reference for name in PUBLIC)


def test_every_public_name_is_in_the_reference() -> None:
    reference = (page_blocks.DOCS / "reference/pilot.rst").read_text()
    assert [name for name in pilot.__all__ if f":: pilot.{name}\n" not in reference + "\n"] == ["__version__"]
