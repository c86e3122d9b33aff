"""The device of qos-mitigator, beside the device of a pilot. Without pilots."""

from __future__ import annotations

import numpy as np
import pytest
from pilot_miniapps.qos_mitigator import fidelity as study
from pilot_miniapps.qos_mitigator.large import fidelity, ideal
from pilot_miniapps.qos_mitigator.machine import LEVEL, TRIES, Machine, TooWide, machine
from pilot_plugins.qpus.noise import NoisyDevice

from pilot.qos.families import circuit
from pilot.quantum.targets import readout_of, target_of


@pytest.mark.parametrize("qubits", [4, 16])
def test_circuits_of_any_width_have_the_fidelity_that_a_pilots_device_gives(qubits: int) -> None:
    """A few qubits by all probabilities, many by a chain."""
    device = machine("kolkata")
    compiled = device.compiler.compile(circuit("ghz", qubits), LEVEL, TRIES)
    other = NoisyDevice(target_of(device.info), readout_of(device.info))
    wanted = other.run(compiled, 40_000, 1, lambda: None)
    for seed in range(2):  # kept after the first
        found = device.sample(compiled, 40_000, np.random.default_rng(seed))
        assert found.weights.sum() == 40_000
        known = ideal("ghz", qubits)
        assert fidelity(known, found) == pytest.approx(fidelity(known, wanted), abs=0.015)


def test_what_is_too_wide_and_too_entangled_is_refused_before_it_takes_all_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pilot.quantum.noisy_chains._STEP", 1e6)
    device = Machine("kolkata")
    compiled = device.compiler.compile(circuit("ghz", 14), 1)
    with pytest.raises(TooWide, match=r"uses 1\d qubits of fake:kolkata, too entangled .* take fewer qubits"):
        device.sample(compiled, 10, np.random.default_rng(0))
    monkeypatch.setattr(study, "machine", lambda *_: device)
    assert study.case("kolkata", "ghz", 14, 0, 1024, 2, 0) is None
