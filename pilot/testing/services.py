"""A service in a process of its own, to be started, killed and started again."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType

from pilot.testing.polling import eventually

#: Seconds for the process to begin, and to end.
START_SECONDS, END_SECONDS = 120.0, 60.0


class ServiceProcess:
    """`pilot serve` on a free port of the loopback, with its store and session in a folder.

    Leaving the block ends it. After `kill` or `stop`, `start` starts it again, at the same address.
    """

    def __init__(
        self,
        folder: Path,
        configuration: str = "",
        *,
        store: str | None = None,
        policy: str = "balanced",
        tls: tuple[Path, Path] | None = None,
        dashboard: bool = True,
    ) -> None:
        """Make it; nothing is started yet.

        Args:
            folder: for the store, the session, the settings and the logs.
            configuration: TOML text, without the table [server].
            store: its URL; None: SQLite in the folder.
            policy: which task is next.
            tls: files with a certificate and its key.
            dashboard: it has one, where that is installed; without it it starts faster.
        """
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        #: The URL of its store.
        self.store = store or f"sqlite:///{folder}/service.db"
        server = f'[server]\nstore = "{self.store}"\n'
        server += f'session_dir = "{folder}/session"\ndrain = 1.0\npolicy = "{policy}"\n'
        if not dashboard:
            server += "dashboard = false\n"
        if tls is not None:
            server += f'tls_cert = "{tls[0]}"\ntls_key = "{tls[1]}"\n'
        self._scheme = "https" if tls else "http"
        self._settings = folder / "service.toml"
        self._settings.write_text(f"{server}\n{configuration}")
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None
        #: Of the account that has started it, an administrator.
        self.token = ""

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"{self._scheme}://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        """Of its process."""
        assert self._process is not None
        return self._process.pid

    @property
    def settings(self) -> Path:
        """The file with its settings."""
        return self._settings

    @property
    def log(self) -> str:
        """What it has logged since it was started first."""
        return (self.folder / "service.log").read_text()

    def start(self) -> ServiceProcess:
        """Start it. Blocks until it listens.

        Raises:
            AssertionError: it does not start.
        """
        output = self.folder / "service.out"
        with output.open("wb") as out, (self.folder / "service.log").open("ab") as log:
            command = [sys.executable, "-m", "pilot.cli", "serve", "--config", str(self._settings)]
            self._process = subprocess.Popen([*command, "--port", str(self._port)], stdout=out, stderr=log)
        process = self._process

        def listening() -> re.Match[str] | None:
            assert process.poll() is None, f"the service has ended with {process.returncode}: {self.log[-2000:]}"
            return re.search(r"listening on \S+:(\d+)", output.read_text())

        self._port = int(eventually(listening, START_SECONDS)[1])  # type: ignore[index]
        if found := re.search(r"pilot_[0-9a-f]{16}_\S+", output.read_text()):
            self.token = found[0]
        return self

    def new_token(self, user: str, *, is_admin: bool = False) -> str:
        """A token of a user, as `pilot token new` makes it."""
        from pilot.service.access import Access
        from pilot.service.store import Store

        with contextlib.closing(Store(self.store)) as store:
            return Access(store).new(user, is_admin=is_admin)

    def kill(self) -> None:
        """End it with SIGKILL. Its pilots go on."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        """End it with SIGTERM; the exit status."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def __enter__(self) -> ServiceProcess:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is None:
            return
        if self._process.poll() is not None:  # killed: its pilots end with the next one
            self.start()
        self.stop()
