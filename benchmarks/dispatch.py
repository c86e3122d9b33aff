"""No-op tasks a second through one pilot of two slots, against the bare engine, and its start.

Every task is its own `submit_task` call, its own future and its own `result()`.
"""

from __future__ import annotations

from time import perf_counter
from typing import Any

import _bench


def noop(number: int) -> int:
    return number


def measure(contestant: Any, tasks: list[int]) -> _bench.Figures:
    began = perf_counter()
    with contestant as engine:
        engine.gather([engine.submit(noop, 0)])
        figures = {"start": perf_counter() - began}
        engine.gather([engine.submit(noop, number) for number in range(500)])  # both workers are warm
        for count in tasks:
            began = perf_counter()
            values = engine.gather([engine.submit(noop, number) for number in range(count)])
            figures[str(count)] = count / (perf_counter() - began)
            assert values == list(range(count))
    return figures


def main() -> None:
    parser = _bench.arguments(__doc__)
    parser.add_argument("--tasks", type=int, nargs="+", default=[4096, 16384], help="how many no-ops at once")
    options = parser.parse_args()

    rates, starts = [], []
    for engine in options.engine:
        bare, ours = _bench.compare(engine, repeat=options.repeat, tasks=options.tasks)
        for count in map(str, options.tasks):
            ratio = ours[count] / bare[count]
            rates.append(
                {
                    "engine": engine,
                    "no-ops": int(count),
                    "bare /s": bare[count],
                    "ours /s": ours[count],
                    "ratio": ratio,
                }
            )
        late = ours["start"] - bare["start"]
        starts.append({"engine": engine, "bare s": bare["start"], "ours s": ours["start"], "more s": late})

    _bench.show("No-op tasks a second, two workers", rates, options.json)
    _bench.show("Start to first result", starts, options.json and options.json.with_suffix(".start.json"))


if __name__ == "__main__":
    _bench.run(main, measure)
