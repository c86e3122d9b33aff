"""`Store`: what the service keeps on disk. ``tables.py`` has its layout, ``writer.py`` how it is written."""

from __future__ import annotations

import json
import secrets
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Engine, Row, bindparam, delete, event, func, insert, select, update
from sqlalchemy.sql import Select

from pilot.service import database, tables
from pilot.service.problems import Problem
from pilot.service.writer import Writer

#: States of tasks that are over; a task that is not is "active".
ENDS = ("done", "failed", "cancelled", "invalid")
STATES = ("active", *ENDS)

_TASKS = tables.tasks.c
#: In a connection's notes: by how much its transaction changes the numbers of users' tasks that are not over.
_ACTIVE = "active tasks"


class NewTask(msgspec.Struct, frozen=True, kw_only=True):
    """A task whose envelope was checked, to be stored."""

    user: str
    #: Texts; the task has a result for each. None with a function.
    programs: tuple[str, ...] = ()
    #: Of the texts: "openqasm2", "openqasm3", "originir" or "qir"; "": each is recognised by how it begins.
    format: str = ""
    #: Fields of `TaskDescription`, but for ``circuit``, ``key`` and ``name``, as JSON has them.
    options: dict[str, Any] = {}
    #: The name of a function that the site has registered; its arguments are in ``options``.
    function: str = ""
    #: The interface that it came by.
    route: str = "v1"
    name: str = ""
    project: str = ""
    session: str = ""
    #: What the interface keeps for itself with the task, as JSON has it.
    extra: dict[str, Any] = {}
    #: The result of an equal task may be taken instead.
    may_reuse: bool = True
    #: When the request came: seconds since the epoch.
    received: float = 0.0
    #: When it was known to be right; 0: at once.
    validated: float = 0.0


class Work(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a stored task is to do."""

    #: Of its texts, in their order.
    programs: tuple[str, ...] = ()
    format: str = ""
    function: str = ""
    options: dict[str, Any] = {}


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """Tasks that are stored together, and what the user calls them; "": nothing."""

    tasks: tuple[NewTask, ...]
    key: str = ""
    #: Of the request's body.
    digest: str = ""
    #: Tasks of this user that are not over at most; None: any number.
    most: int | None = None


class End(msgspec.Struct, frozen=True, kw_only=True):
    """How a task ended."""

    number: int
    state: str
    #: JSON.
    result: bytes | None = None
    error: dict[str, Any] | None = None
    steps: list[tuple[str, float]] = []
    qpu: str = ""
    ended: float = 0.0


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which tasks a list has. None: of all."""

    user: str | None = None
    state: str | None = None
    project: str | None = None
    qpu: str | None = None
    session: str | None = None
    #: Seconds since the epoch: submitted at or after the first, before the second.
    since: float | None = None
    until: float | None = None
    #: Older than the task of this id.
    before: str | None = None


class Store:
    """Tasks, programs, results, sessions and counters. All methods may be called from any thread.

    Methods that write return futures, which are done when it is on disk; the others block for some milliseconds.
    """

    def __init__(self, url: str) -> None:
        """Open it; make its tables where there are none.

        Args:
            url: as SQLAlchemy has them: ``sqlite:////folder/service.db``, ``postgresql+psycopg://user@host/name``.

        Raises:
            SessionError: it cannot be opened, or its layout is of another version.
        """
        self.engine: Engine = database.opened(url)
        self.writer = Writer(self.engine)
        self._last = self._scalar(select(func.max(_TASKS.submitted))) or 0.0
        #: By user, the tasks that are not over. Written by the writer's thread.
        self._active: Counter[str] = Counter()
        columns = tables.counters.c
        event.listen(self.engine, "commit", lambda connection: self._active.update(connection.info.pop(_ACTIVE, {})))
        event.listen(self.engine, "rollback", _rolled_back)
        with self.engine.connect() as connection:
            query = select(columns.user, columns.count.label("count_")).where(columns.state == "active")
            self._active.update({row.user: row.count_ for row in connection.execute(query)})

    def close(self) -> None:
        """Write what was asked for, and close. Blocks."""
        self.writer.close()
        self.engine.dispose()

    # ---- writing ----------------------------------------------------------------------------------------------

    def add(self, submission: Submission) -> Future[list[str]]:
        """Store tasks; their ids, in order. A submission with a known key gets the ids that it got before.

        The future raises `Problem`: 422: the key was used for another body, or a session is closed; 429: the user has
        too many tasks.
        """
        return self.writer.put(self._add, submission)

    def end(self, end: End) -> Future[bool]:
        """Store how a task ended; False when it had ended before."""
        return self.writer.put(self._end, end)

    def request_cancel(self, number: int) -> Future[None]:
        """Note that a task is to be ended, so that a service which is killed before does it after its start."""
        return self.writer.put(_request_cancel, number)

    def _add(self, connection: Connection, submissions: Sequence[Submission]) -> list[Any]:
        known, closed = self._known(connection, submissions), _closed(connection, submissions)
        answers: list[Any] = []
        rows: list[dict[str, Any]] = []
        texts: Counter[str] = Counter()
        keys: list[dict[str, Any]] = []
        counts: Counter[tuple[str, str]] = Counter()
        now = self._last = max(time.time(), self._last)
        for one in submissions:
            user = one.tasks[0].user
            if one.key and (user, one.key) in known:
                answers.append(_repeated(one, *known[user, one.key]))
                continue
            if session := next((task.session for task in one.tasks if task.session in closed), ""):
                answers.append(Problem(422, f"session: {session} is closed", field="session", given=session))
                continue
            waiting = self.active_of(user) + counts[user, "active"]
            if one.most is not None and waiting + len(one.tasks) > one.most:
                answers.append(_too_many(user, waiting, one.most))
                continue
            ids = [secrets.token_hex(16).upper() for _ in one.tasks]
            rows += [_row(task, id, now, texts) for task, id in zip(one.tasks, ids, strict=True)]
            counts[user, "active"] += len(ids)
            if one.key:
                known[user, one.key] = one.digest, ids
                keys.append({"user": user, "key": one.key, "digest": one.digest, "ids": " ".join(ids), "created": now})
            answers.append(ids)
        if texts:
            connection.execute(*database.used(connection, texts))
        if rows:
            connection.execute(insert(tables.tasks), rows)
        if keys:
            connection.execute(insert(tables.keys), keys)
        self._count(connection, counts)
        return answers

    def _known(
        self, connection: Connection, submissions: Sequence[Submission]
    ) -> dict[tuple[str, str], tuple[str, list[str]]]:
        """By user and key: digest and ids of the submissions that are there already."""
        wanted = [one.key for one in submissions if one.key]
        if not wanted:
            return {}
        keys = tables.keys.c
        found = connection.execute(select(keys.user, keys.key, keys.digest, keys.ids).where(keys.key.in_(wanted)))
        return {(user, key): (digest, ids.split()) for user, key, digest, ids in found}

    def _end(self, connection: Connection, ends: Sequence[End]) -> list[Any]:
        numbers = [one.number for one in ends]
        found = connection.execute(
            select(_TASKS.number, _TASKS.user).where(_TASKS.number.in_(numbers), _TASKS.state == "active")
        )
        users = {row.number: row.user for row in found}
        now = time.time()
        answers: list[bool] = []
        changed: dict[int, End] = {}
        for one in ends:
            answers.append(one.number in users and one.number not in changed)
            changed.setdefault(one.number, one)
        its = [one for number, one in changed.items() if number in users]
        for with_qpu in (True, False):
            values = [_ended(one, now) for one in its if bool(one.qpu) is with_qpu]
            if values:
                connection.execute(_END_WITH_QPU if with_qpu else _END, values)
        if values := [{"number": one.number, "value": one.result} for one in its if one.result is not None]:
            connection.execute(insert(tables.results), values)
        counts: Counter[tuple[str, str]] = Counter()
        for one in its:
            counts[users[one.number], "active"] -= 1
            counts[users[one.number], one.state] += 1
        self._count(connection, counts)
        return answers

    def prune(self, before: float, limit: int = 1000) -> Future[int]:
        """Remove tasks that ended before that time, with programs that no other task has; how many they were."""
        return self.writer.put(self._prune, (before, limit))

    def _prune(self, connection: Connection, asked: Sequence[tuple[float, int]]) -> list[Any]:
        answers = []
        old = select(_TASKS.number, _TASKS.user, _TASKS.state, _TASKS.work).order_by(_TASKS.submitted)
        for before, limit in asked:
            is_old = (_TASKS.submitted < before, _TASKS.state != "active", _TASKS.ended < before)
            rows = connection.execute(old.where(*is_old).limit(limit)).all()
            numbers = [row.number for row in rows]
            connection.execute(delete(tables.results).where(tables.results.c.number.in_(numbers)))
            connection.execute(delete(tables.tasks).where(_TASKS.number.in_(numbers)))
            database.forget_keys(connection, before)
            hashes = Counter(hash for row in rows for hash in msgspec.json.decode(row.work, type=Work).programs)
            if hashes:
                connection.execute(_UNUSE, [{"which": hash, "by": by} for hash, by in hashes.items()])
                connection.execute(delete(tables.programs).where(tables.programs.c.uses <= 0))
            counts = Counter((row.user, row.state) for row in rows)
            database.count(connection, {key: -count for key, count in counts.items()})
            answers.append(len(rows))
        return answers

    def active_of(self, user: str) -> int:
        """How many tasks of a user are not over. Does not block."""
        return self._active[user]

    def active_users(self) -> dict[str, int]:
        """The users with tasks that are not over, and how many these are. Does not block."""
        return {user: count for user, count in dict(self._active).items() if count > 0}

    def _count(self, connection: Connection, changes: Counter[tuple[str, str]]) -> None:
        database.count(connection, changes)
        waiting: Counter[str] = connection.info.setdefault(_ACTIVE, Counter())
        for (user, state), by in changes.items():
            if state == "active":
                waiting[user] += by

    # ---- reading ----------------------------------------------------------------------------------------------

    def find(self, id: str) -> Row[Any] | None:
        """The row of a task, by its id."""
        with self.engine.connect() as connection:
            return connection.execute(select(tables.tasks).where(_TASKS.id == id)).first()

    def result(self, number: int) -> bytes | None:
        """JSON; None: it has none."""
        value: bytes | None = self._scalar(select(tables.results.c.value).where(tables.results.c.number == number))
        return value

    def page(self, wanted: Filter, limit: int) -> Sequence[Row[Any]]:
        """Rows of tasks, the newest first."""
        query = select(tables.tasks).order_by(_TASKS.number.desc()).limit(limit)
        with self.engine.connect() as connection:
            return connection.execute(_filtered(connection, query, wanted)).all()

    def active(self, user: str, after: int, limit: int) -> Sequence[Row[Any]]:
        """Tasks of a user that are not over, the oldest first, from behind a number on."""
        query = select(tables.tasks).where(_TASKS.user == user, _TASKS.state == "active", _TASKS.number > after)
        with self.engine.connect() as connection:
            return connection.execute(query.order_by(_TASKS.number).limit(limit)).all()

    def cancel_requested(self) -> Sequence[str]:
        """The ids of tasks that are to be ended and are not over, the oldest first."""
        query = select(_TASKS.id).where(_TASKS.state == "active", _TASKS.cancel_requested.is_not(None))
        with self.engine.connect() as connection:
            return connection.execute(query.order_by(_TASKS.number)).scalars().all()

    def texts(self, hashes: Iterable[str]) -> dict[str, str]:
        """The programs with these hashes."""
        columns = tables.programs.c
        with self.engine.connect() as connection:
            found = connection.execute(select(columns.hash, columns.text).where(columns.hash.in_(set(hashes))))
            return {row.hash: row.text for row in found}

    def equal(self, content: str) -> int | None:
        """The number of a task that is done and has the same content."""
        number: int | None = self._scalar(
            select(_TASKS.number).where(_TASKS.content == content, _TASKS.state == "done").limit(1)
        )
        return number

    def counts(self, user: str | None = None) -> dict[str, int]:
        """How many tasks there are in each state; of a user, or of all."""
        columns = tables.counters.c
        query = select(columns.state, func.sum(columns.count)).group_by(columns.state)
        if user is not None:
            query = query.where(columns.user == user)
        with self.engine.connect() as connection:
            counts = {state: int(count) for state, count in connection.execute(query)}
        return {state: counts.get(state, 0) for state in STATES}

    def _scalar(self, query: Select[Any]) -> Any:
        with self.engine.connect() as connection:
            return connection.execute(query).scalar()


def _rolled_back(connection: Connection) -> None:
    if not connection.invalidated:  # one that broke has lost its notes, and raises when it is asked for them
        connection.info.pop(_ACTIVE, None)


def _request_cancel(connection: Connection, numbers: Sequence[int]) -> list[Any]:
    not_yet = (_TASKS.number.in_(numbers), _TASKS.state == "active", _TASKS.cancel_requested.is_(None))
    connection.execute(update(tables.tasks).where(*not_yet).values(cancel_requested=time.time()))
    return [None] * len(numbers)


def _repeated(one: Submission, digest: str, ids: list[str]) -> list[str] | Problem:
    if one.digest == digest:
        return ids
    return Problem(422, "this key was used before, for another body", field="Idempotency-Key", given=one.key)


def _closed(connection: Connection, submissions: Sequence[Submission]) -> set[str]:
    """Of the tasks' sessions those that are closed: also those that were open when the request came."""
    wanted = {task.session for one in submissions for task in one.tasks if task.session}
    columns = tables.sessions.c
    query = select(columns.id).where(columns.id.in_(wanted), columns.closed.is_not(None))
    return set(connection.execute(query).scalars()) if wanted else set()


def _too_many(user: str, waiting: int, most: int) -> Problem:
    detail = f"{user} has {waiting} tasks that are not over; at most {most}"
    return Problem(429, detail, headers={"Retry-After": "10"})


def _row(task: NewTask, id: str, now: float, texts: Counter[str]) -> dict[str, Any]:
    hashes = tuple(database.content_hash(text) for text in task.programs)
    texts.update(task.programs)
    work = Work(programs=hashes, format=task.format, function=task.function, options=task.options)
    encoded = msgspec.json.encode(work).decode()
    qpu = task.options.get("qpu") or ""
    received = task.received or now
    return {
        "id": id,
        "user": task.user,
        "project": task.project,
        "session": task.session,
        "route": task.route,
        "name": task.name,
        "state": "active",
        "qpu": _cut(qpu if isinstance(qpu, str) else "|".join(qpu)),
        "submitted": now,
        "work": encoded,
        "extra": json.dumps(task.extra) if task.extra else "",
        "content": database.content_hash(encoded) if task.may_reuse and _is_deterministic(task) else "",
        "steps": json.dumps([("received", received), ("validated", task.validated or received)]),
    }


def _is_deterministic(task: NewTask) -> bool:
    """True when an equal task has an equal result: simulated without noise, and exact or with a seed."""
    options = task.options
    on_simulator = options.get("qpu", "aer") == "aer" and not options.get("mitigation")
    return bool(task.programs) and on_simulator and (options.get("shots") is None or options.get("seed") is not None)


def _ended(one: End, now: float) -> dict[str, Any]:
    return {
        "which": one.number,
        "state": one.state,
        "ended": one.ended or now,
        "error": None if one.error is None else json.dumps(one.error),
        "steps": json.dumps([*one.steps, ("stored", now)]),
        **({"qpu": _cut(one.qpu)} if one.qpu else {}),
    }


def _cut(names: str) -> str:
    """Names of QPUs, as many as the column takes."""
    return names if len(names) <= tables.QPU_CHARACTERS else f"{names[: tables.QPU_CHARACTERS - 1]}…"


def _end_statement(*columns: str) -> Any:
    values: dict[str, Any] = {name: bindparam(name) for name in columns}
    return update(tables.tasks).where(_TASKS.number == bindparam("which")).values(values)


_PROGRAMS = tables.programs.c
_UNUSE = (
    update(tables.programs).where(_PROGRAMS.hash == bindparam("which")).values(uses=_PROGRAMS.uses - bindparam("by"))
)
_END = _end_statement("state", "ended", "error", "steps")
_END_WITH_QPU = _end_statement("state", "ended", "error", "steps", "qpu")


def _filtered(connection: Connection, query: Select[Any], wanted: Filter) -> Select[Any]:
    """The query with the filter. Times become numbers, by which the list is in order: a row has a larger number than
    one that was submitted before it."""
    conditions: list[ColumnElement[bool]] = [] if wanted.user is None else [_TASKS.user == wanted.user]
    # from the fewest rows to the most
    fields = (
        (_TASKS.session, wanted.session),
        (_TASKS.project, wanted.project),
        (_TASKS.state, wanted.state),
        (_TASKS.qpu, wanted.qpu),
    )
    given = [(column, value) for column, value in fields if value is not None]
    for place, (column, value) in enumerate(given):
        # SQLite without statistics takes the index of any of them; an expression has no index
        conditions.append(column == value if place == 0 else column.concat("") == value)
    if wanted.before is not None:
        last = connection.execute(select(_TASKS.number).where(_TASKS.id == wanted.before)).scalar()
        if last is None:
            raise Problem(422, "there is no task with this id", field="before", given=wanted.before)
        conditions.append(_TASKS.number < last)
    for seconds, is_first in ((wanted.since, True), (wanted.until, False)):
        if seconds is not None:
            first = connection.execute(
                select(_TASKS.number)
                .where(_TASKS.submitted >= seconds)
                .order_by(_TASKS.submitted, _TASKS.number)
                .limit(1)
            ).scalar()
            if is_first:
                conditions.append(_TASKS.number >= first if first is not None else _TASKS.number < 0)
            elif first is not None:
                conditions.append(_TASKS.number < first)
    return query.where(*conditions)
