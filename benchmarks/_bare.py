"""The bare engines: Ray, Dask and ProcessPoolExecutor as a user without pilots would start and call them.

Each has two workers and three verbs, `submit`, `gather` and the `with` block that starts and stops it.
Imports stand inside `__enter__` so that they count as part of the start: without them there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

WORKERS = 2


class BareRay:
    """A Ray instance of its own; every call is one remote function call."""

    def __enter__(self) -> BareRay:
        import ray

        ray.init(
            address="local",  # never another user's cluster
            num_cpus=WORKERS,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
        )
        self._ray = ray
        self._remote: dict[Callable[..., Any], Any] = {}
        return self

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:
        remote = self._remote.get(function)
        if remote is None:
            remote = self._remote[function] = self._ray.remote(function)
        return remote.remote(*args)

    def gather(self, calls: Iterable[Any]) -> list[Any]:
        return self._ray.get(list(calls))

    def __exit__(self, *error: object) -> None:
        self._ray.shutdown()


class BareDask:
    """A LocalCluster of two processes with one thread each; every call is one `client.submit`."""

    def __enter__(self) -> BareDask:
        from distributed import Client, LocalCluster

        self._cluster = LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None)
        self._client = Client(self._cluster)
        return self

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:
        return self._client.submit(function, *args, pure=False)

    def gather(self, calls: Iterable[Any]) -> list[Any]:
        return self._client.gather(list(calls))

    def __exit__(self, *error: object) -> None:
        self._client.close()
        self._cluster.close()


class BareProcess:
    """The standard library's ProcessPoolExecutor."""

    def __enter__(self) -> BareProcess:
        from concurrent.futures import ProcessPoolExecutor

        self._pool = ProcessPoolExecutor(max_workers=WORKERS)
        self.submit = self._pool.submit
        return self

    def gather(self, calls: Iterable[Any]) -> list[Any]:
        return [call.result() for call in calls]

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown()


BARE: dict[str, Callable[[], Any]] = {"ray": BareRay, "dask": BareDask, "process": BareProcess}
