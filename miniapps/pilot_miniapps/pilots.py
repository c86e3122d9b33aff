"""Pilots from a mini-app's flag: ``ray:2``, ``srun://ray:4:2``, ``site.toml:gpu``."""

from __future__ import annotations

import msgspec

from pilot import DescriptionError, PilotDescription

ALLOWED = PilotDescription.text_forms


def read_pilot(text: str, number: int) -> PilotDescription:
    """The pilot that the flag's ``text`` describes, named after its engine and its place in the list.

    Raises:
        DescriptionError: the text does not describe a pilot (`ALLOWED` has the forms), or names a file with a
        description that is
            not allowed.
    """
    wanted = PilotDescription.from_text(text)
    if wanted.cores_per_node is None:
        raise DescriptionError(f"--pilot: {text} has no cores_per_node", field="cores_per_node")
    return msgspec.structs.replace(wanted, name=wanted.name or f"{wanted.engine}-{number}")
