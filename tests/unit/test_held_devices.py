"""The device that a worker has: what it says when it cannot be used, and jobs that another worker left."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilot.errors import QPUError, QPUUnavailable
from pilot.interfaces import QPU
from pilot.resources import QPUInfo
from pilot.worker import device


class Moody(QPU):
    """Raises what it is told to, where it is told to."""

    def __init__(self) -> None:
        super().__init__("moody", "")
        self.raises: dict[str, Exception] = {}
        self.called: list[str] = []

    def _call(self, verb: str) -> None:
        self.called.append(verb)
        if verb in self.raises:
            raise self.raises[verb]

    def open(self) -> None:
        self._call("open")

    def close(self) -> None:
        self._call("close")

    def info(self) -> QPUInfo:
        self._call("info")
        return QPUInfo(name="moody", qubits=7)

    def cancel_job(self, job: str) -> None:
        self._call(f"cancel {job}")

    def target(self) -> None: ...

    def run(self, *args: object) -> list[object]:  # type: ignore[override]
        raise NotImplementedError


@pytest.fixture
def moody(monkeypatch: pytest.MonkeyPatch) -> Moody:
    qpu = Moody()
    monkeypatch.setattr(device, "make", lambda name: qpu)
    return qpu


def test_what_it_said_last_is_kept_while_it_cannot_be_asked(moody: Moody, tmp_path: Path) -> None:
    held = device.Held("moody", tmp_path)
    moody.raises["open"] = RuntimeError("no power")
    never = held.look()
    assert (never.qubits, never.accepts_jobs, never.problem) == (0, False, "RuntimeError: no power")
    del moody.raises["open"]
    assert (held.look().qubits, held.look().problem) == (7, "")
    moody.raises["info"] = QPUUnavailable("it is away")
    away = held.look()
    assert (away.qubits, away.accepts_jobs, away.problem) == (7, False, "it is away")


@pytest.mark.parametrize("goes_on", [True, False])
def test_the_job_of_a_worker_that_died(moody: Moody, tmp_path: Path, goes_on: bool) -> None:
    device.Held("moody", tmp_path).job_began("old")
    if goes_on:
        moody.raises["cancel old"] = QPUError("no such job")
    device.Held("moody", tmp_path).open()
    assert moody.called == ["open", "cancel old"]
    assert not list(tmp_path.iterdir())


def test_the_job_of_before_is_tried_again_while_nothing_answers(moody: Moody, tmp_path: Path) -> None:
    device.Held("moody", tmp_path).job_began("old")
    moody.raises["cancel old"] = QPUUnavailable("the line is down")
    held = device.Held("moody", tmp_path)
    with pytest.raises(QPUUnavailable):
        held.open()
    assert moody.called[-1] == "close"
    moody.raises.clear()
    held.open()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("said", [None, QPUInfo(name="other", qubits=7)])
def test_what_says_nothing_of_itself_cannot_be_used(
    moody: Moody, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: QPUInfo | None
) -> None:
    monkeypatch.setattr(moody, "info", lambda: said)
    seen = device.Held("moody", tmp_path).look()
    assert seen.accepts_jobs is False and "expected a QPUInfo with the name of the QPU" in seen.problem
