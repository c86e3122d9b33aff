"""The contract suite of bundlers: what puts circuits of several tasks on one QPU at the same time."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import cloudpickle
import pytest

from pilot.quantum.bundles import Bundle, Bundler, Member, joined, split
from pilot.quantum.compilation import Compiler
from pilot.quantum.outcomes import registers_of
from pilot.quantum.targets import Reported
from pilot.resources import Calibration, GateFacts, QPUInfo, QubitFacts
from pilot.testing.stages import exact

if TYPE_CHECKING:
    from qiskit import QuantumCircuit

#: The qubits of the device that the suite has, which are connected along a line.
QUBITS = 12


class BundlerContract:
    """What every bundler promises, as tests: each circuit runs once, as it is, and apart from the others.

    A plugin's author subclasses it::

        class TestMyBundler(BundlerContract):
            bundler = MyBundler(margin=2)
            circuits = (ghz, w_state, bell)  # some of which it puts together
    """

    bundler: Bundler
    #: With their measurements, at most 12 qubits together, and without control flow.
    circuits: tuple[QuantumCircuit, ...]

    @pytest.fixture
    def compiler(self) -> Compiler:
        """Of a device whose qubits are all alike."""
        return Compiler(Reported("line", _line(calibrated=True)))

    @pytest.fixture
    def members(self, compiler: Compiler) -> list[Member]:
        """The circuits, compiled."""
        compiler.refresh()
        return [Member(one, compiler.compile(one, 2)) for one in self.circuits]

    @pytest.fixture
    def bundles(self, members: list[Member], compiler: Compiler) -> list[Bundle]:
        """What the bundler makes of them."""
        return self.bundler.bundles(members, compiler, 2, 0.0)

    def test_some_share(self, bundles: list[Bundle]) -> None:
        assert any(len(one.members) > 1 for one in bundles)

    def test_each_circuit_is_there_once(self, bundles: list[Bundle]) -> None:
        assert sorted(number for one in bundles for number in one.members) == list(range(len(self.circuits)))
        for one in bundles:
            assert len(one.members) == len(one.circuits) == len(one.relative)
            assert all(0.0 < each <= 1.0 + 1e-9 for each in one.relative)

    def test_circuits_of_a_bundle_have_qubits_of_their_own(self, bundles: list[Bundle]) -> None:
        for one in bundles:
            taken: list[int] = [qubit for circuit in one.circuits for qubit in _used(circuit)]
            assert len(taken) == len(set(taken)) and set(taken) <= set(range(QUBITS))

    def test_each_gives_what_it_gives_alone(self, bundles: list[Bundle]) -> None:
        """Without noise the outcomes of a bundle come apart into those of its circuits."""
        for one in bundles:
            for number, outcomes in zip(one.members, split(exact(joined(one.circuits)), one.circuits), strict=True):
                expected = exact(self.circuits[number])
                assert outcomes.registers == registers_of(self.circuits[number])
                assert _shares(outcomes) == pytest.approx(_shares(expected), abs=1e-9)

    def test_a_circuit_alone(self, members: list[Member], compiler: Compiler) -> None:
        (only,) = self.bundler.bundles(members[:1], compiler, 2, 0.0)
        assert only.members == (0,) and _ideal(only.circuits[0]) == pytest.approx(_ideal(self.circuits[0]), abs=1e-9)

    def test_no_circuits(self, compiler: Compiler) -> None:
        assert list(self.bundler.bundles([], compiler, 2, 0.0)) == []

    def test_a_floor_that_no_circuit_keeps(self, members: list[Member], compiler: Compiler) -> None:
        """Circuits that share would fall below it, so each is alone."""
        assert all(len(one.members) == 1 for one in self.bundler.bundles(members, compiler, 2, 1.0))

    def test_a_device_that_reports_no_errors(self, members: list[Member]) -> None:
        """What a circuit would lose is not known: each is there once all the same."""
        bundles = self.bundler.bundles(members, Compiler(Reported("line", _line(calibrated=False))), 2, 0.0)
        assert sorted(number for one in bundles for number in one.members) == list(range(len(members)))

    def test_it_is_a_value(self) -> None:
        """Tasks with equal bundlers share, so equal ones compare equal after the way to a worker."""
        there = cloudpickle.loads(cloudpickle.dumps(self.bundler))
        assert there == self.bundler == copy.deepcopy(self.bundler) and hash(there) == hash(self.bundler)


def _line(*, calibrated: bool) -> QPUInfo:
    pairs = [(low, low + 1) for low in range(QUBITS - 1)]
    coupling = tuple(pairs + [pair[::-1] for pair in pairs])
    gates = [GateFacts(name, (at,), 2e-4, 35e-9) for name in ("sx", "x") for at in range(QUBITS)]
    gates += [GateFacts("rz", (at,), 0.0, 0.0) for at in range(QUBITS)]
    gates += [GateFacts("measure", (at,), 0.01, 1e-6) for at in range(QUBITS)]
    gates += [GateFacts("cx", pair, 0.01, 3e-7) for pair in coupling]
    facts = Calibration(gates=tuple(gates), qubits=(QubitFacts(t1=1e-4, t2=8e-5),) * QUBITS)
    return QPUInfo(
        name="line",
        qubits=QUBITS,
        gates=("rz", "sx", "x", "cx", "measure"),
        coupling=coupling,
        calibration=facts if calibrated else None,
        calibrated=1.0 if calibrated else None,
    )


def _used(circuit: QuantumCircuit) -> set[int]:
    return {
        circuit.find_bit(qubit).index for entry in circuit.data if entry.name != "barrier" for qubit in entry.qubits
    }


def _shares(outcomes: Any) -> dict[str, float]:
    return {bits: float(share) for bits, share in outcomes.get_counts().items() if share > 1e-9}


def _ideal(circuit: QuantumCircuit) -> dict[str, float]:
    return _shares(exact(circuit))
