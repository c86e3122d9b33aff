"""The last events of a session, kept as encoded copies and written to a file: with it a fault can be shown again."""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path
from typing import Any

import msgspec

from pilot.resources import Terms
from pilot.results import AGAIN, Outcome
from pilot.scheduling import events
from pilot.scheduling.records import FunctionRecord, TaskRecord
from pilot.version import versions
from pilot.wire.session import write_private

#: So many events are kept, of so many bytes in all at most.
KEPT = 1000
MOST_BYTES = 8 << 20
#: Different `Terms` of tasks that are kept at most.
MOST_TERMS = 10_000

#: A task as it is kept: id, number of its function, index of its terms, name, needs and weight.
_Task = tuple[int, int, int, str | None, dict[int, bool | int] | None, float]


class _File(msgspec.Struct, frozen=True):
    versions: tuple[str, str]
    #: Wall clock when it was written.
    written: float
    #: The traceback of what went wrong; empty when the file was requested.
    error: str
    #: How many earlier events are not in it.
    dropped: int
    #: Id, digest and name.
    functions: list[tuple[int, str, str]]
    terms: list[Terms]
    #: The time of each by the manager's clock, and its type and fields.
    events: list[tuple[float, bytes]]


_encode = msgspec.msgpack.Encoder(enc_hook=repr).encode
_decode_event = msgspec.msgpack.Decoder(tuple[str, msgspec.Raw]).decode


class EventRing:
    """Keeps the last events. An event holds records that change later, so it is encoded when it is added."""

    def __init__(self) -> None:
        self._events: deque[tuple[float, bytes]] = deque()
        self._terms: dict[Terms, int] = {}
        self._bytes = 0
        self._dropped = 0

    def add(self, event: events.Event, now: float) -> None:
        """Keep a copy, without arguments and results of tasks."""
        if len(self._terms) > MOST_TERMS:  # what was kept refers to them by their numbers
            self._dropped += len(self._events)
            self._events.clear()
            self._terms.clear()
            self._bytes = 0
        fields: Any = event
        if type(event) is events.OutcomesArrived:
            outcomes = [
                (one.task, one.status, one.started, one.seconds) if one.status not in AGAIN else one
                for one in event.outcomes
            ]
            fields = (event.pilot, event.batch, event.worker, outcomes)
        elif type(event) is events.TasksSubmitted:
            fields = self._tasks(event.entries)
        elif type(event) is events.CommandFailed:
            fields = (type(event.command).__name__, event.error)
        data = _encode((type(event).__name__, fields))
        self._events.append((now, data))
        self._bytes += len(data)
        while len(self._events) > KEPT or self._bytes > MOST_BYTES:
            self._bytes -= len(self._events.popleft()[1])
            self._dropped += 1

    def _tasks(self, records: list[TaskRecord]) -> list[_Task]:
        terms, index, tasks = None, 0, []
        for one in records:
            if one.terms is not terms:
                terms = one.terms
                index = self._terms.setdefault(terms, len(self._terms))
            tasks.append((one.id, one.function.id, index, one.name, one.needs, one.weight))
        return tasks

    def write(self, path: Path, functions: list[FunctionRecord], error: str = "") -> None:
        """Write what is kept, and the traceback of an error, to a file that only its owner can read.

        Raises:
            SessionError: it cannot be written.
        """
        known = [(one.id, one.digest, one.name) for one in functions]
        file = _File(versions(), time.time(), error, self._dropped, known, list(self._terms), list(self._events))
        write_private(path, msgspec.msgpack.encode(file))


def read_error(path: Path) -> tuple[float, str]:
    """When a file was written, by the wall clock, and the traceback of the error that it was written for."""
    file = msgspec.msgpack.decode(path.read_bytes(), type=_File)
    return file.written, file.error


def read(path: Path) -> list[tuple[float, events.Event]]:
    """What `EventRing.write` wrote: events for a new `Controller`, each with its time.

    A command that failed is left out, and so is what tasks need of each other when that had ended before. When earlier
    events were dropped, some of these are about pilots and tasks that such a controller does not know.
    """
    file = msgspec.msgpack.decode(path.read_bytes(), type=_File)
    functions = {id: FunctionRecord(id, digest, name) for id, digest, name in file.functions}
    found: list[tuple[float, events.Event]] = []
    open: set[int] = set()
    for now, data in file.events:
        name, fields = _decode_event(data)
        if name == "OutcomesArrived":
            kind = tuple[str, int, str, list[Outcome]]
            pilot, batch, worker, outcomes = msgspec.msgpack.decode(fields, type=kind)
            open -= {one.task for one in outcomes}
            found.append((now, events.OutcomesArrived(pilot, batch, worker, outcomes)))
        elif name == "TasksSubmitted":
            records = []
            for id, function, index, title, needs, weight in msgspec.msgpack.decode(fields, type=list[_Task]):
                record = TaskRecord(id, functions[function], None, file.terms[index], title, 0.0, needs, weight=weight)
                record.blockers = {needed for needed in needs or () if needed in open} or None
                records.append(record)
                open.add(id)
            found.append((now, events.TasksSubmitted(records)))
        elif name != "CommandFailed":
            found.append((now, msgspec.msgpack.decode(fields, type=getattr(events, name))))
    return found
