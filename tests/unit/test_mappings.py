"""Files that stay mapped in a worker."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pilot.wire import mappings, payload
from pilot.wire.mappings import Mappings
from pilot.wire.spool import SPOOL_BYTES, Spool


@pytest.fixture
def kept() -> Mappings:
    return Mappings()


@pytest.fixture
def spool(tmp_path: Path, kept: Mappings) -> Spool:
    return Spool(tmp_path, mappings=kept)


def mapped(path: Path) -> int:
    """How many times this process has a file in its memory, removed or not."""
    return Path("/proc/self/maps").read_text().count(str(path))


def test_who_reads_a_value_again_finds_its_pages(spool: Spool, tmp_path: Path) -> None:
    packed = payload.dump(np.arange(SPOOL_BYTES), spool, "it")
    (file,) = tmp_path.iterdir()
    one = payload.load(packed, spool=spool)
    other = payload.load(packed, spool=spool)
    assert mapped(file) == 1 and np.shares_memory(one, other)
    assert not other.flags.writeable


def test_a_file_that_was_removed_is_dropped(
    spool: Spool, kept: Mappings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = payload.dump(np.arange(SPOOL_BYTES), spool, "it")
    (file,) = tmp_path.iterdir()
    array = payload.load(packed, spool=spool)
    spool.release(packed.files)
    monkeypatch.setattr(mappings, "LOOK_SECONDS", 0)
    kept.drop_removed()
    assert array[-1] == SPOOL_BYTES - 1 and mapped(file) == 1  # it is in use
    del array
    assert mapped(file) == 0


def test_few_files_stay_mapped(spool: Spool, tmp_path: Path) -> None:
    for number in range(20):
        payload.load(payload.dump(np.full(SPOOL_BYTES, number), spool, "it"), spool=spool)
    assert mapped(tmp_path) == mappings.MOST


@pytest.mark.parametrize("count", [1, 3000])
def test_values_of_many_and_of_large_frames_are_whole(spool: Spool, count: int) -> None:
    arrays = [np.random.default_rng(number).random(7_000_000 // count) for number in range(count)]
    for one, other in zip(arrays, payload.load(payload.dump(arrays, spool, "it"), spool=spool), strict=True):
        np.testing.assert_array_equal(one, other)
