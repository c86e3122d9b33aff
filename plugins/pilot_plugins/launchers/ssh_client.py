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

#: Environment variable: the command that is used as ``ssh``.
SSH = "QUANTUM_PILOT_SSH"
#: The code of ssh for a connection that fails (ssh(1)).
SSH_FAILED = 255

_HOST = re.compile(r"(?:(?P<user>[A-Za-z0-9_][\w.-]*)@)?(?P<host>[A-Za-z0-9][\w.-]*)(?::(?P<port>\d+))?")


def is_host(text: str) -> bool:
    """True for ``host``, ``user@host`` and ``user@host:port``."""
    return _HOST.fullmatch(text) is not None


def connection(host: str, owner: object, *settings: str) -> tuple[str, ...]:
    """An ssh command line up to the remote command; the shared connection ends with ``owner``. ``settings``: further
    ones, as ssh_config(5) has them: "ConnectTimeout=10".

    Raises:
        PilotError: ``host`` is not written as `is_host` has it.
    """
    match = _HOST.fullmatch(host)
    if match is None:
        raise PilotError(f"{host!r} is not a valid host for ssh; expected host, or user@host:port")
    folder = tempfile.mkdtemp(prefix="pilot-ssh-")
    options = ("BatchMode=yes", "ControlMaster=auto", "ControlPersist=60", f"ControlPath={folder}/%C", *settings)
    command = [*shlex.split(os.environ.get(SSH, "ssh")), *(word for option in options for word in ("-o", option))]
    if match["port"]:
        command += ["-p", match["port"]]
    if match["user"]:
        command += ["-l", match["user"]]
    weakref.finalize(owner, _disconnect, [*command, "-O", "exit", match["host"]], folder)
    return (*command, match["host"], "--")


def _disconnect(command: Sequence[str], folder: str) -> None:
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=5)
    shutil.rmtree(folder, ignore_errors=True)
