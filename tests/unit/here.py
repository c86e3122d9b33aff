"""What runs tasks in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any

from pilot import TaskDescription
from pilot.interfaces import Offer, Part, Prepared
from pilot.quantum.tasks import prepare

OFFER = Offer(devices={}, cores=2, cores_per_node=2, gpus=0)


class Here:
    """A manager whose tasks are run, as workers would run them, before ``submit_tasks`` returns."""

    def __init__(self) -> None:
        self.submitted: list[TaskDescription] = []

    def submit_tasks(self, descriptions: Iterable[TaskDescription]) -> list[Future[Any]]:
        wanted = list(descriptions)
        self.submitted += wanted
        return [self._run(one) for one in wanted]

    def map(self, function: Callable[..., Any], /, *iterables: Iterable[Any]) -> list[Future[Any]]:
        calls = zip(*iterables, strict=True)
        return [self._done(Prepared(name="", parts=(Part(function=function, args=call),))) for call in calls]

    def _run(self, wanted: TaskDescription) -> Future[Any]:
        if wanted.circuit is None:
            prepared = Prepared(name="", parts=(Part(function=wanted.function, args=tuple(wanted.args)),))
        else:
            prepared = prepare(wanted, OFFER)  # what it refuses is refused when it is submitted
        return self._done(prepared)

    def _done(self, prepared: Prepared) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            results = [self.call(part.function, part.args) for part in prepared.parts]
            last = prepared.combine
            future.set_result(results[0] if last is None else last.function(*last.args, results))
        except Exception as error:
            future.set_exception(error)
        return future

    def call(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        return function(*args)
