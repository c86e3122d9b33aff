"""Programs that were written for Pilot-Quantum's API, each run as a script of its own."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAMS = Path(__file__).parent / "programs"
#: Pilot-Quantum's columns, in its order.
COLUMNS = [
    *("completion_time", "error_msg", "execution_secs", "input_staging_data_size_bytes", "pilot_scheduled"),
    *("staging_time_secs", "status", "submit_time", "task_id", "wait_time_secs"),
]


def run(name: str, folder: Path, **variables: str) -> tuple[dict[str, Any], str]:
    """What a program has seen, and its stderr."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    command = [sys.executable, str(PROGRAMS / name), str(folder / "work")]
    done = subprocess.run(
        command, env=environment | variables, cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("SEEN")]
    return json.loads(line.removeprefix("SEEN")), done.stderr


def rows(text: str) -> list[dict[str, str]]:
    table = csv.DictReader(io.StringIO(text))
    assert list(table.fieldnames or ())[: len(COLUMNS)] == COLUMNS
    return list(table)


@pytest.fixture(scope="module")
def on_ray(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    seen, _ = run("on_ray.py", tmp_path_factory.mktemp("ray"))
    return seen


@pytest.fixture(scope="module")
def on_dask(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str, Path]:
    folder = tmp_path_factory.mktemp("dask")
    (folder / "path").mkdir()
    (folder / "path/alone_on_the_path.py").write_text("WORD = 'alone'\n")
    seen, stderr = run("on_dask.py", folder, PYTHONPATH=str(folder / "path"), COMPAT_EXTRA="+extra")
    return seen, stderr, folder


def test_pilots_of_ray_have_states_and_ids_of_their_own(on_ray: dict[str, Any]) -> None:
    assert on_ray["pilots"] == ["cpu", "other"]
    assert on_ray["states"] == ["Running", "Running"]
    assert on_ray["ids differ"]


def test_tasks_of_ray_are_waited_for_and_read_by_ray(on_ray: dict[str, Any]) -> None:
    assert on_ray["in slots"] == [[angle, math.cos(2 * angle)] for angle in map(float, range(6))]
    assert on_ray["ready"] == 8
    assert on_ray["isinstance"] == [True, True]


def test_a_task_goes_to_the_pilot_that_it_asks_for(on_ray: dict[str, Any]) -> None:
    assert on_ray["pinned"] == ["other"] * 4 + ["cpu"] * 4
    ran = {row["task_id"]: row["pilot_scheduled"] for row in rows(on_ray["metrics"])}
    assert {ran[f"pinned-{number}"] for number in range(4)} == {"other"}


def test_references_of_ray_are_arguments(on_ray: dict[str, Any]) -> None:
    assert on_ray["dependency"] == 0 + 1 + 2 + 3 + 3
    assert on_ray["own functions"] == [4.0, 6.0, [0.0, 1.0]]
    assert on_ray["own reference"] == 1 + 2 + 4
    assert on_ray["inside"] == [1 + 2, 1 + 2]


def test_an_exception_is_raised_by_ray_and_by_the_service(on_ray: dict[str, Any]) -> None:
    assert "no value at 0.5" in on_ray["ray.get"] and "in unstable" in on_ray["ray.get"]
    assert on_ray["get_results"] == "no value at 0.5"
    assert on_ray["exception"] == "ValueError('no value at 0.5')"
    assert on_ray["row at once"]
    failed = [row for row in rows(on_ray["metrics"]) if row["status"] == "FAILED"]
    assert [row["error_msg"] for row in failed] == ["Odd: an odd one", "ValueError: no value at 0.5"]
    assert "Odd: an odd one" in on_ray["odd"]


def test_one_pilot_of_ray_is_cancelled_and_the_other_goes_on(on_ray: dict[str, Any]) -> None:
    assert "one at a time" in on_ray["two clusters"]
    assert on_ray["cancelled alone"] == ["Running", "Cancelled"]
    assert on_ray["goes on"] == "cpu"
    assert "other" in on_ray["over"] and "cancelled" in on_ray["over"]


def test_a_program_may_shut_ray_down_and_go_on(on_ray: dict[str, Any]) -> None:
    address, same = on_ray["details"]
    assert address == same
    assert on_ray["disconnected"] == [[0.0, 1.0], [0.0, 1.0]]
    assert not on_ray["connected"]


def test_the_quick_start(on_dask: tuple[dict[str, Any], str, Path]) -> None:
    seen = on_dask[0]
    squares = [number**2 for number in range(10)]
    assert seen["squares"] == seen["gather"] == seen["as completed"] == squares
    assert seen["statuses"] == ["finished"]
    assert seen["wait"] == [10, 0]
    assert seen["mixed"] == [[36, *squares, 36], 36]
    assert seen["isinstance"] == [True, True]
    assert seen["own functions"] == [4 + 9, [0.0, 1.0]]
    assert seen["rows"] == 1 + 10
    assert seen["rows at once"] == [1 + 10 + 3 + 1, 1 + 10 + 3 + 2]
    assert seen["own future"] == [25, 5 + 9]
    assert seen["inside"] == 5 + 9 + 2
    assert seen["gather failed"] == seen["result"] == "no value at 0.5"
    assert seen["cancel"] == [True, True]
    assert "closed" in seen["after cancel"]
    assert seen["no task"] == "tasks: 7 is not valid; expected a list of what submit_task returned"
    assert seen["results after cancel"] == squares
    assert seen["folder"] == ["metrics.csv"]


def test_a_name_may_look_like_an_id(on_dask: tuple[dict[str, Any], str, Path]) -> None:
    """As in Pilot-Quantum's own example of several pilots: pilot-0, pilot-1."""
    assert on_dask[0]["named"] == [True, True]
    ran = [row["pilot_scheduled"] for row in rows(on_dask[0]["metrics"]) if row["task_id"] == "named"]
    assert ran == ["pilot-1"] * 3


def test_descriptions_are_not_changed_and_what_has_no_meaning_is_told_once_a_pilot(
    on_dask: tuple[dict[str, Any], str, Path],
) -> None:
    seen, stderr, _ = on_dask
    assert seen["unchanged"]
    warned = [line for line in stderr.splitlines() if "has no use for" in line]
    assert len(warned) == 3  # services
    assert all("queue='debug', project='m4408', scheduler_script_commands=" in line for line in warned)


def test_workers_have_the_path_and_the_folder_of_the_program(on_dask: tuple[dict[str, Any], str, Path]) -> None:
    seen, _, folder = on_dask
    assert seen["surroundings"] == [str(folder), "alone+extra"]


def test_an_mpi_task_returns_what_its_ranks_wrote(on_dask: tuple[dict[str, Any], str, Path]) -> None:
    texts = ["rank 0 of 2: foo 7\nrank 1 of 2: foo 7\n", ""]
    assert on_dask[0]["mpi"] == [texts, texts, 2]


def test_metrics_have_a_row_for_each_task(on_dask: tuple[dict[str, Any], str, Path]) -> None:
    table = rows(on_dask[0]["metrics"])
    named = {row["task_id"]: row for row in table}
    assert {f"task-{number}" for number in range(10)} | {"slow"} <= set(named)
    assert len(table) == 10 + 2 + 1 + 2 + 2 + 3 + 1 + 1 + 1 + 1 + 1 + 2
    assert {name: row["status"] for name, row in named.items() if row["status"] != "SUCCESS"}["slow"] == "CANCELLED"
    for number in range(10):
        row = named[f"task-{number}"]
        assert row["pilot_scheduled"].startswith("pilot-")
        assert float(row["execution_secs"]) >= 0 and float(row["wait_time_secs"]) >= 0
        assert row["submit_time"] < row["completion_time"]


def test_a_decorated_function_is_a_task(on_dask: tuple[dict[str, Any], str, Path]) -> None:
    assert on_dask[0]["trained"] == [1.0, 2.0]


def test_the_executor_of_the_mini_apps(on_dask: tuple[dict[str, Any], str, Path]) -> None:
    seen = on_dask[0]
    assert seen["executor"] == [[angle, math.cos(3 * angle) + 1] for angle in (0.0, 1.0, 2.0)]
    assert seen["gathered"] == [[0.0, 1.0]]
    assert seen["closed"] == [[0.0, 1.0], "Cancelled"]
