"""What two circuits lose when they share a device. Workers run `compare` and `buffers`."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod, sqrt

import msgspec
import numpy as np
from numpy.typing import NDArray
from qiskit import QuantumCircuit

from pilot import DescriptionError
from pilot.qos.compatibility import score
from pilot.qos.families import FAMILIES, circuit
from pilot.qos.placement import Known, Placed, Placement
from pilot.quantum.bundles import joined
from pilot.quantum.device_noise import DeviceNoise
from pilot.quantum.fidelities import Fidelities, fidelities_of, ideal_of
from pilot.quantum.targets import readout_of
from pilot_miniapps.qos_multiprogramming.devices import LEVEL, Snapshot, pairs, snapshot
from pilot_miniapps.qos_multiprogramming.settings import Settings


class Pair(msgspec.Struct, frozen=True):
    """Two circuits that share a device."""

    names: tuple[str, str]
    #: Free qubits between them.
    buffer: int
    #: The fidelity of the outcomes and the success of each, over those alone.
    fidelity: tuple[float, float]
    success: tuple[float, float]
    #: Both fidelities were computed, not estimated by the formula.
    exact: bool
    #: The success of both together, with no qubits between them, over that of the two compiled as one circuit; for each
    #: program.
    over_naive: float
    #: The success of a program, of one in the circuit of both, and of one circuit as wide as both.
    own: float
    naive: float
    large: float
    #: By which the paper's multi-programmer ranks pairs.
    score: float


def compare(name: str, width: int, buffer: int, tries: int, most_exact: int) -> list[Pair]:
    """Each family with the next one on a snapshot, circuits of this width; where they do not fit with the buffer, with
    a smaller one."""
    device = snapshot(name)
    target = device.compiler.target
    assert target is not None
    exact = fidelities_of(device.info, target, most_exact)
    assert exact is not None
    placements = [device.placement(one, 1.0, tries) for one in range(buffer, -1, -1)]
    large = _large(device, placements[0], 2 * width, tries)
    placed = [_placed(device, placements, pair) for pair in pairs(width)]
    free = [_placed(device, placements[-1:], pair) for pair in pairs(width)]  # as near as in one circuit
    solo: dict[str, QuantumCircuit] = {}
    for _, its, found in placed:  # what is found for a pair may be better than what was found for one
        for known, made in zip(its, found.circuits, strict=True):
            options = [known.compiled, known.layouts.layouts[0].on(device.info.qubits), made]
            options += [solo[known.circuit.name]] if known.circuit.name in solo else []
            solo[known.circuit.name] = max(options, key=placements[0].success)
    return [
        _pair(
            device,
            exact,
            placements[0],
            solo,
            its,
            found,
            buffer=buffer,
            together=placements[0].success(joined(free[number][2].circuits)),
            tries=tries,
            large=large[number],
        )
        for number, (buffer, its, found) in enumerate(placed)
    ]


def _placed(
    device: Snapshot, placements: Sequence[Placement], pair: Sequence[QuantumCircuit]
) -> tuple[int, list[Known], Placed]:
    for free, placement in zip(range(len(placements) - 1, -1, -1), placements, strict=True):
        known = [device.known(placement, one) for one in pair]
        if (found := placement.again(known, LEVEL)) is not None:
            return free, known, found
    raise _no_room(device, pair[0].num_qubits, 0)


def check_places(settings: Settings) -> None:
    """Raise DescriptionError where two circuits of one width have no place on the device together. Devices with enough
    qubits may have them where two connected regions have no room."""
    device = snapshot(settings.snapshot)
    wanted = [(0, width) for width in settings.widths if "fidelity" in settings.study]
    wanted += [(1, width) for width in settings.with_buffer() if "buffer" in settings.study]
    for buffer, width in wanted:
        if not device.placement(buffer).has_room(width, width):
            raise _no_room(device, width, buffer)


def _no_room(device: Snapshot, width: int, buffer: int) -> DescriptionError:
    between = ", with a free qubit between them" if buffer else ""
    return DescriptionError(
        f"widths: {width}: two circuits that wide have no place together on {device.info.name}{between}; it has "
        f"{device.info.qubits} qubits: make widths smaller, or name a wider device",
        field="widths",
        given=width,
    )


def _pair(
    device: Snapshot,
    exact: Fidelities,
    placement: Placement,
    solo: dict[str, QuantumCircuit],
    its: Sequence[Known],
    found: Placed,
    *,
    buffer: int,
    together: float,
    tries: int,
    large: float,
) -> Pair:
    fidelity, success, own, is_exact = [], [], 1.0, True
    for known, made in zip(its, found.circuits, strict=True):
        alone, ideal = solo[known.circuit.name], ideal_of(known.circuit)
        here, there = exact.estimate(made, ideal), exact.estimate(alone, ideal)
        fidelity.append(here.value / max(here.value, there.value))
        is_exact = is_exact and here.is_exact and there.is_exact
        mine = placement.success(made)
        success.append(mine / max(mine, placement.success(alone)))
        own *= mine
    naive = placement.success(device.compiler.compile(_side_by_side([one.circuit for one in its]), LEVEL, tries))
    return Pair(
        names=(its[0].circuit.name, its[1].circuit.name),
        buffer=buffer,
        fidelity=(fidelity[0], fidelity[1]),
        success=(success[0], success[1]),
        exact=is_exact,
        over_naive=sqrt(together / naive),
        own=sqrt(own),
        naive=sqrt(naive),
        large=large,
        score=score([one.program for one in its], device.info.qubits),
    )


def _side_by_side(circuits: Sequence[QuantumCircuit]) -> QuantumCircuit:
    """Both in one circuit, to be compiled as one: what is done where programs are only put together."""
    whole = QuantumCircuit(sum(one.num_qubits for one in circuits), sum(one.num_clbits for one in circuits))
    qubit = bit = 0
    for one in circuits:
        whole.compose(one, range(qubit, qubit + one.num_qubits), range(bit, bit + one.num_clbits), inplace=True)
        qubit, bit = qubit + one.num_qubits, bit + one.num_clbits
    return whole


def _large(device: Snapshot, placement: Placement, width: int, tries: int) -> list[float]:
    """The success of one circuit of each family that is as wide as both."""
    return [placement.success(device.compiler.compile(circuit(family, width), LEVEL, tries)) for family in FAMILIES]


def buffers(name: str, width: int, crosstalk: float, tries: int) -> list[float]:
    """The success of each pair of circuits with a free qubit between them over that without one, where two gates of
    different circuits that are one step apart disturb each other, and those who place them do not know it."""
    truth = snapshot(name, crosstalk).compiler.fidelities
    assert truth is not None
    device = snapshot(name)
    placements = [device.placement(buffer, 1.0, tries) for buffer in (0, 1)]
    gains = []
    for pair in pairs(width):
        own = []
        for placement in placements:
            found = placement.again([device.known(placement, one) for one in pair], LEVEL)
            if found is not None:
                alone = [truth.success(one).probability() for one in found.circuits]
                between = truth.success(joined(found.circuits)).probability() / prod(alone)
                own.append(between * prod(map(placement.success, found.circuits)))
        if len(own) == len(placements):
            gains.append(sqrt(own[1] / own[0]))
    return gains


def deviation(name: str, width: int) -> float:
    """By how much the noisy outcomes of two circuits that run as one differ from those of each alone at its place: all
    probabilities are computed, of the whole in one state."""
    device = snapshot(name)
    placement = device.placement(0, 0.0)
    pair = pairs(width)[0]
    found = placement.again([device.known(placement, one) for one in pair], LEVEL)
    if found is None:
        raise _no_room(device, width, 0)
    noise = DeviceNoise(placement.target, readout_of(device.info))

    def probabilities(made: QuantumCircuit) -> NDArray[np.float64]:
        small, active = noise.reduce(made)
        return noise.probabilities(noise.schedule(small, active), active)[1]

    first, second = map(probabilities, found.circuits)
    return float(np.abs(probabilities(joined(found.circuits)) - np.kron(second, first)).max())


def interval(values: Sequence[float], draws: int = 2000) -> tuple[float, float]:
    """The 95 % interval of the mean, by drawing the values again."""
    given, random = np.array(values), np.random.default_rng(0)
    means = given[random.integers(len(given), size=(draws, len(given)))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)
