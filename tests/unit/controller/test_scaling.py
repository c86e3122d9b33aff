"""Autoscaling, pilots of several nodes, and MPI tasks."""

from __future__ import annotations

from controller_steps import scale

from pilot.errors import ErrorCode
from pilot.resources import Node
from pilot.scheduling import events
from pilot.scheduling.events import StartPilot, StopPilot
from pilot.states import PilotState, TaskState
from pilot.testing.world import World, measured

# ---- autoscaling (when to do what: test_scaling.py) ------------------------------------------------------------------


def test_pilots_come_with_the_tasks_and_go_without(world: World) -> None:
    scale(world, "grown", maximum=2, idle=60, delay=5)
    tasks = world.submit(7, pilot="grown")
    (never,) = world.submit(num_cpus=3)
    world.tick(4)
    assert world.asked == []
    assert "another grown has 2 cores, but 3 are needed" in world.errors[never].reason
    world.tick(5)
    world.tick(1)
    assert [one.description.name for one in world.asked] == ["grown.2", "grown.3"]
    world.grant("a")
    world.grant("b", ready=False)
    for _ in range(20):
        world.tick(1)
    assert world.asked == []  # one on its way, and two at most
    world.ready("b")
    assert len(world.batches) == 2
    for pilot in "abababab":
        world.work_off(1.0, pilot)
    assert set(world.outcomes) == set(tasks)
    for _ in range(59):
        assert world.tick(1) == []
    commands = [*world.tick(1), *world.tick(1)]
    assert {StopPilot("a", drain=True), StopPilot("b", drain=True)} <= {
        one for one in commands if isinstance(one, StopPilot)
    }


def test_pilots_that_do_not_start_pause_the_autoscaler(world: World) -> None:
    scale(world, delay=0)
    (task,) = world.submit()
    for number in range(3):
        assert world.state(task) is TaskState.QUEUED
        world.tick(1)
        world.tick(1)
        world.grant(f"p{number}", ready=False)
        world.end(f"p{number}", "no such partition")
    (paused,) = [one for one in world.commands if isinstance(one, events.PauseScaling)]
    assert "3 of its pilots in a row did not start, the last one because no such partition" in paused.reason
    assert world.errors[task].error == ErrorCode.NO_PILOT
    world.tick(100)
    assert world.asked == []


def test_an_autoscaler_that_is_stopped(world: World) -> None:
    scale(world, minimum=2)
    world.grant("a")
    late = world.asked[0]
    world.feed(events.ScalingStopAsked("s", drain=True))
    assert world.pilot_state("a") is PilotState.DRAINING
    assert late is not None
    world.grant("b", ready=False)
    assert world.pilot_state("b") is PilotState.DONE
    assert StartPilot("b") not in world.commands


# ---- nodes and MPI ---------------------------------------------------------------------------------------------------


def nodes(*cores: int) -> list[Node]:
    return [Node(f"node-{number}", "h", each, [], 2**30) for number, each in enumerate(cores)]


def test_an_mpi_task_takes_all_its_cores_and_is_not_sent_ahead(world: World) -> None:
    world.pilot(cores=4, number_of_nodes=2)
    fast = measured(0.01)
    one, two, three = world.submit(3, fast, ranks=4)
    assert world.sent() == [[one], [two]]
    assert world.controller.pilots.by_id["p"].used_cores == 8
    world.finish([one])
    assert world.state(three) is TaskState.BOUND
    (beside,) = world.submit(1, fast, num_cpus=3)
    world.finish([two])
    assert world.state(beside) is TaskState.BOUND
    world.work_off()
    assert world.controller.pilots.by_id["p"].used_cores == 0


def test_an_mpi_task_is_not_overtaken_for_ever(world: World) -> None:
    world.pilot(cores=2)
    world.submit(200, measured(0.01))
    (both,) = world.submit(ranks=2, function=measured(0.01, 2), priority=1)
    for _ in range(10):
        if world.state(both) is TaskState.BOUND:
            break
        world.finish_batch(0.01)
    assert world.state(both) is TaskState.BOUND


def test_nodes_that_have_not_joined_yet_are_waited_for(world: World) -> None:
    world.pilot(cores=4, number_of_nodes=2, ready=False)
    (small,), (wide,) = world.submit(), world.submit(ranks=8)
    world.ready(nodes=nodes(4))
    world.tick()
    assert [world.state(small), world.state(wide)] == [TaskState.BOUND, TaskState.QUEUED]
    world.finish([small])
    world.ready(nodes=nodes(4, 4))
    assert world.state(wide) is TaskState.BOUND


def test_nodes_that_are_lost_are_not_waited_for(world: World) -> None:
    world.pilot(cores=4, number_of_nodes=2, ready=False)
    world.ready(nodes=nodes(4, 4))
    world.ready(nodes=nodes(4))
    (wide,) = world.submit(ranks=8)
    world.tick()
    assert "p has room for 4 such ranks, but 8 are needed" in world.errors[wide].reason
