"""A table of tasks as they end: `metrics.csv`."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from pilot.interfaces import SessionEvent, TaskEnded
from pilot.manager.observers import NO_LIMIT
from pilot.manager.session import Session

#: The columns, in order.
COLUMNS = ("task", "name", "pilot", "worker", "submitted", "started", "ended", "seconds", "state", "attempts")


@contextmanager
def write_metrics(session: Session, path: str | os.PathLike[str]) -> Iterator[None]:
    """Write a row for each task that ends inside the ``with`` block, in the order in which they end.

    Columns: ``task`` (id), ``name``, ``pilot`` (name), ``worker``; ``submitted``, ``started`` and ``ended`` (ISO 8601,
    UTC); ``seconds`` that it ran; ``state`` ("done", "failed" or "cancelled"); ``attempts``, the last one included.
    What does not apply is empty: a task that was cancelled in the queue has no pilot, and did not start.

    No row is left out, however fast tasks end: the end of the block waits until all are written.

    Args:
        session: a `PilotManager`.
        path: of the CSV file; one that is there is overwritten.

    Raises:
        OSError: the file cannot be written.
        SessionError: the manager is closed.
    """
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        write = csv.writer(file).writerows
        write([COLUMNS])
        names = _Names(session)

        def ended(events: list[SessionEvent]) -> None:
            write(_row(event, names) for event in events if isinstance(event, TaskEnded))
            file.flush()

        subscription = session.subscribe(ended, kinds=[TaskEnded], limit=NO_LIMIT)
        try:
            yield
        finally:
            session.unsubscribe(subscription)
            subscription.close(timeout=None)


class _Names(dict[str | None, str]):
    """Names of pilots by their ids."""

    def __init__(self, session: Session) -> None:
        super().__init__({None: ""})
        self._session = session

    def __missing__(self, id: str) -> str:
        self.update((pilot.id, pilot.name) for pilot in self._session.pilots)
        return self[id]


def _row(event: TaskEnded, names: _Names) -> tuple[object, ...]:
    ran = event.started is not None
    ended = event.time if event.started is None else event.started + (event.seconds or 0.0)
    return (
        event.task,
        event.name,
        names[event.pilot],
        event.worker or "",
        _iso(event.submitted),
        _iso(event.started),
        _iso(ended),
        "" if event.seconds is None else event.seconds,
        event.state.value,
        event.lost_attempts + ran,
    )


def _iso(seconds: float | None) -> str:
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")
