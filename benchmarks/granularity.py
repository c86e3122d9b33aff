"""Efficiency on two workers with tasks of 1, 10 and 100 ms: the tasks' own time over workers x wall time."""

from __future__ import annotations

import time
from typing import Any

import _bench


def sleep(seconds: float) -> None:
    time.sleep(seconds)


def spin(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def measure(contestant: Any, kind: str, milliseconds: list[float], seconds: float) -> _bench.Figures:
    work = {"sleep": sleep, "spin": spin}[kind]
    figures = {}
    with contestant as engine:
        engine.gather([engine.submit(work, 0.001) for _ in range(100)])  # both workers are warm
        for length in milliseconds:
            count = _bench.WORKERS * round(1000 * seconds / length)
            began = time.perf_counter()
            engine.gather([engine.submit(work, length / 1000) for _ in range(count)])
            wall = time.perf_counter() - began
            figures[str(length)] = count * length / 1000 / (_bench.WORKERS * wall)
    return figures


def main() -> None:
    parser = _bench.arguments(__doc__)
    parser.add_argument("--milliseconds", type=float, nargs="+", default=[1.0, 10.0, 100.0], help="task lengths")
    parser.add_argument("--seconds", type=float, default=3.0, help="work per worker at each length")
    parser.add_argument("--spin", action="store_true", help="tasks use the processor; otherwise they sleep")
    options = parser.parse_args()

    kind = "spin" if options.spin else "sleep"
    settings = {"kind": kind, "milliseconds": options.milliseconds, "seconds": options.seconds}
    rows = []
    for engine in options.engine:
        bare, ours = _bench.compare(engine, repeat=options.repeat, **settings)
        for length in map(str, options.milliseconds):
            rows.append({"engine": engine, "task ms": float(length), "bare": bare[length], "ours": ours[length]})
    _bench.show(f"Efficiency, tasks that {kind}, two workers", rows, options.json)


if __name__ == "__main__":
    _bench.run(main, measure)
