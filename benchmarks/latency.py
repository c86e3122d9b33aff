"""One task at a time: from submit to result, against the bare engine."""

from __future__ import annotations

import statistics
from time import perf_counter
from typing import Any

import _bench


def noop(number: int) -> int:
    return number


def measure(contestant: Any, tasks: int) -> _bench.Figures:
    with contestant as engine:
        engine.gather([engine.submit(noop, number) for number in range(500)])  # both workers are warm
        times = []
        for number in range(tasks):
            began = perf_counter()
            engine.gather([engine.submit(noop, number)])
            times.append(1000 * (perf_counter() - began))
    return {"median": statistics.median(times), "p95": statistics.quantiles(times, n=20)[-1]}


def main() -> None:
    parser = _bench.arguments(__doc__)
    parser.add_argument("--tasks", type=int, default=300, help="how many round trips")
    options = parser.parse_args()

    rows = []
    for engine in options.engine:
        bare, ours = _bench.compare(engine, repeat=options.repeat, tasks=options.tasks)
        for what in ("median", "p95"):
            ratio = ours[what] / bare[what]
            rows.append({"engine": engine, "of": what, "bare ms": bare[what], "ours ms": ours[what], "ratio": ratio})
    _bench.show("One task, submit to result", rows, options.json)


if __name__ == "__main__":
    _bench.run(main, measure)
