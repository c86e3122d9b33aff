"""What of a pilot's description PSI/J's executors do not pass on to their resource managers.

Sources: the templates and executors of psij-python 0.9.11.
"""

from __future__ import annotations

from pilot.descriptions import PilotDescription
from pilot.interfaces import Refusal
from pilot_plugins.launchers.fields import OF_BATCH_SYSTEMS, no_batch_system
from pilot_plugins.launchers.psij.job import LAUNCHERS, OPTIONS

_LOCAL = {
    **no_batch_system("psij://local"),
    "number_of_nodes": Refusal("1 with psij://local, which is this machine", applies=False),
    "interface": Refusal("none with psij://local, whose processes are all on this machine", applies=False),
}
del _LOCAL["scheduler_script_commands"]  # commands to run before the agent

#: By executor, what it drops.
_DROPPED = {
    "pbs": ("gpus_per_node",),
    "lsf": ("exclusive",),
    "cobalt": ("exclusive",),
    "flux": ("queue", "project", "reservation", "exclusive", "custom_attributes"),
    "rp": OF_BATCH_SYSTEMS,
}
#: Executors that give a reservation as another queue.
_RESERVATIONS_ARE_QUEUES = ("pbs", "pbs_classic", "cobalt")
#: Executors without custom attributes.
_WITHOUT_ATTRIBUTES = ("flux", "rp")


def refusal(executor: str, field: str) -> Refusal | None:
    """As `Launcher.refusal`, for an executor of PSI/J's."""
    if executor == "local":
        return _LOCAL.get(field)
    if field == "number_of_nodes" and executor not in LAUNCHERS:
        return Refusal(
            f"1 with psij://{executor}, where PSI/J cannot start one agent on each node; ask for several pilots"
        )
    if field in _DROPPED.get(executor, ()) or (field in OPTIONS and executor != "slurm"):
        where = f"with psij://{executor}: PSI/J does not pass it on"
        if executor in _WITHOUT_ATTRIBUTES:
            return Refusal(f"nothing {where}; use a launcher for this resource manager, such as slurm://")
        prefix = _prefix(executor)
        advice = f'the option that {executor} has for it in custom_attributes, as {{"{prefix}.OPTION": "VALUE"}}'
        return Refusal(f"{0 if field == 'gpus_per_node' else 'nothing'} {where}; give {advice}")
    return None


def check_values(wanted: PilotDescription, executor: str) -> None:
    """Raise DescriptionError for values that the executor would drop, or cannot do without."""
    if wanted.queue and wanted.reservation and executor in _RESERVATIONS_ARE_QUEUES:
        raise wanted.wrong("queue", f"none beside a reservation with psij://{executor}, where that is the queue")
    if executor == "lsf" and wanted.seconds is None:
        raise wanted.wrong("walltime", "a time with psij://lsf: PSI/J submits no job to LSF without one")
    prefix = _prefix(executor)
    for key in wanted.custom_attributes:
        if not key.startswith(f"{prefix}."):
            raise wanted.wrong("custom_attributes", f"with psij://{executor} keys as {prefix}.OPTION; not {key!r}")


def _prefix(executor: str) -> str:
    """How the names of its custom attributes begin."""
    return executor.partition("_")[0]
