"""The dashboard as an ASGI application, for one session."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AbstractAsyncContextManager
from functools import cache
from typing import Any
from urllib.parse import parse_qs

from fastapi import FastAPI
from nicegui import ui
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from pilot.dashboard.page import build
from pilot.dashboard.sources import Source

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

#: Where the scope of a request has the `Source`, and what says, as long as its page is open, whether it may be seen:
#: a function that may block. Who calls an `application` may give another one.
_SOURCE, MAY_SEE = "pilot.dashboard.source", "pilot.dashboard.may_see"
#: Below this are the scripts and styles, which are no secret, and the connection of a page, which names the page by
#: a secret of its own.
_ASSETS = ("/_nicegui/", "/_nicegui_ws/")
#: Nothing is loaded from, sent to, or shown in another site. NiceGUI has scripts in the page and compiles templates.
_HEADERS = [
    (
        b"content-security-policy",
        b"default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; frame-ancestors 'none'; form-action 'none'; "
        b"base-uri 'none'; object-src 'none'",
    ),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
]


@cache
def _host() -> FastAPI:
    """The application of NiceGUI, which is one for a process."""
    host = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @ui.page("/")
    def page(request: Request) -> None:
        build(request.scope[_SOURCE], request.scope[MAY_SEE])

    ui.run_with(
        host,
        title="quantum-pilot",
        dark=None,
        language="en-US",
        tailwind=False,
        binding_refresh_interval=None,
        reconnect_timeout=10.0,
        gzip_middleware_factory=None,
        show_welcome_message=False,
    )
    return host


def running() -> AbstractAsyncContextManager[Any]:
    """In this block, of the event loop that serves them, the applications of `application` work.

    A process has one such block at a time.
    """
    host = _host()
    return host.router.lifespan_context(host)


def application(source: Source, *, token: str | None = None) -> Application:
    """An ASGI application that shows a session, to be mounted or served inside `running`.

    Args:
        source: the session. It is not closed.
        token: pages need it, as ``?token=…``; None: who calls has checked the request, and may put a function into its
            scope, as `MAY_SEE`.
    """
    return find_application(lambda given: source if token is None or _is_same(given, token) else None)


def _is_same(given: str, token: str) -> bool:
    return secrets.compare_digest(given.encode(), token.encode())


def is_asset(path: str) -> bool:
    """Whether a path is one of scripts, styles or the connections of pages: these need no token."""
    return path.startswith(_ASSETS)


def find_application(find: Callable[[str], Source | None]) -> Application:
    """The same for many sessions: ``find`` gets the token of a request, "" where there is none. A page whose token
    finds its session no more shows nothing from then on."""
    host = _host()

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        async def answer(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *_HEADERS]}
            await send(message)

        if scope["type"] not in ("http", "websocket"):
            raise RuntimeError("the dashboard is started by `running`, not by its own lifespan")
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if not is_asset(path):
            query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
            token = query.get("token", [""])[0]
            source = find(token)
            if source is None or scope["type"] != "http":
                text = "The address of the dashboard ends with ?token=… and is shown where it was opened.\n"
                await PlainTextResponse(text, 403)(scope, receive, answer)
                return
            scope = {MAY_SEE: lambda: find(token) is source, **scope, _SOURCE: source}
        await host(scope, receive, answer)

    return call
