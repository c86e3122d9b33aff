"""The contract suite of policies."""

from __future__ import annotations

import random
from typing import Any

import pytest

from pilot import registry
from pilot.interfaces import Policy
from pilot.resources import ANY_QPU, CircuitFacts, QPUInfo, Resources
from pilot.results import CANCELLED, OK
from pilot.states import TaskState
from pilot.testing.world import World, measured

#: Devices of the pilots in the suite.
SMALL = QPUInfo(name="fake:small", qubits=3, error_1q=1e-4, error_2q=1e-2, error_readout=1e-2, max_circuits=7)
LARGE = QPUInfo(name="fake:large", qubits=9, error_1q=1e-4, error_2q=5e-2, error_readout=5e-2)


class PolicyContract:
    """What every policy promises, as tests, on random tasks and pilots: each task ends once.

    A plugin's author subclasses it::

        class TestMyPolicy(PolicyContract):
            policy = "mine"
    """

    #: The policy's name in the group ``pilot.policies``, or its class as "package.module:Class".
    policy: str

    @pytest.fixture
    def chosen(self) -> Policy:
        """A new policy."""
        return registry.policy(self.policy)

    @pytest.mark.parametrize("seed", range(2))
    def test_every_task_ends_once(self, chosen: Policy, seed: int) -> None:
        world = World(policy=chosen)
        play(world, random.Random(seed))
        assert len(world.tasks) > 50
        assert not world.errors
        assert set(world.outcomes.values()) <= {OK, CANCELLED}

    def test_a_single_task_on_a_single_pilot(self, chosen: Policy) -> None:
        """Also of one whose length is not known yet. A policy may wait before it sends a task to a QPU."""
        world = World(policy=chosen)
        world.pilot("p0", cores=1, qpus=[SMALL])
        world.submit(1)
        world.submit(
            1, terms={"resources": Resources(num_cpus=0.0, qpu=ANY_QPU), "facts": CircuitFacts(2, 100, 1, 1, 2)}
        )
        for _ in range(100):
            world.work_off(0.01, "p0")
            world.tick(20.0)
        assert world.settled == {1: 1, 2: 1}
        assert not world.errors


def play(world: World, dice: random.Random) -> None:
    """Two pilots, of which one has two QPUs; tasks come, end, are lost and cancelled, until all are over."""
    world.pilot("p0", cores=2, gpus_per_node=1, qpus=[SMALL, LARGE], restarts=10**6)
    world.pilot("p1", cores=dice.randint(1, 4), restarts=10**6)
    functions = [measured(0.002, 1), measured(0.3, 2), measured(2.0, 3)]
    for step in range(240):
        world.now += dice.random()
        move = dice.random()
        if move < 0.15 and step < 120:
            fields: dict[str, Any] = {"num_cpus": dice.choice([1, 1, 0.5, 2]), "priority": dice.choice([0, 0, 3])}
            if dice.random() < 0.5:
                facts = CircuitFacts(dice.randint(2, 5), 100, 10, 10, 5)
                qpu = dice.choice([ANY_QPU, ANY_QPU, LARGE.name])
                fields["terms"] = {"resources": Resources(num_cpus=0.0, qpu=qpu), "facts": facts}
            elif dice.random() < 0.2:
                fields["num_gpus"] = 1
            if world.tasks and dice.random() < 0.3:
                fields["needs"] = {dice.choice(sorted(world.tasks)): True}
                if not all(world.state(id) in (TaskState.QUEUED, TaskState.BOUND) for id in fields["needs"]):
                    del fields["needs"]
            world.submit(dice.randint(1, 20), dice.choice(functions), **fields)
        elif move < 0.20 and world.tasks:
            world.cancel(dice.choice(sorted(world.tasks)))
        elif move < 0.24:
            world.end(pilot := dice.choice(["p0", "p1"]))
            world.ready(pilot, qpus=[SMALL, LARGE] if pilot == "p0" else [])
        elif sent := [tasks for batches in world.batches.values() for tasks in batches.values()]:
            tasks = dice.choice(sent)
            if dice.random() < 0.1:
                world.lose(tasks[0], blame=False)
            else:
                world.finish(tasks[: dice.randint(1, len(tasks))], dice.random())
        else:
            world.tick(1.0)
    for _ in range(1000):
        if not any(world.batches.values()) and all(world.settled[id] for id in world.tasks):
            break
        world.tick(20.0)
        for pilot in ("p0", "p1"):
            world.work_off(0.01, pilot)
    assert world.settled == dict.fromkeys(world.tasks, 1)
    assert not world.controller.queue.tasks
