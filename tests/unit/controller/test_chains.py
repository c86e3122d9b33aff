"""Tasks that depend on others: chains, fans, and what a failure does to them."""

from __future__ import annotations

import itertools
import sys

import pytest
from controller_steps import chain_of

from pilot.results import CANCELLED, RAISED
from pilot.scheduling import events
from pilot.states import TaskState
from pilot.testing.world import World


def test_a_dependent_waits_and_gets_the_value(world: World) -> None:
    world.pilot()
    one, two = world.submit(2)
    (after,) = world.submit(needs={one: True, two: False})
    assert world.state(after) is TaskState.WAITING
    assert world.explain(after) == f"waits for the tasks that it depends on: {one}, {two}"
    world.finish([one])
    assert world.state(after) is TaskState.WAITING
    world.finish([two])
    assert world.state(after) is TaskState.BOUND
    assert world.tasks[after].values == {one: b"value"}
    world.finish([after])
    assert world.tasks[after].values is None


def test_a_failure_runs_down_the_chain(world: World) -> None:
    world.pilot()
    chain = world.submit()
    for _ in range(4):
        chain += world.submit(needs={chain[-1]: True})
    (bystander,) = world.submit()
    world.finish(chain[:1], status=RAISED)
    assert world.outcomes == {chain[0]: RAISED}
    for links, (before, id) in enumerate(itertools.pairwise(chain), 1):
        failure = world.links[id]
        assert (failure.cause, failure.first, failure.links) == (before, chain[0], links)
        assert f"task {before} (work), which failed" in failure.reason
    assert world.state(bystander) is TaskState.BOUND


def lose_twice(world: World, head: int) -> None:
    for _ in range(3):
        world.lose(head)


def end_the_pilot(world: World, head: int) -> None:
    world.feed(events.PilotStopAsked("p", drain=False))


LINKS = 3 * sys.getrecursionlimit()
WAYS = {
    "the head fails": lambda world, head: world.finish([head], status=RAISED),
    "the head is cancelled while it runs": lambda world, head: world.finish([head], status=CANCELLED),
    "the head is cancelled": lambda world, head: world.feed(events.CancelAsked([head])),
    "the head kills its workers": lose_twice,
    "no pilot is left": end_the_pilot,
}


@pytest.mark.parametrize("way", WAYS)
def test_a_long_chain_ends_with_its_head(world: World, way: str) -> None:
    world.pilot(cores=1, ready=way != "the head is cancelled")
    chain = chain_of(world, LINKS)
    WAYS[way](world, chain[0])
    assert world.settled == dict.fromkeys(chain, 1)
    last = world.links[chain[-1]]
    assert (last.cause, last.first, last.links) == (chain[-2], chain[0], LINKS)
    assert not world.controller.queue.tasks


def test_a_long_chain_is_worked_off(world: World) -> None:
    world.pilot(cores=1)
    chain = chain_of(world, LINKS)
    world.work_off()
    assert world.order == chain
    assert world.settled == dict.fromkeys(chain, 1)


def test_diamonds_and_fans_fail_once_each(world: World) -> None:
    """Five layers in which each task needs all of the layer before, and a fan of the last one."""
    world.pilot()
    layers = [world.submit(1)]
    for width in (20, 20, 1, 2000):
        layers.append([world.submit(needs=dict.fromkeys(layers[-1], True))[0] for _ in range(width)])
    world.finish(layers[0], status=RAISED)
    for links, layer in enumerate(layers):
        for task in layer:
            assert world.settled[task] == 1
            assert not links or (world.links[task].first, world.links[task].links) == (layers[0][0], links)


def test_the_nearest_of_two_causes_counts(world: World) -> None:
    world.pilot()
    far = chain_of(world, 3)
    (near,) = world.submit()
    (last,) = world.submit(needs={far[-1]: True, near: True})
    world.feed(events.OutcomesArrived("p", 1, "w", []))
    world.finish([near], status=RAISED)
    assert (world.links[last].first, world.links[last].links) == (near, 1)
    world.finish(far[:1], status=RAISED)
    assert world.settled == dict.fromkeys(world.tasks, 1)


def test_two_dependencies_fail_and_the_dependent_once(world: World) -> None:
    world.pilot()
    one, two = world.submit(2)
    (after,) = world.submit(needs={one: True, two: True})
    world.finish([one], status=RAISED)
    world.finish([two], status=RAISED)
    assert world.settled == {one: 1, two: 1, after: 1}


def test_a_cancelled_dependency(world: World) -> None:
    world.pilot(ready=False)
    (one,) = world.submit()
    (after,) = world.submit(needs={one: True})
    world.feed(events.CancelAsked([one]))
    assert "which was cancelled" in world.links[after].reason
