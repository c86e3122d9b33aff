"""`Sessions`: users' names for groups of tasks."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from fastapi.concurrency import run_in_threadpool
from sqlalchemy import Connection, Row, insert, select, update

from pilot.service import tables
from pilot.service.access import User
from pilot.service.models import SessionView
from pilot.service.problems import Problem
from pilot.service.store import Filter, Store

_COLUMNS = tables.sessions.c
#: Tasks that are looked for at once when a session is closed.
_AT_ONCE = 1000


class Sessions:
    """The sessions of a store."""

    def __init__(self, store: Store, cancel: Callable[[str], Future[bool]]) -> None:
        """Make it; ``cancel`` ends a task."""
        self._store, self._cancel = store, cancel

    async def open(self, user: User, name: str) -> SessionView:
        """A new session, when it is on disk."""
        id, now = secrets.token_hex(16).upper(), time.time()
        row = {"id": id, "user": user.name, "name": name, "created": now}
        await asyncio.wrap_future(self._store.writer.put(_insert, row))
        return SessionView(id=id, name=name, created=now)

    async def all(self, user: User) -> list[SessionView]:
        """A user's sessions, the newest first."""
        query = select(tables.sessions).where(_COLUMNS.user == user.name).order_by(_COLUMNS.created.desc())
        return [_view(row) for row in await run_in_threadpool(self._rows, query)]

    async def find(self, user: User, id: str) -> SessionView:
        """One of a user's sessions.

        Raises:
            Problem: 404: there is none with this id.
        """
        query = select(tables.sessions).where(_COLUMNS.id == id, _COLUMNS.user == user.name)
        rows = await run_in_threadpool(self._rows, query)
        if not rows:
            raise Problem(404, f"there is no session {id[:64]!r}")
        return _view(rows[0])

    async def check(self, user: User, ids: set[str]) -> None:
        """Raise a Problem (422) unless these are sessions of the user that are open."""
        for id in ids:
            try:
                found = await self.find(user, id)
            except Problem as problem:
                raise Problem(422, f"session: {problem}", field="session", given=id) from None
            if found.closed is not None:
                raise Problem(422, f"session: {id} is closed", field="session", given=id)

    async def close(self, user: User, id: str) -> SessionView:
        """Take no more tasks in it, and cancel those that are not over. Nothing happens the second time.

        Raises:
            Problem: as `find`.
        """
        found = await self.find(user, id)
        if found.closed is None:
            await asyncio.wrap_future(self._store.writer.put(_close, (id, time.time())))
        before: str | None = None
        while True:
            wanted = Filter(user=user.name, session=id, state="active", before=before)
            rows = await run_in_threadpool(self._store.page, wanted, _AT_ONCE)
            for row in rows:
                self._cancel(row.id)
            if len(rows) < _AT_ONCE:
                return await self.find(user, id)
            before = rows[-1].id

    def _rows(self, query: Any) -> Sequence[Row[Any]]:
        with self._store.engine.connect() as connection:
            found: Sequence[Row[Any]] = connection.execute(query).all()
            return found


def _view(row: Row[Any]) -> SessionView:
    return SessionView(id=row.id, name=row.name, created=row.created, closed=row.closed)


def _insert(connection: Connection, rows: Sequence[dict[str, Any]]) -> list[Any]:
    connection.execute(insert(tables.sessions), list(rows))
    return [None] * len(rows)


def _close(connection: Connection, asked: Sequence[tuple[str, float]]) -> list[Any]:
    tasks = tables.tasks.c
    for id, when in asked:
        connection.execute(
            update(tables.sessions).where(_COLUMNS.id == id, _COLUMNS.closed.is_(None)).values(closed=when)
        )
        its = (tasks.session == id, tasks.state == "active", tasks.cancel_requested.is_(None))
        connection.execute(update(tables.tasks).where(*its).values(cancel_requested=when))
    return [None] * len(asked)
