"""Errors of the readout, measured and undone; of wide circuits by M3 (Nation et al., PRX Quantum 2 040326, 2021)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from qiskit import QuantumCircuit, generate_preset_pass_manager
from qiskit.circuit import ClassicalRegister

from pilot.errors import DescriptionError, PluginError, invalid
from pilot.quantum.mitigation.stage import Device, Planned, Shots, Stage, each
from pilot.quantum.outcomes import Outcomes, QuasiOutcomes, is_whole, nearest_probabilities

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

_REGISTER = "readout"
#: Of so many bits all strings are corrected: 65,536.
MAX_INVERTED = 16
_TRANSPARENT = frozenset({"barrier", "delay"})


@dataclass
class Calibrations:
    """Readout matrices of qubits, kept while the QPU's calibration holds.

    A QPU that does not report its calibration time is measured again each time.
    """

    #: `(QPU, calibration time, qubit)` to the matrix `P(read | prepared)`, `(2, 2)`: column 0 for the state 0.
    matrices: dict[tuple[str, float, int], NDArray[np.float64]] = field(default_factory=dict)
    #: By the same key: one standard deviation of its last row, `(2,)`; where none is kept, the matrix is exact.
    deviations: dict[tuple[str, float, int], NDArray[np.float64]] = field(default_factory=dict)

    def known(self, device: Device) -> dict[int, NDArray[np.float64]]:
        """The matrices that hold for the device now, by qubit."""
        return {
            qubit: matrix
            for (name, calibrated, qubit), matrix in list(self.matrices.items())
            if (name, calibrated) == (device.name, device.calibrated)
        }

    def errors(self, device: Device) -> dict[int, NDArray[np.float64]]:
        """By qubit, one standard deviation of the rates of reading 1 in state 0 and in state 1."""
        return {
            qubit: self.deviations.get((name, calibrated, qubit), np.zeros(2))
            for (name, calibrated, qubit) in list(self.matrices)
            if (name, calibrated) == (device.name, device.calibrated)
        }

    def keep(
        self,
        device: Device,
        matrices: Mapping[int, NDArray[np.float64]],
        deviations: Mapping[int, NDArray[np.float64]] | None = None,
    ) -> None:
        """Keep new matrices, and forget those of the device's earlier calibrations."""
        if device.calibrated is None:
            return
        for key in list(self.matrices):
            if key[0] == device.name and key[1] < device.calibrated:
                self.matrices.pop(key, None)
                self.deviations.pop(key, None)
        for qubit, matrix in matrices.items():
            self.matrices[device.name, device.calibrated, qubit] = matrix
            if deviations is not None:
                self.deviations[device.name, device.calibrated, qubit] = deviations[qubit]


@dataclass(frozen=True)
class Readout(Stage):
    """Counts with the errors of the readout undone.

    The qubits that circuits measure are first prepared in known states, in balanced patterns: so many circuits as
    the next power of two above the number of qubits, half of which prepare each qubit in 0. They come after the
    given circuits in the plan, and only for qubits whose matrix is not in `calibrations` yet. Up to
    `MAX_INVERTED` bits all strings are then corrected by the inverse matrices; of more bits, those that were seen, by
    mthree.

    Outcomes come back as `QuasiOutcomes`: weights of sum `shots`, some of which may be negative. Expectation
    values are made of the counts and the inverse matrices of the operator's own qubits, so they are unbiased at every
    width; their errors contain the calibration's own. Weights of more than `MAX_INVERTED` bits are biased where
    many strings differ: mthree puts what belongs to strings not seen on those that were.
    With `nearest` the weights are the nearest ones that are not negative: counts to look at, slightly biased.
    Expectation values stay as they are without it.
    """

    calibrations: Calibrations = field(default_factory=Calibrations, compare=False)
    #: How often each qubit is prepared in 0, and how often in 1; with exact circuits the calibration is exact too.
    shots: int = 8192
    nearest: bool = False
    #: Also of bits that are read before the end of a circuit, as at cuts of gates and where a qubit is reused. Their
    #: qubits are taken to be read with the same errors there, and to go on in the state that was read without them.
    midway: bool = False

    name = "readout"

    def __post_init__(self) -> None:
        if not is_whole(self.shots):
            raise invalid("readout.shots", self.shots, "a whole number of at least 1")

    def plan(
        self, circuits: Sequence[QuantumCircuit], shots: Shots, device: Device, seed: int | None = None
    ) -> Planned:
        """The circuits themselves, and then those that calibrate.

        Raises:
            DescriptionError: a circuit does more to a qubit after measuring it, or acts on what was measured.
        """
        shots = each(shots, len(circuits))
        measured = [_measured_qubits(circuit, midway=self.midway) for circuit in circuits]
        wanted = sorted({qubit for places in measured for qubit in places.values()})
        known = self.calibrations.known(device)
        missing = [qubit for qubit in wanted if qubit not in known]
        patterns = _balanced(len(missing))
        width = max([circuit.num_qubits for circuit in circuits], default=0)
        calibrating = _calibrating(missing, patterns, width, device)
        exact = bool(shots) and all(entry is None for entry in shots)
        each_shots = None if exact else -(-2 * self.shots // max(1, len(patterns)))
        merge = partial(
            _corrected,
            self,
            device=device,
            measured=measured,
            known={qubit: known[qubit] for qubit in wanted if qubit in known},
            known_errors={qubit: its for qubit, its in self.calibrations.errors(device).items() if qubit in wanted},
            missing=missing,
            patterns=patterns,
        )
        return Planned(
            circuits=(*circuits, *calibrating), shots=(*shots, *[each_shots] * len(calibrating)), merge=merge
        )


def _corrected(
    stage: Readout,
    outcomes: list[Outcomes],
    *,
    device: Device,
    measured: Sequence[Mapping[int, int]],
    known: Mapping[int, NDArray[np.float64]],
    known_errors: Mapping[int, NDArray[np.float64]],
    missing: Sequence[int],
    patterns: NDArray[np.bool_],
) -> list[Outcomes]:
    """The outcomes of the given circuits, corrected; the others are the calibration's."""
    found, errors = _matrices(outcomes[len(measured) :], missing, patterns)
    stage.calibrations.keep(device, found, errors)
    matrices, deviations = {**known, **found}, {**known_errors, **errors}
    corrected = [
        _undone(outcome, places, matrices, deviations)
        for outcome, places in zip(outcomes[: len(measured)], measured, strict=True)
    ]
    return [_nearest(outcome) for outcome in corrected] if stage.nearest else list(corrected)


def _measured_qubits(circuit: QuantumCircuit, *, midway: bool = False) -> dict[int, int]:
    """Which qubit each classical bit is measured from, by their numbers; `midway`: qubits may go on after that."""
    places: dict[int, int] = {}
    done: set[Any] = set()
    for entry in circuit.data:
        operation = entry.operation
        if operation.name in _TRANSPARENT:
            continue
        plain = operation.name == "measure" or not (entry.clbits or operation.name == "store")
        if not plain or (done.intersection(entry.qubits) and not midway):
            raise DescriptionError(
                f"readout: circuit {circuit.name!r} does {operation.name!r} after a measurement or with its outcome; "
                "errors of the readout are undone for circuits measured once, at their end: leave the stage out",
                field="mitigation",
            )
        if operation.name == "measure":
            place = circuit.find_bit(entry.clbits[0]).index
            if place in places:
                raise DescriptionError(
                    f"readout: circuit {circuit.name!r} measures twice into classical bit {place}; measure each "
                    "qubit into a bit of its own",
                    field="mitigation",
                )
            places[place] = circuit.find_bit(entry.qubits[0]).index
            done.update(entry.qubits)
    if not places:
        raise DescriptionError(
            f"readout: circuit {circuit.name!r} measures nothing: add `circuit.measure_all()`", field="circuit"
        )
    return dict(sorted(places.items()))


def _balanced(number: int) -> NDArray[np.bool_]:
    """Which qubits to prepare in 1, `(n_circuits, number)`: each in half of the circuits, each pair in all four ways.

    The columns of a Hadamard matrix, without the one that is all ones.
    """
    if number == 0:
        return np.zeros((0, 0), dtype=bool)
    size = 1 << number.bit_length()
    rows, columns = np.arange(size)[:, None], np.arange(1, number + 1)[None, :]
    common = rows & columns
    odd = np.zeros(common.shape, dtype=bool)
    while common.any():
        odd ^= (common & 1).astype(bool)
        common >>= 1
    return odd


def _calibrating(
    qubits: Sequence[int], patterns: NDArray[np.bool_], width: int, device: Device
) -> list[QuantumCircuit]:
    if device.target is not None and device.target.num_qubits is not None:
        width = device.target.num_qubits
    circuits = []
    for number, pattern in enumerate(patterns):
        circuit = QuantumCircuit(width, name=f"readout-{number}")
        circuit.add_register(ClassicalRegister(len(qubits), _REGISTER))
        flipped = [qubit for qubit, flip in zip(qubits, pattern, strict=True) if flip]
        if flipped:
            circuit.x(flipped)
        circuit.measure(qubits, range(len(qubits)))
        circuits.append(circuit)
    if circuits and device.target is not None and "x" not in device.target.operation_names:
        compiled: list[QuantumCircuit] = generate_preset_pass_manager(
            optimization_level=0, target=device.target, initial_layout=list(range(width))
        ).run(circuits)
        return compiled
    return circuits


def _matrices(
    outcomes: Sequence[Outcomes], qubits: Sequence[int], patterns: NDArray[np.bool_]
) -> tuple[dict[int, NDArray[np.float64]], dict[int, NDArray[np.float64]]]:
    """Each qubit's `P(read | prepared)`, from the circuits that prepared `patterns`, and the errors of its last row."""
    if not qubits:
        return {}, {}
    ones = np.array([entry.weights @ entry.bits(_REGISTER) / entry.weights.sum() for entry in outcomes])
    matrices, deviations = {}, {}
    for column, qubit in enumerate(qubits):
        prepared = patterns[:, column]
        from_zero, from_one = ones[~prepared, column].mean(), ones[prepared, column].mean()
        if from_zero >= from_one:
            raise DescriptionError(
                f"readout: qubit {qubit} reads 1 as often when it was prepared in 0 ({from_zero:.3f}) as in 1 "
                f"({from_one:.3f}), which cannot be undone; leave the stage out, or that qubit",
                field="mitigation",
            )
        matrices[qubit] = np.array([[1 - from_zero, 1 - from_one], [from_zero, from_one]])
        deviations[qubit] = np.array(
            [
                _deviation(
                    rate, [outcome.shots for outcome, its in zip(outcomes, prepared, strict=True) if its == state]
                )
                for rate, state in ((from_zero, False), (from_one, True))
            ]
        )
    return matrices, deviations


def _deviation(rate: float, shots: Sequence[int | None]) -> float:
    """One standard deviation of a rate that so many shots gave, as Agresti and Coull have it; 0 where it is exact."""
    if any(entry is None for entry in shots):
        return 0.0
    total = sum(entry or 0 for entry in shots)
    adjusted = (rate * total + 2) / (total + 4)
    return float(np.sqrt(adjusted * (1 - adjusted) / total))


def _undone(
    outcome: Outcomes,
    places: Mapping[int, int],
    matrices: Mapping[int, NDArray[np.float64]],
    deviations: Mapping[int, NDArray[np.float64]],
) -> QuasiOutcomes:
    """The outcome with its weights corrected: on all strings of few bits, on those that were seen of many."""
    inverses, errors = np.tile(np.eye(2), (outcome.num_bits, 1, 1)), np.zeros((outcome.num_bits, 2))
    qubits = np.full(outcome.num_bits, -1)
    for place, qubit in places.items():
        inverses[place], errors[place], qubits[place] = np.linalg.inv(matrices[qubit]), deviations[qubit], qubit
    bits, weights = (_inverted if len(places) <= MAX_INVERTED else _solved)(outcome, places, matrices)
    return QuasiOutcomes(
        registers=outcome.registers,
        num_bits=outcome.num_bits,
        packed=np.packbits(bits, axis=1, bitorder="little"),
        weights=weights,
        shots=outcome.shots,
        measured=outcome,
        inverses=inverses,
        deviations=errors,
        qubits=qubits,
    )


def _inverted(
    outcome: Outcomes, places: Mapping[int, int], matrices: Mapping[int, NDArray[np.float64]]
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """The product of all inverses on all strings: each marginal is then that of its own qubits' inverses."""
    n = len(places)
    numbers = outcome.bits()[:, list(places)] @ (1 << np.arange(n))
    weights = np.zeros(1 << n)
    np.add.at(weights, numbers, outcome.weights)
    for bit, qubit in enumerate(places.values()):
        tensor = weights.reshape(1 << (n - 1 - bit), 2, 1 << bit)
        weights = np.einsum("ab,xby->xay", np.linalg.inv(matrices[qubit]), tensor).reshape(-1)
    listed = np.flatnonzero(weights)
    bits = np.zeros((len(listed), outcome.num_bits), dtype=bool)
    bits[:, list(places)] = listed[:, None] >> np.arange(n) & 1
    return bits, weights[listed]


def _solved(
    outcome: Outcomes, places: Mapping[int, int], matrices: Mapping[int, NDArray[np.float64]]
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """The weights of the strings that were seen, by mthree."""
    try:
        import mthree  # 1 to 5 s, and an extra
    except ImportError as error:
        raise PluginError(
            f"mitigation: 'readout' of more than {MAX_INVERTED} bits needs mthree, which is not installed; "
            "pip install 'quantum-pilot[mitigation]'",
            group="pilot.quantum.mitigation",
            name="readout",
        ) from error
    solver = mthree.M3Mitigation()
    solver.cals_from_matrices(
        [matrices[qubit].astype(np.float32) if qubit in matrices else None for qubit in range(max(matrices) + 1)]
    )
    seen = outcome.weights != 0
    before, every = outcome.weights[seen], outcome.bits()[seen].astype(bool)
    keys = [row[::-1].tobytes().decode() for row in every[:, list(places)].astype(np.uint8) + ord("0")]
    distance = len(places) if len(keys) <= solver.iter_threshold else None  # costs nothing where it solves directly
    counts = dict(zip(keys, before.tolist(), strict=True))
    quasi = solver.apply_correction(counts, list(places.values()), distance, tol=1e-6, max_iter=100)
    weights = np.array([float(quasi[key]) for key in keys])
    return every, weights * (float(before.sum()) / weights.sum())


def _nearest(outcome: QuasiOutcomes) -> QuasiOutcomes:
    total = outcome.weights.sum()
    weights = nearest_probabilities(outcome.weights / total) * total
    seen = weights > 0
    return replace(outcome, packed=outcome.packed[seen], weights=weights[seen])
