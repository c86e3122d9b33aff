"""What a task costs through Pilot-Quantum's API, beside the bare engine: no-ops on two cores, submitted one by one with
resources, waited for, and read by the engine's own `get` or `gather`.

    python benchmarks/pilot_quantum.py [--engine ray] [--tasks 1024 4096] [--json FILE]

`ENGINE_COUNT_ratio` is processor time of a task in all processes together, ours over that of the bare engine;
`ENGINE_COUNT_rate_ratio` is tasks a second by the clock, ours over bare; on a shared machine it varies. The bars
are for the largest count.
"""

from __future__ import annotations

import tempfile
from time import perf_counter
from typing import Any

import _bench
import psutil
from _bare import WORKERS
from dispatch import seconds_of

RESOURCES = {"num_cpus": 1, "num_gpus": 0, "memory": None}


def noop(number: int) -> int:
    return number


class Service:
    """A service with one pilot on this machine, spoken to like the bare engines."""

    def __init__(self, engine: str) -> None:
        self._engine = engine

    def __enter__(self) -> Service:
        from pilot.pilot_compute_service import ExecutionEngine, PilotComputeService

        self._folder = tempfile.TemporaryDirectory(prefix="pilot-bench-")
        self._service = PilotComputeService(ExecutionEngine(self._engine), self._folder.name)
        self._service.create_pilot({"resource": "ssh://localhost", "cores_per_node": WORKERS}).wait()
        client = self._service.get_client()
        self._read = client.get if self._engine == "ray" else client.gather
        return self

    def submit(self, function: Any, *args: Any) -> Any:
        return self._service.submit_task(function, *args, resources=RESOURCES)

    def gather(self, tasks: list[Any]) -> list[Any]:
        self._service.wait_tasks(tasks)
        return self._read(tasks)

    def __exit__(self, *error: object) -> None:
        self._service.cancel()
        self._folder.cleanup()


def measure(contestant: Any, tasks: list[int]) -> _bench.Figures:
    # the table of `_bench` knows the library's own API as "our ENGINE"
    engine = contestant if "Bare" in type(contestant).__name__ else Service(contestant.engine)
    figures = {}
    with engine:
        engine.gather([engine.submit(noop, number) for number in range(500)])  # both workers are warm
        processes = psutil.Process().children(recursive=True)
        for count in tasks:
            began, spent = perf_counter(), seconds_of(processes)
            values = engine.gather([engine.submit(noop, number) for number in range(count)])
            figures[f"{count} /s"] = count / (perf_counter() - began)
            figures[f"{count} us"] = 1e6 * (seconds_of(processes) - spent) / count
            assert values == list(range(count))
    return figures


def main() -> None:
    parser = _bench.arguments(__doc__, engines=("ray", "dask"))
    parser.add_argument("--tasks", type=int, nargs="+", default=[256, 1024, 4096], help="how many no-ops at once")
    options = parser.parse_args()
    figures: dict[str, Any] = {}
    rows = []
    for engine in options.engine:
        sides = [f"bare {engine}", f"our {engine}"]
        runs: dict[str, list[_bench.Figures]] = {side: [] for side in sides}
        for attempt in range(options.repeat):
            for side in sides if attempt % 2 == 0 else reversed(sides):
                runs[side].append(_bench.measured(side, tasks=options.tasks))
        bare, ours = (runs[side] for side in sides)
        for count in options.tasks:
            pairs = list(zip(bare, ours, strict=True))
            cost, rate = f"{count} us", f"{count} /s"
            figures[f"{engine}_{count}_bare_us"] = ([one[cost] for one, _ in pairs], None)
            figures[f"{engine}_{count}_us"] = ([other[cost] for _, other in pairs], None)
            is_last = count == options.tasks[-1]
            ratios = [other[cost] / one[cost] for one, other in pairs]
            figures[f"{engine}_{count}_ratio"] = (ratios, _bench.Bar("<=", 1.5) if is_last else None)
            rates = [other[rate] / one[rate] for one, other in pairs]
            figures[f"{engine}_{count}_rate_ratio"] = (rates, _bench.Bar(">=", 0.5) if is_last else None)
        rows += [{"engine": engine, "bare": one, "ours": other} for one, other in zip(bare, ours, strict=True)]
    configuration = {"tasks": options.tasks, "repeat": options.repeat}
    _bench.report("pilot_quantum", figures, rows=rows, configuration=configuration, file=options.json)


if __name__ == "__main__":
    _bench.run(main, measure)
