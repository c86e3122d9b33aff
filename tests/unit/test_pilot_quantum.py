"""What Pilot-Quantum's descriptions and arguments become, and those that are refused."""

from __future__ import annotations

import csv
import getpass
import logging
import pickle
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pilot import PilotDescription, TaskDescription
from pilot.errors import DescriptionError, PilotError, SessionError
from pilot.interfaces import TaskEnded
from pilot.pilot_compute_service import (
    ExecutionEngine,
    PilotAPIException,
    PilotComputeService,
    PilotFuture,
)
from pilot.pilot_compute_service.descriptions import pilot_description, task_resources
from pilot.pilot_compute_service.metrics import MetricsFile
from pilot.states import TaskState

RAY = ExecutionEngine.RAY


def described(**given: Any) -> PilotDescription:
    return pilot_description({"resource": "slurm://localhost", "queue": "debug", **given}, RAY)


@pytest.mark.parametrize(
    ("url", "resource"),
    [
        ("ssh://localhost", "local://"),
        ("ssh://localhost/", "local://"),
        ("ssh://127.0.0.1", "local://"),
        (f"ssh://{getpass.getuser()}@localhost", "local://"),
        ("ssh://another-user@localhost", "ssh://another-user@localhost"),
        (f"ssh://{getpass.getuser()}@node7", f"ssh://{getpass.getuser()}@node7"),
        ("fork://localhost", "local://"),
        ("fork://", "local://"),
        ("local://", "local://"),
        ("ssh://node7", "ssh://node7"),
        ("ssh://me@node7:2222", "ssh://me@node7:2222"),
        ("slurm://localhost", "slurm://"),
        ("slurm://", "slurm://"),
        ("slurm+ssh://login1", "slurm://login1"),
        ("slurm+ssh://me@login1", "slurm://me@login1"),
        ("srun://", "srun://"),
        ("psij://pbs", "psij://pbs"),
    ],
)
def test_resources(url: str, resource: str) -> None:
    assert pilot_description({"resource": url}, RAY).resource == resource


def test_keys_of_a_batch_system_are_kept() -> None:
    lines = ["#SBATCH --constraint=cpu", "export WORD=1"]
    given = described(
        name="gpu",
        working_directory="/scratch",
        type="ray",
        number_of_nodes=2,
        cores_per_node=64,
        gpus_per_node=4,
        walltime=30,
        project="m1",
        qos="premium",
        reservation="r1",
        conda_environment="quantum",
        scheduler_script_commands=lines,
    )
    assert given == PilotDescription(
        resource="slurm://",
        engine="ray",
        name="gpu",
        queue="debug",
        number_of_nodes=2,
        cores_per_node=64,
        gpus_per_node=4,
        walltime=1800,
        project="m1",
        qos="premium",
        reservation="r1",
        conda_environment="quantum",
        scheduler_script_commands=tuple(lines),
        orphan_timeout=30,
    )


def test_defaults() -> None:
    """One core, no GPU, an hour with a batch system and no end without one, and our own for the rest."""
    batch, here = described(), pilot_description({"resource": "ssh://localhost"}, RAY)
    assert (batch.number_of_nodes, batch.cores_per_node, batch.gpus_per_node, batch.walltime) == (1, 1, 0, 3600)
    assert (here.cores_per_node, here.gpus_per_node, here.walltime) == (1, 0, None)
    assert batch.orphan_timeout == here.orphan_timeout == 30


def test_counts_may_be_texts() -> None:
    given = described(number_of_nodes="2", cores_per_node=" 64", gpus_per_node="0")
    assert (given.number_of_nodes, given.cores_per_node, given.gpus_per_node) == (2, 64, 0)
    assert described(cores_per_node=8.0).cores_per_node == 8


@pytest.mark.parametrize(
    ("given", "seconds"),
    [(15, 900), (0.5, 30), ("15", 900), (" 2.5 ", 150), ("1:30:00", 5400), ("2-12", 216000), (None, 3600)],
)
def test_a_number_is_minutes(given: Any, seconds: float) -> None:
    assert described(walltime=given).walltime == seconds


@pytest.mark.parametrize("given", [0, -5, "0", "-5", "soon", "10 minutes", True, [30], float("nan"), float("inf")])
def test_a_walltime_that_is_none(given: Any) -> None:
    with pytest.raises(DescriptionError, match=r"walltime: .*minutes above 0"):
        described(walltime=given)


def test_what_has_no_meaning_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    given = {
        "resource": "ssh://localhost",
        "queue": "debug",
        "project": "m1",
        "number_of_nodes": 2,
        "type": "dask",
        "cores_pre_node": 4,
        "scheduler_script_commands": ["#SBATCH --constraint=cpu"],
    }
    before = dict(given)
    with caplog.at_level(logging.WARNING):
        wanted = pilot_description(given, RAY)
    assert given == before
    assert wanted == PilotDescription(engine="ray", cores_per_node=1, orphan_timeout=30)
    (record,) = caplog.records
    for word in ("queue='debug'", "project='m1'", "one node", "the service runs ray", "did you mean 'cores_per_node'"):
        assert word in record.getMessage()


def test_a_host_has_an_environment_and_no_queue(caplog: pytest.LogCaptureFixture) -> None:
    wanted = pilot_description({"resource": "ssh://node7", "conda_environment": "quantum", "queue": "debug"}, RAY)
    assert (wanted.conda_environment, wanted.queue) == ("quantum", None)
    assert "queue='debug'" in caplog.text and "conda" not in caplog.text


@pytest.mark.parametrize(
    ("given", "match"),
    [
        (None, "a dict with the keys"),
        ({}, "resource: None is not valid"),
        ({"resource": 7}, "resource: 7 is not valid"),
        ({"resource": "localhost"}, "resource: 'localhost' is not valid; expected a URL"),
        ({"resource": "ssh://localhost", "resource_type": "quantum"}, "resource_type.*give qpus"),
        ({"resource": "ssh://localhost", "quantum": {"executor": "qiskit_local"}}, "quantum.*give qpus"),
        ({"resource": "ssh://h", "os_ssh_username": "me"}, r"os_ssh_username.*ssh://user@host"),
        ({"resource": "ssh://localhost", "cores_per_node": "many"}, "cores_per_node: 'many' is not valid"),
        ({"resource": "ssh://localhost", "cores_per_node": "-2"}, "cores_per_node: '-2' is not valid"),
        ({"resource": "ssh://localhost", "cores_per_node": 2.5}, "cores_per_node: 2.5 is not valid"),
        ({"resource": "ssh://localhost", "number_of_nodes": 0}, "number_of_nodes: 0 is not valid"),
        ({"resource": "ssh://localhost", "cores_per_node": 0}, "cores_per_node: 0 is not valid"),
        ({"resource": "slurm://", "scheduler_script_commands": "#SBATCH -q x"}, "scheduler_script_commands"),
    ],
)
def test_wrong_descriptions(given: Any, match: str) -> None:
    with pytest.raises(PilotAPIException, match=match):
        pilot_description(given, RAY)


@pytest.mark.parametrize(
    ("given", "fields"),
    [
        (None, {}),
        ({"num_cpus": 1, "num_gpus": 0, "memory": None}, {"num_cpus": 1, "num_gpus": 0}),
        ({"num_cpus": 0, "num_gpus": 0.25}, {"num_cpus": 0.01, "num_gpus": 0.25}),
        ({"CPU": 2, "GPU": 1}, {"num_cpus": 2, "num_gpus": 1}),
        ({"memory": 2**30}, {"memory": 2**30}),
        ({"max_retries": 2}, {"retries": 2}),
        ({"num_cpus": "2", "num_gpus": "0.5", "memory": "8 GiB"}, {"num_cpus": 2, "num_gpus": 0.5, "memory": "8 GiB"}),
    ],
)
def test_resources_of_tasks(given: Any, fields: dict[str, Any]) -> None:
    assert task_resources(given) == fields
    TaskDescription(function=pow, **fields)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"num_cpu": 1}, "'num_cpu' is not valid.*did you mean 'num_cpus'"),
        ({"resources": {"QPU": 1}}, "'resources' is not valid"),
        ([1], r"resources: \[1\] is not valid"),
    ],
)
def test_wrong_resources_of_tasks(given: Any, match: str) -> None:
    with pytest.raises(PilotAPIException, match=match):
        task_resources(given)


def test_a_service_without_pilots(tmp_path: Path) -> None:
    with PilotComputeService("ray", tmp_path) as service:
        assert service.get_pilots() == []
        assert Path(service.pcs_working_directory).parent == tmp_path
        for refused, match in (
            (lambda: service.submit_task(pow, 2, 3), "no pilot: call create_pilot"),
            (lambda: service.submit_task("task-1", pow, 2), "'task-1' is not valid.*task_name="),
            (lambda: service.submit_task(pow, 2, 3, pilot="cpu"), "pilot: 'cpu' is not valid.*there is none"),
            (lambda: service.submit_mpi_task("ranks.py", 0), "ranks: 0 is not valid"),
            (lambda: service.wait_tasks(None), "tasks: None is not valid; expected a list"),
            (lambda: service.get_results(7), "tasks: 7 is not valid; expected a list"),
            (lambda: service.get_pilot("cpu"), "'cpu' not found; there are: none"),
            (lambda: service.get_client(), "call create_pilot"),
            (lambda: service.create_pilot({"resource": "teleport://x"}), "teleport"),
        ):
            with pytest.raises(PilotAPIException, match=match):
                refused()
        service.wait_tasks([])
        assert service.get_results([]) == []
        assert service.get_logger().name == "pilot.pilot_compute_service"
    with pytest.raises(SessionError, match="closed"):
        service.create_pilot({"resource": "ssh://localhost"})
    assert [path.name for path in Path(service.pcs_working_directory).iterdir()] == ["metrics.csv"]


def test_a_working_directory_is_a_path() -> None:
    with pytest.raises(PilotAPIException, match="working_directory: None is not valid; expected a path"):
        PilotComputeService("ray", None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("engine", "folder", "match"),
    [("spark", "here", "execution_engine: 'spark'"), ("ray", "file/below", "working_directory: .*cannot be made")],
)
def test_wrong_services(engine: str, folder: str, match: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PilotAPIException, match=match):
        PilotComputeService(engine, tmp_path / folder)


def test_a_future_asks_its_task() -> None:
    task: Future[int] = Future()
    future = PilotFuture(task, str)
    called: list[Any] = []
    future.add_done_callback(called.append)
    assert not future.done()
    task.set_result(5)
    assert (future.result(), future.done(), future.cancelled(), future.exception()) == ("5", True, False, None)
    assert called == [future]
    assert future.cancel() is False
    with pytest.raises(TypeError):
        pickle.dumps(future)


def test_all_errors_of_the_api_are_caught_by_its_exception() -> None:
    assert issubclass(DescriptionError, PilotAPIException)
    assert issubclass(PilotError, PilotAPIException)


class _Wordless(Exception):
    def __str__(self) -> str:
        raise RuntimeError("it has no text")


def test_every_failed_task_has_its_row_whatever_its_error_says(tmp_path: Path) -> None:
    errors: dict[int, Exception] = {1: ValueError("café \udc80"), 2: _Wordless(), 3: ValueError("plain")}
    tasks = {number: SimpleNamespace(exception=lambda error=error: error) for number, error in errors.items()}
    observers: list[Any] = []
    manager: Any = SimpleNamespace(tasks=tasks, subscribe=lambda observer, **_: observers.append(observer))
    file = MetricsFile(manager, {}, tmp_path / "metrics.csv")
    observers[0](
        [TaskEnded(5.0, number, f"task-{number}", TaskState.FAILED, None, None, 1.0, None, None, 0) for number in tasks]
    )
    file.close()
    rows = list(csv.DictReader((tmp_path / "metrics.csv").read_text("utf-8").splitlines()))
    assert [row["task_id"] for row in rows] == ["task-1", "task-2", "task-3"]
    assert rows[0]["error_msg"] == "ValueError: café \\udc80"
    assert rows[1]["error_msg"].startswith("_Wordless: <its text cannot be made")
