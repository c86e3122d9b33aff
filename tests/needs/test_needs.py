"""What users of Dask, Ray, Parsl and process pools need every day: each is one line here, or the documents say that it
is no aim of this library. Other tests have the details."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import pytest

from pilot import PilotDescription, PilotManager, TaskDescription, current_manager, dashboard, worker_state
from pilot.errors import TaskTimeout

SOON = 60.0
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PilotManager]:
    """Two cores and a GPU, which the pilot has by its variable: tasks are told of it, and need no hardware for that."""
    with PilotManager(tmp_path_factory.mktemp("session") / "s") as manager:
        gpu = {"CUDA_VISIBLE_DEVICES": "0"}
        manager.submit_pilot(PilotDescription(cores_per_node=2, gpus_per_node=1, environment=gpu)).wait(SOON)
        yield manager


def fails_until(path: Path, error: type[Exception], times: int) -> int:
    """The number of the attempt; those before it raise."""
    with path.open("a") as file:
        file.write(f"{time.monotonic()}\n")
    attempts = len(path.read_text().splitlines())
    if attempts < times:
        raise error(f"attempt {attempts}")
    return attempts


def test_map_over_files(manager: PilotManager, tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.txt").write_text("x" * number)
    tasks = manager.map(lambda path: len(path.read_text()), sorted(tmp_path.glob("*.txt")))
    assert manager.get_results(tasks) == [0, 1, 2]


def test_nested_dependency_graph(manager: PilotManager) -> None:
    leaves = manager.map(pow, [2, 3], [2, 2])
    total = manager.submit_task(lambda tree: tree["left"] + sum(tree["right"]), {"left": leaves[0], "right": leaves})
    assert total.result(SOON) == 4 + (4 + 9)


def test_a_task_that_submits_tasks(manager: PilotManager) -> None:
    task = manager.submit_task(lambda: sum(current_manager().get_results(current_manager().map(abs, [-1, -2]))))
    assert task.result(SOON) == 3


def test_mpi_hello(manager: PilotManager) -> None:
    hello = manager.submit_task(TaskDescription(mpi=["echo", "hello"], ranks=2))
    assert hello.result(SOON).stdout == ("hello\n", "hello\n")


def test_gpu_task(manager: PilotManager) -> None:
    task = manager.submit_task(TaskDescription(function=os.getenv, args=["CUDA_VISIBLE_DEVICES"], num_gpus=1))
    assert task.result(SOON) == "0"


def test_retries(manager: PilotManager, tmp_path: Path) -> None:
    task = manager.submit_task(TaskDescription(function=fails_until, args=[tmp_path / "a", OSError, 3], retries=3))
    assert task.result(SOON) == 3


def test_retries_with_a_delay_and_for_some_exceptions_only(manager: PilotManager, tmp_path: Path) -> None:
    paths = [tmp_path / "busy", tmp_path / "wrong"]
    busy, wrong = manager.map(
        fails_until, paths, [OSError, KeyError], [2, 2], retries=3, retry_delay=0.2, retry_on=[OSError]
    )
    assert busy.result(SOON) == 2
    first, second = map(float, paths[0].read_text().split())
    assert second - first >= 0.2
    with pytest.raises(KeyError, match="attempt 1"):
        wrong.result(SOON)


def test_a_large_array_for_many_tasks(manager: PilotManager) -> None:
    array = manager.put(np.arange(2_500_000.0))
    tasks = manager.map(lambda values, at: float(values[at]), [array] * 100, range(100))
    assert manager.get_results(tasks) == [float(at) for at in range(100)]


def test_a_long_generator_in_little_memory(manager: PilotManager) -> None:
    taken = 0

    def inputs() -> Iterator[int]:
        nonlocal taken
        while taken < 1_000_000:
            taken += 1
            yield taken

    results = manager.map(abs, inputs(), window=50)
    assert [next(results) for _ in range(200)] == list(range(1, 201))
    assert taken <= 250
    results.close()  # type: ignore[attr-defined]


def test_a_model_that_is_loaded_once_in_a_worker(manager: PilotManager) -> None:
    def use(number: int) -> tuple[int, int]:
        state = worker_state()
        state["loaded"] = state.get("loaded", 0) + ("model" not in state)
        state.setdefault("model", 10)
        return state["model"] * number, state["loaded"]

    assert manager.get_results(manager.map(use, range(50))) == [(10 * number, 1) for number in range(50)]


def test_logging_from_tasks(manager: PilotManager, caplog: pytest.LogCaptureFixture) -> None:
    task = manager.submit_task(lambda: logging.getLogger("mine").warning("few steps"))
    task.result(SOON)
    manager.flush(SOON)
    assert "few steps" in [record.getMessage() for record in caplog.records] and "few steps" in task.info.stderr


def test_environment_and_folder_of_a_function(manager: PilotManager, tmp_path: Path) -> None:
    task = manager.submit_task(
        TaskDescription(
            function=lambda: (os.environ["A"], Path.cwd()), environment={"A": "1"}, working_directory=tmp_path
        )
    )
    assert task.result(SOON) == ("1", tmp_path)


def test_file_staging_is_no_aim(manager: PilotManager) -> None:
    assert "There is no staging of files between systems." in (ROOT / "docs/howto/data.md").read_text()
    assert "A data store: large values travel through files of the session" in (ROOT / "README.md").read_text()


def test_collecting_stdout(manager: PilotManager) -> None:
    task = manager.submit_task(print, "hello")
    task.result(SOON)
    assert task.info.stdout == "hello\n"


def test_timeout(manager: PilotManager) -> None:
    with pytest.raises(TaskTimeout):
        manager.submit_task(TaskDescription(function=time.sleep, args=[600], timeout=0.2)).result(SOON)


def test_cancel_a_group(manager: PilotManager) -> None:
    tasks = manager.map(time.sleep, [600] * 10)
    manager.cancel(tasks)
    manager.wait_tasks(tasks, SOON)
    assert all(task.cancelled() for task in tasks)


def test_progress_callback(manager: PilotManager) -> None:
    ended: SimpleQueue[int] = SimpleQueue()
    for task in manager.map(abs, [-1, -2, -3]):
        task.add_done_callback(lambda task: ended.put(task.result()))
    assert sorted(ended.get(timeout=SOON) for _ in range(3)) == [1, 2, 3]


def test_await(manager: PilotManager) -> None:
    async def both() -> list[int]:
        return await asyncio.gather(manager.submit_task(pow, 2, 5), manager.submit_task(later))

    async def later() -> int:
        await asyncio.sleep(0.01)
        return 7

    assert asyncio.run(asyncio.wait_for(both(), SOON)) == [32, 7]


def test_dashboard(manager: PilotManager) -> None:
    pytest.importorskip("nicegui", reason="the extra dashboard is not installed")
    with dashboard.open(manager) as page, urllib.request.urlopen(page.url, timeout=SOON) as answer:
        assert manager.session_dir.name in answer.read().decode()


def test_survive_the_death_of_the_program(tmp_path: Path) -> None:
    program = (
        "import os\nfrom pilot import PilotDescription, PilotManager\nmanager = PilotManager('s')\n"
        "manager.submit_pilot(PilotDescription(cores_per_node=1))\n"
        "manager.submit_task(pow, 2, 5).committed().result()\nos._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=tmp_path).returncode == 9
    with PilotManager.attach(tmp_path / "s") as manager:
        assert manager.tasks[1].result(SOON) == 32


def test_results_that_are_there_are_not_computed_again(manager: PilotManager, tmp_path: Path) -> None:
    def count(path: Path) -> int:
        with path.open("a") as file:
            return file.write("x")

    for _ in range(3):
        assert manager.submit_task(count, tmp_path / "file", key="counted").result(SOON) == 1
    assert (tmp_path / "file").read_text() == "x"
