"""`serve`: opens store and manager, asks for the pilots, and answers requests until a signal comes."""

from __future__ import annotations

import contextlib
import gc
import getpass
import logging
import os
import re
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import msgspec
import uvicorn
from fastapi import FastAPI

from pilot.errors import SessionError
from pilot.manager.manager import PilotManager
from pilot.service.access import Access
from pilot.service.app import create_app
from pilot.service.service import Service
from pilot.service.settings import Settings, home
from pilot.service.store import Store
from pilot.service.store_lock import StoreLock
from pilot.states import is_final

log = logging.getLogger(__name__)

#: Seconds that requests in progress have once the server stops.
_REQUESTS_SECONDS = 5
#: Threads take turns this often: a thread that computes delays requests no longer.
_SWITCH_SECONDS = 0.001
#: Connections that wait to be accepted.
_BACKLOG = 1024


def store_url(settings: Settings) -> str:
    """Where the store is: as the settings say, or in the account's private folder."""
    return settings.server.store or f"sqlite:///{home() / 'service.db'}"


def serve(settings: Settings, say: Callable[[str], None]) -> None:
    """Run the service until SIGTERM or SIGINT. Then it takes no more tasks, waits for those that run, and ends; what
    has not run by then is run by the next service with the same store.

    Args:
        settings: of the service.
        say: shows a line to who started it: the address, and the first token.

    Raises:
        SessionError: the store or the session cannot be opened, or another service uses them, or the store's lock was
            lost to another one.
        OSError: the address is in use, or a certificate cannot be read.
    """
    with (
        contextlib.closing(_listening(settings)) as listener,
        contextlib.closing(Store(store_url(settings))) as store,
        StoreLock(store.engine) as lock,
        _manager(settings) as manager,
    ):
        request_pilots(settings, manager)
        if (first := first_token(Access(store))) is not None:
            say(f"token of {first[0]}, an administrator; it is shown this once: {first[1]}")
        app = create_app(settings, manager, store)
        sys.setswitchinterval(_SWITCH_SECONDS)
        gc.freeze()  # what is loaded stays: collections need not look through it while requests are answered
        address = _address(settings, listener)
        server = _Server(_configuration(settings, app), app.state.service, lambda: say(f"listening on {address}"))
        lock.watch(server.stop)
        server.run(sockets=[listener])
        server.service.close(0.0)
        if lock.is_lost:
            raise lock.in_use()


def _address(settings: Settings, listener: socket.socket) -> str:
    scheme = "https" if settings.server.tls_cert else "http"
    host, port = listener.getsockname()[:2]
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}{settings.server.root_path}"


def _configuration(settings: Settings, app: FastAPI) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        ssl_certfile=settings.server.tls_cert,
        ssl_keyfile=settings.server.tls_key,
        log_config=None,
        access_log=log.isEnabledFor(logging.DEBUG),
        server_header=False,
        proxy_headers=False,  # no address of a client is used
        timeout_graceful_shutdown=_REQUESTS_SECONDS,
        backlog=_BACKLOG,
    )


class _Server(uvicorn.Server):
    """On the first signal it goes on to answer while tasks end; on the second one it stops."""

    def __init__(self, config: uvicorn.Config, service: Service, started: Callable[[], None]) -> None:
        super().__init__(config)
        self.service, self._started = service, started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer; from now on signals are taken here."""
        await super().startup(sockets)
        self._started()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal has come."""
        if self.service.is_draining:
            super().handle_exit(sig, frame)
            return
        self.service.is_draining = True
        threading.Thread(target=self._drain, name="pilot-service-drain", daemon=True).start()

    def stop(self) -> None:
        """End it at once. Any thread may call it."""
        self.service.is_draining = self.should_exit = True

    def _drain(self) -> None:
        log.info("a signal has come: no more tasks are taken, and those that run are waited for")
        self.service.coordinator.drain(self.service.settings.server.drain_seconds)
        self.should_exit = True


def _listening(settings: Settings) -> socket.socket:
    host, port = settings.server.host, settings.server.port
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except socket.gaierror as error:
        raise SessionError(f"host: {host!r} is no address of this machine: {error.strerror}") from error
    try:
        return socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    except OSError as error:
        raise SessionError(f"{host}:{port} cannot be listened at: {error.strerror}; choose another port") from error


@contextlib.contextmanager
def _manager(settings: Settings) -> Iterator[PilotManager]:
    """The manager of the service's session: of the earlier service's where there was one."""
    folder = Path(settings.server.session_dir or home() / "session")
    policy = settings.server.policy
    if (folder / "journal.sqlite").exists():
        manager = PilotManager.attach(folder, policy=policy, wait_for_pilot=None)
    else:
        manager = PilotManager(folder, policy=policy, wait_for_pilot=None)
    try:
        yield manager
    finally:
        manager.close()


def request_pilots(settings: Settings, manager: PilotManager) -> None:
    """Ask for the pilots of the settings, but for those that an earlier service has asked for and that are there."""
    present = {pilot.name: pilot for pilot in manager.pilots if not is_final(pilot.state)}
    for number, wanted in enumerate(settings.pilots, 1):
        named = wanted if wanted.name else msgspec.structs.replace(wanted, name=f"service-{number}")
        assert named.name is not None
        earlier = present.pop(named.name, None)
        if earlier is not None and earlier.description == named:
            continue
        if earlier is not None:
            earlier.cancel()
        manager.submit_pilot(named)
    scaled = {one.name for one in settings.autoscale}
    for name, pilot in present.items():
        if not any(name == known or name.startswith(f"{known}.") for known in scaled):
            pilot.drain()  # it is not in the settings any more
    for one in settings.autoscale:
        pilot_settings = {**one.pilot, "name": one.name}
        manager.autoscale(pilot_settings, one.minimum, one.maximum, idle=one.idle, backlog=one.backlog, delay=one.delay)


def first_token(access: Access) -> tuple[str, str] | None:
    """A user's name and a token for whoever starts the service for the first time; None: there are tokens."""
    if access.tokens():
        return None
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = f"uid-{os.getuid()}"
    user = re.sub(r"[^A-Za-z0-9._@-]", "-", user).lstrip("._@-") or "admin"
    return user, access.new(user[:64], is_admin=True)
