"""Which GPUs a node has, by its environment and by an `nvidia-smi` that is a stand-in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pilot.agent import gpus as agent_gpus
from pilot.agent.gpus import gpu_facts, lacks_gpus
from pilot.resources import Node
from pilot.worker import gpus

UUIDS = "printf '0, GPU-aaaa\\n1, GPU-bbbb\\n2, GPU-cccc\\n'"
Smi = Callable[[str], None]


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Smi:
    """``smi(script)``: the only nvidia-smi there is; without the call there is none."""
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL"):
        monkeypatch.delenv(name, raising=False)

    def install(script: str) -> None:
        path = tmp_path / "nvidia-smi"
        path.write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n")
        path.chmod(0o755)

    return install


@pytest.mark.parametrize(
    ("visible", "names"),
    [
        (None, ["GPU-aaaa", "GPU-bbbb"]),
        ("2,0", ["GPU-cccc", "GPU-aaaa"]),
        ("1", ["GPU-bbbb"]),
        ("GPU-bbbb,MIG-1234", ["GPU-bbbb", "MIG-1234"]),
        ("", []),
        ("NoDevFiles", []),
        ("1,-1,0", ["GPU-bbbb"]),
        ("7, 1", ["7", "GPU-bbbb"]),
        ("1,1", ["GPU-bbbb"]),
        ("1,GPU-bbbb,0", ["GPU-bbbb", "GPU-aaaa"]),
    ],
)
def test_gpus_go_by_their_uuids(
    smi: Smi, monkeypatch: pytest.MonkeyPatch, visible: str | None, names: list[str]
) -> None:
    smi(UUIDS)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpu_facts(2)[0] == names
    assert gpu_facts(0)[0] == []


@pytest.mark.parametrize("script", [None, "exit 9", "echo 'No devices were found'"])
def test_where_nothing_tells_of_gpus_there_are_none(smi: Smi, script: str | None) -> None:
    if script is not None:
        smi(script)
    assert gpu_facts(2)[0] == []
    assert gpu_facts(2, {"CUDA_VISIBLE_DEVICES": "3,5,7"})[0] == ["3", "5"]


#: What a job has → the names of its GPUs, and what a task with the second one, and one without, finds.
AMD: dict[str, tuple[dict[str, str], list[str], dict[str, str], dict[str, str]]] = {
    "HIP's": ({"HIP": "4,5"}, ["4", "5"], {"HIP": "5"}, {"HIP": "-1"}),
    "ROCR's": ({"ROCR": "4,5"}, ["4", "5"], {"ROCR": "5"}, {"ROCR": "-1"}),
    "HIP's within ROCR's": ({"ROCR": "4,5", "HIP": "0,1"}, ["0", "1"], {"HIP": "1"}, {"HIP": "-1"}),
    "HIP's and CUDA's": (
        {"HIP": "4,5", "CUDA": "4,5"},
        ["4", "5"],
        {"HIP": "5", "CUDA": "5"},
        {"HIP": "-1", "CUDA": ""},
    ),
    "ROCR's and CUDA's": ({"ROCR": "4,5", "CUDA": "0,1"}, ["0", "1"], {"CUDA": "1"}, {"CUDA": ""}),
    "a uuid": ({"ROCR": "GPU-deadbeef,1"}, ["GPU-deadbeef", "1"], {"ROCR": "1"}, {"ROCR": "-1"}),
    "twice": ({"HIP": "4,4,5"}, ["4", "5"], {"HIP": "5"}, {"HIP": "-1"}),
    "CUDA's alone": ({"CUDA": "0,1"}, ["0", "1"], {"CUDA": "1"}, {"CUDA": ""}),
}


@pytest.mark.parametrize(("job", "names", "second", "without"), AMD.values(), ids=AMD)
def test_gpus_of_amd_go_by_the_variable_of_the_job(
    smi: Smi,
    monkeypatch: pytest.MonkeyPatch,
    job: dict[str, str],
    names: list[str],
    second: dict[str, str],
    without: dict[str, str],
) -> None:
    def full(variables: dict[str, str]) -> dict[str, str]:
        return {f"{name}_VISIBLE_DEVICES": value for name, value in variables.items()}

    for name, value in full(job).items():
        monkeypatch.setenv(name, value)
    found, variables = gpu_facts(2)
    assert found == names
    assert gpus.assigned(variables, names[1:]) == full(second)
    assert gpus.assigned(variables, []) == full(without)


def test_slurm_sets_the_variables_of_all_makers(smi: Smi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where there is a driver of AMD's, HIP counts within what ROCR leaves."""
    for name in ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL"):
        monkeypatch.setenv(name, "4,5")
    assert gpu_facts(2) == (["4", "5"], ("CUDA_VISIBLE_DEVICES",))
    monkeypatch.setattr(gpus, "AMD_DRIVER", tmp_path)
    names, variables = gpu_facts(2)
    assert names == ["4", "5"]
    assert gpus.assigned(variables, ["5"]) == {
        "ROCR_VISIBLE_DEVICES": "5",
        "CUDA_VISIBLE_DEVICES": "0",
        "GPU_DEVICE_ORDINAL": "0",
    }
    assert gpus.assigned(variables, []) == {
        "ROCR_VISIBLE_DEVICES": "-1",
        "CUDA_VISIBLE_DEVICES": "",
        "GPU_DEVICE_ORDINAL": "-1",
    }
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "0,1")
    names, variables = gpu_facts(2)
    assert names == ["0", "1"]
    assert set(gpus.assigned(variables, ["1"]).values()) == {"1"}


@pytest.mark.parametrize("nothing", ["", "-1"])
@pytest.mark.parametrize("variable", ["HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"])
def test_a_job_that_hides_all_gpus_of_amd_has_none(
    smi: Smi, monkeypatch: pytest.MonkeyPatch, variable: str, nothing: str
) -> None:
    monkeypatch.setenv(variable, nothing)
    names, variables = gpu_facts(2)
    assert (names, variables) == ([], (variable,))
    said = lacks_gpus(Node("g1", "vm", 4, names, 0, "", variables), 2)
    assert said is not None
    assert f"{variable}, or else those that nvidia-smi lists" in said


def test_where_nvidia_has_gpus_the_variables_of_amd_mean_nothing(smi: Smi, monkeypatch: pytest.MonkeyPatch) -> None:
    smi(UUIDS)
    monkeypatch.setenv("ROCR_VISIBLE_DEVICES", "0,1")  # Slurm sets both where it does not know the maker
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert gpu_facts(2) == (["GPU-aaaa", "GPU-bbbb"], ("CUDA_VISIBLE_DEVICES",))


def test_nvidia_smi_knows_fewer_than_asked(smi: Smi) -> None:
    smi(UUIDS)
    assert gpu_facts(4)[0] == ["GPU-aaaa", "GPU-bbbb", "GPU-cccc"]


def test_a_hanging_nvidia_smi_is_not_waited_for(smi: Smi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_gpus, "SMI_SECONDS", 0.2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    smi("sleep 60; " + UUIDS)
    assert gpu_facts(1)[0] == ["3"]  # what it would say after 60 s is not that


def test_too_few_are_named() -> None:
    assert lacks_gpus(Node("g1", "vm", 4, ["GPU-a", "GPU-b"], 0), 2) is None
    said = lacks_gpus(Node("g1", "vm", 4, ["GPU-a"], 0), 2)
    assert said is not None
    assert said.startswith("node g1 has 1 GPUs (GPU-a) that the pilot may use, but gpus_per_node=2")
