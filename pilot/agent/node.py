"""What an agent, or another process of the pilot, finds on its node: its part of it, addresses, folders, the engine."""

from __future__ import annotations

import os
import platform
import socket
from pathlib import Path

from pilot import registry
from pilot.agent.gpus import gpu_facts
from pilot.interfaces import Allocation, Engine
from pilot.resources import Node
from pilot.wire.addresses import hosts, interfaces, is_loopback, split
from pilot.wire.folders import scratch_parent, takes_files
from pilot.wire.marks import nodes_mark
from pilot.wire.session import JOB, AgentSettings
from pilot.worker.rank import given_rank


def own_rank() -> int:
    """This process's number among those that its job has started together, 0 when it has none."""
    return given_rank(registry.job_environment().rank_variables) or 0


def describe(settings: AgentSettings) -> Node:
    """The part of this node that the pilot may use.

    Its name is that of its job environment, or the host's when the pilot has only this host; with the number of its
    job when the job was added later, since it may share a node with an earlier one.
    """
    host = platform.node()
    name = registry.job_environment().node() if settings.remote else host
    job = os.environ.get(JOB, "")
    name = f"{name}+{job}" if job else name
    names, variables = gpu_facts(settings.gpus)
    return Node(name, host, settings.cores, names, settings.memory, job, variables)


def make_engine(settings: AgentSettings, node: Node, address: str, folder: Path) -> Engine:
    """The pilot's engine on this node.

    Args:
        settings: of the agent.
        node: what the pilot may use of it.
        address: to listen on.
        folder: of the pilot.
    """
    allocation = Allocation(
        pilot=settings.pilot,
        node=node.name,
        nodes=settings.nodes,
        address=address,
        ports=settings.ports,
        cores=node.cores,
        gpus=len(node.gpus),
        memory=node.memory,
        folder=folder,
    )
    engine: Engine = registry.load("pilot.engines", settings.engine)(allocation)
    return engine


def outward_address(peer: str = "", interface: str = "") -> str:
    """An address of this host that others can reach: of this interface; or the one of the route to ``peer`` (nothing is
    sent there); or the best of its own; loopback when it has no other."""
    if not interface and peer and not is_loopback(peer):
        with socket.socket(socket.AF_INET6 if "[" in peer else socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(split(peer))
            return str(probe.getsockname()[0])
    return next(iter(hosts(interface)), "127.0.0.1")


def lacks_places(settings: AgentSettings) -> str | None:
    """Which folder or network interface of the pilot's description this host lacks, as a text; None when it has all."""
    if settings.scratch and not takes_files(folder := scratch_parent(settings.scratch)):
        shown = f"{settings.scratch} ({folder})" if folder != settings.scratch else folder
        return f"scratch folder {shown} is no folder on {platform.node()} where files can be made"
    if settings.interface and settings.interface not in (there := interfaces()):
        return f"network interface {settings.interface} is not on {platform.node()}, which has {', '.join(there)}"
    return None


def own_mark(mark: str) -> str:
    """The mark of the processes on this node. It is below the pilot's, so they end with the pilot, or by themselves."""
    job = os.environ.get(JOB, "")
    return f"{nodes_mark(mark, job) if job else mark}.{own_rank()}"
