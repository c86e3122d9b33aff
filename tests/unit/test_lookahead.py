"""The policy "makespan": few tasks that are known well are planned as a whole."""

from __future__ import annotations

import heapq
import itertools
import random
from typing import Any

import pytest

from pilot.interfaces import Policy
from pilot.scheduling.policies import Balanced, Makespan
from pilot.states import TaskState
from pilot.testing.world import World, measured

#: A task's cores, seconds, and its seconds on a GPU (None: it has no use for one).
Task = tuple[int, int, int | None]


def random_tasks(dice: random.Random, count: int) -> list[Task]:
    return [
        (dice.randint(1, 3), dice.randint(1, 9), dice.choice((None, None, dice.randint(1, 3)))) for _ in range(count)
    ]


def least_makespan(tasks: list[Task], cores: int, gpus: int) -> int:
    """By trying all: every order, every choice of resources, each task as early as what is free allows."""
    best = 10**6
    for order in itertools.permutations(tasks):
        for choices in itertools.product(*((False, True) if gpu else (False,) for _, _, gpu in order)):
            used = [[0, 0] for _ in range(sum(seconds for _, seconds, _ in order) + 1)]
            last = 0
            for (width, seconds, gpu_seconds), on_gpu in zip(order, choices, strict=True):
                takes = (1, 1, gpu_seconds or 0) if on_gpu else (width, 0, seconds)
                begin = 0
                while any(
                    used[step][0] + takes[0] > cores or used[step][1] + takes[1] > gpus
                    for step in range(begin, begin + takes[2])
                ):
                    begin += 1
                for step in range(begin, begin + takes[2]):
                    used[step][0] += takes[0]
                    used[step][1] += takes[1]
                last = max(last, begin + takes[2])
                if last >= best:
                    break
            best = min(best, last)
    return best


def submit(world: World, tasks: list[Task]) -> dict[int, Task]:
    """Tasks whose first choice is a GPU where they have use for one."""
    known = {}
    for number, (width, seconds, gpu_seconds) in enumerate(tasks):
        fields: dict[str, Any] = {"num_cpus": width}
        if gpu_seconds is not None:
            fields = {"num_gpus": 1, "alternatives": [{"num_cpus": width, "slowness": seconds / gpu_seconds}]}
        function = measured(float(seconds if gpu_seconds is None else gpu_seconds), id=number + 1)
        (id,) = world.submit(function=function, **fields)
        known[id] = tasks[number]
    return known


def run(world: World, tasks: dict[int, Task], cores: int, gpus: int) -> float:
    """All tasks to their end; the makespan. At no time more is in use than there is."""
    began, running = world.now, list[tuple[float, int]]()
    used: dict[int, tuple[int, int]] = {}
    seen = 0
    while True:
        for id in world.order[seen:]:
            width, seconds, gpu_seconds = tasks[id]
            (batch,) = [one for one in world.controller.pilots.by_id["p"].sent.values() if id in one.entries]
            on_gpu = bool(batch.gpus)
            used[id] = (1, 1) if on_gpu else (width, 0)
            heapq.heappush(running, (world.now + (gpu_seconds or 0 if on_gpu else seconds), id))
        seen = len(world.order)
        assert sum(one for one, _ in used.values()) <= cores
        assert sum(one for _, one in used.values()) <= gpus
        if not running:
            assert all(world.state(id) is TaskState.DONE for id in tasks)
            return world.now - began
        world.now, id = heapq.heappop(running)
        seconds = tasks[id][2] if used[id][1] else tasks[id][1]
        del used[id]
        world.finish([id], float(seconds or 0))


@pytest.mark.parametrize("seed", range(12))
def test_a_short_queue_is_over_as_soon_as_it_can_be(seed: int) -> None:
    dice = random.Random(seed)
    tasks, gpus = random_tasks(dice, 5), dice.randint(0, 1)
    if not gpus:
        tasks = [(width, seconds, None) for width, seconds, _ in tasks]
    world = World(policy=Makespan())
    world.pilot(cores=3, gpus_per_node=gpus)
    world.submit(1, measured(1.0, id=99), num_cpus=3)  # so that all others are there when it is over
    first = world.order[0]
    known = submit(world, tasks)
    world.order.clear()
    world.finish([first], 1.0)
    assert run(world, known, 3, gpus) == least_makespan(tasks, 3, gpus)


def test_a_long_task_goes_before_short_ones() -> None:
    """In order of submission it would run alone at the end."""
    makespans = []
    for policy in (Makespan(), Balanced()):
        world = World(policy=policy)
        world.pilot(cores=2, ready=False)
        known = submit(world, [(1, 2, None)] * 4 + [(1, 8, None)])
        world.ready()
        makespans.append(run(world, known, 2, 0))
    assert makespans == [8.0, 12.0]


def test_a_higher_priority_goes_first_all_the_same() -> None:
    world = World(policy=Makespan())
    world.pilot(cores=1, ready=False)
    (long,) = world.submit(function=measured(9.0, 1))
    (short,) = world.submit(function=measured(1.0, 2), priority=1)
    world.ready()
    assert world.order == [short]
    world.finish([short], 1.0)
    assert world.order == [short, long]


def test_why_a_task_runs_where_it_does() -> None:
    world = World(policy=Makespan())
    world.pilot(cores=1, ready=False)
    (task,) = world.submit(function=measured(9.0))
    world.ready()
    assert "the 1 queued tasks are expected to end first (9.000 s)" in world.explain(task)


@pytest.mark.parametrize("many", [True, False], ids=["many tasks", "a task of unknown length"])
def test_others_go_in_order_of_submission(many: bool) -> None:
    world = World(policy=Makespan())
    world.pilot(cores=1, ready=False)
    ids = world.submit(33 if many else 1, function=measured(1.0, 1))
    ids += world.submit(function=measured(9.0, 2) if many else None)
    world.ready()
    assert world.order == ids[:1]


@pytest.mark.parametrize("policy", [Makespan(), Balanced()], ids=["makespan", "balanced"])
@pytest.mark.parametrize("left, goes", [(4.2, False), (4.6, True)])
def test_a_slower_choice_must_fit_into_the_walltime(policy: Policy, left: float, goes: bool) -> None:
    """With a core the task takes 4.4 s instead of 2; the GPU is free in 4 s."""
    world = World(policy=policy)
    world.pilot(cores=4, gpus_per_node=1, walltime=60, drain=0, ready=False)
    world.ready(left=left)
    (first,) = world.submit(function=measured(4.0, 1), num_gpus=1, expected_duration=4)
    alternatives = [{"num_cpus": 1, "slowness": 2.2}]
    (task,) = world.submit(function=measured(2.0, 2), num_gpus=1, alternatives=alternatives, expected_duration=2)
    assert world.order == [first, task] if goes else [first]
