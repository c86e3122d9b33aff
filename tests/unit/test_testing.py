"""What `pilot.testing` offers: its names, the parts in memory, and suites that find what is wrong with a plugin."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from pilot import TaskDescription, testing
from pilot.interfaces import Allocation, Kind, Part, Policy, Prepared, QPUTable, QueuedTask, WorkerSpec
from pilot.resources import SLOT
from pilot.testing import KindContract, MemoryEngine, PolicyContract, eventually


def test_names() -> None:
    assert dir(testing) == sorted(testing.__all__, key=lambda name: (name.islower(), name))
    for name in testing.__all__:
        assert getattr(testing, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Wrld'"):
        testing.Wrld  # noqa: B018


def test_what_is_no_suite_needs_no_pytest() -> None:
    script = "import sys; sys.modules['pytest'] = None; from pilot.testing import World, replay; World().pilot()"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_eventually() -> None:
    answers = iter([0, "", "now"])
    assert eventually(lambda: next(answers)) == "now"
    with pytest.raises(AssertionError, match=r"waited 0.05 s: no answer"):
        eventually(lambda: False, 0.05, complaint=lambda: "no answer")


def test_an_engine_in_memory(tmp_path: Path) -> None:
    engine = MemoryEngine(Allocation(pilot="p", cores=2, gpus=0, memory=1, folder=tmp_path))
    ended: list[tuple[str, str]] = []
    broken: list[str] = []

    def on_exit(name: str) -> Callable[..., None]:
        return lambda reason, blameless=False: ended.append((name, reason))

    engine.start(broken.append)
    for name in ("a", "b", "c"):
        spec = WorkerSpec(
            name=name, resources=SLOT, address="", keys=(b"", b""), folder="", spool="", sys_path=(),
            working_directory="", environment={},
        )  # fmt: skip
        engine.spawn(spec, on_exit(name))
    engine.end("a", "ended with code 1")
    engine.end("a", "ended again")
    engine.kill("b")
    assert list(engine.workers) == ["c"]
    engine.stop()
    assert ended == [("a", "ended with code 1"), ("b", "was killed by signal 9"), ("c", "was killed by signal 9")]
    assert engine.on_broken == broken.append


# ---- plugins with a fault do not pass ---------------------------------------------------------------------------


class Never(Policy):
    def assign(self, queue: Sequence[QueuedTask], table: QPUTable, now: float) -> Sequence[int]:
        return [-1] * len(queue)


class Raises(Policy):
    def order(self, task: QueuedTask, now: float) -> Any:
        raise ZeroDivisionError


@pytest.mark.parametrize("policy", [Never, Raises])
def test_policies(policy: type[Policy]) -> None:
    suite = PolicyContract()
    with pytest.raises(AssertionError):
        suite.test_a_single_task_on_a_single_pilot(policy())
    with pytest.raises(AssertionError):
        suite.test_every_task_ends_once(policy(), 0)


def prepared(*parts: Part, combine: Part | None = None) -> Kind:
    return lambda description, offer: Prepared(name="x", parts=parts, combine=combine)


KINDS: dict[str, Kind] = {
    "no parts": prepared(),
    "nothing combines": prepared(*[Part(function=int, args=(1,))] * 2),
    "another result": prepared(Part(function=int, args=(4,))),
    "cannot be pickled": prepared(Part(function=len, args=((one for one in "abc"),))),
}


class One(KindContract):
    def check(self, result: Any) -> None:
        assert result == 1


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_kinds(kind: Kind) -> None:
    suite = One()
    suite.description = TaskDescription(kind="one")
    with pytest.raises((AssertionError, TypeError)):
        suite.test_the_parts_make_the_result(kind, 1)
    suite.test_the_parts_make_the_result(prepared(Part(function=int, args=(1,))), 1)
