"""A host that ssh reaches: scripts run there, and errors that say what to do."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from pilot.errors import JobRefused, PilotError
from pilot_plugins.launchers.ssh import scripts
from pilot_plugins.launchers.ssh.scripts import SshId
from pilot_plugins.launchers.ssh_client import SSH_FAILED, connection

log = logging.getLogger(__name__)

#: Seconds that a script may take.
SCRIPT_SECONDS = 60.0
#: Seconds that `Host.look` waits for an answer; after that it returns what was known before.
LOOK_SECONDS = 2.0

#: What ssh says when it does not log in, and what to do. A changed key comes first: ssh says both then.
_REFUSED = (
    (
        r"REMOTE HOST IDENTIFICATION HAS CHANGED",
        "its host key has changed: ask who runs it whether that is right, then remove the old key with ssh-keygen -R "
        "and log in once by hand",
    ),
    (
        r"Host key verification failed|host key is known|authenticity of host",
        "its host key is unknown: log in once by hand, and compare the fingerprint that ssh shows",
    ),
    (
        r"Permission denied|Too many authentication failures|no mutual signature",
        "the login is refused: a pilot answers no questions, so it needs a key without passphrase or an agent "
        "(ssh-add), and the public key on the host (ssh-copy-id)",
    ),
    (
        r"Bad configuration option|Bad owner or permissions|no argument after keyword",
        "ssh's configuration is not valid",
    ),
)


class Host:
    """One host. For one thread at a time, but for `look`'s own."""

    def __init__(self, name: str) -> None:
        """``name``: host, user@host or user@host:port."""
        self.name = name
        self._prefix = connection(name, self)
        self._look: _Look | None = None
        self._asked = float("-inf")
        self._known: dict[SshId, tuple[bool, str]] = {}
        self.trouble = ""

    def run(self, script: str, login: bool = False) -> tuple[int, str, str]:
        """Run a script of bash's there: its exit code, output and errors. Blocks.

        Raises:
            JobRefused: ssh does not log in, and would not later.
            PilotError: the host does not answer.
        """
        try:
            done = subprocess.run(
                [*self._prefix, "bash -l -s" if login else "bash -s"],
                input=script,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=SCRIPT_SECONDS,
            )
        except FileNotFoundError:
            raise JobRefused(f"{self._prefix[0]} is not on PATH: install OpenSSH's client") from None
        except subprocess.TimeoutExpired:
            raise PilotError(f"{self.name} did not answer within {SCRIPT_SECONDS:g} s") from None
        if done.returncode == SSH_FAILED:
            raise _failed(self.name, done.stderr)
        return done.returncode, done.stdout, done.stderr

    def look(self, jobs: Mapping[SshId, Path], interval: float) -> dict[SshId, tuple[bool, str]]:
        """Of jobs that are known: whether each runs, and how it ended. Asks the host when its last answer is older than
        ``interval`` seconds. `trouble` says why there is no answer."""
        now = time.monotonic()
        if (self._look is None or self._look.answered.is_set()) and now - self._asked >= interval:
            self._asked = now
            self._look = _Look(self, jobs)
        if self._look is not None and self._look.answered.wait(max(0.0, self._asked + LOOK_SECONDS - now)):
            self.trouble = self._look.trouble
            self._known.update(self._look.found)
        return {id: self._known[id] for id in jobs if id in self._known}

    def forget(self, id: SshId) -> None:
        """A job was ended: what was known of it holds no longer."""
        self._known.pop(id, None)
        self._look, self._asked = None, float("-inf")


class _Look:
    """One question about jobs, in a thread: a host may take long to answer, or not answer at all."""

    def __init__(self, host: Host, jobs: Mapping[SshId, Path]) -> None:
        self.found: dict[SshId, tuple[bool, str]] = {}
        self.trouble = ""
        self.answered = threading.Event()
        threading.Thread(target=self._run, args=(host, dict(jobs)), name="pilot-ssh", daemon=True).start()

    def _run(self, host: Host, jobs: dict[SshId, Path]) -> None:
        try:
            _, output, errors = host.run(scripts.look(jobs.items()))
            self.found = scripts.seen(output, list(jobs))
            if len(self.found) < len(jobs):
                self.trouble = f"{host.name} says nothing of some jobs: {in_one_line(errors) or in_one_line(output)}"
        except Exception as error:
            self.trouble = str(error)
        finally:
            self.answered.set()


def _failed(host: str, errors: str) -> PilotError:
    said = in_one_line(errors)
    for pattern, advice in _REFUSED:
        if re.search(pattern, errors):
            return JobRefused(f"ssh {host}: {advice} (ssh: {said})")
    return PilotError(f"ssh {host}: the host cannot be reached: {said}; try ssh by hand, and see `resource`")


def in_one_line(text: str) -> str:
    """The last lines of a command's output, in one."""
    lines = [line.strip() for line in text.splitlines() if line.strip(" @\r")]
    return "; ".join(lines[-6:])[-1000:]


def python_path() -> str | None:
    """PYTHONPATH of this process: it reaches agents on this host by itself."""
    return os.environ.get("PYTHONPATH")
