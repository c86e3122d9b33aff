"""GPUs of a pilot: on a real Slurm, whose node g1 has two that are device files only, and where the user says so."""

from __future__ import annotations

import os
import secrets
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pilot import NoPilotError, Pilot, PilotDescription, PilotFailed, PilotManager, Task, TaskDescription
from pilot.testing.polling import eventually

#: What a task saw: its CUDA_VISIBLE_DEVICES, and when it began and ended.
Seen = tuple[str | None, float, float]


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PilotManager]:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with PilotManager(tmp_path / "session") as manager:
        yield manager
        manager.close()


def on_g1(manager: PilotManager, **fields: Any) -> Pilot:
    defaults = {"cores_per_node": 4, "gpus_per_node": 2, "queue": "gpu", "walltime": 300}
    return manager.submit_pilot(PilotDescription(resource="slurm://", **{**defaults, **fields}))


def look(seconds: float = 0.3, meeting: Path | None = None, others: int = 0) -> Seen:
    """Stays for some time, and until so many tasks have come to the meeting."""
    began = time.monotonic()
    if meeting:
        (meeting / secrets.token_hex(8)).touch()
        eventually(lambda: len(list(meeting.iterdir())) >= others)
    time.sleep(seconds)
    return os.environ.get("CUDA_VISIBLE_DEVICES"), began, time.monotonic()


def submit(manager: PilotManager, count: int, num_gpus: float, seconds: float = 0.3) -> list[Task]:
    wish = TaskDescription(function=look, args=(seconds,), num_gpus=num_gpus, num_cpus=0.5)
    return [manager.submit_task(wish) for _ in range(count)]


def submit_together(manager: PilotManager, count: int, num_gpus: float, folder: Path, at_once: int) -> list[Task]:
    """So many tasks, of which this number must be seen at once, however slowly they start."""
    folder.mkdir()
    wish = TaskDescription(function=look, args=(0.3, folder, at_once), num_gpus=num_gpus, num_cpus=0.5)
    return [manager.submit_task(wish) for _ in range(count)]


def see(tasks: list[Task]) -> list[Seen]:
    """What they saw; their records say the same."""
    seen: list[Seen] = [task.result(60) for task in tasks]
    assert [",".join(task.info.gpus) for task in tasks] == [devices for devices, _, _ in seen]
    return seen


def together(seen: list[Seen]) -> list[Counter[str]]:
    """At each beginning of a task: how many tasks each GPU has then."""
    return [
        Counter(gpu for devices, began, ended in seen if began <= at < ended for gpu in (devices or "").split(","))
        for _, at, _ in seen
    ]


def check_shares(manager: PilotManager, folder: Path) -> list[Task]:
    """Whole GPUs, halves, both, and none; the tasks of it."""
    whole = submit_together(manager, 4, 1, folder / "whole", 2)
    moments = together(see(whole))
    assert max(moments, key=len) == {"0": 1, "1": 1}
    assert all(max(moment.values()) == 1 for moment in moments)

    half = submit_together(manager, 8, 0.5, folder / "half", 4)
    moments = together(see(half))
    assert {"0": 2, "1": 2} in moments
    assert all(max(moment.values()) <= 2 for moment in moments)

    mixed = [task for wanted in (2, 1, 0) for task in submit(manager, 1, wanted, 0.1)]
    seen = see(mixed)
    both, one, none = (devices for devices, _, _ in seen)
    assert both == "0,1" and one in ("0", "1") and none == ""
    assert all(max(moment.values()) == 1 for moment in together([one for one in seen if one[0]]))
    return whole + half + mixed


@pytest.mark.parametrize("engine", ["process", "dask", "ray"])
def test_shares_on_slurm(cluster: Any, tmp_path: Path, manager: PilotManager, engine: str) -> None:
    # This setting of Ray's would have it hide every GPU from its actors, which are declared with none.
    pilot = on_g1(manager, engine=engine, name="gpus", environment={"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1"})
    tasks = check_shares(manager, tmp_path)
    with pytest.raises(NoPilotError, match="gpus has 2 GPUs, but 3 are needed"):
        submit(manager, 1, 3)
    assert pilot.nodes == ("g1",)
    if engine == "process":
        before = {task.id: task.info.gpus for task in tasks}
        manager.close()
        with PilotManager.attach(tmp_path / "session") as again:
            assert {id: again.tasks[id].info.gpus for id in before} == before


def test_gpus_that_the_user_names(manager: PilotManager, tmp_path: Path) -> None:
    environment = {"CUDA_VISIBLE_DEVICES": "0,1"}
    manager.submit_pilot(PilotDescription(cores_per_node=4, gpus_per_node=2, environment=environment))
    check_shares(manager, tmp_path)


def test_uuids_are_what_tasks_and_the_record_have(
    manager: PilotManager, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    smi = tmp_path / "bin/nvidia-smi"
    smi.parent.mkdir()
    smi.write_text("#!/bin/sh\nprintf '0, GPU-aaaa\\n1, GPU-bbbb\\n'\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{smi.parent}:{os.environ['PATH']}")
    manager.submit_pilot(PilotDescription(cores_per_node=2, gpus_per_node=2))
    assert {devices for devices, _, _ in see(submit(manager, 4, 1))} == {"GPU-aaaa", "GPU-bbbb"}
    assert see(submit(manager, 1, 2))[0][0] == "GPU-aaaa,GPU-bbbb"


def test_two_pilots_on_one_node_have_different_gpus(cluster: Any, manager: PilotManager) -> None:
    for name in ("one", "two"):
        on_g1(manager, name=name, cores_per_node=2, gpus_per_node=1, memory="1 GiB")
    fields = [TaskDescription(function=look, num_gpus=1, pilot=name) for name in ("one", "two")]
    assert {devices for devices, _, _ in see([manager.submit_task(wish) for wish in fields])} == {"0", "1"}


def test_fewer_gpus_than_asked_for(cluster: Any, manager: PilotManager) -> None:
    pilot = on_g1(manager, gres="gpu:1", restarts=0)
    found = r"node g1 has 1 GPUs \(0\) that the pilot may use, but gpus_per_node=2"
    with pytest.raises(PilotFailed, match=found):
        pilot.wait(60)


def rank_sees() -> tuple[int, str]:
    from mpi4py import MPI

    MPI.COMM_WORLD.Barrier()
    return MPI.COMM_WORLD.rank, os.environ["CUDA_VISIBLE_DEVICES"]


def ranks(manager: PilotManager, count: int, num_gpus: float) -> Task:
    return manager.submit_task(TaskDescription(function=rank_sees, ranks=count, num_gpus=num_gpus, num_cpus=0.5))


def test_each_rank_has_its_own_gpu(cluster: Any, manager: PilotManager) -> None:
    pytest.importorskip("mpi4py")
    on_g1(manager, mpi=("srun", "--mpi=pmi2"))
    see(submit(manager, 2, 1, 0.1))  # idle workers hold both
    task = ranks(manager, 2, 1)
    assert task.result(60) == [(0, "0"), (1, "1")]
    assert task.info.gpus == ("0", "1")
    task = ranks(manager, 1, 2)
    assert task.result(60) == [(0, "0,1")]
    task = ranks(manager, 4, 0.5)
    assert Counter(devices for _, devices in task.result(60)) == {"0": 2, "1": 2}
    assert sorted(task.info.gpus) == ["0", "1"]
    (busy,) = submit(manager, 1, 1, 1.5)
    one = ranks(manager, 1, 1)
    (alone,) = [devices for _, devices in one.result(60)]
    assert one.info.gpus == (alone,) != busy.info.gpus
    assert alone != see([busy])[0][0]
    program = ("sh", "-c", "echo $CUDA_VISIBLE_DEVICES")
    task = manager.submit_task(TaskDescription(mpi=program, ranks=2, num_gpus=1, num_cpus=0.5))
    assert task.result(60).stdout == ("0\n", "1\n")
    task = manager.submit_task(TaskDescription(mpi=program, ranks=2, num_cpus=0.5))
    assert task.result(60).stdout == ("\n", "\n")
    assert task.info.gpus == ()
    with pytest.raises(NoPilotError, match="room for 2 such ranks, but 3 are needed"):
        ranks(manager, 3, 1)
