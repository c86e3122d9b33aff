"""Cut circuits: how far they are from uncut ones, and predicted against measured times.

`exact`: a hundred random circuits of 4 to 8 qubits, those of tests/unit/quantum/test_cutting_exact.py, cut by gates
and by wires and run on an exact simulator; the largest difference to the state vector of the uncut circuit.

`predicted`: entangled halves with one gate between them, whole and cut, on one pilot of this machine's cores after
a calibration of some seconds; medians of `--repeat` runs. `chosen` marks what the predictor would run.

``--against addon``: the paper's 34-qubit circuit in pieces of 17 and of 12 qubits, from circuit to value, by
qiskit-addon-cutting as its documentation has it and by ours on one pilot of two warm workers, in alternating order.
Both have both cores. The add-on gets a search for cuts of gates alone with our limit, one pass manager that is kept,
and Aer with whichever options of its documentation are fastest for these circuits. It draws as many terms as ours, and
takes so many shots that its value has the standard error of ours, which takes the paper's 4,096; `standard_errors` is
the larger one over the smaller. Ratios at equal numbers of shots are shown as well. `coordination_share` is of one run
of 30 s and more: the share of its makespan that is neither work nor the wait for the last task.
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
#: How many times faster than the add-on, by most qubits of a piece.
LEAST = {17: 5.0, 12: 25.0}
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


def against_addon(options: Any) -> None:
    """Prints the comparison and what coordination takes; ends the script with 1 where a bar is missed."""
    import _cutting_runs

    with _bench.Ours(options.engine) as ours:
        _cutting_runs.ready(ours)
        compared = [
            _cutting_runs.compare(ours, size, repeat, some=some)
            for size, repeat, some in ((17, options.repeat, 12), (12, max(1, options.repeat // 3), 30))
        ]
        long = None if options.short else _cutting_runs.coordination(ours)
    figures: dict[str, Any] = {
        f"ratio_{one.size}": (one.ratios, _bench.Bar(">=", LEAST[one.size], "ratio")) for one in compared
    }
    figures |= {f"cpu_ratio_{one.size}": (one.cpu_ratios, None) for one in compared}
    figures |= {f"ratio_{one.size}_at_equal_shots": (one.at_equal_shots, None) for one in compared}
    errors = max(one.errors for one in compared)
    figures["standard_errors"] = (errors, _bench.Bar("<=", _cutting_runs.EQUAL, "ratio"))
    rows = [row for one in compared for row in one.rows()]
    if long is not None:
        figures["coordination_share"] = (long["share"], _bench.Bar("<=", 0.02, "ratio"))
        figures["coordination_makespan"] = (long["makespan"], _bench.Bar(">=", 30))
        figures["coordination_circuits"] = (long["circuits"], None)
    settings = {f"addon_{one.size}": one.options for one in compared} | {
        f"addon_shots_{one.size}": one.shots for one in compared
    }
    configuration = {"repeat": options.repeat, "engine": options.engine, **settings}
    _bench.report("cutting-addon", figures, rows=rows, configuration=configuration, file=options.json)


def main() -> None:
    parser = _bench.arguments(__doc__, engines=[], repeat=3)
    parser.add_argument("--against", choices=["addon"], help="compare with another implementation instead")
    parser.add_argument("--engine", choices=_bench.BARE, default="process", help="of our pilot, for --against")
    parser.add_argument("--short", action="store_true", help="with --against: without the run of 30 s")
    parser.add_argument("what", nargs="?", choices=["exact", "predicted", "both"], default="both")
    parser.add_argument("--circuits", type=int, default=50, help="of each kind of cut")
    options = parser.parse_args()
    if options.against:
        against_addon(options)
        return
    if options.what != "predicted":
        file = options.json.with_stem(f"{options.json.stem}.exact") if options.json else None
        _bench.show("cut and uncut: largest differences with an exact simulator", exact(options.circuits), file)
    if options.what != "exact":
        file = options.json.with_stem(f"{options.json.stem}.predicted") if options.json else None
        _bench.show("predicted and measured seconds", predicted(options.repeat), file)


if __name__ == "__main__":
    main()
