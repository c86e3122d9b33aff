"""Names that a cluster does not have: which field of a description has one, and which names there are.

Slurm's own messages do not repeat the name of an account. Sources: sbatch(1), sinfo(1) ``--format``, sacctmgr(1)
``show associations``.
"""

from __future__ import annotations

import os
import pwd
import re
from typing import NamedTuple

from pilot.descriptions import PilotDescription
from pilot.errors import JobRefused
from pilot_plugins.launchers.slurm.hosts import Host


class _Kind(NamedTuple):
    field: str
    #: What sbatch says of a name that it does not know.
    said: str
    what: str


_KINDS = (
    _Kind("queue", r"invalid partition|partition name specified", "a partition"),
    _Kind("project", r"invalid account", "an account that you may use"),
    _Kind("qos", r"invalid qos", "a quality of service that you may use"),
)


def explained(error: JobRefused, wanted: PilotDescription, host: Host) -> JobRefused:
    """The error of sbatch, with the field and the value that it is about in front, and the names that there are. Blocks
    for one command.

    Args:
        error: what `submission.submit` raised.
        wanted: the pilot.
        host: where Slurm's commands run.
    """
    for kind in _KINDS:
        if re.search(kind.said, str(error), re.IGNORECASE):
            there = partitions(host) if kind.field == "queue" else associations(host, kind.field)
            listed = f"{kind.what}: {', '.join(there)}" if there else f"{kind.what}; your site's pages list them"
            given = getattr(wanted, kind.field)
            shown = f"PilotDescription.{kind.field}: {given!r} is not valid; expected {listed}"
            return JobRefused(f"{shown} ({error})", **{**error.data, "field": kind.field, "given": given})
    return error


def partitions(host: Host) -> list[str]:
    """The names of the partitions; none where Slurm does not say."""
    code, output, _ = host.call(("sinfo", "--noheader", "--format=%R"))
    return [] if code else sorted(set(output.split()))


def associations(host: Host, field: str) -> list[str]:
    """The accounts (``project``), or the qualities of service (``qos``), that this user may use; none where the cluster
    has no accounting, or does not say."""
    user = host.name.rpartition("@")[0] if host.name else pwd.getpwuid(os.geteuid()).pw_name
    column = {"project": "account", "qos": "qos"}[field]
    command = ["sacctmgr", "--noheader", "--parsable2", "show", "associations", f"format={column}"]
    code, output, _ = host.call([*command, *([f"user={user}"] if user else [])])
    return [] if code else sorted({name for line in output.split() for name in line.split(",") if name})
