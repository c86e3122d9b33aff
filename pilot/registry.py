"""Plugins by entry point: ``load("pilot.engines", "ray")``. Importing the library runs no plugin code."""

from __future__ import annotations

import logging
import re
from functools import cache, lru_cache
from inspect import signature
from typing import TYPE_CHECKING, Any

from pilot.errors import DescriptionError, PilotError, PluginError, did_you_mean, invalid
from pilot.interfaces import QPU, JobEnvironment, Launcher, Policy
from pilot.toml_files import read_toml

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from pilot.descriptions import PilotDescription

log = logging.getLogger(__name__)


@cache
def _group(group: str) -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points  # a quarter of the library's import time

    return {entry.name: entry for entry in entry_points(group=group)}


def names(group: str) -> list[str]:
    """The names that the installed distributions register in this group."""
    return sorted(_group(group))


def check(group: str, name: str) -> None:
    """Raise PluginError when no such plugin is registered, or a package that it needs is not installed.

    Imports nothing: an entry point names the extra of its distribution that it needs.
    """
    from importlib.metadata import PackageNotFoundError, distribution

    entry = _entry(group, name)
    for requirement in (entry.dist.requires or ()) if entry.dist is not None else ():
        package, _, marker = requirement.partition(";")
        if not any(extra in marker for extra in entry.extras):
            continue
        match = re.match(r"[\w.-]+", package)
        try:
            distribution(match[0] if match else package)
        except PackageNotFoundError as error:
            message = f"the {_kind(group)} {name!r} needs {package.strip()}, which is not installed: "
            message += f"pip install 'quantum-pilot[{','.join(entry.extras)}]'"
            raise PluginError(message, group=group, name=name) from error


def extras(group: str, name: str) -> tuple[str, ...]:
    """The extras of its distribution that a plugin needs.

    Raises:
        PluginError: no such name in the group.
    """
    return tuple(_entry(group, name).extras)


def load(group: str, name: str) -> Any:
    """The plugin of this name, imported now.

    Args:
        group: ``pilot.launchers``, ``pilot.engines``, ``pilot.qpus``, ``pilot.kinds``, ``pilot.estimators``,
            ``pilot.bundlers``, ``pilot.policies``, ``pilot.environments`` or ``pilot.miniapps``.
        name: as registered.

    Raises:
        PluginError: no such name in the group (the known ones are listed), or its import failed (cause chained).
    """
    entry = _entry(group, name)
    check(group, name)
    return _load(entry)


def made(group: str, name: str, kind: type, *args: Any) -> Any:
    """What the plugin of this name makes of the arguments.

    Raises:
        PilotError: as `load`; what it raises itself where that is one, such as a DescriptionError about an argument.
        PluginError: it raises something else, or makes what is none of this kind.
    """
    plugin = load(group, name)
    try:
        one = plugin(*args)
    except PilotError:
        raise
    except Exception as error:
        message = f"the {_kind(group)} {name!r} cannot be made: {type(error).__name__}: {error}"
        raise PluginError(message, group=group, name=name) from error
    if not isinstance(one, kind):
        message = f"the {_kind(group)} {name!r} is not a pilot.interfaces.{kind.__name__}: it is {one!r}"
        raise PluginError(message, group=group, name=name)
    return one


def _load(entry: EntryPoint) -> Any:
    try:
        return entry.load()
    except Exception as error:
        message = f"the {_kind(entry.group)} {entry.name!r} cannot be loaded: {type(error).__name__}: {error}"
        raise PluginError(message, group=entry.group, name=entry.name) from error


def check_pilot(description: PilotDescription, launcher: Launcher) -> None:
    """Look whether a pilot can be asked for: its launcher takes it, and its engine is installed. Starts nothing.

    Raises:
        DescriptionError: the launcher can never start it.
        PluginError: the launcher cannot check it, or the engine is not there.
    """
    try:
        launcher.check_fields(description)
        launcher.check(description)
    except PilotError:
        raise
    except Exception as error:
        text = f"the launcher {type(launcher).__name__} cannot check a description: {type(error).__name__}: {error}"
        raise PluginError(text) from error
    check("pilot.engines", description.engine)


def policy(chosen: str | Policy, **settings: Any) -> Policy:
    """The policy that a user chose.

    Args:
        chosen: a policy object, its name in the group ``pilot.policies``, or its class as "package.module:Class".
        settings: what the class is called with; none with an object.

    Raises:
        PluginError: there is no such policy, it cannot be made with these settings, or it is not a `Policy`.
    """
    from importlib.metadata import EntryPoint

    if isinstance(chosen, Policy) and not settings:
        return chosen
    data = {"group": "pilot.policies", "name": str(chosen)}
    if not isinstance(chosen, str) or (":" in chosen and EntryPoint.pattern.match(chosen) is None):
        raise invalid("policy", chosen, "the name of a policy, 'package.module:Class', or a Policy", PluginError)
    made = _load(EntryPoint(chosen, chosen, data["group"])) if ":" in chosen else load(data["group"], chosen)
    known = _settings_of(made)
    for setting in settings:
        if known is not None and setting not in known:
            message = f"the policy {chosen!r} has no setting {setting!r}{did_you_mean(setting, known)}; it has: "
            raise PluginError(message + (", ".join(known) or "none"), **data)
    try:
        one = made(**settings)
    except Exception as error:
        message = f"the policy {chosen!r} cannot be made with the settings {settings}: {type(error).__name__}: {error}"
        raise PluginError(message, **data) from error
    if not isinstance(one, Policy):
        raise PluginError(f"the policy {chosen!r} is not a pilot.interfaces.Policy: it is {one!r}", **data)
    return one


def _settings_of(made: Any) -> list[str] | None:
    """What a policy is made with, and its bases where it passes the rest on to them; None: that is not known."""
    if not (isinstance(made, type) and issubclass(made, Policy)):
        return None
    found: list[str] = []
    for base in made.__mro__[:-1]:
        if "__init__" not in vars(base):
            continue
        _, *parameters = signature(vars(base)["__init__"]).parameters.values()
        found += [one.name for one in parameters if one.kind in (one.KEYWORD_ONLY, one.POSITIONAL_OR_KEYWORD)]
        if not any(one.kind is one.VAR_KEYWORD for one in parameters):
            break
    return found


def policies(chosen: str | Policy, **settings: Any) -> tuple[Policy, Policy | None]:
    """The policy for cores, and the one for QPUs where it is another one.

    Args:
        chosen: as for `policy`, or the name of a TOML file (``.toml``) with the tables ``[cores]`` and ``[qpus]``, or
            one of them: ``policy`` is the policy, the other keys are its settings.
        settings: as for `policy`; none with a file.

    Raises:
        DescriptionError: the file cannot be read, or is not valid.
        PluginError: as `policy`.
    """
    if not isinstance(chosen, str) or not chosen.endswith(".toml"):
        return policy(chosen, **settings), None
    tables = _policy_tables(chosen)
    if settings:
        raise DescriptionError(f"policy: {chosen} is a file, and has the settings; {settings} given besides")
    made = {
        name: policy(table.get("policy", "balanced"), **{key: value for key, value in table.items() if key != "policy"})
        for name, table in tables.items()
    }
    return made.get("cores") or policy("balanced"), made.get("qpus")


def _policy_tables(path: str) -> dict[str, dict[str, Any]]:
    tables = read_toml(path, "policy")
    for name, table in tables.items():
        if name not in ("cores", "qpus") or not isinstance(table, dict):
            raise DescriptionError(
                f"policy: {path} has {name!r}; expected the tables [cores] and [qpus], each with policy = NAME and its "
                "settings",
                given=path,
            )
    return tables


def _entry(group: str, name: str) -> EntryPoint:
    entry = _group(group).get(name)
    if entry is None:
        hint = did_you_mean(name, names(group))
        known = ", ".join(names(group)) or "none; is quantum-pilot installed?"
        raise PluginError(f"there is no {_kind(group)} {name!r}{hint}; known: {known}", group=group, name=name)
    return entry


def _kind(group: str) -> str:
    kind = group.rpartition(".")[2]
    named = {"policies": "policy", "qpus": "QPU", "kinds": "kind of task", "miniapps": "mini-app"}
    return named.get(kind, kind.removesuffix("s"))


@cache
def job_environments() -> tuple[JobEnvironment, ...]:
    """One of each kind that is registered."""
    found = []
    for name in names("pilot.environments"):
        try:
            found.append(load("pilot.environments", name)())
        except Exception as error:  # a plugin for another site must not keep a session from starting
            log.warning("jobs of %s are not recognized: %s", name, error)
    return tuple(found)


def job_environment() -> JobEnvironment:
    """The environment of the job that this process is in; outside of any job a plain `JobEnvironment`."""
    return next((one for one in job_environments() if one.is_here()), JobEnvironment())


#: The group of entry points.
GROUP = "pilot.qpus"


def make(name: str) -> QPU:
    """The QPU of this name, such as "fake:kolkata"; nothing is opened yet.

    Raises:
        DescriptionError: the address is not valid.
        PluginError: no plugin for its scheme, a package that it needs is not installed, or it cannot be made.
    """
    scheme, colon, address = name.partition(":")
    if not colon and scheme not in names(GROUP):
        known = ", ".join(names(GROUP))
        text = f"there is no QPU {name!r}; expected KIND or KIND:NAME, such as fake:kolkata; kinds: {known}"
        raise PluginError(text, group=GROUP, name=name)
    qpu: QPU = made(GROUP, scheme, QPU, name, address)
    return qpu


@lru_cache(1024)  # a service's users name QPUs, with any options
def is_device(name: str) -> bool:
    """True for a device, which one worker at a time uses; False for a simulator, which each worker may have.

    Raises:
        DescriptionError, PluginError: as `make`.
    """
    return make(name).exclusive


def devices(description: PilotDescription) -> tuple[str, ...]:
    """Those of a pilot's QPUs that are devices.

    Raises:
        DescriptionError, PluginError: as `make`.
    """
    if len(set(description.qpus)) < len(description.qpus):
        raise description.wrong("qpus", "each name only once")
    try:
        return tuple(name for name in description.qpus if is_device(name))
    except DescriptionError as error:
        raise DescriptionError(f"PilotDescription.qpus: {error}", field="qpus", given=description.qpus) from error
