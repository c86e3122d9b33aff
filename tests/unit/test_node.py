"""Which GPUs a node has, by its environment and by an `nvidia-smi` that is a stand-in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pilot import node
from pilot.messages import Node
from pilot.node import gpu_names, lacks_gpus

UUIDS = "printf '0, GPU-aaaa\\n1, GPU-bbbb\\n2, GPU-cccc\\n'"
Smi = Callable[[str], None]


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Smi:
    """``smi(script)``: the only nvidia-smi there is; without the call there is none."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

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
    ],
)
def test_gpus_go_by_their_uuids(
    smi: Smi, monkeypatch: pytest.MonkeyPatch, visible: str | None, names: list[str]
) -> None:
    smi(UUIDS)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpu_names(2) == names
    assert gpu_names(0) == []


@pytest.mark.parametrize("script", [None, "exit 9", "echo 'No devices were found'"])
def test_where_nothing_tells_the_user_is_believed_or_not(smi: Smi, script: str | None) -> None:
    if script is not None:
        smi(script)
    assert gpu_names(2) == ["0", "1"]
    assert gpu_names(2, believe=False) == []


def test_nvidia_smi_knows_fewer_than_asked(smi: Smi) -> None:
    smi(UUIDS)
    assert gpu_names(4) == ["GPU-aaaa", "GPU-bbbb", "GPU-cccc"]


def test_a_hanging_nvidia_smi_is_not_waited_for(smi: Smi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "SMI_SECONDS", 0.2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    smi("sleep 60; " + UUIDS)
    assert gpu_names(1) == ["3"]  # what it would say after 60 s is not that


def test_too_few_are_named() -> None:
    assert lacks_gpus(Node("g1", "vm", 4, ["GPU-a", "GPU-b"], 0), 2) is None
    said = lacks_gpus(Node("g1", "vm", 4, ["GPU-a"], 0), 2)
    assert said is not None
    assert said.startswith("node g1 has 1 GPUs (GPU-a) that the pilot may use, gpus_per_node=2 asks for 2")
