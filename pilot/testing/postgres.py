"""A PostgreSQL server in a folder of its own, for tests of stores."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType


def programs() -> Path | None:
    """The folder with PostgreSQL's programs, the newest where there are several; None: it is not installed."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


class PostgresServer:
    """A server that listens on a Unix socket only. Leaving the block ends it and removes its files."""

    def __init__(self) -> None:
        folder = programs()
        assert folder is not None, "PostgreSQL is not installed: on Debian, sudo scripts/setup_postgres"
        self._programs = folder
        self.folder = Path(tempfile.mkdtemp(prefix="pilot-postgres-"))
        #: As root it runs as another account, since it refuses root.
        self._account: list[str] = []
        if os.geteuid() == 0:
            account = pwd.getpwnam("postgres")
            os.chown(self.folder, account.pw_uid, account.pw_gid)
            self._account = ["setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]

    @property
    def url(self) -> str:
        """For the service's store."""
        return f"postgresql://pilot@/postgres?host={self.folder}"

    def run(self, program: str, *words: str) -> None:
        """Run one of PostgreSQL's programs as the server's account.

        Raises:
            CalledProcessError: it fails.
        """
        command = [*self._account, str(self._programs / program), *words]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=self.folder)

    def __enter__(self) -> PostgresServer:
        data = str(self.folder / "data")
        try:
            self.run("initdb", "-D", data, "-U", "pilot", "--auth=trust", "--encoding=UTF8", "--no-locale")
            options = f"-k {self.folder} -c listen_addresses=''"
            self.run("pg_ctl", "-D", data, "-l", str(self.folder / "log"), "-w", "-o", options, "start")
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.run("pg_ctl", "-D", str(self.folder / "data"), "-m", "immediate", "-w", "stop")
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)
