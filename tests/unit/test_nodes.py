"""Where the ranks of an MPI task go, and which GPUs workers and ranks get."""

from __future__ import annotations

from typing import Any

import pytest

from pilot.agent.batches import shape_of
from pilot.agent.nodes import Place, spread
from pilot.descriptions import TaskDescription
from pilot.errors import DescriptionError
from pilot.resources import SLOT, Node, Resources
from pilot.worker.launch import RankLayout


def place(name: str = "g1", cores: int = 8, gpus: int = 2) -> Place:
    return Place(Node(name, name, cores, [f"{name}-{one}" for one in range(gpus)], 8), None, "")


def ranks(count: int, num_gpus: float = 0.0, **more: Any) -> Resources:
    return Resources(ranks=count, num_gpus=num_gpus, **more)


def test_ranks_go_where_gpus_are() -> None:
    two = [place("g1"), place("g2", gpus=4)]
    assert spread(two, ranks(2)) == {"g1": 2}
    assert spread(two, ranks(4, 1)) == {"g2": 4}
    assert spread(two, ranks(6, 1)) == {"g2": 4, "g1": 2}
    assert spread(two, ranks(7, 1)) is None
    assert spread(two, ranks(3, 2)) == {"g2": 2, "g1": 1}
    assert spread(two, ranks(4, 1, nodes=2)) == {"g2": 2, "g1": 2}
    assert spread(two, ranks(6, 1, nodes=2)) is None
    assert spread([place(gpus=0)], ranks(1, 0.5)) is None


def test_fractions_share_one_gpu() -> None:
    assert spread([place()], ranks(4, 0.5)) == {"g1": 4}
    assert spread([place()], ranks(5, 0.5)) is None
    assert spread([place()], ranks(4, 0.4)) == {"g1": 4}  # a fifth would have parts of two
    assert spread([place()], ranks(5, 0.4)) is None


def test_what_workers_hold_is_not_there_for_ranks() -> None:
    one = place()
    held = one.pick_gpus(0.5)
    assert held == {1: 0.5}
    one.bind_gpus(held)
    assert spread([one], ranks(2, 1)) is None
    assert spread([one], ranks(1, 1)) == {"g1": 1}
    assert one.pick_rank_gpus(1, 1) == [{0: 1.0}]
    assert one.pick_rank_gpus(0.5, 3) == [{1: 0.5}, {0: 0.5}, {0: 0.5}]
    assert one.gpus == {0: 0.0, 1: 0.5}  # picked, not bound
    one.bind_gpus(held, -1)
    assert one.pick_rank_gpus(1, 2) == [{0: 1.0}, {1: 1.0}]


def test_sums_of_fractions_leave_nothing() -> None:
    one = place()
    for _ in range(3):
        for sign in (1, 1, 1, -1, -1, -1):
            one.bind_gpus({0: 0.1}, sign)
    assert one.gpus == {0: 0.0, 1: 0.0}


def test_each_rank_is_told_its_own() -> None:
    hosts, names = {"g2": 2, "g1": 1}, {"g2": ["a", "b", "c", "d"], "g1": ["e", "f"]}
    layout = RankLayout(ranks(3, 2), hosts, "", names)
    assert layout.gpus_by_rank() == [["a", "b"], ["c", "d"], ["e", "f"]]
    shared = RankLayout(ranks(2, 0.5), {"g1": 2}, "", {"g1": ["a", "a"]})
    assert shared.gpus_by_rank() == [["a"], ["a"]]
    assert RankLayout(ranks(2), {"g1": 2}, "").gpus_by_rank() == [[], []]


def test_ranks_have_whole_gpus_or_a_fraction() -> None:
    TaskDescription(function=len, ranks=2, num_gpus=2)
    TaskDescription(function=len, ranks=2, num_gpus=0.25)
    with pytest.raises(DescriptionError, match=r"num_gpus.*1\.5.*whole number of GPUs"):
        TaskDescription(function=len, ranks=2, num_gpus=1.5)


def test_few_shapes_of_workers_serve_all_amounts_of_memory() -> None:
    amounts = range(1, 8 << 30, 12_345_678)
    shapes = [shape_of(Resources(memory=amount)) for amount in amounts]
    assert len(set(shapes)) == 6  # 256 MiB, 512 MiB, 1, 2, 4 and 8 GiB
    for amount, shape in zip(amounts, shapes, strict=True):
        assert amount <= shape.memory <= max(1 << 28, 2 * amount - 1)
    assert shape_of(SLOT) is SLOT
