"""Kinds of tasks that another package defines: installed beside the library, found by its entry point."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pilot import PilotDescription, PilotManager, TaskDescription
from pilot.errors import DescriptionError, PluginError

KIND = '''"""A kind of task: an integral, its range cut into parts."""

from dataclasses import dataclass

from pilot.descriptions import TaskDescription
from pilot.errors import DescriptionError
from pilot.interfaces import JointFunction, Offer, Part, Prepared


@dataclass(frozen=True)
class Middle(JointFunction):
    """The midpoint rule, for all parts that wait together."""

    power: int

    def run_together(self, calls):
        return [self._run(*call) for call in calls]

    def _run(self, low, high):
        if low < 0:
            return ValueError("below 0")
        return (high - low) * ((low + high) / 2) ** self.power


def prepare(description: TaskDescription, offer: Offer) -> Prepared:
    low, high = description.args
    if not high > low:
        raise DescriptionError("TaskDescription.args: two ascending numbers are wanted", field="args")
    number = description.kwargs.get("parts", offer.cores)
    edges = [low + (high - low) * place / number for place in range(number + 1)]
    parts = tuple(
        Part(function=Middle(description.kwargs["power"]), args=pair) for pair in zip(edges, edges[1:])
    )
    return Prepared(name="integral", parts=parts, combine=Part(function=sum, args=()) if number > 1 else None)
'''

USE = """
from pilot import PilotDescription, PilotManager, TaskDescription

with PilotManager("session") as manager:
    manager.submit_pilot(PilotDescription(resource="local://", engine="process", cores_per_node=2))
    whole = manager.submit_task(TaskDescription(kind="integral", args=(0.0, 2.0), kwargs={"power": 1, "parts": 8}))
    print(whole.result(60), len(whole.parts), whole.info.name)
    single = manager.submit_task({"kind": "integral", "args": (0.0, 2.0), "kwargs": {"power": 1, "parts": 1}})
    print(single.result(60), len(single.parts))
    try:
        manager.submit_task(TaskDescription(kind="integral", args=(2.0, 0.0), kwargs={"power": 1}))
    except ValueError as error:
        print(error)
    wrong = manager.submit_task(TaskDescription(kind="integral", args=(-1.0, 1.0), kwargs={"power": 1, "parts": 2}))
    print(repr(wrong.exception(60)))
"""


def test_a_kind_of_another_package(tmp_path: Path) -> None:
    """It says which parts there are, is given what the pilots have, and its functions run together."""
    (tmp_path / "integrals.py").write_text(KIND)
    folder = tmp_path / "integrals-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: integrals\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[pilot.kinds]\nintegral = integrals:prepare\n")
    done = subprocess.run(
        [sys.executable, "-c", USE],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "2.0 8 integral",
        "2.0 0",
        "TaskDescription.args: two ascending numbers are wanted",
        "ValueError('below 0')",
    ]


def test_a_kind_that_nobody_defines(tmp_path: Path) -> None:
    with PilotManager(tmp_path) as manager:
        manager.submit_pilot(PilotDescription(resource="local://", engine="process", cores_per_node=1))
        with pytest.raises(PluginError, match=r"no kind of task .circiut. \(did you mean .circuit."):
            manager.submit_task(TaskDescription(kind="circiut"))


def test_fields_of_kinds() -> None:
    """A kind of another package reads the fields that it likes; there is one thing to do at most."""
    described = TaskDescription(kind="bundle", shots=5, args=(1,), observables=["Z"])
    assert (described.shots, described.args) == (5, (1,))
    with pytest.raises(DescriptionError, match="exactly one of function"):
        TaskDescription(kind="bundle", function=len, circuit="OPENQASM 2.0;")
    with pytest.raises(DescriptionError, match="nothing with a circuit"):
        TaskDescription(kind="circuit", circuit="OPENQASM 2.0;", args=(1,))
    with pytest.raises(DescriptionError, match="not for MPI tasks, circuits and other kinds"):
        TaskDescription(kind="bundle", alternatives=[{"num_gpus": 1}]).terms()
