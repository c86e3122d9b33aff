"""What is expected of a circuit on a QPU, whatever the number of its shots."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from pilot.quantum.compilation import Compiler, structure, tries_for
from pilot.quantum.fidelities import Fidelity, Ideal, ideal_of
from pilot.quantum.targets import Reported

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from qiskit import QuantumCircuit

    from pilot.resources import QPUInfo

#: Predictions that are kept, and outcomes without noise.
MOST_KEPT, MOST_IDEALS = 100_000, 64


class Prediction(msgspec.Struct, frozen=True, array_like=True):
    """What is expected of a compiled circuit."""

    #: None: the QPU reports no errors.
    fidelity: Fidelity | None
    #: Seconds of one shot, without what the device does between two; None: the QPU reports no durations.
    duration: float | None
    #: The time of the calibration that it is for: wall clock; None: not reported.
    calibrated: float | None


class _Known(NamedTuple):
    """A QPU with one calibration."""

    info: QPUInfo
    digest: bytes
    compiler: Compiler


class Predictor:
    """Compiles circuits for QPUs as their workers do; keeps what it finds for each structure, QPU and calibration."""

    def __init__(self, most_kept: int = MOST_KEPT) -> None:
        """Make it; of so many predictions those that were asked for last are kept."""
        self._most_kept = most_kept
        self._known: dict[str, _Known] = {}
        self._kept: OrderedDict[tuple[bytes, int, bytes], Prediction] = OrderedDict()
        #: What the last circuits give without noise: the same for all QPUs.
        self._ideals: OrderedDict[bytes, Ideal | None] = OrderedDict()
        #: How many predictions were found, and how many were made.
        self.hits = self.misses = 0

    def predict(
        self, circuit: QuantumCircuit, info: QPUInfo, level: int, values: NDArray[np.float64] | None = None
    ) -> Prediction:
        """What is expected of a circuit on a QPU.

        Args:
            circuit: with its measurements.
            info: of a device that has enough qubits, with its calibration.
            level: Qiskit's optimization level.
            values: for its free parameters, in the order of ``circuit.parameters``.

        Raises:
            QPUError: the QPU cannot run the circuit.
            DescriptionError: it has too few qubits.
        """
        bound = circuit if values is None else circuit.assign_parameters(values)
        key, known = structure(bound), self._know(info)
        place = (key, level, known.digest)
        if (found := self._kept.get(place)) is not None:
            self.hits += 1
            self._kept.move_to_end(place)
            return found
        self.misses += 1
        compiled = known.compiler.compile(circuit, level, tries_for(circuit))
        if values is not None:
            names = [parameter.name for parameter in circuit.parameters]
            compiled = compiled.assign_parameters(dict(zip(names, values, strict=True)), strict=False)
        fidelity = duration = None
        if (fidelities := known.compiler.fidelities) is not None:
            fidelity, duration = fidelities.estimate(compiled, self._ideal(key, bound)), fidelities.duration(compiled)
        found = self._kept[place] = Prediction(fidelity, duration, info.calibrated)
        if len(self._kept) > self._most_kept:
            self._kept.popitem(last=False)
        return found

    def _know(self, info: QPUInfo) -> _Known:
        """The QPU's compiler, another one when its calibration has changed."""
        known = self._known.get(info.name)
        if (
            known is not None
            and known.info.calibration is info.calibration
            and known.info.calibrated == info.calibrated
        ):
            return known
        its = lasting(info)
        digest = hashlib.blake2b(msgspec.msgpack.encode(its), digest_size=16).digest()
        if known is None or known.digest != digest:
            known = _Known(info, digest, Compiler(Reported(info.name, its)))
        self._known[info.name] = known = known._replace(info=info)
        return known

    def _ideal(self, key: bytes, circuit: QuantumCircuit) -> Ideal | None:
        if key not in self._ideals:
            self._ideals[key] = ideal_of(circuit)
            if len(self._ideals) > MOST_IDEALS:
                self._ideals.popitem(last=False)
        return self._ideals[key]


def lasting(info: QPUInfo) -> QPUInfo:
    """What a QPU reports, without what changes from minute to minute."""
    return msgspec.structs.replace(info, asked=None, accepts_jobs=None, expected_wait=None, problem="")
