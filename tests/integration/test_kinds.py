"""Kinds of tasks: names that nobody defines, and which fields go together. An example is in examples/plugins/kind."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from pilot import PilotDescription, PilotManager, TaskDescription, registry
from pilot.errors import DescriptionError, PluginError
from pilot.interfaces import Part, Prepared


def test_a_kind_that_nobody_defines(tmp_path: Path) -> None:
    with PilotManager(tmp_path) as manager:
        manager.submit_pilot(PilotDescription(resource="local://", engine="process", cores_per_node=1))
        with pytest.raises(PluginError, match=r"no kind of task .circiut. \(did you mean .circuit."):
            manager.submit_task(TaskDescription(kind="circiut"))


@pytest.mark.parametrize("answer", [None, [1]], ids=["nothing", "a list"])
def test_a_kind_that_prepares_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: object) -> None:
    kind = f"of {type(answer).__name__}"
    with PilotManager(tmp_path) as manager:
        monkeypatch.setattr(registry, "load", lambda group, name: lambda description, offer: answer)
        with pytest.raises(PluginError, match=f"the kind of task '{kind}' returned .*; expected a Prepared"):
            manager.submit_task(TaskDescription(kind=kind))


@pytest.mark.parametrize("number", [0, 2])
def test_parts_that_nothing_combines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    answer = Prepared(name="x", parts=(Part(function=abs, args=(1,)),) * number)
    with PilotManager(tmp_path) as manager:
        monkeypatch.setattr(registry, "load", lambda group, name: lambda description, offer: answer)
        with pytest.raises(PluginError, match=f"'{number} parts' returned {number} parts; without combine expected is"):
            manager.submit_task(TaskDescription(kind=f"{number} parts"))


def test_a_pilot_cannot_be_pickled(tmp_path: Path) -> None:
    with PilotManager(tmp_path) as manager:
        pilot = manager.submit_pilot(PilotDescription(cores_per_node=1))
        with pytest.raises(TypeError, match="a Pilot cannot be pickled: a task can take its name along"):
            pickle.dumps(pilot)


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
