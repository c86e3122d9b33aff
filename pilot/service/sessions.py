"""`Sessions`: users' names for groups of tasks."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

from fastapi.concurrency import run_in_threadpool
from sqlalchemy import Connection, Row, delete, exists, func, insert, select, update

from pilot.service import tables
from pilot.service.access import User
from pilot.service.models import SessionView
from pilot.service.problems import Problem
from pilot.service.store import Filter, Store

_COLUMNS = tables.sessions.c
#: Tasks that are looked for at once when a session is closed; sessions that are removed at once.
_AT_ONCE = 1000


class Sessions:
    """The sessions of a store."""

    def __init__(self, store: Store, cancel: Callable[[str], Future[bool]], most: int) -> None:
        """Make it; ``cancel`` ends a task, and ``most`` sessions of one user are open at once."""
        self._store, self._cancel, self._most = store, cancel, most

    async def open(self, user: User, name: str) -> SessionView:
        """A new session, when it is on disk.

        Raises:
            Problem: 429: the user has too many that are open.
        """
        id, now = secrets.token_hex(16).upper(), time.time()
        new = _New({"id": id, "user": user.name, "name": name, "created": now}, self._most)
        await asyncio.wrap_future(self._store.writer.put(_insert, new))
        return SessionView(id=id, name=name, created=now)

    async def all(self, user: User, most: int) -> list[SessionView]:
        """A user's sessions, so many at most, the newest first."""
        query = select(tables.sessions).where(_COLUMNS.user == user.name).order_by(_COLUMNS.created.desc()).limit(most)
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

    def prune(self, before: float) -> Future[int]:
        """Remove sessions that were closed before that time and have no task any more; how many they were."""
        return self._store.writer.put(_prune, before)

    def _rows(self, query: Any) -> Sequence[Row[Any]]:
        with self._store.engine.connect() as connection:
            found: Sequence[Row[Any]] = connection.execute(query).all()
            return found


def _view(row: Row[Any]) -> SessionView:
    return SessionView(id=row.id, name=row.name, created=row.created, closed=row.closed)


class _New(NamedTuple):
    """A session that is to be opened."""

    row: dict[str, Any]
    #: Of its user so many are open at once.
    most: int


def _insert(connection: Connection, asked: Sequence[_New]) -> list[Any]:
    users = {one.row["user"] for one in asked}
    query = select(_COLUMNS.user, func.count().label("open"))
    query = query.where(_COLUMNS.user.in_(users), _COLUMNS.closed.is_(None)).group_by(_COLUMNS.user)
    open: Counter[str] = Counter()
    open.update({row.user: row.open for row in connection.execute(query)})
    answers: list[Problem | None] = []
    rows = []
    for one in asked:
        user = one.row["user"]
        if open[user] >= one.most:
            detail = f"{user} has {open[user]} sessions that are open; at most {one.most}: close some that are not used"
            answers.append(Problem(429, detail, headers={"Retry-After": "10"}))
            continue
        open[user] += 1
        rows.append(one.row)
        answers.append(None)
    if rows:
        connection.execute(insert(tables.sessions), rows)
    return answers


def _prune(connection: Connection, asked: Sequence[float]) -> list[Any]:
    used = exists().where(tables.tasks.c.session == _COLUMNS.id, tables.tasks.c.session != "")
    answers = []
    for before in asked:
        ids = connection.execute(select(_COLUMNS.id).where(_COLUMNS.closed < before, ~used).limit(_AT_ONCE)).scalars()
        removed = list(ids)
        connection.execute(delete(tables.sessions).where(_COLUMNS.id.in_(removed)))
        answers.append(len(removed))
    return answers


def _close(connection: Connection, asked: Sequence[tuple[str, float]]) -> list[Any]:
    tasks = tables.tasks.c
    for id, when in asked:
        connection.execute(
            update(tables.sessions).where(_COLUMNS.id == id, _COLUMNS.closed.is_(None)).values(closed=when)
        )
        its = (tasks.session == id, tasks.state == "active", tasks.cancel_requested.is_(None))
        connection.execute(update(tables.tasks).where(*its).values(cancel_requested=when))
    return [None] * len(asked)
