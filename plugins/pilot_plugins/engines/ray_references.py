"""References to tasks of a manager that are `ray.ObjectRef`."""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import cloudpickle
import ray

from pilot.interfaces import Made, Reference
from pilot_plugins.engines.settling import Ended, SettledReferences, packed

#: References that may be pending at a time.
PENDING = 1_000_000


class RayReference(Reference, ray.ObjectRef[Any]):
    """A task of a manager as a `ray.ObjectRef`: what the holder in the cluster returns when the task has ended."""

    def __init__(self, promise: Any, task: Future[Any], read: Callable[[Any], Any] | None) -> None:
        """Take over a reference to what the holder will return."""
        Reference.__init__(self, task, read)
        ray.ObjectRef.__init__(self, promise.binary())

    def inside(self) -> Any:
        """A reference in a list is one for the task, too, as in Ray: of the cluster that the task runs in."""
        return Made(put, self.value()).__reduce__()

    def engines_own(self) -> Any:
        return _itself, (ray.ObjectRef(self.binary()),)


class RayReferences(SettledReferences):
    """An actor of the cluster returns each value when this process sends it: so the references are Ray's own, and
    belong to this process."""

    def __init__(self) -> None:
        super().__init__()
        self._cluster = _connection()
        self.address = self._cluster[0]
        self._holder = _Holder.options(max_concurrency=PENDING).remote(  # type: ignore[attr-defined]
            [path for path in sys.path if path]
        )
        self._numbers = itertools.count()

    def make(self, task: Future[Any], read: Callable[[Any], Any] | None = None) -> Reference:
        number = next(self._numbers)
        reference = RayReference(self._holder.value.remote(number), task, read)
        self._watch(number, reference)
        return reference

    def is_open(self) -> bool:
        return ray.is_initialized() and _connection() == self._cluster

    def wait(self, references: Sequence[Any], timeout: float | None = None) -> None:
        if references:
            ray.wait(list(references), num_returns=len(references), timeout=timeout, fetch_local=False)

    def is_own(self, value: Any) -> bool:
        return isinstance(value, ray.ObjectRef)

    def value(self, reference: Any) -> Any:
        return ray.get(reference)

    def inside(self, reference: Any) -> Any:
        return Made(put, self.value(reference))

    def _settle(self, ended: Sequence[Ended]) -> None:
        self._holder.settle.remote([(key, packed(one) if one is not None else None) for key, one in ended])


def put(value: Any) -> Any:
    """A reference to the value, where a task of Ray's runs."""
    return ray.put(value)


def _itself(reference: Any) -> Any:
    return reference


def _connection() -> tuple[str, str]:
    context = ray.get_runtime_context()
    return str(context.gcs_address), str(context.get_job_id())


@ray.remote(num_cpus=0, max_restarts=0)
class _Holder:
    """In the cluster: has a call waiting for each reference, which returns when the value is sent."""

    def __init__(self, sys_path: list[str]) -> None:
        sys.path.extend(path for path in sys_path if path not in sys.path)
        self._values: dict[int, asyncio.Future[tuple[bool, bytes] | None]] = {}

    def _future(self, number: int) -> asyncio.Future[tuple[bool, bytes] | None]:
        return self._values.setdefault(number, asyncio.get_running_loop().create_future())

    async def value(self, number: int) -> Any:
        """What the task has returned; or raises what it has raised."""
        try:
            sent = await self._future(number)
        finally:
            self._values.pop(number, None)
        if sent is None:
            return None
        is_result, data = sent
        value = cloudpickle.loads(data)
        if is_result:
            return value
        error, cause = value
        raise error from cause

    async def settle(self, ended: list[tuple[int, tuple[bool, bytes] | None]]) -> None:
        """These tasks have ended; None: nobody asks for the value."""
        for number, sent in ended:
            future = self._future(number)
            if not future.done():
                future.set_result(sent)
