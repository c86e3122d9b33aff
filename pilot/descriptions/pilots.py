"""Descriptions of pilots."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from pilot import sites
from pilot.errors import DescriptionError, did_you_mean, invalid
from pilot.fields import (
    AtLeastOne,
    Count,
    Description,
    NamedFields,
    Names,
    PathText,
    Ports,
    Size,
    Text,
    Texts,
    Time,
    TimeOrZero,
    Words,
    YesOrNo,
    checked_path,
    checked_variables,
    checked_words,
    size_of,
)
from pilot.profiles import ALIASES, Profile
from pilot.times import seconds_of

_READERS = {
    **dict.fromkeys(("mpi", "container", "tunnel"), checked_words),
    **dict.fromkeys(("working_directory", "scratch", "venv", "conda_environment"), checked_path),
    **dict.fromkeys(("walltime", "drain", "orphan_timeout"), seconds_of),
    "environment": checked_variables,
}

#: Words of batch systems, Dask, Parsl and process pools.
_CALLED = {
    **ALIASES,
    **dict.fromkeys(("time", "time_limit", "timeout", "timeout_min"), "walltime"),
    **dict.fromkeys(("nodes", "nnodes", "nodes_per_block"), "number_of_nodes"),
    **dict.fromkeys(
        ("cpus", "cpus_per_task", "workers", "n_workers", "max_workers", "max_workers_per_node"), "cores_per_node"
    ),
    **dict.fromkeys(("ntasks", "tasks_per_node", "processes"), "cores_per_node"),
    **dict.fromkeys(("env", "env_vars"), "environment"),
    "python": "venv",
    "worker_init": "scheduler_script_commands",
}

_SHORT = re.compile(r"([a-z]+://)?(process|ray|dask):([1-9]\d*)(?::([1-9]\d*))?")


class _Sited(NamedFields):
    """Takes fields that are not given from the profile of the site that is."""

    if not TYPE_CHECKING:

        def __call__(self, *args: Any, **fields: Any) -> Any:
            site = fields.get("site")
            has_all = len(fields) == len(self.__struct_fields__)  # as from a pickle: the site has given its own
            if args or has_all or not isinstance(site, str):
                return super().__call__(*args, **fields)
            defaults = sites.find(site)
            try:
                pilot = super().__call__(**defaults.merged_with(fields))
            except DescriptionError as error:
                raise defaults.placed(error, fields) from None
            defaults.check_limits(pilot)
            return pilot


class PilotDescription(Description, frozen=True, kw_only=True, metaclass=_Sited):
    """A placeholder job, and the engine that its agent runs inside.

    A launcher carries a field out or refuses it: ``pilot doctor --fields`` shows which. With ``site``, fields that are
    not given have the values of that site's profile.

    Raises:
        DescriptionError: a field has a value that is not valid; the message has both.
    """

    _called = _CALLED
    _readers = _READERS
    #: The forms that `from_text` takes, for messages.
    text_forms: ClassVar[str] = (
        "[SCHEME://]ENGINE:CORES[:NODES], such as ray:2, srun://ray:4:2 or slurm://dask:8, with an engine of process, "
        "ray and dask; FILE.toml[:TABLE]; or SITE[:TABLE], one of those that `pilot sites` lists"
    )

    #: Where the job runs: ``scheme://host``; the scheme names a launcher (``local``).
    resource: Text = "local://"
    #: What runs the tasks inside: ``process``, ``ray`` or ``dask``.
    engine: Text = "process"
    #: Display name, by which ``TaskDescription.pilot`` may ask for it. Default: its id.
    name: Text | None = None
    #: Profile that fields come from which are not given: the name of a site, or ``NAME:TABLE``.
    site: Text | None = None
    #: Nodes of the job.
    number_of_nodes: AtLeastOne = 1
    #: Cores of each node that the pilot may use: one worker each. Default with local://: all that this process may use.
    cores_per_node: AtLeastOne | None = None
    #: GPUs of each node that the pilot may use.
    gpus_per_node: Count = 0
    #: Main memory of each node that the pilot may use: bytes, or a text such as "8 GiB". Default: all of it.
    memory: Size | None = None
    #: How long the pilot lasts: seconds, a timedelta, or a text such as "1:30:00". It is kept in seconds.
    #: Default: as long as its job, whose end is known inside a job of Slurm's.
    walltime: Time | None = None
    #: It starts no new tasks in the last seconds of its walltime: so many. Default: a tenth of it, at most 60.
    drain: TimeOrZero | None = None
    #: Successor jobs: each is queued in time to take over when the one before it drains.
    renewals: Count = 0

    #: Partition (Slurm) or queue (PBS, LSF).
    queue: Text | None = None
    #: Quality of service (``sbatch --qos``).
    qos: Text | None = None
    #: Account that is charged (``sbatch --account``).
    project: Text | None = None
    #: ``sbatch --reservation``.
    reservation: Text | None = None
    #: Features that the nodes must have (``sbatch --constraint``).
    constraint: Text | None = None
    #: Generic resources of each node (``sbatch --gres``), such as "gpu:a100:4" or "qpu:1".
    gres: Text | None = None
    #: Licences of the cluster (``sbatch --licenses``), such as "qpu_ibm:1".
    licenses: Text | None = None
    #: Whole nodes for this pilot alone (``sbatch --exclusive``).
    exclusive: YesOrNo = False
    #: Environment modules to load.
    modules: Names = ()
    #: Folder of a virtual environment, and name or folder of a conda environment: agent and workers run with its Python
    #: and its packages. Python (3.11, say), quantum-pilot and cloudpickle must have the same versions as here.
    venv: Text | None = None
    conda_environment: Text | None = None
    #: The start of the agent's command line, such as ("apptainer", "exec", "image.sif"). The container must see the
    #: session folder.
    container: Words = ()
    #: Lines that are copied into the batch script: ``#SBATCH ...`` lines, and commands to run before the agent.
    scheduler_script_commands: Names = ()
    #: PSI/J's custom attributes, such as {"slurm.partition": "debug"}; with psij:// only.
    custom_attributes: Texts = {}
    #: Ports to listen on, first and last; default: any. For the agent, its workers, and its engine where it has a
    #: setting for that.
    ports: Ports | None = None
    #: Network interface of the nodes, such as "ib0", at whose addresses the nodes of the pilot reach each other.
    interface: Text | None = None
    #: A command that connects to the manager's host, such as ("ssh", "-p", "2222", "login1"): the agent runs
    #: ``ssh -N -L 127.0.0.1:port:127.0.0.1:port … -p 2222 login1`` (ssh(1)) and reaches the manager through it.
    tunnel: Words = ()
    #: QPUs that its agent reaches, simulated ones too, as ``scheme:address``; the scheme names a plugin: "aer",
    #: "fake:kolkata", "ibm:ibm_fez", "qrmi:ibm_fez", "qiskit:module:object", "pennylane:lightning.qubit".
    qpus: Names = ()
    #: The command that starts MPI ranks, such as ("srun", "--mpi=pmi2") or ("mpiexec",). Default: found by trying.
    mpi: Words = ()

    #: Labels that tasks can ask for.
    labels: Names = ()
    #: Environment variables of the agent and its workers.
    environment: Texts = {}
    #: Where tasks run. Default: where the manager was made; relative paths count from there.
    working_directory: PathText | None = None
    #: Folder for temporary files, on each node; $NAME stands for variables of the job. Default: the job's TMPDIR.
    scratch: Text | None = None
    #: How often the job is submitted again after its agent was lost, or never started, before the pilot fails. A job
    #: that the resource manager refuses is not submitted again.
    restarts: Count = 2
    #: Seconds that the agent continues without a manager, so that one can attach.
    #: Less than 5 s counts as 5 s.
    orphan_timeout: Time = 600.0

    @classmethod
    def build(cls, given: PilotDescription | Mapping[str, Any]) -> PilotDescription:
        """As `Description.build`; other systems' names of a field are taken too: ``type`` (engine), ``account``
        (project) and ``partition`` (queue)."""
        if isinstance(given, Mapping):
            given = {
                (ALIASES[key] if ALIASES.get(key, key) not in given else key): value for key, value in given.items()
            }
        if isinstance(given, str):
            text = f"a PilotDescription, or a dict with its keys; PilotDescription.from_text({given!r}) reads a text"
            raise invalid(cls.__name__, given, text)
        return super().build(given)

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str], table: str | None = None, **changes: Any) -> PilotDescription:
        """The pilot that a profile describes: a TOML file with one table a kind of pilot, such as ``[cpu]``.

        Keys are the fields' names, with those that `build` takes too; keys before the first table hold for all tables.

        Args:
            path: the file.
            table: the table's name; may be left out when there is one table, or none, or the file has a ``default``.
            **changes: fields that differ from the profile.

        Raises:
            DescriptionError: the file cannot be read or is not valid TOML (with the line), there is no such table (with
                the known ones), a key or value is not valid (with file, line and table), or above a limit of the file.
        """
        defaults = Profile(path).defaults(table)
        try:
            pilot = cls.build(defaults.merged_with(changes))
        except DescriptionError as error:
            raise defaults.placed(error, changes) from None
        defaults.check_limits(pilot)
        return pilot

    @classmethod
    def from_text(cls, text: str) -> PilotDescription:
        """The pilot that a short text describes, as on command lines: ``ray:2`` (engine and cores), ``slurm://ray:4:2``
        (4 cores on each of 2 nodes), ``site.toml:gpu`` (a table of a profile), ``hpc:gpu`` (a table of the site "hpc").

        Raises:
            DescriptionError: the text does not describe a pilot; or as `from_toml`.
        """
        if not isinstance(text, str):
            raise invalid("pilot", text, cls.text_forms)
        match = _SHORT.fullmatch(text)
        if match is not None:
            resource, engine, cores, nodes = match.groups()
            return cls(
                resource=resource or "local://",
                engine=engine,
                cores_per_node=int(cores),
                number_of_nodes=int(nodes or 1),
            )
        file, _, table = text.partition(":")
        if not file.endswith(".toml"):
            known = sites.files()
            if file in known:
                return cls(site=text)
            raise invalid("pilot", text, f"{cls.text_forms}{did_you_mean(file, known)}")
        return cls.from_toml(file, table or None)

    def __post_init__(self) -> None:
        super().__post_init__()
        if "://" not in self.resource:
            raise self.wrong("resource", "scheme://host, such as local://")
        if self.ports is not None and self.ports[0] > self.ports[1]:
            raise self.wrong("ports", "two ports from 1 to 65535, first and last")
        if self.renewals and self.walltime is None:
            raise self.wrong("renewals", "0 without a walltime: a pilot without an end needs no successor")
        if self.seconds is not None and self.drain_seconds >= self.seconds:
            raise self.wrong("drain", f"less than the walltime ({self.seconds:g} s)")
        msgspec.structs.force_setattr(self, "memory", size_of(self, "memory"))

    def given(self) -> list[str]:
        """The fields whose values are not their defaults, in their order."""
        default = type(self)()
        return [field for field in self.__struct_fields__ if getattr(self, field) != getattr(default, field)]

    @property
    def drain_seconds(self) -> float:
        """Seconds of `drain`, with the default filled in; 0 without a walltime."""
        if self.seconds is None:
            return 0.0
        return min(60.0, self.seconds / 10) if self.drain is None else self.drain  # type: ignore[return-value]

    @property
    def seconds(self) -> float | None:
        """The walltime in seconds; None: that of its job."""
        return self.walltime  # type: ignore[return-value]  # seconds since it was built

    @property
    def cores(self) -> int:
        """Cores of each node, with the default of local:// filled in."""
        return self.cores_per_node or len(os.sched_getaffinity(0))
