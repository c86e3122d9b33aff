"""The output of Slurm's commands, read strictly: lines that a site adds are skipped.

Sources: sbatch(1) ``--parsable``, squeue(1) ``--format``, sacct(1) ``--parsable2``, scontrol(1) ``show job -o``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from pilot_plugins.launchers.slurm.states import Shown

#: The end of a command line of squeue's: what of a job, in this order. The reason may hold any character.
SQUEUE = ("--noheader", "--array", "--states=all", "--format=%i|%F|%T|%j|%N|%r")
SACCT = ("--noheader", "--allocations", "--parsable2", "--format=JobID,State,JobName,NodeList,ExitCode")

_NUMBER = re.compile(r"([0-9]+)(?:;([\w.-]+))?")
_CLUSTER = re.compile(r"\b[0-9]+(?:;([\w.-]+)| on cluster ([\w.-]+))")
_SQUEUE_LINE = re.compile(r"([0-9]+(?:_[0-9]+)?)\|([0-9]+)\|([A-Z_]+)\|([^|]*)\|([^|]*)\|(.*)")
_SACCT_LINE = re.compile(r"([0-9]+(?:_[0-9]+)?)\|([A-Z_]+)( by \w+)?\|([^|]*)\|([^|]*)\|([0-9]+:[0-9]+)")
_FIELD = re.compile(r"(?:^| )(JobId|ArrayJobId|ArrayTaskId|JobState|JobName|NodeList|Reason)=(\S+)")


class Line(NamedTuple):
    """One job as one of Slurm's commands shows it."""

    number: str
    #: The number that sbatch gave: of the array, when it is of one.
    submitted: str
    name: str
    shown: Shown


def numbers(output: str) -> list[tuple[str, str]]:
    """The lines of ``output`` that ``sbatch --parsable`` may have printed: number and cluster, "" for its own."""
    matches = (_NUMBER.fullmatch(line.strip()) for line in output.splitlines())
    return list(dict.fromkeys((match[1], match[2] or "") for match in matches if match))


def clusters_named(output: str) -> list[str]:
    """The clusters that the output of sbatch may name: after the number, or in a sentence without --parsable."""
    return list(dict.fromkeys(number or word for number, word in _CLUSTER.findall(output)))


def is_plain(output: str) -> bool:
    """True when the output is sbatch's line and nothing else."""
    return _NUMBER.fullmatch(output.strip()) is not None


def squeue_lines(output: str) -> Iterator[Line]:
    for line in output.splitlines():
        if match := _SQUEUE_LINE.fullmatch(line.strip()):
            number, submitted, state, name, nodes, reason = match.groups()
            yield Line(number, submitted, name, (state, nodes, reason))


def sacct_lines(output: str) -> Iterator[Line]:
    for line in output.splitlines():
        if match := _SACCT_LINE.fullmatch(line.strip()):
            number, state, by, name, nodes, exit_code = match.groups()
            shown = (state, "" if nodes == "None assigned" else nodes, (by or "").strip() or f"exit code {exit_code}")
            yield Line(number, number.partition("_")[0], name, shown)


def scontrol_lines(output: str) -> Iterator[Line]:
    """The lines of ``scontrol --oneliner show job``. The number of an array's jobs that wait is the array's."""
    for line in output.splitlines():
        fields: Mapping[str, str] = dict(_FIELD.findall(line))
        if {"JobId", "JobState", "JobName"} <= fields.keys():
            submitted = fields.get("ArrayJobId", fields["JobId"])
            index = fields.get("ArrayTaskId", "")
            nodes = fields.get("NodeList", "").replace("(null)", "")
            shown = (fields["JobState"], nodes, fields.get("Reason", ""))
            yield Line(f"{submitted}_{index}" if index.isdecimal() else submitted, submitted, fields["JobName"], shown)


def seconds_of(time: str) -> float:
    """What Slurm writes as ``days-hours:minutes:seconds``; infinite for all else, such as ``UNLIMITED``."""
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", time)
    if match is None:
        return float("inf")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return float(86400 * days + 3600 * hours + 60 * minutes + seconds)
