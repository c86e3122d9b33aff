"""Tasks that wait for tasks of their own, in the controller: who has their cores, and which waits are ended."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pilot.interfaces import JobState
from pilot.resources import Node
from pilot.scheduling import events, waiting_tasks
from pilot.states import TaskState
from pilot.testing.world import World

GIB = 1 << 30


@pytest.fixture
def world() -> World:
    return World()


def gpus(world: World, count: int, id: str = "p", names: Sequence[str] = ("n0",), cores: int = 4) -> str:
    """A pilot whose nodes have so many GPUs each."""
    world.pilot(id, ready=False, cores=cores, gpus_per_node=count, number_of_nodes=len(names))
    world.ready(
        id, nodes=[Node(name, name, cores, [f"{name}-{gpu}" for gpu in range(count)], 4 * GIB) for name in names]
    )
    return id


def wait(world: World, task: int, tasks: list[int], node: str = "n0", number: int = 1) -> list[events.EndWait]:
    """A running task waits; the waits that are ended then."""
    pilot, batch = world.where(task)
    commands = world.feed(events.TaskWaits(pilot, batch, "w", node, task, number, tasks))
    return [one for one in commands if isinstance(one, events.EndWait)]


def resume(world: World, task: int) -> None:
    pilot, batch = world.where(task)
    world.feed(events.TaskResumes(pilot, batch, task))


def test_others_have_the_cores_of_a_task_that_waits(world: World) -> None:
    world.pilot(cores=1)
    (parent,) = world.submit()
    child, other = world.submit(2)
    assert world.sent() == [[parent]]
    assert not wait(world, parent, [child])
    assert world.sent() == [[parent], [child]]
    world.finish([child])
    assert world.state(other) is TaskState.BOUND  # it was queued before the parent has noticed
    resume(world, parent)
    (more,) = world.submit()
    world.finish([other])
    assert world.state(more) is TaskState.QUEUED
    world.finish([parent])
    assert world.state(more) is TaskState.BOUND
    world.work_off()
    assert world.controller.pilots.by_id["p"].used_cores == 0


def test_a_parent_that_ends_or_is_lost_while_it_waits_leaves_nothing_behind(world: World) -> None:
    world.pilot(cores=2)
    first, second = world.submit(2)
    assert not wait(world, first, [])
    assert not wait(world, second, [])
    world.finish([first])
    world.lose(second, blame=False)
    assert world.sent() == [[second]]
    assert world.controller.pilots.by_id["p"].used_cores == 1
    pilot, batch = world.where(second)
    world.feed(events.TaskResumes(pilot, batch - 1, second))  # of the attempt before, late
    world.work_off()
    assert world.controller.pilots.by_id["p"].used_cores == 0


def test_a_wait_for_a_gpu_that_the_waiting_task_has_is_ended(world: World) -> None:
    gpus(world, 1)
    (parent,) = world.submit(num_gpus=1)
    (child,) = world.submit(num_gpus=1)
    (ended,) = wait(world, parent, [child], number=7)
    assert (ended.worker, ended.task, ended.number) == ("w", parent, 7)
    assert "p has 0 GPUs, but 1 are needed" in ended.reason
    world.finish([parent])
    assert world.state(child) is TaskState.BOUND


def test_a_wait_that_another_node_pilot_or_scaler_can_end_goes_on(world: World) -> None:
    gpus(world, 1, names=("n0", "n1"))
    (parent,) = world.submit(num_gpus=1)
    (child,) = world.submit(num_gpus=1)
    (grandchild,) = world.submit(num_gpus=1)
    assert not wait(world, parent, [child])
    (ended,) = wait(world, child, [grandchild], node="n1")
    assert ended.task == child  # the last one: its parent goes on when it has ended
    gpus(world, 1, id="q")
    assert world.state(grandchild) is TaskState.BOUND


def test_tasks_that_wait_for_each_others_gpus_are_found(world: World) -> None:
    gpus(world, 2)
    first, second = world.submit(2, num_gpus=1)
    mine, other = world.submit(2, num_gpus=1)
    assert not wait(world, first, [mine])  # the second one may end
    (ended,) = wait(world, second, [other])
    assert ended.task == second
    assert not [one for one in world.tick(1.0) if isinstance(one, events.EndWait)]  # it ends, and the first one goes on
    resume(world, second)
    world.finish([second])
    assert world.state(mine) is TaskState.BOUND


def test_one_task_of_those_waited_for_is_enough_until_it_is_over(world: World) -> None:
    gpus(world, 1)
    (parent,) = world.submit(num_gpus=1)
    small, never = *world.submit(), *world.submit(num_gpus=1)
    (after,) = world.submit(needs={never: True})
    assert not wait(world, parent, [small, after])
    world.finish([small])
    (ended,) = [one for one in world.tick(0.1) if isinstance(one, events.EndWait)]
    assert ended.task == parent and f"task {never}" in ended.reason


@pytest.mark.parametrize(("held", "wanted", "goes_on"), [(0.5, 0.5, True), (0.5, 1, False), (0.75, 0.5, False)])
def test_parts_of_gpus_are_counted(world: World, held: float, wanted: float, goes_on: bool) -> None:
    gpus(world, 1)
    (parent,) = world.submit(num_gpus=held)
    (child,) = world.submit(num_gpus=wanted)
    assert (not wait(world, parent, [child])) is goes_on


def test_memory_of_a_task_that_waits_stays_its_own(world: World) -> None:
    gpus(world, 0)
    (parent,) = world.submit(memory="3 GiB")
    fits, large = *world.submit(memory="1 GiB"), *world.submit(memory="2 GiB")
    assert not wait(world, parent, [fits])
    (ended,) = wait(world, parent, [large], number=2)
    assert "GiB of memory" in ended.reason


def test_a_pilot_that_goes_away_may_make_a_wait_endless() -> None:
    world = World(wait_for_pilot=60.0)
    gpus(world, 1)
    gpus(world, 1, id="q")
    (parent,) = world.submit(num_gpus=1, pilot="p")
    world.submit(num_gpus=1, pilot="q")
    (child,) = world.submit(num_gpus=1)
    assert not wait(world, parent, [child])
    world.end("q", how=JobState.CANCELLED)
    (ended,) = [one for one in world.tick(0.1) if isinstance(one, events.EndWait)]
    assert ended.task == parent


def test_only_so_many_tasks_wait_on_a_pilot(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting_tasks, "MOST_FOR_A_CORE", 3)
    world.pilot(cores=1)
    tasks = world.submit(5)
    for task in tasks[:3]:
        assert not wait(world, task, [tasks[-1]], node="")
    (ended,) = wait(world, tasks[3], [tasks[-1]], node="")
    assert ended.task == tasks[3] and "3 tasks of p wait" in ended.reason
