"""Whether standard errors are right: (value - truth) / error over many repetitions, for all that reports errors.

    python benchmarks/errors.py [--quick] [--json FILE]        # about twenty minutes on two cores
    python benchmarks/errors.py --snapshots [--json FILE]      # every snapshot of `fake:` runs, at the default level

An error bar is right when these z-scores have a standard deviation of 1 and the 95 % interval contains the truth in
95 % of the repetitions. `worst_z_std` is the standard deviation farthest from 1, `worst_coverage` the smallest
coverage and `largest_coverage` the largest, of estimates from 100 shots on; `worst_z_std_few` and `worst_coverage_few`
are those of 10 shots and of values near a pole (fewer than 10 outcomes of the rarer sign are expected), where the
interval is wider on purpose. `worst_bias_sigma` is the largest distance of a mean from the truth, in standard
deviations of the mean of 1,000 repetitions, or of 400 for twirling, cutting and circuits of more than 8 qubits: so many
are made. Their number has an error of its own, so `ALLOWED` of its standard deviations are taken off each deviation
first. Of hundreds of estimates a few are outside by chance alone: a case that is so is drawn again, `AGAIN` times as
often, from other random numbers. What that gives counts, with the smaller allowance of its own;
`drawn_again` is the number of these estimates.

The rows have everything as it was measured. Read next: `_error_cases`, which also says what does not run at all widths.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import _bench
import _error_cases
import numpy as np

#: Half of the 95 % interval, in standard deviations.
NORMAL = 1.959964
#: So many standard deviations of the number of repetitions are allowed on top.
ALLOWED = 2.0
#: From so many outcomes of the rarer sign on a value is not near a pole.
POLE = 10
#: Circuits of more qubits, and what is costly, have at most so many repetitions.
WIDE, FEWER = 8, 400
#: A case that is outside is drawn again, so many times as often.
AGAIN = 4
#: Of each circuit on a snapshot: the fraction of right outcomes is then known to half of a hundredth.
SNAPSHOT_SHOTS = 8_000

Row = dict[str, Any]


def rows_of_number(number: int, widest: int, seeds: int) -> list[Row]:
    """Those of a case, in a process of its own; drawn again where one is outside."""
    warnings.simplefilter("ignore")
    case = _error_cases.cases(widest)[number]()
    if case.costly or case.qubits > WIDE:
        seeds = min(seeds, FEWER)
    rows = rows_of(case, seeds)
    return rows if all(is_met(row) for row in rows) else rows_of(case, seeds, AGAIN)


def rows_of(case: _error_cases.Case, seeds: int, times: int = 1) -> list[Row]:
    """A row for each observable, of `times * seeds` repetitions; other random numbers for other `times`."""
    rng = np.random.default_rng([*case.kind.encode(), case.qubits, case.shots, times])
    repetitions = times * seeds
    began = perf_counter()
    found = [case.once(rng) for _ in range(repetitions)]
    seconds = perf_counter() - began
    values, errors = (np.array(column) for column in zip(*found, strict=True))
    z = (values - case.truth) / errors
    spread = values.std(axis=0, ddof=1)
    return [
        {
            "kind": case.kind,
            "qubits": case.qubits,
            "shots": case.shots,
            "seeds": repetitions,
            "times": times,
            "observable": number,
            "few": bool(case.shots < 100 or case.rarer[number] < POLE),
            "truth": float(case.truth[number]),
            "spread": float(spread[number]),
            "z_std": float(z[:, number].std(ddof=1)),
            "coverage": float((np.abs(z[:, number]) <= NORMAL).mean()),
            "bias_sigma": float(abs(values[:, number].mean() - case.truth[number]) / (spread[number] / np.sqrt(seeds))),
            "seconds": seconds,
        }
        for number in range(len(case.truth))
    ]


def of_std(row: Row) -> float:
    """What is allowed to the standard deviation of a row's z-scores by its number of repetitions."""
    return ALLOWED / np.sqrt(2 * row["seeds"])


def of_coverage(row: Row) -> float:
    """What is allowed to a row's coverage."""
    return ALLOWED * np.sqrt(0.95 * 0.05 / row["seeds"])


def is_met(row: Row) -> bool:
    """Whether a row is within the bars."""
    figures = judged([row])
    return all(bar.is_met(value, 40) for value, bar in figures.values())


def judged(rows: list[Row]) -> dict[str, tuple[float, _bench.Bar]]:
    """The worst of all rows."""
    many = [row for row in rows if not row["few"]]
    few = [row for row in rows if row["few"]]
    return {
        "worst_z_std": (
            float(1 + max((max(0.0, abs(row["z_std"] - 1) - of_std(row)) for row in many), default=0.0)),
            _bench.Bar("<=", 1.1, "standard errors, as far from 1 above"),
        ),
        "worst_coverage": (
            min((min(row["coverage"] + of_coverage(row), 0.95) for row in many), default=0.95),
            _bench.Bar(">=", 0.93, "of the 95 % intervals"),
        ),
        "largest_coverage": (
            max((max(row["coverage"] - of_coverage(row), 0.95) for row in many), default=0.95),
            _bench.Bar("<=", 0.97, "of the 95 % intervals"),
        ),
        "worst_z_std_few": (
            max((row["z_std"] - of_std(row) for row in few), default=1.0),
            _bench.Bar("<=", 1.2, "standard errors"),
        ),
        "worst_coverage_few": (
            min((row["coverage"] + of_coverage(row) for row in few), default=0.95),
            _bench.Bar(">=", 0.93, "of the 95 % intervals"),
        ),
        "worst_bias_sigma": (
            max(row["bias_sigma"] for row in rows),
            _bench.Bar("<", 3, "standard deviations of the mean"),
        ),
    }


def outside(rows: list[Row]) -> list[Row]:
    """Those rows that are outside of the bars as measured."""

    def is_out(row: Row) -> bool:
        if row["few"]:
            return row["z_std"] > 1.2 or row["coverage"] < 0.93 or row["bias_sigma"] > 3
        return abs(row["z_std"] - 1) > 0.1 or not 0.93 <= row["coverage"] <= 0.97 or row["bias_sigma"] > 3

    return [row for row in rows if is_out(row)]


def honesty(asked: argparse.Namespace) -> None:
    seeds, widest = (400, 8) if asked.quick else (asked.seeds, 16)
    makers = _error_cases.cases(widest)
    numbers = [number for number, make in enumerate(makers) if not asked.only or asked.only in str(make)]
    rows: list[Row] = []
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(asked.workers, mp_context=context) as pool:
        for its in pool.map(partial(rows_of_number, widest=widest, seeds=seeds), numbers):
            rows += its
            first = its[0]
            sys.stderr.write(
                f"  {first['kind']}, {first['qubits']} qubits, {first['shots']} shots: {first['seconds']:.1f} s\n"
            )
            for row in outside(its):
                sys.stdout.write(
                    f"{row['kind']}, {row['qubits']} qubits, {row['shots']} shots, observable {row['observable']}"
                    f"{' (few)' if row['few'] else ''}: z std {row['z_std']:.3f}, coverage {row['coverage']:.3f}, "
                    f"bias {row['bias_sigma']:.2f}\n"
                )
    _bench.report(
        "errors",
        {
            "estimates": (len(rows), None),
            "drawn_again": (sum(row["times"] > 1 for row in rows), None),
            **judged(rows),
        },
        rows=rows,
        configuration={"seeds": seeds, "fewer_seeds": min(seeds, FEWER), "quick": asked.quick, "only": asked.only},
        file=asked.json,
    )


def run_on(qpu: Any, circuit: Any, level: int, stage_names: list[str], seed: int) -> float:
    """The share of right outcomes, all 0 or all 1, of a circuit that is compiled at a level and planned by stages."""
    from pilot.interfaces import Run
    from pilot.quantum.compilation import Compiler
    from pilot.quantum.execution import run_on
    from pilot.quantum.mitigation import Device, stages

    compiler = Compiler(qpu)
    compiled = compiler.compile(circuit, level)
    about = Device(target=compiler.target, name=qpu.name, calibrated=compiler.calibrated)
    to_run = stages(stage_names).stage.plan([compiled], SNAPSHOT_SHOTS, about, seed)
    run = Run(circuits=to_run.circuits, shots=SNAPSHOT_SHOTS, seeds=[seed] * len(to_run.circuits))
    (outcome,) = to_run.combine(run_on(qpu, run))
    right = np.isin(outcome.bits().sum(axis=1), (0, circuit.num_clbits))
    return float(outcome.weights[right].sum() / outcome.weights.sum())


def of_snapshot(name: str) -> Row:
    """A Bell pair at the default level and at level 2, a reset, and decoupling: the shares of right outcomes."""
    from pilot_plugins.qpus.fake import FakeQPU
    from qiskit import QuantumCircuit

    from pilot.descriptions import TaskDescription

    qpu = FakeQPU(f"fake:{name}", name)
    row: Row = {"snapshot": name, "problem": ""}
    try:
        qpu.open()
        width = min(2, qpu.info().qubits)
        pair, again = QuantumCircuit(width), QuantumCircuit(width)
        pair.h(0)
        again.x(0)
        again.reset(0)
        if width == 2:
            pair.cx(0, 1)
        default = TaskDescription(circuit=pair).optimization_level
        for circuit in (pair, again):
            circuit.measure_all()
        row["bell"] = run_on(qpu, pair, default, [], 1)
        row["bell_level_2"] = run_on(qpu, pair, 2, [], 2)
        row["reset"] = run_on(qpu, again, default, [], 3)
        row["dd"] = run_on(qpu, pair, default, ["dd"], 4)
    except Exception as error:  # of any kind: the snapshot does not run
        row["problem"] = f"{type(error).__name__}: {error}"[:200]
    return row


def snapshots(asked: argparse.Namespace) -> None:
    from pilot_plugins.qpus.fake import _snapshots

    rows = []
    for name in sorted(_snapshots()):
        rows.append(of_snapshot(name))
        sys.stdout.write(" ".join(f"{key} {_bench.figure(value)}" for key, value in rows[-1].items()) + "\n")
    failed = [row for row in rows if row["problem"]]
    ratios = [row["bell"] / row["bell_level_2"] for row in rows if not row["problem"]]
    _bench.report(
        "errors-snapshots",
        {
            "snapshots": (len(rows), None),
            "failed": (len(failed), _bench.Bar("<=", 0, "snapshots")),
            "right_fraction_over_level_2": (min(ratios), _bench.Bar(">=", 0.98, "of the fraction at level 2")),
        },
        rows=rows,
        configuration={"shots": SNAPSHOT_SHOTS},
        file=asked.json,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1000, help="repetitions of each estimate, at least 400")
    parser.add_argument("--quick", action="store_true", help="400 repetitions, up to 8 qubits")
    parser.add_argument("--only", help="ways whose name in `_error_cases` contains this, such as cut or zero_noise")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--snapshots", action="store_true", help="run every snapshot instead")
    parser.add_argument("--json", type=Path, metavar="FILE")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    (snapshots if asked.snapshots else honesty)(asked)


if __name__ == "__main__":
    main()
