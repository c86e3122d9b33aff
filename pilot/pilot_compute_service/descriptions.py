"""From Pilot-Quantum's descriptions, which are dicts, to this library's."""

from __future__ import annotations

import getpass
import logging
import re
from collections.abc import Mapping
from typing import Any

from pilot.descriptions import PilotDescription
from pilot.errors import DescriptionError, did_you_mean, invalid
from pilot.pilot_enums_exceptions import ExecutionEngine
from pilot.times import seconds_of

log = logging.getLogger(__name__)

#: Hosts of ``ssh://`` that mean this machine.
_HERE = ("", "localhost", "127.0.0.1", "::1", "[::1]")
#: Numbers that may be texts: Pilot-Quantum writes them into command lines as they are.
_COUNTS = ("number_of_nodes", "cores_per_node", "gpus_per_node")
#: Keys that only a batch system gives a meaning.
_OF_BATCH_SYSTEMS = (
    "queue",
    "partition",
    "project",
    "account",
    "qos",
    "reservation",
    "constraint",
    "gres",
    "licenses",
    "exclusive",
    "scheduler_script_commands",
)
#: Keys that Pilot-Quantum takes and does not use.
_UNUSED = ("output", "error", "dask_cores", "number_cores", "dreamer_enabled", "runtime_env", "executor", "config")
#: Names of other things that a description may say, and what to write instead.
_REFUSED = {
    "resource_type": "PilotDescription has QPUs: give qpus, such as ['aer'] or ['ibm:ibm_fez']",
    "quantum": "PilotDescription has QPUs: give qpus, such as ['aer'] or ['ibm:ibm_fez']",
    "os_ssh_username": "give it in the resource, ssh://user@host, or in ~/.ssh/config",
    "os_ssh_keyfile": "give it as IdentityFile in ~/.ssh/config",
}
#: What Pilot-Quantum assumes where a key is missing: one core, and an hour with a batch system.
_CORES, _MINUTES = 1, 60
#: Nobody attaches to a service: without its program a pilot is of no use.
_ORPHAN_SECONDS = 30.0


def pilot_description(given: Mapping[str, Any], engine: ExecutionEngine) -> PilotDescription:
    """The pilot that a dict of Pilot-Quantum describes; the dict is not changed. Keys without a meaning for it are left
    out, with one warning.

    Raises:
        DescriptionError: a value is not valid, or a key is refused.
    """
    if not isinstance(given, Mapping):
        raise invalid("pilot_compute_description", given, "a dict with the keys of a pilot")
    if not isinstance(given.get("resource"), str):
        raise invalid("pilot_compute_description.resource", given.get("resource"), "a URL, such as ssh://localhost")
    for key, advice in _REFUSED.items():
        if given.get(key):
            raise invalid(f"pilot_compute_description.{key}", given[key], f"no such key: {advice}")
    resource = _resource(given["resource"])
    wanted = {key: value for key, value in given.items() if value is not None}
    wanted.pop("working_directory", None)  # the service has one
    dropped = [key for key in wanted if not _is_meant(key, resource)]
    wanted = {key: value for key, value in wanted.items() if key not in dropped}
    wanted["resource"] = resource
    wanted |= {key: count(wanted[key]) for key in _COUNTS if key in wanted}
    wanted.setdefault("cores_per_node", _CORES)
    wanted.setdefault("orphan_timeout", _ORPHAN_SECONDS)
    if resource.startswith("slurm:"):
        wanted.setdefault("walltime", _MINUTES)
    if "walltime" in wanted:
        wanted["walltime"] = _walltime(wanted["walltime"])
    nodes = wanted.get("number_of_nodes", 1)
    if resource == "local://" and isinstance(nodes, int) and nodes > 1:
        dropped.append("number_of_nodes")
        del wanted["number_of_nodes"]
    if str(wanted.pop("type", engine.value)).lower() != engine.value:
        dropped.append("type")
    if dropped:
        log.warning("a pilot at %s has no use for %s", resource, _listed(dropped, given, engine))
    return PilotDescription.build(wanted | {"engine": engine.value})


def _resource(url: str) -> str:
    """The resource that a URL of Pilot-Quantum means here."""
    scheme, separator, host = url.partition("://")
    if not separator:
        raise invalid("pilot_compute_description.resource", url, "a URL, such as ssh://localhost")
    host = host.rstrip("/")
    is_here = host in _HERE or _is_own_login(host)
    if scheme in ("fork", "local") or (scheme == "ssh" and is_here):
        return "local://"
    if scheme in ("slurm", "slurm+ssh"):
        return f"slurm://{'' if is_here else host}"
    return f"{scheme}://{host}"


def _is_own_login(host: str) -> bool:
    """True for ``user@localhost`` when that is the user who runs this program; another user is one to log in as."""
    user, _, name = host.rpartition("@")
    try:
        return name in _HERE[1:] and user == getpass.getuser()
    except (KeyError, OSError):  # the user has no name here
        return False


def _is_meant(key: str, resource: str) -> bool:
    """True when a pilot at this resource has a use for the key."""
    scheme = resource.partition(":")[0]
    if scheme in ("local", "ssh") and key in _OF_BATCH_SYSTEMS:
        return False
    return key in PilotDescription.__struct_fields__ or key in ("type", "account", "partition")


def count(given: Any) -> Any:
    """A number that may be written as a text; other values are for the description to refuse."""
    given = _number(given)
    return int(given) if isinstance(given, float) and given.is_integer() else given


def _number(given: Any) -> Any:
    """A number that may be written as a text; other values as they are."""
    return float(given) if isinstance(given, str) and re.fullmatch(r"\s*[0-9]+(\.[0-9]+)?\s*", given) else given


def _walltime(given: Any) -> float:
    """Seconds. A number is minutes, as in Pilot-Quantum; a text with colons or a dash is as in Slurm.

    Raises:
        DescriptionError: it is none of them.
    """
    number = _number(given)
    is_minutes = isinstance(number, int | float) and not isinstance(number, bool)
    try:
        seconds = seconds_of(number * 60 if is_minutes else number)
        if isinstance(seconds, int | float) and not isinstance(seconds, bool) and seconds > 0:
            return seconds
    except ValueError:
        pass
    raise invalid("pilot_compute_description.walltime", given, "minutes above 0, or a text: '1:30:00', '2-12'")


def _listed(dropped: list[str], given: Mapping[str, Any], engine: ExecutionEngine) -> str:
    """The keys with their values, and the field that an unknown one may have meant."""
    words = []
    for key in dropped:
        note = ""
        if key == "type":
            note = f" (the service runs {engine.value})"
        elif key == "number_of_nodes":
            note = " (this machine is one node)"
        elif key not in (*_OF_BATCH_SYSTEMS, *_UNUSED):
            note = did_you_mean(key, PilotDescription.__struct_fields__)
        words.append(f"{key}={given[key]!r}{note}")
    return ", ".join(words)


def task_resources(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Fields of a `TaskDescription` from the resources of a task: in Ray's words or in Dask's.

    Raises:
        DescriptionError: there is no such resource, or its value is not valid.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise invalid("resources", given, "a dict with num_cpus, num_gpus and memory")
    fields: dict[str, Any] = {}
    for key, value in given.items():
        name = _RESOURCES.get(key)
        if name is None:
            known = ", ".join(_RESOURCES)
            raise DescriptionError(
                f"resources: {key!r} is not valid{did_you_mean(str(key), _RESOURCES)}; expected {known}",
                field="resources",
                given=given,
            )
        if value is not None:
            fields[name] = count(value)
    if fields.get("num_cpus") == 0:
        fields["num_cpus"] = LEAST_CPUS
    if fields.get("memory") == 0:
        del fields["memory"]
    return fields


#: Names of resources in Ray and Dask, and the fields that they become.
_RESOURCES = {
    "num_cpus": "num_cpus",
    "num_gpus": "num_gpus",
    "memory": "memory",
    "CPU": "num_cpus",
    "GPU": "num_gpus",
    "MEMORY": "memory",
    "max_retries": "retries",
}
#: What a task takes that asks for no core.
LEAST_CPUS = 0.01
