"""One system, measured in its own environment, which need not have anything of this library.

    PYTHON _peer.py NAME SETTINGS FILE

A system is a context manager with two verbs, as those of `_bare`: `submit` and `gather`. The figures go into FILE as
JSON. Every process that a system starts has this script's mark in its environment, so that their processor time can be
added up wherever they are in the tree of processes.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import psutil
from _bare import BARE, WORKERS
from _peer_tasks import busy, noop

MARK = "PILOT_BENCHMARK"
#: Tasks without work that warm the workers up.
WARM_UP = 200


class OfFutures:
    """A system whose executor gives futures of the standard library."""

    def executor(self) -> Any:
        raise NotImplementedError

    def __enter__(self) -> OfFutures:
        self._executor = self.executor()
        self.submit: Callable[..., Any] = self._executor.submit
        return self

    def gather(self, calls: Iterable[Any]) -> list[Any]:
        return [call.result() for call in calls]

    def __exit__(self, *error: object) -> None:
        self._executor.shutdown(wait=True)


class Parsl:
    """A HighThroughputExecutor with one block of two workers on this machine."""

    def __enter__(self) -> Parsl:
        import parsl
        from parsl.config import Config
        from parsl.executors import HighThroughputExecutor
        from parsl.providers import LocalProvider

        self._folder = tempfile.TemporaryDirectory(prefix="parsl-")
        executor = HighThroughputExecutor(
            address="127.0.0.1",
            max_workers_per_node=WORKERS,
            provider=LocalProvider(init_blocks=1, min_blocks=1, max_blocks=1),
        )
        config = Config(executors=[executor], run_dir=self._folder.name, usage_tracking=0, strategy="none")
        self._kernel = parsl.load(config)
        self._apps: dict[Callable[..., Any], Any] = {}
        return self

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:
        from parsl import python_app

        app = self._apps.get(function)
        if app is None:
            app = self._apps[function] = python_app(function)
        return app(*args)

    def gather(self, calls: Iterable[Any]) -> list[Any]:
        return [call.result() for call in calls]

    def __exit__(self, *error: object) -> None:
        import parsl

        self._kernel.cleanup()
        parsl.clear()
        self._folder.cleanup()


class Executorlib(OfFutures):
    """Its executor for one machine, with workers that stay (block allocation), which it recommends for short tasks."""

    def executor(self) -> Any:
        from executorlib import SingleNodeExecutor

        return SingleNodeExecutor(max_workers=WORKERS, block_allocation=True)


class Dragon:
    """Dragon's pool of processes, by the interface of `multiprocessing`; started by its own command."""

    def __enter__(self) -> Dragon:
        import multiprocessing

        import dragon  # noqa: F401  # before multiprocessing: it registers its start method

        multiprocessing.set_start_method("dragon")
        self._pool = multiprocessing.Pool(WORKERS)
        return self

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:
        return self._pool.apply_async(function, args)

    def gather(self, calls: Iterable[Any]) -> list[Any]:
        return [call.get() for call in calls]

    def __exit__(self, *error: object) -> None:
        self._pool.terminate()
        self._pool.join()


class JobQueue:
    """A Dask cluster of one Slurm job with two workers."""

    def __enter__(self) -> JobQueue:
        from dask_jobqueue import SLURMCluster
        from distributed import Client

        self._folder = tempfile.TemporaryDirectory(prefix="jobqueue-")
        self._cluster = SLURMCluster(
            cores=WORKERS,
            processes=WORKERS,
            memory="2GB",
            walltime="00:10:00",
            local_directory=self._folder.name,
            log_directory=self._folder.name,
            scheduler_options={"dashboard": False, "host": "127.0.0.1"},
        )
        self._cluster.scale(jobs=1)
        self._client = Client(self._cluster)
        return self

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:
        return self._client.submit(function, *args, pure=False)

    def gather(self, calls: Iterable[Any]) -> list[Any]:
        return self._client.gather(list(calls))

    def __exit__(self, *error: object) -> None:
        self._client.close()
        self._cluster.close()
        self._folder.cleanup()


def ours(resource: str, engine: str) -> Any:
    """This library with one pilot of two slots."""
    import _bench

    return _bench.Ours(engine, resource)


SYSTEMS: dict[str, Callable[[], Any]] = {
    "ours, process": lambda: ours("local://", "process"),
    "ours, ray": lambda: ours("local://", "ray"),
    "ours, dask": lambda: ours("local://", "dask"),
    "ours, dask on slurm": lambda: ours("slurm://", "dask"),
    "ray": BARE["ray"],
    "dask": BARE["dask"],
    "process pool": BARE["process"],
    "parsl": Parsl,
    "executorlib": Executorlib,
    "dragonhpc": Dragon,
    "dask-jobqueue": JobQueue,
}


def measure(make: Callable[[], Any], tasks: list[int], singles: int, naps: int, nap: float) -> dict[str, float]:
    """The figures of one system.

    Args:
        make: the system.
        tasks: how many tasks without work at once, in ascending order.
        singles: tasks that are waited for one by one.
        naps: tasks of `nap` seconds at once.
        nap: seconds.
    """
    began = time.perf_counter()
    with make() as system:
        system.gather([system.submit(noop, 0)])
        figures = {"start s": time.perf_counter() - began}
        system.gather([system.submit(noop, number) for number in range(WARM_UP)])
        figures["round trip ms"] = 1000 * statistics.median(_single(system, number) for number in range(singles))
        processes = _marked()
        for count in tasks:
            spent, began = _cpu(processes), time.perf_counter()
            values = system.gather([system.submit(noop, number) for number in range(count)])
            figures[f"{count} tasks/s"] = count / (time.perf_counter() - began)
            after = _cpu(processes)
            figures["cpu us"] = 1e6 * sum(after[pid] - spent[pid] for pid in after.keys() & spent.keys()) / count
            if values != list(range(count)):
                raise AssertionError("the results are not those of the tasks")
        began = time.perf_counter()
        system.gather([system.submit(busy, number, nap) for number in range(naps)])
        figures["efficiency"] = naps * nap / WORKERS / (time.perf_counter() - began)
    return figures


def _single(system: Any, number: int) -> float:
    began = time.perf_counter()
    system.gather([system.submit(noop, number)])
    return time.perf_counter() - began


def _marked() -> list[psutil.Process]:
    """This process, and all that have its mark, whoever their parents are."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == os.environ[MARK] or process.pid == os.getpid():
                found.append(process)
        except psutil.Error:  # another user's, or gone meanwhile
            continue
    return found


def _cpu(processes: list[psutil.Process]) -> dict[int, float]:
    """Seconds of processor time by process."""
    found = {}
    for process in processes:
        try:
            found[process.pid] = sum(process.cpu_times()[:2])
        except psutil.Error:  # it has ended
            continue
    return found


def main() -> None:
    name, settings, file = sys.argv[1:]
    Path(file).write_text(json.dumps(measure(SYSTEMS[name], **json.loads(settings))))


if __name__ == "__main__":
    main()
