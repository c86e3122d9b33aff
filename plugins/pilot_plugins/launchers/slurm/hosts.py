"""Where Slurm's commands run: on this host, or through ssh on a login node (``slurm://user@host:port``)."""

from __future__ import annotations

import logging
import os
import re
import shlex
import subprocess
import time
from collections.abc import Callable, Sequence

from pilot.descriptions import PilotDescription
from pilot_plugins.launchers.ssh_client import SSH_FAILED, connection, is_host

log = logging.getLogger(__name__)

#: Seconds that one of Slurm's commands may take; without its controller they give up after 9 to 18 s by themselves.
COMMAND_SECONDS = 60.0
#: Code of `run` for a command that takes too long, as of timeout(1).
SLOW = 124

#: Seconds before the next try when Slurm is too busy to take a command.
BACK_OFF = (1.0, 4.0)

#: Errors that pass, in the words of slurm_errno.c.
_BUSY = re.compile(
    r"timed out|temporarily unavailable|Unable to contact slurm controller|try again|try a different controller|"
    r"standby mode|Transport endpoint|Zero Bytes were transmitted|(Communication|Message) \w+ failure",
    re.IGNORECASE,
)
#: With these of them the controller has taken nothing.
_NOT_REACHED = re.compile(
    r"Unable to contact slurm controller(?! \((send|receive|shutdown) failure)|standby mode|different controller"
)

#: Runs a command with this input: its exit code, output and errors.
Runner = Callable[[Sequence[str], str], tuple[int, str, str]]


def run(command: Sequence[str], input: str = "") -> tuple[int, str, str]:
    """Run one of Slurm's commands; code 124 when it takes too long, 127 when it is not there. Blocks."""
    environment = {
        key: value
        for key, value in os.environ.items()
        if key == "SLURM_CONF" or not key.startswith(("SLURM_", "SBATCH_", "SQUEUE_", "SACCT_", "SCANCEL_", "SINFO_"))
    }
    try:
        done = subprocess.run(
            command, input=input, capture_output=True, text=True, errors="replace", timeout=COMMAND_SECONDS,
            env=environment,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return SLOW, "", f"{command[0]} did not answer within {COMMAND_SECONDS:g} s"
    except FileNotFoundError:
        return 127, "", f"{command[0]} is not on PATH"
    return done.returncode, done.stdout, done.stderr


class Host:
    """Where Slurm's commands run, and how."""

    def __init__(self, name: str, runner: Runner) -> None:
        """``name``: ``user@host:port``, or "" for this host."""
        self.name = name
        self._runner = runner
        self._prefix: tuple[str, ...] = connection(name, self) if name else ()

    def call(self, command: Sequence[str], input: str = "") -> tuple[int, str, str]:
        """Run one command: its exit code, output and errors. Blocks."""
        words = (*self._prefix, shlex.join(command)) if self.name else tuple(command)
        return self._runner(words, input)

    def call_with_retries(self, command: Sequence[str]) -> tuple[int, str, str]:
        """`call`, repeated after a pause when Slurm is too busy."""
        for seconds in (*BACK_OFF, None):
            code, output, errors = self.call(command)
            if not code or not is_busy(errors) or seconds is None:
                break
            log.warning("%s: %s; trying again in %g s", command[0], errors.strip(), seconds)
            time.sleep(seconds)
        return code, output, errors

    def is_unanswered(self, code: int, errors: str) -> bool:
        """True when it is not known what a command that ended like this has done."""
        if code < 0 or code == SLOW or (code == SSH_FAILED and self.name):
            return True
        return bool(code) and is_busy(errors) and _NOT_REACHED.search(errors) is None


def is_busy(errors: str) -> bool:
    """True when Slurm reports that it is too busy, or does not answer."""
    return _BUSY.search(errors) is not None


def in_one_line(errors: str) -> str:
    """The output of a command, in one line."""
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    return "; ".join(re.sub("^(sbatch|squeue|scancel): error: ", "", line) for line in lines)


def host_of(description: PilotDescription) -> str:
    """Where Slurm's commands run: ``user@host:port`` as it was given, "" for this host."""
    where = description.resource.partition("://")[2].rstrip("/")
    if where in ("", "localhost"):
        return ""
    if not is_host(where):
        raise description.wrong("resource", "slurm://, slurm://localhost, slurm://host, or slurm://user@host:port")
    return where
