"""What tests of the controller in several files do to a world."""

from __future__ import annotations

from typing import Any

from pilot.descriptions import PilotDescription
from pilot.results import Attempt
from pilot.scheduling import events
from pilot.scheduling.policies import Scaling
from pilot.testing.world import World


def attempt(reason: str, batch: int) -> Attempt:
    return Attempt(number=1, pilot="p", worker="w", reason=reason, ended=1.0, batch=batch)


def scale(world: World, name: str | None = None, **settings: Any) -> None:
    wanted = PilotDescription(cores_per_node=2, name=name, restarts=0)
    world.feed(events.ScalingAsked("s", Scaling(description=wanted, **settings), 2**30))


def chain_of(world: World, links: int, **fields: Any) -> list[int]:
    chain = world.submit(**fields)
    for _ in range(links):
        chain += world.submit(needs={chain[-1]: True})
    return chain
