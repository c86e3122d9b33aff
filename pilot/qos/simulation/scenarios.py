"""Simulations by their settings: what `pilot simulate` runs, and what a study varies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from pilot import registry
from pilot.descriptions import PilotDescription
from pilot.errors import DescriptionError
from pilot.interfaces import Policy
from pilot.manager import history
from pilot.qos.simulation import sessions, swf, traces
from pilot.qos.simulation.bundling import Bundling, ByUse
from pilot.qos.simulation.changes import Drift, Outages
from pilot.qos.simulation.clusters import Cluster
from pilot.qos.simulation.jobs import Job, Kind, bursty, circuits, every, poisson, sharing, synthetic
from pilot.qos.simulation.log import Log
from pilot.qos.simulation.simulator import Simulator
from pilot.qos.simulation.sites import SimulatedQPU
from pilot.scheduling import events
from pilot.scheduling.policies import Scaling

#: Seconds of a circuit on a QPU of a trace, where no kinds are given.
TRACE_SECONDS = 2.0
#: Nodes of the pilot of a log, and cores of each, where they are not given.
SWF_NODES, SWF_CORES = 120, 2
#: Seconds before the end of a trace after which no job is submitted.
TRACE_REST = 86_400.0

#: Settings of circuits that are made up.
MADE_UP = ("arrivals", "jobs", "qpus", "kinds", "load", "outages", "drift", "share")
#: Settings of pilots of nodes.
OF_NODES = ("nodes", "cores", "walltime", "renewals", "queue_wait", "autoscale", "idle")

#: Numbers are no larger; seconds beyond `simulator.LONGEST` are not simulated.
LARGEST = 1e9
#: Seconds between things that happen again and again, at least: a circuit takes a few.
SHORTEST = 1.0
#: QPUs times kinds of circuits, at most: each has an estimate.
MOST_ESTIMATES = 10_000_000
#: Nodes of a pilot, at most: each is an object.
MOST_NODES = 1_000_000
Positive = Annotated[float, msgspec.Meta(gt=0, le=LARGEST)]
Seconds = Annotated[float, msgspec.Meta(ge=SHORTEST, le=LARGEST)]
AtLeastOne = Annotated[int, msgspec.Meta(ge=1, le=int(LARGEST))]
File = Annotated[str, msgspec.Meta(min_length=1)]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What is simulated."""

    arrivals: Literal["poisson", "bursty"] = "poisson"
    jobs: AtLeastOne = 10_000
    qpus: AtLeastOne = 8
    kinds: AtLeastOne = 45
    #: Work that comes, as a part of what all QPUs together can do.
    load: Positive = 0.85
    #: A queue trace: the QPUs and other people's jobs are those of the trace, and a job comes every so many seconds.
    trace: File | None = None
    interval: Seconds = 30.0
    #: A log in the Standard Workload Format.
    swf: File | None = None
    #: The folder of a session, whose tasks come again.
    journal: File | None = None
    #: Nodes of a pilot, and cores of each: for a log or a session. None: `SWF_NODES`; those of the session's pilots.
    nodes: Annotated[int, msgspec.Meta(ge=1, le=MOST_NODES)] | None = None
    cores: AtLeastOne | None = None
    #: Seconds that a pilot of nodes lasts, how many successors it has, and how long the job of each waits.
    walltime: Positive | None = None
    renewals: Annotated[int, msgspec.Meta(ge=0)] = 0
    queue_wait: Annotated[float, msgspec.Meta(ge=0, le=LARGEST)] = 0.0
    #: An autoscaler asks for the pilots: the least and the largest number of them; None: there is one pilot.
    autoscale: tuple[Annotated[int, msgspec.Meta(ge=0)], AtLeastOne] | None = None
    #: Seconds after which an idle pilot of an autoscaler is given back.
    idle: Positive = 60.0
    #: Mean seconds between two failures of a QPU and until it is back; None: none fail.
    outages: tuple[Seconds, Seconds] | None = None
    #: Seconds between two calibrations, which change all errors; None: they stay.
    drift: Seconds | None = None
    #: The part of the kinds of circuits that may share a QPU, of 27 qubits.
    share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    seed: Annotated[int, msgspec.Meta(ge=0)] = 0


def named(policy: str, **settings: Any) -> Policy:
    """The policy of this name, with these settings.

    Raises:
        PluginError: there is no such policy, or it has no such settings.
    """
    return registry.policy(policy, **settings)


def simulate(
    settings: Settings,
    policy: Policy | None = None,
    qpu_policy: Policy | None = None,
    warn: Callable[[str], object] = lambda sentence: None,
) -> Log:
    """Run a simulation. Blocks.

    Args:
        settings: what is simulated.
        policy: of tasks for cores, and for QPUs unless there is another one for these.
        qpu_policy: of tasks for QPUs.
        warn: is called before the simulation, with a sentence about jobs that no pilot can ever run.

    Raises:
        DescriptionError: a file cannot be read, or settings exclude each other.
        SessionError: the folder has no session, or one that cannot be read.
    """
    _check(settings)
    if settings.swf:
        jobs, cluster = swf.read(settings.swf), _cluster(settings, SWF_NODES, SWF_CORES)
        cluster.check(jobs)
        for sentence in cluster.warnings(jobs):
            warn(sentence)
        return cluster.simulator(policy).run(jobs)
    if settings.journal:
        instead = _instead(settings)
        return sessions.play(history.read(settings.journal), policy, qpu_policy, instead, warn)
    if settings.trace:
        recorded = traces.read(settings.trace)
        return on_trace(recorded, qpu_policy or policy, settings.interval, seed=settings.seed)
    return on_qpus(settings, qpu_policy or policy)


def _check(settings: Settings) -> None:
    """Raise DescriptionError where settings exclude each other, or say nothing of what is simulated."""
    given = [field for field in ("trace", "swf", "journal") if getattr(settings, field)]
    if len(given) > 1:
        raise _unwanted(settings, given[1], f"which excludes {given[0]}: give one of them")
    for field in _changed(settings, MADE_UP) if given else []:
        raise _unwanted(settings, field, f"which is for circuits that are made up: leave out {given[0]}")
    for field in _changed(settings, ("interval",)) if not settings.trace else []:
        raise _unwanted(settings, field, "which is for the queues of a trace: give it with trace")
    if settings.qpus * settings.kinds > MOST_ESTIMATES:
        raise _unwanted(
            settings,
            "qpus",
            f"with {settings.kinds} kinds of circuits; expected at most {MOST_ESTIMATES:,} of both together",
        )
    for field in _changed(settings, OF_NODES) if not (settings.swf or settings.journal) else []:
        raise _unwanted(settings, field, "which is for pilots of nodes: give it with swf or journal")


def _unwanted(settings: Settings, field: str, why: str) -> DescriptionError:
    given = getattr(settings, field)
    return DescriptionError(f"{field}: {given!r} given, {why}", field=field, given=given)


def _changed(settings: Settings, fields: Sequence[str]) -> list[str]:
    """Those of these fields that are not their defaults."""
    usual = Settings()
    return [field for field in fields if getattr(settings, field) != getattr(usual, field)]


def _instead(settings: Settings) -> Cluster | None:
    """The pilots instead of those of a session; None: those of the session."""
    if not (changed := _changed(settings, OF_NODES)):
        return None
    if settings.nodes is None or settings.cores is None:
        raise DescriptionError(
            f"{changed[0]}: with journal the pilots are those of the session; for others give nodes and cores, too",
            field=changed[0],
            given=getattr(settings, changed[0]),
        )
    return _cluster(settings, settings.nodes, settings.cores)


def _cluster(settings: Settings, nodes: int, cores: int) -> Cluster:
    """The pilots of nodes; ``nodes`` and ``cores`` where they are not given."""
    if settings.walltime is None and settings.renewals:
        raise DescriptionError(
            f"renewals: {settings.renewals} given: pilots without a walltime need no successors; give a walltime",
            field="renewals",
            given=settings.renewals,
        )
    description = PilotDescription(
        name="nodes",
        number_of_nodes=settings.nodes or nodes,
        cores_per_node=settings.cores or cores,
        walltime=settings.walltime,
        renewals=settings.renewals,
    )
    if settings.autoscale is None:
        if settings.idle != Settings().idle:
            raise DescriptionError(
                f"idle: {settings.idle:g} given, which is for an autoscaler: give autoscale, too",
                field="idle",
                given=settings.idle,
            )
        return Cluster(description, settings.queue_wait)
    least, most = settings.autoscale
    scaling = Scaling(description=description, minimum=least, maximum=most, idle=settings.idle)
    return Cluster(description, settings.queue_wait, scaling)


def on_qpus(settings: Settings, policy: Policy | None, kinds: Sequence[Kind] = ()) -> Log:
    """Circuits on QPUs that nobody else uses.

    Args:
        settings: with ``arrivals``, ``jobs``, ``load``, ``seed``; without ``kinds`` also the numbers of QPUs and kinds.
        policy: of tasks for QPUs.
        kinds: of circuits; empty: `synthetic` ones.
    """
    kinds = kinds or synthetic([f"qpu-{at}" for at in range(settings.qpus)], settings.kinds, settings.seed)
    may = round(settings.share * len(kinds))
    kinds = [*sharing(kinds[:may]), *map(msgspec.structs.replace, kinds[may:])]  # drift changes them
    names = list(kinds[0].seconds)
    bundling = Bundling(ByUse()) if settings.share else None
    simulator = Simulator(qpu_policy=policy)
    sites = [SimulatedQPU(name, bundling) for name in names]
    for site in sites:
        simulator.add(site)
    if settings.outages is not None:
        Outages(simulator, sites, *settings.outages, settings.seed).begin()
    if settings.drift is not None:
        Drift(simulator, kinds, settings.drift, settings.seed).begin()
    mean = float(np.mean([list(kind.seconds.values()) for kind in kinds]))
    arrivals = poisson if settings.arrivals == "poisson" else bursty
    return simulator.run(arrivals(kinds, settings.load * len(names) / mean, settings.jobs, settings.seed))


def on_trace(
    recorded: dict[str, traces.QueueTrace],
    policy: Policy | None,
    interval: float = 30.0,
    kinds: Sequence[Kind] = (),
    snapshots: dict[str, str] | None = None,
    seed: int = 0,
    bundling: Bundling | None = None,
    burst: int = 1,
) -> Log:
    """Circuits on QPUs whose queues are those of a trace: a job every ``interval`` seconds until 24 hours before the
    end.

    Args:
        recorded: the traces by the name of the QPU.
        policy: of tasks for QPUs.
        interval: seconds.
        kinds: of circuits; empty: one, of `TRACE_SECONDS` and fidelity 1.
        snapshots: the name in estimates of each QPU of the trace; None: the same.
        seed: of the kinds of the jobs.
        bundling: which tasks of a batch run at the same time; None: none do.
        burst: jobs that come at a time.

    Raises:
        DescriptionError: the traces last no longer than 24 hours.
    """
    check_length(recorded)
    simulator = Simulator(qpu_policy=policy)

    def seen(site: traces.TracedQPU, pending: int, active: bool) -> None:
        simulator.feed(events.QueueSeen(site.id, site.name, pending, active))

    for trace in recorded.values():
        site = traces.TracedQPU(trace, (snapshots or {}).get(trace.name), bundling)
        simulator.add(site)
        site.begin(seen)
    end = end_of(recorded)
    names = [(snapshots or {}).get(name, name) for name in recorded]
    ones = np.ones(len(names))
    kinds = kinds or [circuits("circuit", names, ones, TRACE_SECONDS * ones)]
    return simulator.run(every(kinds, interval, end - TRACE_REST, seed, burst=burst), until=end)


def check_length(recorded: dict[str, traces.QueueTrace]) -> None:
    """Raise DescriptionError where a trace is so short that no job would be submitted."""
    if (end := end_of(recorded)) <= TRACE_REST:
        raise DescriptionError(
            f"trace: it lasts {end / 3600:.3g} hours; expected more than {TRACE_REST / 3600:g}: in the last ones no "
            "job is submitted, so that those before can end",
            field="trace",
        )


def end_of(recorded: dict[str, traces.QueueTrace]) -> float:
    """When the last sample was taken: seconds since the first one."""
    return max(float(trace.times[-1]) for trace in recorded.values())


def on_nodes(jobs: Iterable[Job], nodes: int, cores: int, policy: Policy | None) -> Log:
    """Jobs on one pilot with so many nodes, without an end."""
    description = PilotDescription(name="nodes", number_of_nodes=nodes, cores_per_node=cores)
    return Cluster(description).simulator(policy).run(jobs)
