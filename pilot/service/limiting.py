"""Limits of requests: the size of a body, and how often something may be asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from starlette.exceptions import HTTPException

from pilot.service.answers import response
from pilot.service.problems import Problem

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


class BodyLimit:
    """Refuses larger bodies (413) before they are read, and stops reading those that do not say their size.

    It gives every answer the headers that keep it out of caches and from being taken for a page.
    """

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app, self._most = app, most
        self._detail = f"the body is too large: at most {most} bytes"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_HEADERS]
            await send(message)

        given = dict(scope["headers"]).get(b"content-length", b"0")
        if not given.isdigit() or int(given) > self._most:
            await response(413, self._detail, Connection="close")(scope, receive, guarded)
            return
        read = 0

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self._most:
                raise HTTPException(413, self._detail, {"Connection": "close"})  # the routes let it through
            return message

        await self._app(scope, counted, guarded)


_HEADERS = [
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'"),
]


class Rate:
    """So many calls in a minute for each name."""

    def __init__(self, per_minute: int) -> None:
        self._item = RateLimitItemPerMinute(per_minute)
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def check(self, name: str, what: str) -> None:
        """Count a call.

        Raises:
            Problem: 429: there were too many in the last minute.
        """
        if not self._limiter.hit(self._item, name):
            detail = f"{what}: at most {self._item.amount} in a minute"
            raise Problem(429, detail, headers={"Retry-After": "60"})
