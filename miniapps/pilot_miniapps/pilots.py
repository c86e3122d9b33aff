"""Pilots as a mini-app's flag says them: ``ray:2``, ``srun://ray:4:2``, ``site.toml:gpu``."""

from __future__ import annotations

import msgspec

from pilot import DescriptionError, PilotDescription

ALLOWED = PilotDescription.text_forms


def read_pilot(text: str, number: int) -> PilotDescription:
    """The pilot that the flag's ``text`` says, called after its engine and its place in the list.

    Raises:
        DescriptionError: the text says no pilot (`ALLOWED` says what would), or names a file with a description that is
            not allowed.
    """
    wanted = PilotDescription.from_text(text)
    if wanted.cores_per_node is None:
        raise DescriptionError(f"--pilot: {text} says no cores_per_node", field="cores_per_node")
    return msgspec.structs.replace(wanted, name=wanted.name or f"{wanted.engine}-{number}")
