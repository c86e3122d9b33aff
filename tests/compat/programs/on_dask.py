"""A program of Dask's: the quick start, a decorator, the mini-apps' executor, MPI, and two pilots."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import distributed
from engine.circuits import EXTRA, expectation, unstable
from engine.cluster.executors import OnePilot

import pilot.pilot_compute_service as pcs_module
from pilot.pilot_compute_service import ExecutionEngine, PilotComputeService, PilotFuture
from pilot.pilot_enums_exceptions import PilotAPIException

WORKING_DIRECTORY = sys.argv[1]

seen: dict[str, object] = {}
description = {
    "resource": "ssh://localhost",
    "working_directory": WORKING_DIRECTORY,
    "queue": "debug",
    "type": "dask",
    "walltime": 15,
    "project": "m4408",
    "number_of_nodes": 1,
    "cores_per_node": 2,
    "scheduler_script_commands": ["#SBATCH --constraint=cpu"],
}


def square(number: int) -> int:
    return number**2


def inside(values: dict[str, tuple[dict[str, list[int]]]]) -> int:
    return sum(values["values"][0]["one"])


def surroundings() -> tuple[str, str]:
    import alone_on_the_path

    return str(Path.cwd()), alone_on_the_path.WORD + EXTRA


def rows_of(pcs: PilotComputeService) -> int:
    return len(Path(pcs.metrics_file_name).read_text().splitlines())


def quick_start() -> None:
    before = dict(description)
    pcs = PilotComputeService(working_directory=WORKING_DIRECTORY)
    assert pcs.execution_engine is ExecutionEngine.DASK
    one = pcs.create_pilot(pilot_compute_description=description)
    later = pcs.create_pilot(description | {"name": "pilot-1", "cores_per_node": 1})
    seen["named"] = [pcs.get_pilots() == [one.name, "pilot-1"], one.get_id() == one.name != later.get_id()]
    seen["unchanged"] = description == before
    tasks = [pcs.submit_task(square, number, task_name=f"task-{number}") for number in range(10)]
    pcs.wait_tasks(tasks)
    seen["rows"] = rows_of(pcs)
    seen["statuses"] = sorted({task.status for task in tasks})
    seen["squares"] = pcs.get_results(tasks)
    client = pcs.get_client()
    done, not_done = distributed.wait(tasks)
    seen["wait"] = [len(done), len(not_done)]
    seen["gather"] = client.gather(tasks)
    seen["as completed"] = sorted(future.result() for future in distributed.as_completed(tasks))
    seen["isinstance"] = [isinstance(tasks[0], distributed.Future), isinstance(tasks[0], PilotFuture)]
    seen["own functions"] = client.gather([client.submit(sum, [tasks[2], tasks[3]]), client.submit(expectation, 0.0)])
    five = client.scatter(5)
    seen["own future"] = [pcs.run(square, five), pcs.run(sum, [five, tasks[3]])]
    seen["inside"] = pcs.run(inside, {"values": ({"one": [five, tasks[3], 2]},)})
    seen["rows at once"] = [
        ask(square, 7) and rows_of(pcs) for ask in (pcs.run, lambda *of: client.gather(pcs.submit_task(*of)))
    ]
    failed = pcs.submit_task(unstable, 0.5, pilot=one)
    mixed = [pcs.submit_task(square, 6, pilot=later), *tasks, pcs.submit_task(square, 6, pilot=one)]
    pcs.wait_tasks([*mixed, later.submit_task(square, 6)])
    seen["mixed"] = [client.gather(mixed), later.get_client().gather(later.submit_task(square, 6))]
    for which in (later, "pilot-1", later.get_id()):
        pcs.run(square, 7, pilot=which, task_name="named")
    for name, ask in (("gather failed", lambda: client.gather([failed])), ("result", failed.result)):
        try:
            ask()
        except ValueError as error:
            seen[name] = str(error)
    slow = pcs.submit_task(distributed.Event("never").wait, task_name="slow")
    seen["cancel"] = [slow.cancel(), slow.cancelled()]
    seen["surroundings"] = pcs.run(surroundings)
    script = Path(__file__).parent / "ranks.py"
    mpi = pcs.submit_mpi_task(script, 2, "foo", 7, resources={"num_cpus": 0.5, "num_gpus": 0, "memory": None})
    pcs.wait_tasks([mpi])
    seen["mpi"] = [mpi.result(), client.gather(mpi), pcs.run(len, mpi)]
    try:
        pcs.wait_tasks([7])
    except PilotAPIException as error:
        seen["no task"] = str(error)
    pcs.cancel()
    pcs.cancel()
    seen["results after cancel"] = pcs.get_results(tasks)
    try:
        pcs.submit_task(square, 1)
    except PilotAPIException as error:
        seen["after cancel"] = str(error)
    seen["metrics"] = Path(pcs.metrics_file_name).read_text()
    seen["folder"] = [path.name for path in Path(pcs.pcs_working_directory).iterdir()]


def decorator(pilot: pcs_module.PilotCompute) -> None:
    @pilot.task
    def get_optimizer() -> dict[str, float]:
        return {"stepsize": 0.5}

    @pilot.task
    def training(optimizer: dict[str, float], start: list[float], steps: int) -> list[float]:
        point = start
        for _ in range(steps):
            point = [value * optimizer["stepsize"] for value in point]
        return point

    seen["trained"] = training(get_optimizer(), [8.0, 16.0], steps=3).result()


def mini_app() -> None:
    executor = OnePilot({"executor": "pilot", "config": description})
    futures = executor.submit_tasks(expectation, [0.0, 1.0, 2.0], 3, shift=1.0)
    executor.wait(futures)
    seen["executor"] = executor.get_results(futures)
    one = executor.submit_task(expectation, 0.0)
    decorator(executor.pilot)
    seen["gathered"] = executor.client.gather([one])
    executor.close()
    seen["closed"] = [one.result(), executor.pilot.get_state()]


if __name__ == "__main__":
    quick_start()
    mini_app()
    print("SEEN" + json.dumps(seen))
