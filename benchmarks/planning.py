"""What it takes to plan 100 new circuits on 16 QPUs, and what it gains.

    python benchmarks/planning.py [--circuits 100] [--json FILE]

The circuits are of nine families with 4 to 12 qubits, each with angles or a graph of its own; the QPUs are snapshots of
devices, and their queues are empty. `estimate_s_cold` is the time until every circuit is estimated on every QPU,
compiling included, in as many processes as ``--processes`` says, by the processor time of the slowest;
`estimate_s_cached` is the same again. `nsga2_s`,
`matching_s` and `formula_s` are the processor times of one plan of all circuits: the front of NSGA-II, one matching,
the formula of the QOS paper.

`wait_ratio_at_2` is the mean wait with the best fidelity first over that of the front where 2 % of the fidelity are
lost; `_free` where the circuits may run in another order than they came in. `front_has_ends` is 1 where the front has
both ends: the best fidelity, and the least wait that any plan here has. Fidelity is that of the outcomes, as
`pilot.qos` expects it. Published: Qonductor (SC25) needs 181 s for such a plan, estimates included.
"""

from __future__ import annotations

import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import _bench
import numpy as np

QPUS = (
    *("algiers", "auckland", "geneva", "hanoi", "kolkata", "montreal", "mumbai", "paris"),
    *("peekskill", "sydney", "toronto", "almaden", "boeblingen", "singapore", "johannesburg", "guadalupe"),
)
WIDTHS = (4, 6, 8, 10, 12)
SHOTS = 8192
#: Qiskit's optimization level.
LEVEL = 3
#: Seconds between two shots.
DELAY = 250e-6
#: Seconds of a job besides its shots.
SETUP = 14.0
#: Plans by the formula: one for each weight of the fidelity.
WEIGHTS = np.linspace(0.5, 1.0, 21)
BARS = {
    "estimate_s_cold": _bench.Bar("<=", 20, "s"),
    "estimate_s_cached": _bench.Bar("<=", 1, "s"),
    "nsga2_s": _bench.Bar("<=", 1.5, "s"),
    "matching_s": _bench.Bar("<=", 0.2, "s"),
    "formula_s": _bench.Bar("<=", 0.1, "s"),
    "front_has_ends": _bench.Bar(">=", 1),
    "wait_ratio_at_2": _bench.Bar(">=", 2.5, "ratio"),
    "wait_ratio_at_2_free": _bench.Bar(">=", 2.9, "ratio"),
}

_infos: dict[str, Any] = {}
_predictors: list[Any] = []


def made(count: int) -> list[tuple[str, int, int]]:
    """Family, width and seed of each circuit."""
    from pilot.qos.families import FAMILIES

    families = list(FAMILIES)
    return [(families[at % 9], WIDTHS[at // 9 % 5], at) for at in range(count)]


def open_qpus() -> None:
    """Each process opens the QPUs, and its compilers compile once."""
    from pilot.qos.asking import ask
    from pilot.qos.families import circuit
    from pilot.qos.predictor import Predictor

    _predictors.append(Predictor())
    for name in QPUS:
        _infos[name] = ask(f"fake:{name}")
        _predictors[0].predict(circuit("ghz", 3), _infos[name], LEVEL)


def estimates(circuits: list[tuple[str, int, int]]) -> tuple[list[float], list[list[tuple[float, float]]]]:
    """The processor time of two rounds; and for each circuit and QPU, its fidelity and seconds."""
    spans = []
    for _ in range(2):
        seconds, found = timed(lambda: expected(circuits))
        spans.append(seconds)
    return spans, found


def expected(circuits: list[tuple[str, int, int]]) -> list[list[tuple[float, float]]]:
    from pilot.qos.families import circuit

    found = []
    for family, width, seed in circuits:
        one = circuit(family, width, seed)
        predictions = [_predictors[0].predict(one, _infos[name], LEVEL) for name in QPUS]
        found.append([(each.fidelity.value, SETUP + SHOTS * (each.duration + DELAY)) for each in predictions])
    return found


def table(fidelity: np.ndarray, seconds: np.ndarray) -> Any:
    """Of tasks for QPUs whose queues are empty."""
    from pilot.interfaces import QPUTable, Spreads

    unknown = np.full(fidelity.shape, np.nan)
    tasks, qpus = fidelity.shape
    return QPUTable(
        qpus=tuple(("pilot", name) for name in QPUS),
        fits=np.ones(fidelity.shape, bool),
        fidelity=fidelity,
        seconds=seconds,
        wait=np.zeros(fidelity.shape),
        cost=unknown,
        memory=unknown,
        spreads=Spreads(unknown, unknown, unknown, unknown),
        place=np.full(tasks, -1),
        busy=np.zeros(qpus),
        pending=np.full(qpus, np.nan),
    )


class Queued:
    """A task, as a policy sees it."""

    arrived = 0.0


def ratio_at(loss: float, points: list[tuple[float, float]], first: tuple[float, float]) -> float:
    """The wait with the best fidelity first over the least wait at this loss in percent; linear between two plans."""
    losses = np.array([100 * (1 - fidelity / first[1]) for _, fidelity in points])
    waits = np.array([wait for wait, _ in points])
    order = np.argsort(losses)
    best = np.minimum.accumulate(waits[order])
    return float(first[0] / np.interp(loss, losses[order], best))


def timed(call: Any) -> tuple[float, Any]:
    begun = time.process_time()
    found = call()
    return time.process_time() - begun, found


def main() -> None:
    parser = _bench.arguments(__doc__, engines=[])
    parser.add_argument("--circuits", type=int, default=100)
    parser.add_argument("--processes", type=int, default=2, help="that estimate")
    options = parser.parse_args()
    from pilot.qos.genetic import PRICES, evaluate, search
    from pilot.qos.policies import match
    from pilot.scheduling.qpu_policies import Formula

    circuits = made(options.circuits)
    parts = [circuits[at :: options.processes] for at in range(options.processes)]
    with ProcessPoolExecutor(options.processes, initializer=open_qpus) as pool:
        list(pool.map(len, ["warm"] * options.processes))
        measured = list(pool.map(estimates, parts))
    found = [each for _, each in measured]
    spans = [max(each[at] for each, _ in measured) for at in range(2)]
    rows: list[Any] = [None] * len(circuits)
    for at, part in enumerate(found):
        rows[at :: options.processes] = part
    values = np.array(rows)
    tasks = table(values[:, :, 0].copy(), values[:, :, 1].copy())
    search(tasks, 100, 1, 0)  # imports
    nsga2_s, front = timed(lambda: search(tasks, 100, 60, 0))
    matching_s, _ = timed(lambda: match(tasks, 4.0))
    queue = [Queued()] * len(circuits)
    formula_s, _ = timed(lambda: Formula(0.9).assign(queue, tasks, 0.0))
    by_formula = np.array([Formula(float(c)).assign(queue, tasks, 0.0) for c in WEIGHTS])
    matched = np.array([match(tasks, price) for price in PRICES])
    best = tasks.fidelity.argmax(axis=1)[np.newaxis]
    plans = {"best fidelity first": best, "formula": by_formula, "matching": matched, "NSGA-II": front.columns}
    points = {name: list(zip(*evaluate(tasks, columns), strict=True)) for name, columns in plans.items()}
    shortest = np.argsort(tasks.seconds.min(axis=1))
    free = tasks._replace(fits=tasks.fits[shortest], fidelity=tasks.fidelity[shortest], seconds=tasks.seconds[shortest])
    points["matching, free order"] = list(zip(*evaluate(free, matched[:, shortest]), strict=True))
    points["NSGA-II, free order"] = list(zip(*evaluate(free, search(free, 100, 60, 0).columns), strict=True))
    first = points["best fidelity first"][0]
    least = min(wait for name, some in points.items() for wait, _ in some if "free" not in name)
    figures = {
        "estimate_s_cold": spans[0],
        "estimate_s_cached": spans[1],
        "nsga2_s": nsga2_s,
        "matching_s": matching_s,
        "formula_s": formula_s,
        "front_has_ends": float(front.fidelity.max() >= first[1] - 1e-12 and front.waits.min() <= least + 1e-9),
        "wait_ratio_at_2": ratio_at(2.0, points["NSGA-II"], first),
        "wait_ratio_at_2_free": ratio_at(2.0, points["NSGA-II, free order"] + points["matching, free order"], first),
    }
    table_rows = [
        {"plan": name, **{f"ratio at {loss} %": ratio_at(loss, some, first) for loss in (1, 2, 4)}}
        for name, some in points.items()
    ]
    _bench.show("Wait with the best fidelity first over the wait of a plan", table_rows, None)
    _bench.report(
        "planning",
        {key: (value, BARS[key]) for key, value in figures.items()},
        rows=table_rows,
        configuration={"circuits": options.circuits, "qpus": QPUS, "processes": options.processes},
        file=options.json,
    )


if __name__ == "__main__":
    main()
