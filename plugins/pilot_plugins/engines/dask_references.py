"""References to tasks of a manager that are `distributed.Future`."""

from __future__ import annotations

import contextlib
import itertools
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import distributed
from dask.base import is_dask_collection
from distributed import Client

from pilot.interfaces import Reference
from pilot_plugins.engines.settling import Ended, SettledReferences, outcome

#: Collections whose references are known, at most.
COLLECTIONS = 1024


class DaskReference(Reference, distributed.Future):  # type: ignore[misc, type-arg]  # generic in later versions only
    """A task of a manager as a `distributed.Future`: its value is scattered when the task has ended."""

    def __init__(self, key: str, client: Client, task: Future[Any], read: Callable[[Any], Any] | None) -> None:
        Reference.__init__(self, task, read)
        distributed.Future.__init__(self, key, client=client)

    def cancel(self, *args: Any, **kwargs: Any) -> bool:
        """Cancel the task, also when it runs; Dask's reasons and messages are taken, and not used."""
        return super().cancel()

    def release(self) -> None:
        """The cluster may forget the value; the manager keeps the result."""
        distributed.Future.release(self)

    def engines_own(self) -> Any:
        return distributed.Future.__reduce__(self)

    def fail(self, error: BaseException) -> None:
        """The task has no result. Call it in the client's event loop."""
        if self._state is not None:
            self._state.set_error(error, None)


class DaskReferences(SettledReferences):
    """The client knows the futures by their keys; the scheduler hears of a key when its value is scattered."""

    def __init__(self, client: Client) -> None:
        super().__init__()
        self._client = client
        scheduler: Any = client.scheduler
        self.address = str(scheduler.address)
        self._prefix = f"pilot-{uuid.uuid4().hex}"
        self._numbers = itertools.count()
        self._lists: dict[Any, list[Any]] = {}

    def make(self, task: Future[Any], read: Callable[[Any], Any] | None = None) -> Reference:
        key = f"{self._prefix}-{next(self._numbers)}"
        reference = DaskReference(key, self._client, task, read)
        self._watch(key, reference)
        return reference

    def is_open(self) -> bool:
        return bool(self._client.status == "running")

    def wait(self, references: Sequence[Any], timeout: float | None = None) -> None:
        if references:
            with contextlib.suppress(TimeoutError), self._client.as_current():
                distributed.wait(list(references), timeout=timeout)

    def is_own(self, value: Any) -> bool:
        return isinstance(value, distributed.Future)

    def value(self, reference: Any) -> Any:
        return reference.result()

    def listed(self, given: Any) -> list[Any] | None:
        """Dask bags of submissions: each submits its tasks once, in this process."""
        if not is_dask_collection(given):
            return None
        key = tuple(given.__dask_keys__())
        if key not in self._lists:
            while len(self._lists) >= COLLECTIONS:
                self._lists.pop(next(iter(self._lists)))
            self._lists[key] = list(given.compute(scheduler="sync"))
        return self._lists[key]

    def _settle(self, ended: Sequence[Ended]) -> None:
        held: dict[Any, Any] = {key: reference for key, reference in ended if reference is not None}
        outcomes = {key: outcome(reference) for key, reference in held.items()}
        errors = {key: error for key, (_, error) in outcomes.items() if error is not None}
        values = {key: value for key, (value, error) in outcomes.items() if error is None}
        try:
            if values:
                self._client.scatter(values)
        except Exception as problem:
            errors |= dict.fromkeys(values, problem)
        loop: Any = self._client.loop
        for key, error in errors.items():
            loop.add_callback(held[key].fail, error)
