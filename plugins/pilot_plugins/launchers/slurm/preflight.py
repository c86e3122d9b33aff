"""Whether a pilot fits a Slurm as it is configured now: partition, nodes, cores, memory, walltime, gres, licences."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import NamedTuple

from pilot.descriptions import PilotDescription
from pilot.errors import PilotError
from pilot.interfaces import Misfit
from pilot_plugins.launchers.slurm.answers import seconds_of
from pilot_plugins.launchers.slurm.hosts import Host, in_one_line
from pilot_plugins.launchers.slurm.names import associations

#: A feature in a constraint, such as ``mig=on``; not the number of nodes behind it.
_FEATURE = re.compile(r"(?<![*\w.:=-])[\w.:=-]+")
#: Powers of 1024 behind a number; what sinfo shows of a node, such as ``gpu:a100:4(S:0-1)``; and what a job asks for.
_UNITS = ("", "K", "M", "G", "T", "P")
_GRES = re.compile(r"([^,()]+?):(\d+)([KMGTP]?)(?=\(|,|$)")
_COUNTED = re.compile(r"(.+?)[:=](\d+)([KMGTPkmgtp]?)")


class Partition(NamedTuple):
    """A row of sinfo(1): nodes of one kind in a partition."""

    name: str
    nodes: str
    cores: str
    memory: str
    most: str
    features: str
    gres: str


class Site:
    """What a Slurm cluster has."""

    def __init__(self, host: Host) -> None:
        """Read its configuration. Blocks.

        Raises:
            PilotError: it does not answer.
        """
        rows = _ask(host, "sinfo", "--all", "--noheader", "--format=%P|%D|%c|%m|%l|%f|%G").strip().splitlines()
        self._partitions = [Partition(*row.split("|", 6)) for row in rows]
        licences = _ask(host, "scontrol", "--oneliner", "show", "lic")
        self._licences = dict(re.findall(r"LicenseName=(\S+) Total=(\d+)", licences))
        self._options = _ask(host, "sbatch", "--help")
        self._accounts = associations(host, "project")

    def misfits(self, pilot: PilotDescription) -> list[Misfit]:
        """What the pilot asks for and the cluster does not have."""
        return [*self._partition(pilot), *self._account(pilot), *self._licence(pilot), *self._option(pilot)]

    def _partition(self, pilot: PilotDescription) -> Iterator[Misfit]:
        """Without a queue it is the default partition, or any where a constraint or a qos chooses it."""
        names = {row.name.rstrip("*") for row in self._partitions}
        wanted = {row.name[:-1] for row in self._partitions if row.name[-1] == "*"}
        if pilot.queue:
            wanted = set(pilot.queue.split(","))
        elif pilot.constraint or pilot.qos:
            wanted = names
        rows = [row for row in self._partitions if row.name.rstrip("*") in wanted]
        if not rows:
            yield Misfit("queue", pilot.queue or "the default partition", f"partitions: {', '.join(sorted(names))}")
            return
        yield from _sizes(pilot, rows, max(sum(_nodes(rows, name)) for name in wanted))
        features = {feature for row in rows for feature in row.features.split(",")} - {"(null)"}
        for feature in _FEATURE.findall(pilot.constraint or ""):
            if feature not in features:
                there = f"features of these nodes: {', '.join(sorted(features)) or 'none'}"
                yield Misfit("constraint", feature, there)
        yield from _gres(pilot, [row.gres for row in rows])

    def _account(self, pilot: PilotDescription) -> Iterator[Misfit]:
        if pilot.project and self._accounts and pilot.project not in self._accounts:
            yield Misfit("project", pilot.project, f"accounts that you may use: {', '.join(self._accounts)}")

    def _licence(self, pilot: PilotDescription) -> Iterator[Misfit]:
        there = ", ".join(f"{name}:{total}" for name, total in self._licences.items()) or "none"
        for one in filter(None, re.split("[,;]", pilot.licenses or "")):
            name, count = _counted(one)
            if count > int(self._licences.get(name, 0)):
                yield Misfit("licenses", one, f"licences: {there}")

    def _option(self, pilot: PilotDescription) -> Iterator[Misfit]:
        """Options of sbatch that only a site's SPANK plugin gives it."""
        for line in pilot.scheduler_script_commands:
            match = re.match(r"#SBATCH\s+(--[\w-]+)", line)
            if match and not re.search(rf"{match[1]}\b", self._options):
                there = "sbatch has no such option, its SPANK plugin is not installed here: remove the line"
                yield Misfit("scheduler_script_commands", match[1], there)


def _sizes(pilot: PilotDescription, rows: Sequence[Partition], nodes: int) -> Iterator[Misfit]:
    for field, asked, there, unit in (
        ("number_of_nodes", pilot.number_of_nodes, nodes, ""),
        ("cores_per_node", pilot.cores_per_node or 0, max(_number(row.cores) for row in rows), ""),
        ("memory", _mebibytes(pilot.memory), max(_number(row.memory) for row in rows), " MiB"),
    ):
        if asked > there:
            yield Misfit(field, f"{asked}{unit}", f"at most {there}{unit}")
    longest = max(rows, key=lambda row: seconds_of(row.most)).most
    if pilot.seconds is not None and pilot.seconds > seconds_of(longest):
        yield Misfit("walltime", str(timedelta(seconds=pilot.seconds)), f"at most {longest}")


def _gres(pilot: PilotDescription, rows: Sequence[str]) -> Iterator[Misfit]:
    asked = [("gres", one) for one in (pilot.gres or "").split(",") if one]
    if pilot.gpus_per_node:
        asked.insert(0, ("gpus_per_node", f"gpu:{pilot.gpus_per_node}"))
    for field, one in asked:
        kind, count = _counted(one.removeprefix("gres/").removeprefix("gres:"))
        if count > max(_has(row, kind) for row in rows):
            there = ",".join(rows).replace("(null)", "none")
            yield Misfit(field, one, f"generic resources of these nodes: {there}")


def _has(gres: str, kind: str) -> int:
    """How many of a kind, NAME or NAME:TYPE, a node has: of ``gpu:a100:2(S:0-1),gpu:1g.5gb:7`` nine of "gpu"."""
    found = _GRES.findall(gres)
    return sum(
        int(number) << 10 * _UNITS.index(unit) for name, number, unit in found if f"{name}:".startswith(f"{kind}:")
    )


def _counted(one: str) -> tuple[str, int]:
    """What and how many ``NAME``, ``NAME:TYPE``, ``NAME:2`` or ``NAME=2`` ask for."""
    match = _COUNTED.fullmatch(one)
    return (match[1], int(match[2]) << 10 * _UNITS.index(match[3].upper())) if match else (one, 1)


def _ask(host: Host, *command: str) -> str:
    code, output, errors = host.call(command)
    if code:
        raise PilotError(f"Slurm cannot be asked: {in_one_line(errors) or f'{command[0]} ended with code {code}'}")
    return output


def _nodes(rows: Sequence[Partition], name: str) -> list[int]:
    return [_number(row.nodes) for row in rows if row.name.rstrip("*") == name]


def _mebibytes(memory: int | str | None) -> int:
    return memory >> 20 if isinstance(memory, int) else 0


def _number(text: str) -> int:
    """``4``, or ``4+`` where nodes differ."""
    return int(text.rstrip("+") or 0)
