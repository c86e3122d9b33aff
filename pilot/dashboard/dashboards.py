"""`open`: the dashboard of a session, from Python. Read next: ``page.py``, and ``sources.py`` for its data."""

from __future__ import annotations

import os
import threading
import webbrowser
from importlib.util import find_spec
from types import TracebackType
from typing import TYPE_CHECKING

from pilot.errors import PluginError, invalid
from pilot.manager.manager import PilotManager
from pilot.manager.reading import SessionReader
from pilot.wire import names

if TYPE_CHECKING:
    from pilot.dashboard.server import Server
    from pilot.dashboard.sources import Source

_lock = threading.Lock()
#: Of this process, by its id: a forked child has none.
_servers: dict[int, Server] = {}


class Dashboard:
    """A dashboard that is open. It is closed with ``close()``, or at the end of a ``with`` block."""

    def __init__(self, server: Server, source: Source) -> None:
        self._server, self._source = server, source
        #: Its address, with the token that it needs: who has it sees the session.
        self.url = server.add(source)

    def close(self) -> None:
        """Show the session no more. Nothing happens the second time."""
        self._server.remove(self._source)
        self._source.close()

    def __enter__(self) -> Dashboard:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Dashboard of {self._source.name}: {self.url}>"


def open(
    session: PilotManager | SessionReader | Source | str | os.PathLike[str], *, port: int = 0, browser: bool = False
) -> Dashboard:
    """Serve a page that shows a session, on this machine only, and return its address. The page changes nothing.

    Args:
        session: a manager, whose session is shown as it changes; or what `PilotManager.read` has read, or the folder or
            name of a session, which is followed while its manager writes it; or a `sources.Source` of one's own.
        port: of the server; 0: a free one. A process has one server: later calls use the port of the first.
        browser: also show the page in the browser of this machine.

    Raises:
        PluginError: the extra ``dashboard`` is not installed.
        DescriptionError: an argument is not valid, or the port is taken.
        SessionError: the manager is closed, or there is no such session.
    """
    if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port < 65536:
        raise invalid("port", port, "a number from 0 to 65535")
    _check_installed()
    source = _source(session)
    try:
        with _lock:
            if os.getpid() not in _servers:
                _servers[os.getpid()] = _server(port)
            dashboard = Dashboard(_servers[os.getpid()], source)
    except BaseException:
        source.close()
        raise
    if browser:
        webbrowser.open(dashboard.url)
    return dashboard


def _check_installed() -> None:
    for package in ("nicegui", "fastapi", "uvicorn", "numpy"):
        if find_spec(package) is None:
            message = f"the dashboard needs {package}, which is not installed: pip install 'quantum-pilot[dashboard]'"
            raise PluginError(message, group="pilot", name="dashboard")


def _server(port: int) -> Server:
    from pilot.dashboard.server import Server

    try:
        return Server(port)
    except OSError as error:
        raise invalid("port", port, f"a port that is free and open to users ({error.strerror}); 0 finds one") from error


def _source(session: PilotManager | SessionReader | Source | str | os.PathLike[str]) -> Source:
    from pilot.dashboard.live import LiveSource
    from pilot.dashboard.recorded import RecordedSource
    from pilot.dashboard.sources import Source

    if isinstance(session, Source):
        return session
    if isinstance(session, PilotManager):
        return LiveSource(session)
    if isinstance(session, SessionReader):
        return RecordedSource(session.session_dir)
    if isinstance(session, str | os.PathLike):
        return RecordedSource(names.find(session))
    expected = "a PilotManager, what PilotManager.read returns, or a session's folder or name"
    raise invalid("session", session, expected)
