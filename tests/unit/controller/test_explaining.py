"""What `explain` says of a task that waits."""

from __future__ import annotations

from pilot.scheduling import events
from pilot.testing.world import World


def test_explain(world: World) -> None:
    world.pilot("a", cores=1)
    world.pilot("b", cores=1, ready=False)
    tasks = world.submit(4)
    assert world.explain(tasks[0]) == "a was the only suitable pilot with room"
    assert world.explain(tasks[2]) == (
        "waits in the queue behind 1 task: a can run it, but has no room now; b is queued"
    )
    (named,) = world.submit(pilot="b")
    assert world.explain(named) == (
        "waits: no active pilot can run it now; a is not among the requested pilots (b); b is queued"
    )
    world.ready("b")
    assert "only suitable pilot" in world.explain(tasks[1])


def test_explain_says_what_the_resource_manager_says(world: World) -> None:
    world.pilot(ready=False)
    (task,) = world.submit()
    world.feed(events.JobSeen("p", "Priority"))
    assert world.explain(task) == "waits: no active pilot can run it now; p is queued (Priority)"
    world.ready()
    world.end()
    assert world.explain(task) == "waits: no active pilot can run it now; p is queued"


def test_explain_counts_those_of_higher_priority(world: World) -> None:
    world.pilot(cores=1)
    world.submit(3)
    (low,) = world.submit(priority=-1)
    world.submit(5, priority=7)
    assert "behind 7 tasks" in world.explain(low)
