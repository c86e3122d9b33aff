"""What `pilot doctor` finds, and how it asks other programs."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Sequence
from typing import Literal

import msgspec

#: Seconds that a command may take.
COMMAND_SECONDS = 5.0
_SIGNS = {"ok": "✓", "absent": "–", "broken": "✗"}


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the report."""

    topic: str
    state: Literal["ok", "absent", "broken"]
    what: str
    #: What to do about it; empty when there is nothing to do.
    advice: str = ""
    #: True when what was asked about needs it: ``local://`` pilots, the site, or the session.
    needed: bool = False


def show_findings(findings: Sequence[Finding], as_json: bool) -> None:
    """Print them, each with what to do, or as a JSON list."""
    if as_json:
        print(json.dumps(msgspec.to_builtins(findings), indent=2))
        return
    width = max((len(finding.topic) for finding in findings), default=0)
    for finding in findings:
        print(f"{_SIGNS[finding.state]} {finding.topic:<{width}}  {finding.what}")
        if finding.advice:
            print(f"  {'':<{width}}  → {finding.advice}")


class CommandFailed(Exception):
    """A command that is not there, failed, or took too long; the message says which."""


def ask(*command: str, seconds: float | None = None) -> str:
    """What a command writes to stdout; it and its children are ended after ``seconds`` (default: `COMMAND_SECONDS`).

    Raises:
        CommandFailed: it is not there, ended with a code other than 0, or took too long.
    """
    seconds = COMMAND_SECONDS if seconds is None else seconds
    try:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        raise CommandFailed(f"{command[0]}: {error.strerror or error}") from error
    try:
        output, errors = child.communicate(timeout=seconds)
    except subprocess.TimeoutExpired as error:
        # interrupted first: a command that has started a job step ends it then
        for number, grace in ((signal.SIGINT, 1.0), (signal.SIGKILL, None)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.communicate(timeout=grace)
                break
        raise CommandFailed(f"{command[0]} gave no answer in {seconds:g} s") from error
    if child.returncode:
        lines = (errors or output).strip().splitlines()
        raise CommandFailed(f"{command[0]} ended with code {child.returncode}: {lines[-1] if lines else 'no output'}")
    return output
