"""Cut circuits: how far they are from uncut ones, and predicted against measured times.

`exact`: a hundred random circuits of 4 to 8 qubits, those of tests/unit/quantum/test_cutting_exact.py, cut by gates
and by wires and run on an exact simulator; the largest difference to the state vector of the uncut circuit.

`predicted`: entangled halves with one gate between them, whole and cut, on one pilot of this machine's cores after
a calibration of some seconds; medians of `--repeat` runs. `chosen` marks what the predictor would run.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import _bench
import numpy as np

SHOTS = 1000
#: Qubits of the circuits whose times are predicted, and layers of each half.
TIMED = [(8, 2), (12, 2), (16, 2), (20, 2), (24, 2)]


def exact(seeds: int) -> list[dict[str, Any]]:
    """A row for each kind of cut and each number of qubits."""
    from qiskit.quantum_info import SparsePauliOp, Statevector

    sys.path += [f"{Path(__file__).parents[1]}/tests/unit", f"{Path(__file__).parents[1]}/tests/unit/quantum"]
    import test_cutting_exact as made
    from here import Here

    from pilot.quantum.cutting import plan

    rows: dict[tuple[str, int], dict[str, Any]] = {}
    for kind, make in (("gate", made.joined_by_a_gate), ("wire", made.joined_by_a_wire)):
        for seed in range(seeds):
            circuit, whole, how = make(seed)
            label = "".join(np.random.default_rng(seed).choice(list("IXYZ"), circuit.num_qubits))
            with_bits, qubits, first = made.measured(circuit, seed)
            planned = plan(with_bits, label, distribution=True, **how)
            result = planned.run(Here(), shots=None)
            expected, got = made.expected_distribution(whole, qubits, first), result.distribution.get_counts()
            value = Statevector(whole).expectation_value(SparsePauliOp(label)).real
            row = rows.setdefault(
                (kind, circuit.num_qubits),
                {
                    "cut": kind,
                    "qubits": circuit.num_qubits,
                    "circuits": 0,
                    "subexperiments": 0,
                    "value": 0.0,
                    "probability": 0.0,
                },
            )
            row["circuits"] += 1
            row["subexperiments"] += planned.num_distinct
            row["value"] = max(row["value"], float(abs(result.values[0] - value)))
            gap = max(abs(expected.get(bits, 0) - got.get(bits, 0)) for bits in expected | got)
            row["probability"] = max(row["probability"], float(gap))
    return [rows[key] for key in sorted(rows)]


def predicted(repeat: int) -> list[dict[str, Any]]:
    """A row for each circuit, whole and cut."""
    from pilot.quantum.cutting import Predictor, plan
    from pilot.quantum.cutting.prediction import brickwork

    rows = []
    with _bench.Ours("process") as ours:
        ours.pilot.wait()
        began = perf_counter()
        predictor = Predictor().calibrate(ours.manager)
        print(f"calibrated in {perf_counter() - began:.1f} s: {predictor.workers[0].costs}")
        for qubits, layers in TIMED:
            half = qubits // 2
            circuit = brickwork(half, layers).tensor(brickwork(qubits - half, layers, seed=1))
            circuit.cz(half - 1, half)
            circuit.compose(brickwork(half, 1), range(half), inplace=True)
            observable = "Z" * qubits
            chosen = predictor.choose(circuit, observable, [half])
            for size in (qubits, half):
                planned = plan(circuit, observable, size, predict=predictor.predict)
                seconds = []
                for seed in range(repeat):
                    began = perf_counter()
                    planned.run(ours.manager, shots=SHOTS, seed=seed)
                    seconds.append(perf_counter() - began)
                measured = statistics.median(seconds)
                assert planned.prediction is not None
                rows.append(
                    {
                        "qubits": qubits,
                        "pieces": "whole" if size == qubits else f"{len(planned.fragments)} of {half}",
                        "circuits": planned.num_distinct,
                        "predicted_s": planned.prediction.seconds,
                        "measured_s": measured,
                        "ratio": planned.prediction.seconds / measured,
                        "chosen": "yes" if bool(chosen.cuts) == bool(planned.cuts) else "",
                    }
                )
    return rows


def main() -> None:
    parser = _bench.arguments(__doc__, engines=[], repeat=3)
    parser.add_argument("what", nargs="?", choices=["exact", "predicted", "both"], default="both")
    parser.add_argument("--circuits", type=int, default=50, help="of each kind of cut")
    options = parser.parse_args()
    if options.what != "predicted":
        file = options.json.with_stem(f"{options.json.stem}-exact") if options.json else None
        _bench.show("cut and uncut: largest differences with an exact simulator", exact(options.circuits), file)
    if options.what != "exact":
        file = options.json.with_stem(f"{options.json.stem}-predicted") if options.json else None
        _bench.show("predicted and measured seconds", predicted(options.repeat), file)


if __name__ == "__main__":
    main()
