"""OpenSSH's client: the command line for a host that a description names, with one shared connection."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import weakref
from collections.abc import Sequence

from pilot.errors import PilotError
from pilot.wire.folders import takes_files

#: Environment variable: the command that is used as ``ssh``.
SSH = "QUANTUM_PILOT_SSH"
#: The code of ssh for a connection that fails (ssh(1)).
SSH_FAILED = 255

#: What a login for commands needs, whatever the user's own logins have. One thread asks all hosts: one that is away may
#: not hold it up for long. A forward of the user's may be taken already, and would then end the login.
_SETTINGS = (
    *("BatchMode=yes", "ConnectTimeout=10", "ServerAliveInterval=5", "ServerAliveCountMax=3"),
    *("RequestTTY=no", "RemoteCommand=none", "ClearAllForwardings=yes", "LogLevel=ERROR"),
)
#: Bytes of the longest path below which the shared connection's socket has room (ssh adds 17 for a while; unix(7)).
_PARENT_BYTES = 26

_HOST = re.compile(r"(?:(?P<user>[A-Za-z0-9_][\w.-]*)@)?(?P<host>[A-Za-z0-9][\w.-]*)(?::(?P<port>\d+))?")


def is_host(text: str) -> bool:
    """True for ``host``, ``user@host`` and ``user@host:port``."""
    return _HOST.fullmatch(text) is not None


def connection(host: str, owner: object) -> tuple[str, ...]:
    """An ssh command line up to the remote command; the shared connection ends with ``owner``.

    Raises:
        PilotError: ``host`` is not written as `is_host` has it.
    """
    match = _HOST.fullmatch(host)
    if match is None:
        raise PilotError(f"{host!r} is not a valid host for ssh; expected host, or user@host:port")
    parent = _short_parent()
    folder = None if parent is None else tempfile.mkdtemp(prefix="pilot-ssh-", dir=parent)
    shared = (
        ("ControlMaster=auto", "ControlPersist=60", f"ControlPath={folder}/%C") if folder else ("ControlPath=none",)
    )
    command = [
        *shlex.split(os.environ.get(SSH, "ssh")),
        *(word for one in (*_SETTINGS, *shared) for word in ("-o", one)),
    ]
    if match["port"]:
        command += ["-p", match["port"]]
    if match["user"]:
        command += ["-l", match["user"]]
    if folder:
        weakref.finalize(owner, _disconnect, [*command, "-O", "exit", match["host"]], folder)
    return (*command, match["host"], "--")


def _short_parent() -> str | None:
    """Where the socket of a shared connection can be; None: nowhere, and each command logs in by itself."""
    for parent in (tempfile.gettempdir(), "/tmp", os.environ.get("XDG_RUNTIME_DIR", "")):
        if len(os.fsencode(parent)) <= _PARENT_BYTES and takes_files(parent):
            return parent
    return None


def _disconnect(command: Sequence[str], folder: str) -> None:
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=5)
    shutil.rmtree(folder, ignore_errors=True)
