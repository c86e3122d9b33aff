"""Fields of PilotDescription that not every launcher can carry out."""

from __future__ import annotations

from pilot.interfaces import Refusal

#: What only a batch system gives a meaning.
OF_BATCH_SYSTEMS = (
    *("queue", "qos", "project", "reservation", "constraint", "gres", "licenses", "exclusive"),
    *("scheduler_script_commands", "custom_attributes"),
)


def no_batch_system(where: str, reason: str = "no batch system reads it") -> dict[str, Refusal]:
    """The refusals of a launcher that submits to no batch system.

    Args:
        where: the resource, as in "ssh://".
        reason: what follows "where".
    """
    refusal = Refusal(f"nothing with {where}, where {reason}", applies=False)
    return dict.fromkeys(OF_BATCH_SYSTEMS, refusal)
