"""Chains of noisy qubits, beside states that hold all values. Without pilots."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from qiskit.quantum_info import PTM, SuperOp, random_quantum_channel, random_unitary

from pilot.quantum import noisy_chains
from pilot.quantum.noisy_chains import NoisyChain, TooEntangled, in_line
from pilot.quantum.noisy_states import RESET, NoisyState, transfer_of

#: Drawn by the beginnings of outcomes, so that a great number takes no longer: an error of 1e-6.
SHOTS = 10**12
HADAMARD = transfer_of(np.array([[1, 1], [1, -1]]) / np.sqrt(2))
CX = transfer_of(np.eye(4)[[0, 3, 2, 1]])


def going_on() -> None:
    """Nothing ends it."""


def shares(chain: NoisyChain, bits: list[Any]) -> np.ndarray:
    """Of all outcomes, the first bit the lowest digit."""
    table, counts = chain.sample(bits, SHOTS, np.random.default_rng(0), going_on)
    places = (table << np.arange(len(bits))).sum(axis=1)
    assert len(set(places.tolist())) == len(places) and counts.sum() == SHOTS
    found = np.zeros(1 << len(bits))
    found[places] = counts / SHOTS
    return found


def happen(states: list[Any], seed: int) -> list[str]:
    """Random channels, resets and measurements on five qubits, some into a bit that was measured before; the bits."""
    random = np.random.default_rng(seed)
    bits: dict[str, None] = {}
    for _ in range(24):
        kind, qubits = random.integers(8), random.permutation(5)[:2].tolist()
        if kind == 0:
            confusion = np.array([[0.9, 0.2], [0.1, 0.8]])
            bits[bit := f"bit {random.integers(3)}"] = None
            for state in states:
                state.measure(qubits[0], bit, confusion)
            continue
        its = qubits[:1] if kind < 4 else qubits
        size = 2 ** len(its)
        channel = SuperOp(random_unitary(size, seed=int(random.integers(1000))))
        channel = SuperOp(random_quantum_channel(size, size, 2, seed=int(random.integers(1000)))) @ channel
        for state in states:
            state.apply(RESET if kind == 1 else PTM(channel).data.real, its)
    for qubit in random.permutation(5)[:3].tolist():
        bits[bit := f"bit {qubit}"] = None
        for state in states:
            state.measure(qubit, bit, np.array([[0.97, 0.05], [0.03, 0.95]]), keep=False)
    return list(bits)


@pytest.mark.parametrize("seed", range(6))
def test_a_chain_samples_what_the_whole_state_holds(seed: int) -> None:
    chain, state = NoisyChain(np.random.default_rng(seed).permutation(5).tolist(), np.inf), NoisyState()
    bits = happen([chain, state], seed)
    assert np.allclose(shares(chain, bits), state.probabilities(bits), atol=1e-5)


def test_beginnings_that_do_not_fit_are_drawn_one_part_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noisy_chains, "_ROWS", 4)
    chain, state = NoisyChain(range(5), np.inf), NoisyState()
    bits = happen([chain, state], 3)
    assert np.allclose(shares(chain, bits), state.probabilities(bits), atol=1e-5)


def ghz(qubits: int, limit: float = np.inf) -> NoisyChain:
    """Each qubit is a neighbour of the one before; all are measured."""
    chain = NoisyChain(range(qubits), limit)
    chain.apply(HADAMARD, [0])
    for qubit in range(1, qubits):
        chain.apply(CX, [qubit - 1, qubit])
    for qubit in range(qubits):
        chain.measure(qubit, f"bit {qubit}", np.eye(2), keep=False)
    return chain


def test_two_hundred_qubits_in_one_state() -> None:
    table, counts = ghz(200).sample([f"bit {qubit}" for qubit in range(200)], 1000, np.random.default_rng(0), going_on)
    assert sorted(table.sum(axis=1).tolist()) == [0, 200]
    assert counts.sum() == 1000 and counts.min() > 400


def test_outcomes_may_be_less_probable_than_the_least_number() -> None:
    chain = NoisyChain(range(1200), np.inf)
    for qubit in range(1200):
        chain.apply(HADAMARD, [qubit])
        chain.measure(qubit, qubit + 1200, np.eye(2), keep=False)
    table, counts = chain.sample(range(1200, 2400), 20, np.random.default_rng(0), going_on)
    assert table.shape == (20, 1200) and set(counts.tolist()) == {1}
    assert 0.45 < table.mean() < 0.55


def test_a_chain_gives_up_beyond_its_limit() -> None:
    ghz(20, limit=0.1)
    with pytest.raises(TooEntangled):
        ghz(20, limit=1e-3)


def test_what_is_said_again_and_again_ends_the_drawing() -> None:
    class Stop(Exception):
        pass

    def stop() -> None:
        raise Stop

    with pytest.raises(Stop):
        ghz(3).sample(["bit 0"], 10, np.random.default_rng(0), stop)


def test_qubits_stand_in_line_as_their_gates_connect_them() -> None:
    line = np.random.default_rng(2).permutation(9).tolist()
    pairs = [*itertools.pairwise(line[:6]), *[(line[6], line[7])] * 3]
    found = in_line(range(9), pairs)
    assert sorted(found) == list(range(9))
    one = [qubit for qubit in found if qubit in line[:6]]
    assert one in (line[:6], line[5::-1])
    places = [found.index(qubit) for qubit in line[:6]]
    assert max(places) - min(places) == 5
    assert abs(found.index(line[6]) - found.index(line[7])) == 1
