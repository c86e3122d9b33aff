"""The server of a process: one thread and one port for all dashboards that are open."""

from __future__ import annotations

import asyncio
import secrets
import socket
import threading

import uvicorn

from pilot.dashboard.sources import Source
from pilot.dashboard.web import find_application, running
from pilot.errors import PilotError

#: Seconds until it answers.
START_SECONDS = 60.0


class Server:
    """Serves sessions on the loopback interface, each under a token of its own. Any thread may call it."""

    def __init__(self, port: int) -> None:
        """Start it. Blocks until it answers.

        Raises:
            OSError: the port is taken.
            PilotError: it does not start.
        """
        self._sources: dict[str, Source] = {}
        self._socket = socket.create_server(("127.0.0.1", port))
        self.port: int = self._socket.getsockname()[1]
        self._started = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="pilot-dashboard", daemon=True)
        self._thread.start()
        if not self._started.wait(START_SECONDS) or self._error is not None:
            self._socket.close()
            raise PilotError(f"the dashboard's server did not start: {self._error or 'no answer'}") from self._error

    def add(self, source: Source) -> str:
        """Show a session. Returns the address of its page."""
        token = secrets.token_urlsafe(24)
        self._sources[token] = source
        return f"http://127.0.0.1:{self.port}/?token={token}"

    def remove(self, source: Source) -> None:
        """Show it no more."""
        self._sources = {token: one for token, one in self._sources.items() if one is not source}

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self._error = error
            self._started.set()

    async def _serve(self) -> None:
        config = uvicorn.Config(
            find_application(self._find), lifespan="off", log_level="warning", access_log=False, ws="auto"
        )
        async with running():
            asyncio.get_running_loop().call_soon(self._started.set)
            await uvicorn.Server(config).serve(sockets=[self._socket])

    def _find(self, token: str) -> Source | None:
        found = None
        for known, source in self._sources.items():  # all, so that the time says nothing
            if secrets.compare_digest(known.encode(), token.encode()):
                found = source
        return found
