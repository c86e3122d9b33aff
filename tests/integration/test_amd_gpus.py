"""Tasks in a job with AMD's GPUs, as its environment says: no such hardware is needed to see what tasks are told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pilot import PilotDescription, PilotManager, TaskDescription

pytestmark = pytest.mark.timeout(180)


def told() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.endswith("_VISIBLE_DEVICES")}


def test_each_task_is_told_its_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    variable = "HIP_VISIBLE_DEVICES"
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nexit 9\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, "4,5,5")
    with PilotManager(tmp_path / "s") as manager:
        manager.submit_pilot(PilotDescription(cores_per_node=2, gpus_per_node=2))
        one, two, none = manager.submit_tasks(
            TaskDescription(function=told, num_gpus=number, num_cpus=0.5) for number in (1, 2, 0)
        )
        assert one.result(60) in ({variable: "4"}, {variable: "5"})
        assert one.info.gpus == (one.result()[variable],)
        assert two.result(60) == {variable: "4,5"}
        assert none.result(60) == {variable: "-1"}
        ranks = manager.submit_task(TaskDescription(function=told, ranks=2, num_gpus=1, num_cpus=0.5))
        program = ["sh", "-c", f"echo ${variable} $CUDA_VISIBLE_DEVICES"]
        assert ranks.result(60) == [{variable: "4"}, {variable: "5"}]
        done = manager.submit_task(TaskDescription(mpi=program, ranks=2, num_gpus=1, num_cpus=0.5))
        assert done.result(60).stdout == ("4\n", "5\n")
        plain = manager.submit_task(TaskDescription(mpi=program, ranks=2, num_cpus=0.5))
        assert plain.result(60).stdout == ("-1\n", "-1\n")
