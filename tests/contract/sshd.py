"""A private sshd on 127.0.0.1, with keys and settings of its own."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from pilot.testing.polling import eventually

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin:/sbin")
#: Why tests with it are left out; "": they are not.
MISSING = (
    ""
    if SSHD and shutil.which("ssh")
    else "LEFT OUT: no sshd or ssh here (apt-get install openssh-server openssh-client)"
)


class Sshd:
    """One server; its log, its keys and the client's settings are in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(mode=0o700)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        for name in ("host", "other", "own", "stranger"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
            subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        shutil.copy(folder / "own.pub", folder / "authorized")
        self.know("host")
        (folder / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\n"
            f"AuthorizedKeysFile {folder}/authorized\nStrictModes no\nUsePAM no\n"
            "PasswordAuthentication no\nPermitRootLogin prohibit-password\n"
        )
        self.use("own")

    @property
    def host(self) -> str:
        """As a description names it."""
        return f"{getpass.getuser()}@127.0.0.1:{self.port}"

    @property
    def command(self) -> str:
        """A value for QUANTUM_PILOT_SSH."""
        return f"ssh -F {self.folder}/ssh_config"

    def know(self, key: str | None) -> None:
        """The client knows this key of the host; None: none."""
        line = f"[127.0.0.1]:{self.port} {(self.folder / f'{key}.pub').read_text()}" if key else ""
        (self.folder / "known").write_text(line)

    def use(self, key: str) -> None:
        """The client logs in with this key."""
        (self.folder / "ssh_config").write_text(
            f"Host far\nHostName 127.0.0.1\nPort {self.port}\nUser {getpass.getuser()}\n"
            f"Host *\nIdentityFile {self.folder}/{key}\nIdentityAgent none\nIdentitiesOnly yes\n"
            f"UserKnownHostsFile {self.folder}/known\nGlobalKnownHostsFile none\n"
        )

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Run it; at the end it is ended with the connections that it serves."""
        assert SSHD is not None
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # what Debian's unit does before it starts sshd
        with (self.folder / "log").open("ab") as log:
            command = [SSHD, "-D", "-e", "-f", str(self.folder / "sshd_config")]
            server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            eventually(lambda: server.poll() is not None or self._answers())
            assert server.poll() is None, (self.folder / "log").read_text()
            yield
        finally:
            server.terminate()
            server.wait(60)

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0
