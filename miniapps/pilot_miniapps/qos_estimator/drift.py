"""A device whose calibration changes from day to day: which of its qubits are best, by the estimates of other days."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import rustworkx
from qiskit import QuantumCircuit, generate_preset_pass_manager
from qiskit.transpiler import CouplingMap

from pilot import DescriptionError
from pilot.qos.calibrations import read_calibrations
from pilot.qos.families import FAMILIES, circuit
from pilot.quantum.compilation import Compiler, tries_for
from pilot.quantum.fidelities import Ideal, fidelities_of, ideal_of
from pilot.quantum.targets import Reported, target_of
from pilot_miniapps.qos_estimator.accuracy import LEVEL

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pilot.resources import QPUInfo

#: Sizes of the regions, and of the circuits that run there.
SIZES = (3, 4, 5)
_GATES = ["cx", "rz", "sx", "x"]
#: Of the GHZ state that runs every day.
GHZ_QUBITS = 6
#: Days between the calibration that a choice is made by, and the run.
AGES = (1, 7, 30)

Pairs = tuple[tuple[int, int], ...]


class Placed(msgspec.Struct, frozen=True):
    """A circuit compiled for one region of a device.

    Attributes:
        choice: family and size; among circuits of one choice a region is chosen.
        region: the qubits.
        circuit: in the device's gates, on its qubits.
        ideal: what it gives without noise.
    """

    choice: str
    region: tuple[int, ...]
    circuit: QuantumCircuit
    ideal: Ideal


def calibrations(path: str) -> list[QPUInfo]:
    """The calibrations in a file, by day.

    Raises:
        DescriptionError: it cannot be read, or is of too few days, of too few qubits, or of several devices.
    """
    days = read_calibrations(path, "drifting")
    if len(days) <= max(AGES):
        raise _wrong(path, f"{len(days)} calibrations; expected {max(AGES) + 1} or more, one a day")
    if days[0].qubits < GHZ_QUBITS:
        raise _wrong(path, f"a device of {days[0].qubits} qubits; expected {GHZ_QUBITS} or more")
    for number, one in enumerate(days):
        if (one.qubits, one.coupling) != (days[0].qubits, days[0].coupling):
            raise _wrong(path, f"other qubits or pairs on day {number} than on day 0; expected one device")
    return days


def _wrong(path: str, what: str) -> DescriptionError:
    return DescriptionError(f"calibrations: {path} has {what}", field="calibrations", given=path)


def regions(coupling: Pairs, size: int) -> list[tuple[int, ...]]:
    """All sets of so many qubits that are connected."""
    graph = rustworkx.PyGraph()
    graph.extend_from_edge_list(list(coupling))
    qubits = range(graph.num_nodes())
    return [one for one in combinations(qubits, size) if rustworkx.is_connected(graph.subgraph(list(one)))]


@lru_cache(maxsize=2)
def placed(coupling: Pairs, qubits: int, seed: int) -> list[Placed]:
    """All families on all regions, compiled without regard to errors: they change from day to day, this does not."""
    found = []
    for size in SIZES:
        for region in regions(coupling, size):
            local = {qubit: place for place, qubit in enumerate(region)}
            pairs = [(local[a], local[b]) for a, b in coupling if a in local and b in local]
            manager = generate_preset_pass_manager(
                3, basis_gates=_GATES, coupling_map=CouplingMap(pairs), seed_transpiler=seed
            )
            for family in FAMILIES:
                made = circuit(family, size, seed)
                ideal = ideal_of(made)
                assert ideal is not None
                compiled = manager.run(made)
                whole = QuantumCircuit(qubits, compiled.num_clbits)
                whole.compose(compiled, region, range(compiled.num_clbits), inplace=True)
                found.append(Placed(f"{family}-{size}", region, whole, ideal))
    return found


def fidelities(days: Sequence[QPUInfo], seed: int) -> tuple[list[list[float]], list[list[float]]]:
    """The fidelities of all `placed` circuits on each day, ``(n_days, n_circuits)``: computed, and by the formula."""
    exact, formula = [], []
    for info in days:
        assert info.coupling is not None
        target = target_of(info)
        for found, most in ((exact, None), (formula, 0)):
            its = fidelities_of(info, target) if most is None else fidelities_of(info, target, most)
            assert its is not None
            cases = placed(info.coupling, info.qubits, seed)
            found.append([its.estimate(one.circuit, one.ideal).value for one in cases])
    return exact, formula


def ghz(days: Sequence[QPUInfo], seed: int) -> list[float]:
    """`(n_days,)`: the fidelity of a GHZ state of six qubits, compiled for each day's calibration and computed by
    it."""
    found = []
    for info in days:
        compiler = Compiler(Reported(info.name, info))
        made = circuit("ghz", GHZ_QUBITS, seed)
        compiled, ideal = compiler.compile(made, LEVEL, tries_for(made)), ideal_of(made)
        assert compiler.fidelities is not None
        found.append(compiler.fidelities.estimate(compiled, ideal).value)
    return found


def regret(truth: NDArray[np.float64], estimates: NDArray[np.float64], choices: Sequence[str], age: int) -> float:
    """The mean share of the best fidelity that is lost where regions are chosen by estimates of some days before.

    Args:
        truth: `(n_days, n_circuits)`.
        estimates: the same.
        choices: of each circuit the choice that it belongs to.
        age: days between the estimate and the run.
    """
    lost = []
    for choice in dict.fromkeys(choices):
        columns = [place for place, one in enumerate(choices) if one == choice]
        its = truth[age:, columns]
        taken = estimates[: len(estimates) - age or None, columns].argmax(axis=1)
        lost.append(1 - its[np.arange(len(its)), taken] / its.max(axis=1))
    return float(np.mean(lost))
