"""A connection from an agent to a manager that it cannot reach directly: a port forwarded by OpenSSH's client (ssh(1),
``-L``)."""

from __future__ import annotations

import logging
import os
import shlex
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from pilot.errors import SessionError
from pilot.wire.addresses import endpoint

log = logging.getLogger(__name__)

#: Seconds that the command has to log in.
OPEN_SECONDS = 30.0
#: ssh asks nothing, and ends when the port cannot be forwarded or the peer is silent for 10 s (ssh_config(5)). The
#: pilot is lost after 30 s. These options come first, since ssh takes the first value of an option.
OPTIONS = (
    *("-o", "BatchMode=yes"),
    *("-o", "ExitOnForwardFailure=yes"),
    *("-o", "ServerAliveInterval=5"),
    *("-o", "ServerAliveCountMax=2"),
    *("-o", "ConnectTimeout=10"),
)


class Tunnel:
    """A local port that leads to one on the host where the manager is. For one thread at a time."""

    def __init__(self, words: Sequence[str]) -> None:
        """Make it; `open` opens it.

        Args:
            words: a command such as ("ssh", "-p", "2222", "login1"): ssh, its options, and the manager's host.
        """
        self._words = tuple(words)
        self._process: subprocess.Popen[bytes] | None = None
        self._output: Path | None = None
        self._target = self._port = 0

    def is_up(self) -> bool:
        """True while its command runs."""
        return self._process is not None and self._process.poll() is None

    def open(self, target: int, timeout: float = OPEN_SECONDS) -> str:
        """The address that leads to this port of the manager's loopback. Starts the command unless it runs already, and
        blocks until it has logged in, ``timeout`` seconds at most. It is the same address each time where possible.

        Raises:
            SessionError: the connection cannot be made; the message has the command and its output.
        """
        if not self.is_up() or target != self._target:
            self.close()
            self._target = target
            if not self._port or not _is_free(self._port):
                self._port = _free_port()
            self._start(timeout)
        return endpoint("127.0.0.1", self._port)

    def command(self) -> list[str]:
        """What it runs."""
        forward = f"127.0.0.1:{self._port}:127.0.0.1:{self._target}"
        return [self._words[0], "-N", "-L", forward, *OPTIONS, *self._words[1:]]

    def _start(self, timeout: float) -> None:
        handle, name = tempfile.mkstemp(prefix="tunnel-")
        self._output = Path(name)
        try:
            self._process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=handle, stderr=handle, start_new_session=True
            )
        except OSError as error:
            raise SessionError(f"the tunnel {shlex.join(self.command())} cannot be started: {error}") from error
        finally:
            os.close(handle)
        deadline = time.monotonic() + timeout
        while not _answers(self._port):
            if not self.is_up() or time.monotonic() > deadline:
                raise self._failed(timeout)
            time.sleep(0.05)
        log.info("the tunnel is open: %s", shlex.join(self.command()))

    def _failed(self, timeout: float) -> SessionError:
        assert self._process is not None and self._output is not None
        code = self._process.poll()
        how = f"is not open after {timeout:.0f} s" if code is None else f"ended with code {code}"
        output = self._output.read_text("utf-8", "replace").strip()
        self.close()
        return SessionError(f"the tunnel {shlex.join(self.command())} {how}: {output[-1000:] or 'no output'}")

    def close(self) -> None:
        """End the command. Blocks for a moment."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(2)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        if self._output is not None:
            self._output.unlink(missing_ok=True)
            self._output = None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _is_free(port: int) -> bool:
    with socket.socket() as probe, suppress(OSError):
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
        return True
    return False


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0
