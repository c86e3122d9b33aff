"""Who asks: tokens, of which the store keeps digests only, and the user that a token stands for."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import Connection, insert, or_, select, update

from pilot.errors import DescriptionError, invalid
from pilot.service import tables
from pilot.service.problems import Problem

if TYPE_CHECKING:
    from pilot.service.store import Store

#: Seconds for which a token that was good counts without a look into the store: so long a revoked one may be used.
TRUSTED_SECONDS = 2.0
#: Users have such names.
USER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_FORM = re.compile(r"pilot_([0-9a-f]{16})_([A-Za-z0-9_-]{43})")
_COLUMNS = tables.tokens.c


class User(msgspec.Struct, frozen=True):
    """Whom a token stands for."""

    name: str
    #: May see and cancel everybody's tasks.
    is_admin: bool = False
    #: The id of the token.
    token: str = ""


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a token. Times are seconds since the epoch."""

    id: str
    user: str
    is_admin: bool
    created: float
    expires: float | None
    revoked: float | None


class Access:
    """The tokens of a store. Any thread may call it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        #: By token: whom it stands for, and until when that counts.
        self._trusted: dict[str, tuple[User, float]] = {}

    def new(self, user: str, *, is_admin: bool = False, seconds: float | None = None) -> str:
        """A new token: a text that nobody can guess, which is shown this once. Blocks until it is on disk.

        Args:
            user: whom it stands for.
            is_admin: this user may see and cancel everybody's tasks.
            seconds: how long it may be used; None: until it is revoked.

        Raises:
            DescriptionError: the name is not valid.
        """
        if USER_NAME.fullmatch(user) is None:
            raise invalid("user", user, "1 to 64 letters, digits and . _ @ -, a letter or digit first")
        if seconds is not None and not seconds > 0:
            raise invalid("seconds", seconds, "a number above 0")
        id, secret, now = secrets.token_hex(8), secrets.token_urlsafe(32), time.time()
        row = {
            "id": id,
            "digest": _digest(secret),
            "user": user,
            "is_admin": is_admin,
            "created": now,
            "expires": None if seconds is None else now + seconds,
        }
        self._write(_insert, row).result()
        return f"pilot_{id}_{secret}"

    def revoke(self, id: str) -> None:
        """Make a token useless. Blocks until that is on disk.

        Raises:
            DescriptionError: there is none with this id.
        """
        if not self._write(_revoke, id).result():
            raise DescriptionError(f"id: there is no token {id!r} that is in use", field="id", given=id)
        with self._lock:
            self._trusted.clear()

    def tokens(self) -> list[Token]:
        """All tokens, the oldest first."""
        query = select(
            _COLUMNS.id, _COLUMNS.user, _COLUMNS.is_admin, _COLUMNS.created, _COLUMNS.expires, _COLUMNS.revoked
        )
        with self._store.engine.connect() as connection:
            return [Token(**row) for row in connection.execute(query.order_by(_COLUMNS.created)).mappings()]

    def trusted(self, token: str) -> User | None:
        """Whom a token stands for that was good a moment ago. Does not block."""
        user, until = self._trusted.get(token, (None, 0.0))
        return user if time.monotonic() < until else None

    def user_of(self, token: str) -> User | None:
        """Whom a token stands for; None: nobody. Blocks for a moment."""
        match = _FORM.fullmatch(token)
        if match is None:
            return None
        id, secret = match.groups()
        with self._store.engine.connect() as connection:
            row = connection.execute(select(tables.tokens).where(_COLUMNS.id == id)).first()
        # compared in any case, in the same time however much of it is right
        is_right = hmac.compare_digest(row.digest if row is not None else "0" * 64, _digest(secret))
        if row is None or not is_right or row.revoked is not None:
            return None
        if row.expires is not None and row.expires <= time.time():
            return None
        user = User(row.user, row.is_admin, id)
        with self._lock:
            now = time.monotonic()
            if len(self._trusted) > 1000:
                self._trusted = {text: known for text, known in self._trusted.items() if known[1] > now}
            self._trusted[token] = user, now + TRUSTED_SECONDS
        return user

    def is_good(self, user: User) -> bool:
        """True while the token that a user came with may be used: for connections that stay open."""
        is_in_use = or_(_COLUMNS.expires.is_(None), _COLUMNS.expires > time.time())
        query = select(_COLUMNS.id).where(_COLUMNS.id == user.token, _COLUMNS.revoked.is_(None), is_in_use)
        with self._store.engine.connect() as connection:
            return connection.execute(query).first() is not None

    def _write(self, job: Any, argument: Any) -> Future[Any]:
        return self._store.writer.put(job, argument)


def _digest(secret: str) -> str:
    """A secret of 256 random bits needs no slow digest: nobody can try them all."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _insert(connection: Connection, rows: Sequence[dict[str, Any]]) -> list[Any]:
    connection.execute(insert(tables.tokens), list(rows))
    return [None] * len(rows)


def _revoke(connection: Connection, ids: Sequence[str]) -> list[Any]:
    now, answers = time.time(), []
    for id in ids:
        unused = update(tables.tokens).where(_COLUMNS.id == id, _COLUMNS.revoked.is_(None))
        answers.append(connection.execute(unused.values(revoked=now)).rowcount > 0)
    return answers


_bearer = HTTPBearer(auto_error=False, description="A token of `pilot token new`.")


async def current_user(
    request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> User:
    """Whom the token in the header ``Authorization: Bearer …`` stands for.

    Raises:
        Problem: 401: there is none, or it is not good.
    """
    if given is None:
        raise _refused("a token is needed: Authorization: Bearer TOKEN")
    access: Access = request.app.state.service.access
    user = access.trusted(given.credentials) or await run_in_threadpool(access.user_of, given.credentials)
    if user is None:
        raise _refused("this token is not known, was revoked or has expired")
    return user


def _refused(detail: str) -> Problem:
    return Problem(401, detail, headers={"WWW-Authenticate": "Bearer"})


CurrentUser = Annotated[User, Depends(current_user)]
