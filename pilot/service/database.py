"""Opens the service's database, SQLite or PostgreSQL, and what the two write in different ways."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Mapping
from functools import cache
from typing import Any

from sqlalchemy import (
    Connection,
    Engine,
    Table,
    create_engine,
    delete,
    event,
    exists,
    insert,
    inspect,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from pilot.errors import DescriptionError, SessionError
from pilot.service import tables

#: Kinds of databases, and what SQLAlchemy calls their drivers here.
DRIVERS = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg"}
_EXPECTED = "sqlite:////folder/service.db or postgresql://user:password@host/name"
#: Seconds that a write waits for another process that writes to the same SQLite file.
_BUSY_SECONDS = 30


def checked_url(text: str) -> str:
    """The URL with the driver that is used.

    Raises:
        DescriptionError: it is no URL of a database of these kinds.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):  # with a password in it, perhaps: the text is not shown
        raise DescriptionError(f"store: this is no URL of a database; expected {_EXPECTED}", field="store") from None
    kind = url.get_backend_name()
    if kind not in DRIVERS or not url.database or url.database == ":memory:":  # it must be there after a restart
        raise DescriptionError(f"store: {kind}://… is not valid; expected {_EXPECTED}", field="store")
    return url.set(drivername=DRIVERS[kind]).render_as_string(hide_password=False)


def opened(text: str) -> Engine:
    """A connected database with the tables in it.

    Raises:
        DescriptionError: as `checked_url`.
        SessionError: it cannot be opened, or its layout is of another version.
    """
    url = make_url(checked_url(text))
    shown = url.render_as_string(hide_password=True)
    try:
        if url.get_backend_name() == "sqlite":
            _make_private(str(url.database))
        engine = create_engine(url, pool_pre_ping=url.get_backend_name() != "sqlite", pool_size=8)
        if engine.dialect.name == "sqlite":
            event.listen(engine, "connect", _prepare_sqlite)
        version = _version(engine)
    except (SQLAlchemyError, NoSuchModuleError, ImportError) as error:
        cause = getattr(error, "orig", None) or error
        raise SessionError(f"the store {shown} cannot be opened: {cause}", path=shown) from error
    if version > tables.VERSION:
        engine.dispose()
        raise SessionError(
            f"the store {shown} has layout {version}, this program layout {tables.VERSION}: use the version of "
            "quantum-pilot that made it, or a new store",
            path=shown,
        )
    return engine


def _make_private(path: str) -> None:
    """Make the file of a new store, which no other account can read; SQLite gives its other files the same mode."""
    with contextlib.suppress(OSError):  # SQLite says what is wrong
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def _prepare_sqlite(connection: Any, record: Any) -> None:
    """What is committed is on disk, and readers do not wait for writers (https://sqlite.org/wal.html)."""
    cursor = connection.cursor()
    for setting in ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={1000 * _BUSY_SECONDS}"):
        cursor.execute(f"PRAGMA {setting}")
    cursor.close()


def _version(engine: Engine) -> int:
    """The version of the layout, once the tables are there and are not those of an earlier one."""
    with engine.begin() as connection:
        if not inspect(connection).has_table(tables.layout.name):
            tables.metadata.create_all(connection)
            connection.execute(insert(tables.layout).values(version=tables.VERSION))
        version: int = connection.execute(select(tables.layout.c.version).with_for_update()).scalar_one()
        if version < tables.VERSION:
            for earlier in range(version, tables.VERSION):
                connection.execute(text(tables.UPGRADES[earlier]))
            tables.metadata.create_all(connection)
            connection.execute(update(tables.layout).values(version=tables.VERSION))
        return max(version, tables.VERSION)


def content_hash(text: str) -> str:
    """What a program is known by."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def used(connection: Connection, texts: Mapping[str, int]) -> tuple[Any, list[dict[str, Any]]]:
    """A statement that stores programs, each used so many times more, and its values."""
    rows = [{"hash": content_hash(text), "text": text, "uses": by} for text, by in texts.items()]
    return _adding(connection.dialect.name, tables.programs, "uses"), rows


def count(connection: Connection, changes: Mapping[tuple[str, str], int]) -> None:
    """Change the counters, by user and state."""
    rows = [{"user": user, "state": state, "count": by} for (user, state), by in sorted(changes.items()) if by]
    if rows:
        connection.execute(_adding(connection.dialect.name, tables.counters, "count"), rows)


def forget_keys(connection: Connection, before: float) -> None:
    """Remove the keys of submissions before that time, of which no task is left.

    A submission's tasks have its user and its time.
    """
    keys, tasks = tables.keys.c, tables.tasks.c
    is_left = exists().where(tasks.user == keys.user, tasks.submitted == keys.created)
    connection.execute(delete(tables.keys).where(keys.created < before, ~is_left))


@cache
def _adding(dialect: str, table: Table, column: str) -> Any:
    """A statement that inserts rows, or adds a column to that of the row that is there. Made once: to make it takes as
    long as to execute it."""
    statement = (postgresql if dialect == "postgresql" else sqlite).insert(table)
    total = table.c[column] + statement.excluded[column]
    return statement.on_conflict_do_update(index_elements=list(table.primary_key), set_={column: total})
