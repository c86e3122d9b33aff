from shortest_first import ShortestFirst

from pilot import PilotManager
from pilot.testing import PolicyContract, World, measured


class TestShortestFirst(PolicyContract):
    policy = "shortest-first"


def order(world, *seconds):
    """The order in which tasks of these lengths are sent, queued behind one that has the only slot."""
    world.pilot(cores=1)
    (first,) = world.submit(1, measured(100.0, 99))
    tasks = [world.submit(1, measured(each, number))[0] for number, each in enumerate(seconds)]
    world.work_off(1.0)
    assert world.order[0] == first
    return [tasks.index(task) for task in world.order[1:]]


def test_the_shortest_is_first():
    assert order(World(policy=ShortestFirst()), 30.0, 10.0, 20.0) == [1, 2, 0]


def test_a_task_that_has_waited_long_is_first():
    world = World(policy=ShortestFirst(ageing=1.0))
    world.pilot(cores=1)
    world.submit(1, measured(100.0, 99))
    (long,) = world.submit(1, measured(30.0, 1))
    world.now += 60
    (short,) = world.submit(1, measured(1.0, 2))
    world.work_off(1.0)
    assert world.order[1:] == [long, short]


def test_a_manager_takes_it_by_name(tmp_path):
    PilotManager(tmp_path, policy="shortest-first").close()
