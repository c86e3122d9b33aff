"""Circuits of independent parts on a snapshot: drawn part by part, and as likely as the whole."""

from __future__ import annotations

import numpy as np
import pytest
from pilot_plugins.qpus._parts import joint, parts_of
from qiskit import QuantumCircuit

from pilot.quantum.outcomes import Outcomes


def pairs() -> QuantumCircuit:
    made = QuantumCircuit(6, 5)
    for first in (0, 3):
        made.h(first)
        made.cx(first, first + 1)
    made.x(5)
    made.measure([0, 1], [4, 0])
    made.barrier(3, 4)
    made.measure([3, 4], [1, 2])
    return made


def test_the_parts_are_those_that_share_nothing() -> None:
    first, second = parts_of(pairs())
    assert first.count_ops() == {"h": 1, "cx": 1, "measure": 2} and first.num_clbits == 5
    assert second.count_ops() == {"h": 1, "cx": 1, "measure": 2, "barrier": 1}  # what nobody measures is left out
    linked = pairs()
    linked.measure(5, 4)  # into a bit of the first pair
    linked.measure(5, 2)  # and of the second
    assert len(parts_of(linked)) == 1
    with linked.if_test((linked.clbits[0], 1)):
        linked.x(2)
    assert len(parts_of(linked)) == 1


def test_samples_of_parts_are_independent_in_the_whole() -> None:
    made = pairs()
    shots = 40_000
    one = Outcomes.from_counts(made, {"00000": shots // 2, "10001": shots // 2}, shots)
    other = Outcomes.from_counts(made, {"00000": shots // 4, "00110": 3 * shots // 4}, shots)
    counts = joint([one, other], 7).get_counts()
    expected = {"00000": 1 / 8, "10001": 1 / 8, "00110": 3 / 8, "10111": 3 / 8}
    assert counts.keys() == expected.keys() and sum(counts.values()) == shots
    for key, share in expected.items():
        assert counts[key] / shots == pytest.approx(share, abs=5 * np.sqrt(share / shots))
    assert joint([one, other], 7).get_counts() == counts
