"""Devices and alternatives: which ones fit, which one is chosen, and how much each gets at a time."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pilot.descriptions import TaskDescription
from pilot.errors import DescriptionError
from pilot.resources import ANY_QPU, Capacity, CircuitFacts, Node, Option, QPUInfo, Resources, Terms
from pilot.scheduling.fitting import concrete, expected_fidelity, misfit
from pilot.testing.world import World, measured

GIB = 2**30
KOLKATA = QPUInfo(
    name="fake:kolkata",
    qubits=27,
    coupling=((0, 1),),
    error_1q=3e-4,
    error_2q=8e-3,
    error_readout=1e-2,
    max_shots=10**5,
)
MANILA = QPUInfo(
    name="fake:manila", qubits=5, coupling=((0, 1),), error_1q=3e-4, error_2q=9e-3, error_readout=3e-2, max_circuits=100
)


@pytest.fixture
def world() -> World:
    return World()


def device(name: str = ANY_QPU, **changes: Any) -> dict[str, Any]:
    """The terms of a circuit for a device."""
    facts = changes.pop("facts", CircuitFacts(3, 1000))
    return {"resources": Resources(num_cpus=0.0, qpu=name), "facts": facts, **changes}


def pilot(*qpus: QPUInfo | str, **changes: Any) -> Capacity:
    known = {one if isinstance(one, str) else one.name: None if isinstance(one, str) else one for one in qpus}
    nodes = [Node("n", "host", 2, [], 8 * GIB)]
    return Capacity(("pilot-1", "alpha"), "alpha", (), nodes, None, qpus=known)._replace(**changes)


#: id: (changes to the terms, the pilot, words of the reason or None where it fits)
FITS: dict[str, tuple[dict[str, Any], Capacity, str | None]] = {
    "by name": (device("fake:manila"), pilot(KOLKATA, MANILA), None),
    "any": (device(), pilot(MANILA), None),
    "not reported yet": (device("fake:manila"), pilot("fake:manila"), None),
    "another name": (device("fake:oslo"), pilot(MANILA), "alpha has no device 'fake:oslo' (it has: fake:manila)"),
    "no devices": (device(), pilot(), "alpha has no QPU that is a device, such as fake:kolkata"),
    "too narrow": (device(facts=CircuitFacts(6)), pilot(MANILA), "fake:manila of alpha has 5 qubits, but 6 are needed"),
    "one is wide enough": (device(facts=CircuitFacts(6)), pilot(MANILA, KOLKATA), None),
    "too many shots": (
        device("fake:kolkata", facts=CircuitFacts(2, 10**6)),
        pilot(KOLKATA),
        "takes at most 100000 shots, but 1000000 are needed",
    ),
    "not good enough": (
        device(facts=CircuitFacts(5, 100, 10, 10, 5), min_fidelity=0.8),
        pilot(MANILA),
        "fake:manila of alpha has a fidelity of about 0.715, but 0.8 is needed",
    ),
    "good enough": (device(facts=CircuitFacts(5, 100, 10, 10, 5), min_fidelity=0.8), pilot(MANILA, KOLKATA), None),
    "errors unknown": (
        device(facts=CircuitFacts(2), min_fidelity=0.5),
        pilot(QPUInfo(name="x:y", qubits=9)),
        "reports no errors",
    ),
    "simulator": ({"simulator": "pennylane:lightning.qubit"}, pilot(simulators=("pennylane:lightning.qubit",)), None),
    "no such simulator": ({"simulator": "x:y"}, pilot(simulators=("aer",)), "alpha has no QPU 'x:y' (it has: aer)"),
}


@pytest.mark.parametrize("changes, capacity, reason", FITS.values(), ids=FITS)
def test_fits(changes: dict[str, Any], capacity: Capacity, reason: str | None) -> None:
    found = misfit(Terms(**changes), capacity)
    assert found is None if reason is None else reason in str(found)


def test_any_device_stands_for_those_that_can() -> None:
    terms = Terms(**device(facts=CircuitFacts(6)))
    assert [one.resources.qpu for one in concrete(terms, pilot(MANILA, KOLKATA))] == ["fake:kolkata"]


def test_expected_fidelity_is_the_product_of_all_successes() -> None:
    info = QPUInfo(name="x:y", qubits=2, error_1q=0.1, error_2q=0.2, error_readout=0.3)
    assert expected_fidelity(CircuitFacts(2, 0, 1, 2, 1), info) == pytest.approx(0.9 * 0.8**2 * 0.7)
    assert expected_fidelity(CircuitFacts(2, 0, 1, 2, 1), QPUInfo(name="x:y", qubits=2)) is None
    assert expected_fidelity(CircuitFacts(2, 0, 1), QPUInfo(name="aer", qubits=30, simulator=True)) == 1.0


def test_a_device_gets_work_when_it_has_reported(world: World) -> None:
    world.pilot(qpus=[MANILA], ready=False)
    world.submit(2, terms=device())
    world.ready()
    assert world.sent() == []
    assert "fake:manila of p has not reported yet" in world.explain(1)
    world.ready(qpus=[MANILA])
    assert world.sent() == [[1], [2]]  # one runs, one waits with the agent
    assert world.controller.pilots.by_id["p"].used_cores == 0


def test_a_device_that_takes_no_jobs_is_waited_for(world: World) -> None:
    closed = msgspec.structs.replace(MANILA, accepts_jobs=False, problem="maintenance until noon")
    world.pilot(qpus=[closed, KOLKATA])
    (named,) = world.submit(1, terms=device("fake:manila"))
    world.submit(4, terms=device())
    assert {sent.qpu for sent in world.controller.pilots.by_id["p"].sent.values()} == {"fake:kolkata"}
    assert "fake:manila of p takes no jobs now (maintenance until noon)" in world.explain(named)
    world.ready(qpus=[MANILA])
    assert world.state(named).value == "bound"


def test_circuits_do_not_wait_for_cores_nor_keep_them(world: World) -> None:
    world.pilot(cores=1, qpus=[MANILA])
    world.submit(1, measured(10.0))
    waits = world.submit(1, measured(10.0))
    circuits = world.submit(9, measured(1.0, id=2), terms=device())
    assert {world.state(id).value for id in circuits[:1]} == {"bound"}
    assert world.state(waits[0]).value == "queued"


def test_shares_shrink_where_jobs_are_cheap(world: World) -> None:
    """Two devices, 80 circuits: each gets half of its share at a time, and they end together."""
    world.pilot("a", qpus=[MANILA])
    world.pilot("b", qpus=[KOLKATA])
    world.submit(80, measured(0.1), terms=device())
    assert [len(tasks) for tasks in world.sent("a")] == [20, 10]
    assert [len(tasks) for tasks in world.sent("b")] == [20, 10]
    while world.batches.get("a") or world.batches.get("b"):
        for name in "ab":
            if world.batches.get(name):
                world.finish_batch(0.1, name)
    assert sum(world.settled.values()) == 80
    assert world.sizes[-1] <= 2


def test_a_queue_before_each_job_makes_one_job_of_a_share(world: World) -> None:
    slow = [QPUInfo(name=f"x:{letter}", qubits=5, expected_wait=60.0) for letter in "abc"]
    for info in slow:
        world.pilot(info.name, qpus=[info])
    world.submit(45, measured(0.1), terms=device())
    world.submit(45, measured(0.1), terms=device())
    assert world.sizes == []  # more may come
    world.tick(1.0)
    assert [len(tasks) for name in ("x:a", "x:b", "x:c") for tasks in world.sent(name)] == [30, 30, 30]


def test_no_job_has_more_circuits_than_the_device_takes(world: World) -> None:
    world.pilot(qpus=[MANILA])
    world.submit(1000, measured(0.001), terms=device())
    assert max(world.sizes) == MANILA.max_circuits


def test_the_faster_device_gets_more(world: World) -> None:
    world.pilot("a", qpus=[MANILA])
    world.pilot("b", qpus=[KOLKATA])
    function = measured(0.1)
    world.submit(400, function, terms=device())
    while world.batches.get("a") or world.batches.get("b"):
        done = min((name for name in "ab" if world.batches.get(name)), key=lambda name: busy(world, name))
        world.finish_batch(0.1 if done == "a" else 0.3, done)
    share = sum(world.pilot_of[id] == "a" for id in world.pilot_of) / 400
    assert 0.6 < share < 0.85


def busy(world: World, name: str) -> float:
    """Seconds that the first batch of this pilot takes."""
    return len(next(iter(world.batches[name].values()))) * (0.1 if name == "a" else 0.3)


def test_one_of_two_devices_by_name(world: World) -> None:
    world.pilot(qpus=[MANILA, KOLKATA, QPUInfo(name="fake:oslo", qubits=7)])
    some = (Option(Resources(num_cpus=0.0, qpu="fake:manila")),)
    world.submit(30, measured(0.1), terms=device("fake:kolkata", others=some))
    used = {sent.qpu for sent in world.controller.pilots.by_id["p"].sent.values()}
    assert used == {"fake:kolkata", "fake:manila"}


def test_weights_are_units_of_time(world: World) -> None:
    world.pilot(cores=1)
    function = measured(0.01)  # a second each 100 units
    world.submit(23, function, weights=[1] * 20 + [100] * 3)
    assert [len(tasks) for tasks in world.sent()] == [5, 5, 5]  # 50 ms each
    for _ in range(5):
        world.finish_batch(seconds=0.01)
    assert world.sent() == [[21]]
    world.finish_batch(seconds=1.0)
    assert function.seconds == pytest.approx(0.01, rel=0.1)


# ---- alternatives ---------------------------------------------------------------------------------------------

GPU_OR_CORES = {"num_gpus": 1, "alternatives": [{"num_cpus": 4, "slowness": 5}]}


def gpu_pilot(world: World, id: str = "gpu") -> str:
    world.pilot(id, cores=2, gpus_per_node=1, ready=False)
    world.ready(id, nodes=[Node("n", "host", 2, ["GPU-0"], GIB)])
    return id


def test_an_alternative_is_taken_where_only_that_fits(world: World) -> None:
    world.pilot("cpu", cores=4)
    world.submit(1, measured(1.0), **GPU_OR_CORES)
    assert world.sent("cpu") == [[1]]


def test_what_ends_first_is_chosen_and_waited_for(world: World) -> None:
    """1 s on the GPU, 5 s on 4 cores: the first five wait for the GPU, the sixth would be later there."""
    gpu_pilot(world)
    world.pilot("cpu", cores=8)
    world.submit(4, measured(1.0), **GPU_OR_CORES)
    assert world.sent("gpu") == [[1]]
    assert world.sent("cpu") == []
    world.finish([1], seconds=1.0)
    assert world.sent("gpu") == [[2]]


def test_where_nothing_fits_every_choice_is_named(world: World) -> None:
    world.pilot("cpu", cores=2)
    (task,) = world.submit(1, **GPU_OR_CORES)
    world.tick(1.0)
    reason = world.errors[task].reason
    assert "cpu has 0 GPUs, but 1 are needed" in reason
    assert "cpu has 2 cores, but 4 are needed" in reason


#: id: (fields, words of the error)
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "not a list": ({"alternatives": {"num_gpus": 1}}, "a list of mappings"),
    "unknown key": ({"alternatives": [{"gpus": 1}]}, "a list of mappings with num_cpus"),
    "no number": ({"alternatives": [{"num_gpus": "one"}]}, "num_gpus"),
    "slowness": ({"alternatives": [{"num_gpus": 1, "slowness": 0}]}, "slowness is a number above 0"),
    "shots without circuit": ({"shots": 5}, "nothing without a circuit"),
    "mitigation without circuit": ({"mitigation": ["zne"]}, "nothing without a circuit"),
    "ranks with circuit": ({"circuit": "x", "ranks": 2, "function": None}, "nothing with a circuit"),
}


@pytest.mark.parametrize("fields, words", WRONG.values(), ids=WRONG)
def test_wrong_fields_say_so(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(DescriptionError, match=words):
        TaskDescription(**{"function": len, **fields}).terms()
