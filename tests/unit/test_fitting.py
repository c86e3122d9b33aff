"""Whether a pilot fits, and which one is chosen: pure functions, in words."""

from __future__ import annotations

from typing import Any

import pytest

from pilot.descriptions import TaskDescription
from pilot.interfaces import Candidate
from pilot.resources import PLAIN, Capacity, Node, Terms
from pilot.scheduling.fitting import misfit, unservable
from pilot.scheduling.policies import Balanced

GIB = 2**30


def node(cores: int = 4, gpus: int = 1, memory: int = 8) -> Node:
    return Node("n", "host", cores, [str(one) for one in range(gpus)], memory * GIB)


def pilot(**changes: Any) -> Capacity:
    return Capacity(("pilot-1", "alpha"), "alpha", ("cpu",), [node()], 100.0)._replace(**changes)


def terms(**fields: Any) -> Terms:
    return TaskDescription(function=len, **fields).terms()


#: id: (fields of the task, changes to the pilot, words of the reason or None where it fits)
FITS: dict[str, tuple[dict[str, Any], dict[str, Any], str | None]] = {
    "plain": ({}, {}, None),
    "all of it": ({"num_cpus": 4, "num_gpus": 1, "memory": "8 GiB", "expected_duration": 100}, {}, None),
    "fractions": ({"num_cpus": 0.5, "num_gpus": 0.25}, {}, None),
    "by name": ({"pilot": "alpha"}, {}, None),
    "by id": ({"pilots": ["pilot-1", "other"]}, {}, None),
    "with label": ({"labels": ["cpu"]}, {}, None),
    "no end known": ({"expected_duration": 1e6}, {"seconds": None}, None),
    "too many cores": ({"num_cpus": 5}, {}, "alpha has 4 cores, but 5 are needed"),
    "too many GPUs": ({"num_gpus": 2}, {}, "alpha has 1 GPUs, but 2 are needed"),
    "too much memory": ({"memory": "9 GiB"}, {}, "GiB of memory"),
    "another pilot": ({"pilot": "beta"}, {}, "alpha is not among the requested pilots (beta)"),
    "no such label": ({"labels": ["cpu", "fast"]}, {}, "alpha lacks the label 'fast' (it has: cpu)"),
    "no label at all": ({"labels": ["x"]}, {"labels": ()}, "alpha lacks the label 'x' (it has: none)"),
    "too little time": ({"expected_duration": 101}, {}, "alpha has 100 s of walltime left, but 101 s are needed"),
    "hardly too little time": (
        {"expected_duration": 9},
        {"seconds": 8.999},
        "alpha has 8.9 s of walltime left, but 9 s are needed",
    ),
    "much time, not enough": (
        {"expected_duration": 1234568},
        {"seconds": 1234567.99},
        "alpha has 1234567.9 s of walltime left, but 1234568 s are needed",
    ),
    "no time": ({"expected_duration": 1}, {"seconds": -3.0}, "alpha has 0 s of walltime left, but 1 s are needed"),
    "over": ({}, {"over": "failed"}, "alpha is failed"),
    "by the name of the pilot before": ({"pilot": "old"}, {"names": ("pilot-2", "old.2", "pilot-1", "old")}, None),
    "on the larger node": ({"num_cpus": 8}, {"nodes": [node(), node(8)]}, None),
    "never over two nodes": (
        {"num_cpus": 5},
        {"nodes": [node()] * 2},
        "a node of alpha has at most 4 cores, but 5 are",
    ),
    "not on one node": (
        {"num_cpus": 8, "num_gpus": 2},
        {"nodes": [node(8, 1), node(4, 2)]},
        "no node of alpha has the needed cores, GPUs and memory together",
    ),
    "no node": ({}, {"nodes": []}, "a node of alpha has at most 0 cores"),
    "ranks": ({"ranks": 4}, {}, None),
    "ranks over nodes": ({"ranks": 8}, {"nodes": [node()] * 2}, None),
    "too many ranks": ({"ranks": 9}, {"nodes": [node()] * 2}, "alpha has room for 8 such ranks, but 9 are needed"),
    "ranks do not straddle": ({"ranks": 3, "num_cpus": 3}, {"nodes": [node()] * 2}, "room for 2 such ranks"),
    "ranks of a fraction": ({"ranks": 40, "num_cpus": 0.1}, {}, None),
    "ranks by GPUs": ({"ranks": 3, "num_gpus": 0.5}, {}, "room for 2 such ranks, but 3 are needed"),
    "ranks by memory": ({"ranks": 3, "memory": "3 GiB"}, {}, "room for 2 such ranks, but 3 are needed"),
    "ranks on so many nodes": ({"ranks": 6, "nodes": 2}, {"nodes": [node(), node(3)]}, None),
    "too few nodes": ({"ranks": 2, "nodes": 2}, {}, "alpha has 1 nodes with room for 1 such ranks, but 2 are needed"),
    "nodes too small": ({"ranks": 8, "nodes": 2}, {"nodes": [node(), node(3), node(1)]}, "1 nodes with room for 4"),
}


@pytest.mark.parametrize("fields, changes, reason", FITS.values(), ids=FITS)
def test_misfit(fields: dict[str, Any], changes: dict[str, Any], reason: str | None) -> None:
    said = misfit(terms(**fields), pilot(**changes))
    assert said == reason if reason is None else said is not None and reason in said


def test_unservable_says_why_of_each() -> None:
    pilots = [pilot(), pilot(names=("pilot-2", "beta"), name="beta", nodes=[node(8)])]
    assert unservable(terms(num_cpus=8), pilots) is None
    assert unservable(terms(num_cpus=9), pilots) == (
        "alpha has 4 cores, but 9 are needed; beta has 8 cores, but 9 are needed"
    )
    others = [pilot(names=(name,), name=name, over="failed") for name in ("beta", "gamma")]
    assert unservable(terms(num_cpus=9, pilot="beta"), [pilot(), *others]) == "beta is failed"
    assert unservable(PLAIN, []) == "there is no pilot yet: call submit_pilot first"


def candidate(name: str, wait: float, slowness: float = 1.0, free: float = 1.0) -> Candidate:
    return Candidate(id=name, name=name, cores=2, free_cores=free, expected_wait=wait, slowness=slowness)


CHOICES = {
    "the least wait": ([candidate("a", 0.2), candidate("b", 0.1)], "b"),
    "then the faster": ([candidate("a", 0.1, 2.0), candidate("b", 0.1, 0.5)], "b"),
    "then the emptier": ([candidate("a", 0.1, free=1), candidate("b", 0.1, free=2)], "b"),
    "then the first": ([candidate("a", 0.1), candidate("b", 0.1)], "a"),
    "the only one": ([candidate("a", 9.0)], "a"),
}


@pytest.mark.parametrize("candidates, name", CHOICES.values(), ids=CHOICES)
def test_balanced(candidates: list[Candidate], name: str) -> None:
    choice, reason = Balanced().choose(PLAIN, candidates)
    assert choice.name == name
    assert name in reason
    assert ("only suitable pilot" in reason) == (len(candidates) == 1)
