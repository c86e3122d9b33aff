"""Pilots as a mini-app's flag says them: ``ray:2``, ``srun://ray:4:2``, ``site.toml:gpu``."""

from __future__ import annotations

import re

import msgspec

from pilot import DescriptionError, PilotDescription

ENGINES = ("process", "ray", "dask")
ALLOWED = (
    "[local://|srun://|slurm://]ENGINE:CORES[:NODES], such as ray:2 or srun://ray:4:2, with an engine of "
    f"{', '.join(ENGINES)}; or FILE.toml[:TABLE]"
)
_SHORT = re.compile(rf"((?:local|srun|slurm)://)?({'|'.join(ENGINES)}):([1-9]\d*)(?::([1-9]\d*))?")


def read_pilot(text: str, number: int) -> PilotDescription:
    """The pilot that the flag's ``text`` says, called after its engine and its place in the list.

    Raises:
        ValueError: the text says no pilot (`ALLOWED` says what would).
        DescriptionError: it names a file with a description that is not allowed.
    """
    match = _SHORT.fullmatch(text)
    if match is not None:
        resource, engine, cores, nodes = match.groups()
        return PilotDescription(
            resource=resource or "local://",
            engine=engine,
            cores_per_node=int(cores),
            number_of_nodes=int(nodes or 1),
            name=f"{engine}-{number}",
        )
    file, _, table = text.partition(":")
    if not file.endswith(".toml"):
        raise ValueError(f"--pilot: {text!r} given; allowed: {ALLOWED}")
    wanted = PilotDescription.from_toml(file, table or None)
    if wanted.cores_per_node is None:
        raise DescriptionError(f"--pilot: {text} says no cores_per_node", field="cores_per_node")
    return msgspec.structs.replace(wanted, name=wanted.name or f"{wanted.engine}-{number}")
