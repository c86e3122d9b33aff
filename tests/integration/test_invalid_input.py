"""Invalid pilots and tasks are refused where they are submitted, and the pilot goes on."""

from __future__ import annotations

import importlib
import math
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from pilot import PilotDescription, PilotExecutor, PilotManager, TaskDescription, registry
from pilot.errors import (
    DescriptionError,
    NoPilotError,
    PilotFailed,
    PluginError,
    SessionError,
    TaskError,
)

Eventually = Callable[..., Any]

#: Seconds for what takes a moment; a test that gets here has found something that hangs.
SOON = 120.0


pytestmark = pytest.mark.usefixtures("home_goes_on")


@pytest.fixture(scope="module")
def manager(home: PilotManager) -> PilotManager:
    return home


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        pytest.param({"cores_per_nod": 2}, "did you mean 'cores_per_node'", id="unknown key"),
        pytest.param({"cores_per_node": -1}, "cores_per_node: -1", id="negative cores"),
        pytest.param({"cores_per_node": 0}, "cores_per_node: 0", id="no cores"),
        pytest.param({"memory": 2**70}, "memory", id="more bytes than there are numbers"),
        pytest.param({"memory": "lots"}, "8 GiB", id="memory in words"),
        pytest.param({"name": "caf\udce9"}, "name", id="a name that is no text"),
        pytest.param({"environment": {"A": "\udce9"}}, "environment", id="a variable that is no text"),
        pytest.param({"walltime": -1}, "walltime", id="walltime below 0"),
        pytest.param("process:1", r"from_text\('process:1'\)", id="a text"),
    ],
)
def test_a_wrong_pilot_fails_where_it_is_asked_for(manager: PilotManager, wanted: dict[str, Any], words: str) -> None:
    before = len(manager.pilots)
    with pytest.raises(DescriptionError, match=words):
        manager.submit_pilot(wanted)
    assert len(manager.pilots) == before


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        pytest.param({"num_cpu": 2}, "did you mean 'num_cpus'", id="unknown key"),
        pytest.param({"num_cpus": -2}, "num_cpus: -2", id="negative cores"),
        pytest.param({"num_cpus": float("nan")}, "num_cpus: nan", id="cores that are no number"),
        pytest.param({"timeout": float("nan")}, "timeout: nan", id="a timeout that is no number"),
        pytest.param({"priority": 2**70}, "priority", id="a priority that no message holds"),
        pytest.param({"memory": 2**70}, "memory", id="more bytes than there are numbers"),
        pytest.param({"retries": 2**70}, "retries", id="retries that no message holds"),
        pytest.param({"name": "caf\udce9"}, "name", id="a name that is no text"),
        pytest.param({"labels": ("caf\udce9",)}, "labels", id="a label that is no text"),
        pytest.param({"labels": "gpu"}, "labels", id="a text for a list"),
        pytest.param({"executable": ["true"]}, "exactly one", id="two kinds of work"),
        pytest.param({"depends_on": [1]}, "depends_on", id="depends on a number"),
        pytest.param({"depends_on": 5}, "depends_on: 5 is not valid", id="depends on what is no list"),
    ],
)
def test_a_wrong_task_fails_where_it_is_submitted(manager: PilotManager, wanted: dict[str, Any], words: str) -> None:
    with pytest.raises(DescriptionError, match=words):
        manager.submit_task({"function": pow, "args": (2, 3), **wanted})


def test_a_field_among_the_arguments_is_refused_unless_the_function_takes_it(manager: PilotManager) -> None:
    def limited(x: int, timeout: int) -> int:
        return x + timeout

    with pytest.raises(DescriptionError, match=r"abs has no argument 'priority'.*TaskDescription\(function=abs, args="):
        manager.submit_task(abs, -1, priority=1)  # type: ignore[call-arg]
    assert manager.submit_task(limited, 1, timeout=2).result(SOON) == 3


def test_something_that_is_no_work_is_refused(manager: PilotManager) -> None:
    with pytest.raises(DescriptionError, match="callable"):
        manager.submit_task(42)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["wait_tasks", "get_results", "resubmit"])
@pytest.mark.parametrize("kind", ["one task alone", "its id", "ids", "a function"])
def test_what_is_no_list_of_tasks_is_refused(manager: PilotManager, method: str, kind: str) -> None:
    task = manager.submit_task(abs, -1)
    given = {"one task alone": task, "its id": task.id, "ids": [task.id], "a function": abs}[kind]
    with pytest.raises(
        DescriptionError, match=rf"^{method}: .* is not valid; expected a list of tasks .*for one task \[task\]"
    ):
        getattr(manager, method)(given)


@pytest.mark.parametrize("timeout", ["5", timedelta(seconds=5), math.nan])
def test_what_is_no_timeout_is_refused(manager: PilotManager, timeout: Any) -> None:
    task, mapped = manager.submit_task(time.sleep, 0.2), manager.map(abs, [1], chunksize=1)
    for call in (
        task.result,
        task.exception,
        mapped.wait,
        manager.flush,
        manager.pilots[0].wait,
        lambda timeout: manager.wait_tasks([task], timeout),
        lambda timeout: manager.as_completed([task], timeout=timeout),
        lambda timeout: PilotExecutor(manager).map(abs, [1], chunksize=2, timeout=timeout),
    ):
        with pytest.raises(DescriptionError, match=r"timeout: .* is not valid; expected a number of seconds, or None"):
            call(timeout)


def test_only_a_task_of_the_manager_is_explained(manager: PilotManager, tmp_path: Path) -> None:
    with PilotManager(tmp_path / "other") as other:
        other.submit_pilot(PilotDescription(cores_per_node=1))
        foreign = other.submit_task(abs, -1)
        for given in (foreign, "1", None):
            with pytest.raises(DescriptionError, match=r"explain: .* expected a task of this manager, or its id"):
                manager.explain(given)  # type: ignore[arg-type]


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the path in which a test makes distributions up."""
    monkeypatch.syspath_prepend(str(tmp_path))
    registry._group.cache_clear()
    yield tmp_path
    registry._group.cache_clear()


def distribution(folder: Path, requires: str, entry: str) -> None:
    info = folder / "made_up-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: made-up\nVersion: 1.0\n{requires}\n")
    (info / "entry_points.txt").write_text(f"[pilot.engines]\n{entry}\n")
    importlib.invalidate_caches()
    registry._group.cache_clear()


def test_an_engine_that_is_not_installed_fails_with_the_command_that_installs_it(
    manager: PilotManager, plugins: Path
) -> None:
    requires = "Provides-Extra: warp\nRequires-Dist: warp-drive-of-nobody>=9 ; extra == 'warp'"
    distribution(plugins, requires, "warp = made_up:Warp [warp]")
    with pytest.raises(PluginError, match=r"needs warp-drive-of-nobody>=9.*not installed: pip install '.*\[warp\]'"):
        manager.submit_pilot({"engine": "warp"})


def test_an_engine_that_cannot_be_imported_fails_the_pilot_with_the_cause(manager: PilotManager, plugins: Path) -> None:
    distribution(plugins, "", "warp = made_up:Warp")
    (plugins / "made_up.py").write_text("raise RuntimeError('the crystals are empty')\n")
    pilot = manager.submit_pilot({"engine": "warp", "name": "warp", "restarts": 0})
    with pytest.raises(PilotFailed, match="see "):
        pilot.wait(SOON)
    assert "the crystals are empty" in pilot.log_path.read_text()


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"engine": "proces"}, "did you mean 'process'"),
        ({"engine": "spark"}, "known: .*dask.*process.*ray"),
        ({"resource": "cloud://"}, "no launcher 'cloud'.*local"),
    ],
)
def test_an_unknown_plugin_is_named_with_those_that_there_are(
    manager: PilotManager, wanted: dict[str, Any], words: str
) -> None:
    with pytest.raises(PluginError, match=words):
        manager.submit_pilot(wanted)


def test_two_pilots_cannot_have_one_name(manager: PilotManager) -> None:
    with pytest.raises(DescriptionError, match="name: 'home'"):
        manager.submit_pilot({"name": "home"})
    with pytest.raises(DescriptionError, match=r"name: 'pilot-1'"):
        manager.submit_pilot({"name": manager.pilots[0].id})


def test_nothing_is_taken_before_the_first_pilot_or_after_the_end() -> None:
    with PilotManager() as manager, pytest.raises(NoPilotError, match="submit_pilot first"):
        manager.submit_task(pow, 2, 3)
    for call in (manager.submit_task, manager.submit_pilot):
        with pytest.raises(SessionError, match="closed"):
            call({"function": print} if call == manager.submit_task else {})
    manager.close()  # the second time


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"pilot": "hoem"}, "home is not among the requested pilots .hoem."),
        ({"num_cpus": 3}, "home has 2 cores, but 3 are needed"),
        ({"num_gpus": 1}, "home has 0 GPUs, but 1 are needed"),
        ({"memory": "64 TiB"}, "home has .* GiB of memory"),
        ({"labels": ["big"]}, "home lacks the label 'big'"),
    ],
)
def test_what_no_pilot_can_serve_fails_at_submit_and_names_each_pilot(
    manager: PilotManager, fields: dict[str, Any], words: str
) -> None:
    with pytest.raises(NoPilotError, match=words):
        manager.submit_task(TaskDescription(function=pow, args=(2, 3), **fields))


def test_tasks_fail_when_the_only_pilot_that_fits_is_cancelled(manager: PilotManager) -> None:
    large = manager.submit_pilot({"name": "large", "cores_per_node": 3})
    sleepers = [TaskDescription(function=time.sleep, args=(60,), num_cpus=3) for _ in range(3)]
    tasks = manager.submit_tasks(sleepers)
    after = manager.submit_task(TaskDescription(function=pow, args=(2, 3), num_cpus=3, depends_on=tasks[0]))
    large.cancel()
    for task in tasks:
        with pytest.raises(NoPilotError, match=r"home has 2 cores, but 3 are needed; .*large is cancelled"):
            task.result(timeout=SOON)
    with pytest.raises(TaskError, match="depends on task"):
        after.result(timeout=SOON)
    with pytest.raises(NoPilotError, match="large is cancelled"):
        manager.submit_task(sleepers[0])
