"""What large values cost: results against ProcessPoolExecutor, an array for many tasks against `ray.put`, and memory.

    python benchmarks/values.py [--only results object memory] [--json FILE]

`cpu_ratio_pool_SIZE`: processor time of all processes for a result of that size (bytes), over that of the standard
library's process pool with as many workers; both in turn, medians of the ratios. The sessions are removed at the end of
all runs: ext4 without a journal looks at each inode that was deleted in the last minute before it makes a file.

`shared_array_ratio_ray`: seconds until 100 tasks on 2 workers have read a 200 MB array that was put once, the time to
put it included, over those of Ray with `ray.put`. Each task adds up one number of each page of memory.
`shared_array_cpu_ratio_ray`: the same for the processor time of all processes, which says more on a machine that is
shared: Ray copies with several threads, we write a file with one.

`rss_growth_mib_SIZE`: growth of the manager's resident memory while results of that size are read and dropped, the
handles too: the largest value after a tenth, two tenths and so on of all tasks, less the value after the first 1 %.
"""

from __future__ import annotations

import gc
import tempfile
from collections import deque
from time import perf_counter
from typing import Any

import _bench
import _processes
import psutil

#: Bytes of a result, and how many there are of it, to measure the time and the memory.
SIZES = {"100kb": (100_000, 2000), "900kb": (900_000, 500)}
MANY = {"1mb": (1_000_000, 5000), "10kb": (10_000, 500_000)}
#: Tasks that are submitted before the oldest one is read.
AHEAD = {"100kb": 100, "900kb": 100, "1mb": 100, "10kb": 2000}
ARRAY_BYTES, ARRAY_TASKS, PAGE = 200_000_000, 100, 4096


def content(size: int) -> bytes:
    return b"x" * size


def touched(array: Any) -> float:
    """The sum of one number of each page."""
    return float(array[:: PAGE // array.itemsize].sum())


def measure(
    contestant: Any, what: str, size: int = 0, count: int = 0, ahead: int = 0, folder: str | None = None
) -> _bench.Figures:
    if folder is not None:
        contestant.folder = tempfile.mkdtemp(dir=folder)
    with contestant as engine:
        if what == "object":
            return read_object(engine)
        engine.gather([engine.submit(content, size) for _ in range(50)])  # the workers are there
        if what == "memory":
            return grow(engine, size, count, ahead)
        mine = psutil.Process()
        processes = _processes.marked() or mine.children(recursive=True)
        before = _processes.cpu_seconds(processes)
        stream(engine, size, count, ahead)
        return {"us": 1e6 * (_processes.cpu_seconds(processes) - before) / count}


def stream(engine: Any, size: int, count: int, ahead: int) -> None:
    """Submit tasks and read their results in order; each is dropped when it is read."""
    open: deque[Any] = deque()
    for number in range(count + ahead):
        if number < count:
            open.append(engine.submit(content, size))
        if number >= ahead:
            assert len(open.popleft().result()) == size


def grow(engine: Any, size: int, count: int, ahead: int) -> _bench.Figures:
    """Resident memory of this process (MiB), first after 1 % of the tasks."""
    mine = psutil.Process()
    seen = []
    began = perf_counter()
    for part in (count // 100, *(count // 10,) * 9, count - count // 100 - count // 10 * 9):
        stream(engine, size, part, ahead)
        gc.collect()
        seen.append(mine.memory_info().rss / 2**20)
    return {"mib": max(seen[1:]) - seen[0], "first_mib": seen[0], "per_s": count / (perf_counter() - began)}


def read_object(engine: Any) -> _bench.Figures:
    import numpy

    array = numpy.arange(ARRAY_BYTES // 8, dtype=numpy.float64)
    expected = touched(array)
    engine.gather([engine.submit(touched, array[:512]) for _ in range(20)])  # the workers are there, with NumPy
    processes = _processes.marked() or psutil.Process().children(recursive=True)
    spent = _processes.cpu_seconds(processes)
    began = perf_counter()
    if hasattr(engine, "manager"):
        reference = engine.manager.put(array)
    else:
        import ray

        reference = ray.put(array)
    put = perf_counter() - began
    results = engine.gather([engine.submit(touched, reference) for _ in range(ARRAY_TASKS)])
    seconds = perf_counter() - began
    assert results == [expected] * ARRAY_TASKS
    spent = _processes.cpu_seconds(processes) - spent
    return {"seconds": seconds, "put_seconds": put, "cpu_seconds": spent}


def in_turn(
    one: str, other: str, repeat: int, figure: str, **settings: Any
) -> tuple[list[float], list[dict[str, Any]]]:
    """The ratios of a figure, and what was measured."""
    ratios, rows = [], []
    for attempt in range(repeat):
        names = (one, other) if attempt % 2 == 0 else (other, one)
        found = {name: _bench.measured(name, **settings) for name in names}
        ratios.append(found[one][figure] / found[other][figure])
        rows += [{**settings, "contestant": name, **found[name]} for name in (one, other)]
    return ratios, rows


def main() -> None:
    parser = _bench.arguments(__doc__, engines=[], repeat=5)
    parser.add_argument("--only", nargs="+", choices=("results", "object", "memory"), help="what to measure")
    options = parser.parse_args()
    wanted = options.only or ("results", "object", "memory")

    figures: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    if "results" in wanted:
        with tempfile.TemporaryDirectory(prefix="pilot-bench-") as folder:
            for name, (size, count) in SIZES.items():
                settings = {"what": "results", "size": size, "count": count, "ahead": AHEAD[name], "folder": folder}
                ratios, more = in_turn("our process", "bare process", options.repeat, "us", **settings)
                figures[f"cpu_ratio_pool_{name}"] = (ratios, _bench.Bar("<=", 1.3, "ratio"))
                rows += more
    if "object" in wanted:
        ratios, more = in_turn("our process", "bare ray", options.repeat, "seconds", what="object")
        figures["shared_array_ratio_ray"] = (ratios, _bench.Bar("<=", 1.5, "ratio"))
        figures["shared_array_cpu_ratio_ray"] = (
            [one["cpu_seconds"] / other["cpu_seconds"] for one, other in zip(more[::2], more[1::2], strict=True)],
            None,
        )
        rows += more
    if "memory" in wanted:
        for name, (size, count) in MANY.items():
            found = _bench.measured("our process", what="memory", size=size, count=count, ahead=AHEAD[name])
            figures[f"rss_growth_mib_{name}"] = (found["mib"], _bench.Bar("<=", 150, "MiB"))
            rows.append({"what": "memory", "size": size, "count": count, **found})
    configuration = {"repeat": options.repeat, "only": list(wanted)}
    _bench.report("values", figures, rows=rows, configuration=configuration, file=options.json)


if __name__ == "__main__":
    _bench.run(main, measure)
