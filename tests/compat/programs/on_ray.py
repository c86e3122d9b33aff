"""A program of Ray's: two pilots, a queue of tasks with `ray.wait`, Ray's own functions, references as arguments."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import ray
from engine.circuits import expectation, unstable
from engine.cluster.executors import ManyPilots

from pilot.pilot_compute_service import PilotAPIException, PilotFuture

WORKING_DIRECTORY = sys.argv[1]
RESOURCES = {"num_cpus": 1, "num_gpus": 0, "memory": None}

seen: dict[str, object] = {}


def description(cores: int) -> dict[str, object]:
    return {
        "resource": "ssh://localhost",
        "working_directory": WORKING_DIRECTORY,
        "type": "ray",
        "number_of_nodes": 1,
        "cores_per_node": cores,
        "gpus_per_node": 0,
    }


def where() -> str:
    return os.environ["COMPAT_PILOT"]


class Odd(Exception):
    """A pickle does not restore it: that calls the class with the text alone."""

    def __init__(self, number: int, text: str) -> None:
        super().__init__(text)


def odd() -> None:
    raise Odd(1, "an odd one")


def total(references: list[object], more: float) -> float:
    return sum(ray.get(references)) + more


def total_inside(inside: dict[str, list[object]]) -> float:
    ready, _ = ray.wait(inside["values"], num_returns=len(inside["values"]))
    return sum(ray.get(ready))


@ray.remote
def doubled(value: float) -> float:
    return 2 * value


@ray.remote
def doubled_of(references: list[object]) -> float:
    return 2 * ray.get(references[0])


def in_slots(executor: ManyPilots, angles: list[float]) -> list[tuple[float, float]]:
    """As many tasks at a time as there are slots twice over; the next one as soon as one is over."""
    active: list[object] = []
    results = []
    angles = list(angles)
    while angles or active:
        while len(active) < 4 and angles:
            active.append(executor.submit_task(expectation, angles.pop(0), resources=RESOURCES, layers=2))
        ready, _ = ray.wait(active, timeout=0.1)
        for reference in ready:
            results.append(ray.get(reference))
            active.remove(reference)
    return sorted(results)


def several_pilots() -> None:
    pilots = {name: description(1) | {"environment": {"COMPAT_PILOT": name}} for name in ("cpu", "other")}
    executor = ManyPilots({"type": "ray", "working_directory": WORKING_DIRECTORY, "config": pilots})
    pcs = executor.pcs
    seen["pilots"] = executor.pilots
    for name in executor.pilots:
        pcs.get_pilot(name).wait()
    context = pcs.get_pilot("cpu").get_client()
    seen["states"] = [pcs.get_pilot(name).get_state() for name in executor.pilots]
    seen["ids differ"] = pcs.get_pilot("cpu").get_id() != pcs.get_pilot("other").get_id()
    seen["in slots"] = in_slots(executor, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    pinned = [pcs.submit_task(where, pilot="other", task_name=f"pinned-{n}") for n in range(4)]
    pinned += [pcs.get_pilot("cpu").submit_task(where) for _ in range(4)]
    executor.wait(pinned)
    seen["pinned"] = executor.get_results(pinned)
    seen["ready"] = len(ray.wait(pinned, num_returns=len(pinned), timeout=0)[0])
    one = pcs.submit_task(expectation, 0.0)
    seen["isinstance"] = [isinstance(one, ray.ObjectRef), isinstance(one, PilotFuture)]
    ray.get(pcs.submit_task(expectation, 0.0, task_name="a row"))
    seen["row at once"] = "a row" in Path(pcs.metrics_file_name).read_text()
    values = [pcs.submit_task(abs, -number) for number in range(4)]
    seen["dependency"] = pcs.run(total, values, more=values[3])
    for _ in range(2):
        with context:
            calls = [doubled.remote(values[2]), doubled_of.remote([values[3]]), ray.remote(expectation).remote(0.0)]
        seen["own functions"] = ray.get(calls)
    seen["own reference"] = pcs.run(total, [ray.put(1), ray.put(2)], ray.put(4))
    seen["inside"] = [
        pcs.run(total_inside, {"values": [values[1], ray.put(2)]}, pilot=name) for name in executor.pilots
    ]
    try:
        ray.get(pcs.submit_task(odd))
    except PilotAPIException as error:
        seen["odd"] = str(error)
    failed = pcs.submit_task(unstable, 0.5)
    for name, ask in (("ray.get", lambda: ray.get(failed)), ("get_results", lambda: pcs.get_results([failed]))):
        try:
            ask()
        except ValueError as error:
            seen[name] = str(error)
    seen["exception"] = repr(failed.exception())
    try:
        pcs.get_pilot("other").get_client()
    except PilotAPIException as error:
        seen["two clusters"] = str(error)
    pcs.get_pilot("other").cancel()
    pcs.get_pilot("other").cancel()
    seen["cancelled alone"] = [pcs.get_pilot(name).get_state() for name in executor.pilots]
    seen["goes on"] = ray.get(pcs.submit_task(where))
    try:
        pcs.submit_task(where, pilot="other")
    except PilotAPIException as error:
        seen["over"] = str(error)
    seen["details"] = [pcs.get_pilot("cpu").get_details()["master_url"], context.address_info["address"]]
    ray.shutdown()
    seen["disconnected"] = [one.result(), ray.get(pcs.submit_task(expectation, 0.0))]
    executor.close()
    seen["metrics"] = Path(pcs.metrics_file_name).read_text()
    seen["connected"] = ray.is_initialized()


if __name__ == "__main__":
    several_pilots()
    print("SEEN" + json.dumps(seen))
