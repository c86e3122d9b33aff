"""Random events: every task ends once."""

from __future__ import annotations

import random
from typing import Any

import pytest

from pilot.interfaces import JobState
from pilot.results import OK, RAISED
from pilot.scheduling import events
from pilot.scheduling.events import StopPilot
from pilot.scheduling.records import FunctionRecord
from pilot.states import PilotState, is_final
from pilot.testing.world import World, measured


@pytest.mark.parametrize("together", [1, 7])
@pytest.mark.parametrize("seed", range(8))
def test_every_task_settles_exactly_once(world: World, seed: int, together: int) -> None:
    """Workers and pilots die, tasks raise, are given back and cancelled, pilots join, drain and end; at the end one
    pilot lives on and works everything off."""
    dice = random.Random(seed)
    world.together = together
    functions = [measured(0.002, 1), measured(0.05, 2), FunctionRecord(3, "d", "unknown"), measured(2.0, 4)]
    world.pilot("keeper", cores=2, restarts=10**6, gpus_per_node=1)
    others = 0

    def submit() -> None:
        fields: dict[str, Any] = {"retries": dice.choice([0, 0, 2]), "priority": dice.choice([0, 0, 0, 3])}
        fields["num_cpus"] = dice.choice([1, 1, 1, 0.3, 2])
        fields["num_gpus"] = dice.choice([0, 0, 0, 0.5])
        if world.tasks and dice.random() < 0.3:
            chosen = dice.sample(sorted(world.tasks), min(3, len(world.tasks)))
            good = [id for id in chosen if not is_final(world.state(id))]
            fields["needs"] = dict.fromkeys(good, dice.random() < 0.5) or None
        world.submit(dice.randint(1, 30), dice.choice(functions), **fields)

    for step in range(1500):
        world.now += dice.random() * 0.1
        active = [id for id, one in world.controller.pilots.by_id.items() if not is_final(one.state)]
        pilot = dice.choice(active)
        batches = world.batches.get(pilot, {})
        move = dice.random()
        if move < 0.08 and step < 1000:
            submit()
        elif move < 0.10 and others < 12:
            others += 1
            walltime = dice.choice([None, None, 12, 60])
            world.pilot(
                f"p{others}", cores=dice.randint(1, 4), ready=False, restarts=dice.randint(0, 1), walltime=walltime
            )
        elif move < 0.105 and world.pilot_state(pilot) is PilotState.ACTIVE and pilot != "keeper":
            world.feed(events.PilotExpiring(pilot, "SIGUSR1"))
        elif move < 0.14 and world.pilot_state(pilot) in (PilotState.QUEUED, PilotState.STARTING):
            world.ready(pilot)
        elif move < 0.16:
            hows = [JobState.ENDED, JobState.TAKEN]
            world.end(
                pilot, how=dice.choice(hows if pilot == "keeper" else [*hows, JobState.EXPIRED, JobState.CANCELLED])
            )
        elif move < 0.17 and pilot != "keeper":
            drain = dice.random() < 0.5
            world.feed(events.PilotStopAsked(pilot, drain))
            if not drain:
                world.batches.pop(pilot, None)
        elif move < 0.20 and world.tasks:
            world.feed(events.CancelAsked(dice.sample(sorted(world.tasks), 1)))
        elif move < 0.22:
            for ended in [one.pilot for one in world.tick() if isinstance(one, StopPilot) and not one.drain]:
                world.batches.pop(ended, None)
        elif batches:
            tasks = list(batches[dice.choice(sorted(batches))])
            end = dice.random()
            if end < 0.05:
                world.lose(tasks[0], blame=dice.random() < 0.7)
            else:
                some = tasks[: dice.randint(1, len(tasks))]
                status = dice.choice([OK] * 9 + [RAISED])
                world.finish(some, dice.random() * 0.01, status)
    world.together = 1
    for pilot in list(world.batches):
        if pilot != "keeper" and not is_final(world.pilot_state(pilot)):
            world.feed(events.PilotStopAsked(pilot, drain=False))
        if pilot != "keeper":
            world.batches.pop(pilot)
    for pilot, one in world.controller.pilots.by_id.items():
        if pilot != "keeper" and not is_final(one.state):
            world.feed(events.PilotStopAsked(pilot, drain=False))
    if world.pilot_state("keeper") is not PilotState.ACTIVE:
        world.ready("keeper")
    world.tick()
    world.work_off(0.01, "keeper")
    assert len(world.tasks) > 300
    assert world.settled == dict.fromkeys(world.tasks, 1)
    assert not world.controller.queue.tasks
    keeper = world.controller.pilots.by_id["keeper"]
    assert (keeper.used_cores, keeper.used_gpus, keeper.sent) == (0.0, 0.0, {})
