"""`StoreLock`: a store has one service at a time, on whatever host."""

from __future__ import annotations

import fcntl
import logging
import os
import platform
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from sqlalchemy import Connection, Engine, delete, insert, select, text
from sqlalchemy.exc import SQLAlchemyError

from pilot.errors import SessionError
from pilot.service import tables

log = logging.getLogger(__name__)

#: Half of the key of the advisory lock, so that it is not that of another program; the other half is a table's oid.
_SPACE = 0x51504C54
#: Seconds to wait for the lock of a service that was just killed: PostgreSQL has to notice it.
WAIT_SECONDS = 2
#: Seconds between two looks whether the connection that holds the lock is there.
LOOK_SECONDS = 5.0
#: Settings of a connection: a holder whose host is gone loses the lock after 30 s.
_KEEPALIVE = {"tcp_keepalives_idle": 10, "tcp_keepalives_interval": 5, "tcp_keepalives_count": 4}
#: PostgreSQL's code for an error: the lock did not come in time.
_LOCK_NOT_AVAILABLE = "55P03"
_LOCK = text(
    f"SELECT pg_advisory_lock({_SPACE}, ('{tables.layout.name}'::regclass::oid::bigint - 2147483648)::integer)"
)


class StoreLock:
    """The lock of a store, held inside the block. It ends with the process that has it, however that ends.

    SQLite: flock(2) on a file beside the database's. PostgreSQL: an advisory lock, which a connection holds.
    """

    def __init__(self, engine: Engine) -> None:
        """Make it for a store that is open. Nothing is taken yet."""
        self._engine = engine
        self._own = {"host": platform.node(), "pid": os.getpid(), "since": time.time()}
        self._descriptor: int | None = None
        self._connection: Connection | None = None
        self._ended = threading.Event()
        self._watcher: threading.Thread | None = None
        #: Another service has taken it, after the connection that held it broke.
        self.is_lost = False

    def __enter__(self) -> StoreLock:
        """Take it. Blocks for some seconds where another service has it.

        Raises:
            SessionError: another service has it: on which host, which process, since when. Or it cannot be taken.
        """
        try:
            if self._engine.dialect.name == "sqlite":
                self._descriptor = self._locked_file()
            else:
                self._connection = self._locked_connection()
            if self._descriptor is None and self._connection is None:
                raise self.in_use()
            with self._engine.begin() as connection:
                connection.execute(delete(tables.holder))
                connection.execute(insert(tables.holder), self._own)
            return self
        except BaseException as error:
            self._release()
            if not isinstance(error, OSError | SQLAlchemyError):
                raise
            raise SessionError(f"the lock of the store {self._shown()} cannot be taken: {error}") from error

    def watch(self, lost: Callable[[], None]) -> None:
        """Take it again whenever the connection that holds it breaks.

        Args:
            lost: called in a thread of the lock when another service was faster.
        """
        if self._connection is not None:
            self._watcher = threading.Thread(target=self._watch, args=[lost], name="pilot-service-lock", daemon=True)
            self._watcher.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._watcher is not None:
            self._watcher.join()
        self._release()

    def _release(self) -> None:
        if self._connection is not None:
            self._connection.close()
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._connection = self._descriptor = None

    def in_use(self) -> SessionError:
        """Says which service has it."""
        holder = self._holder()
        who = "which is starting"
        if holder is not None:
            since = datetime.fromtimestamp(holder["since"], UTC)
            who = f"process {holder['pid']} on host {holder['host']}, since {since:%Y-%m-%d %H:%M:%S} UTC"
        return SessionError(
            f"the store {self._shown()} is used by another service: {who}. A store has one service: end that one, or "
            "give this one another store (--store, or store in the table [server])",
            path=self._shown(),
        )

    def _locked_file(self) -> int | None:
        """A descriptor of the file; None: another service has it."""
        with self._engine.connect() as connection:
            database = connection.scalar(text("SELECT file FROM pragma_database_list WHERE name = 'main'"))
        descriptor = os.open(f"{database}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if isinstance(error, BlockingIOError):
                return None
            raise
        return descriptor

    def _locked_connection(self) -> Connection | None:
        """A connection of its own, with the lock; None: another service has it."""
        connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        try:
            connection.detach()
            for name, value in {**_KEEPALIVE, "lock_timeout": 1000 * WAIT_SECONDS}.items():
                connection.execute(text(f"SET {name} = {value}"))
            connection.execute(_LOCK)
        except SQLAlchemyError as error:
            connection.close()
            if getattr(getattr(error, "orig", None), "sqlstate", None) == _LOCK_NOT_AVAILABLE:
                return None
            raise
        return connection

    def _watch(self, lost: Callable[[], None]) -> None:
        assert self._connection is not None
        while not self._ended.wait(LOOK_SECONDS):
            try:
                if not self._connection.closed:
                    self._connection.scalar(select(1))
                elif (again := self._locked_connection()) is not None:
                    self._connection = again
                    log.warning("the store's lock was taken again")
                elif self._holder() != self._own:
                    self.is_lost = True
                    lost()
                    return
            except SQLAlchemyError as error:
                log.warning("the connection that holds the store's lock broke: %s", getattr(error, "orig", error))
                self._connection.close()

    def _holder(self) -> dict[str, Any] | None:
        with self._engine.connect() as connection:
            row = connection.execute(select(tables.holder)).mappings().first()
            return None if row is None else dict(row)

    def _shown(self) -> str:
        return self._engine.url.render_as_string(hide_password=True)
