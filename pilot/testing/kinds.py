"""The contract suite of kinds of tasks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cloudpickle
import pytest

from pilot import PilotDescription, PilotManager, TaskDescription, registry
from pilot.errors import DescriptionError
from pilot.interfaces import Kind, Offer, Part, Prepared


class KindContract:
    """What every kind of task promises, as tests.

    A plugin's author subclasses it::

        class TestMyKind(KindContract):
            description = TaskDescription(kind="mine", args=(1, 2, 3))
            wrong = TaskDescription(kind="mine", args=())

            def check(self, result):
                assert result == 6
    """

    #: A task that takes seconds at most.
    description: TaskDescription
    #: One that the kind refuses; None: it takes all.
    wrong: TaskDescription | None = None
    #: The pilot that runs the task.
    pilot = PilotDescription(engine="process", cores_per_node=2)

    def check(self, result: Any) -> None:
        """Fail when this is not the result of `description`."""
        raise NotImplementedError

    @pytest.fixture
    def kind(self) -> Kind:
        """What prepares the tasks."""
        found: Kind = registry.load("pilot.kinds", self.description.kind or "circuit")
        return found

    @pytest.fixture(scope="class")
    @classmethod
    def manager(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PilotManager]:
        """A manager with the pilot, which is active."""
        with PilotManager(tmp_path_factory.mktemp("kind") / "session") as manager:
            manager.submit_pilot(cls.pilot).wait(timeout=60)
            yield manager

    @pytest.mark.parametrize("cores", [1, 7])
    def test_the_parts_make_the_result(self, kind: Kind, cores: int) -> None:
        """However many cores the pilots have; after the way that functions and arguments take to a worker."""
        prepared = kind(self.description, offer(cores))
        assert isinstance(prepared, Prepared)
        assert prepared.parts
        assert prepared.combine is not None or len(prepared.parts) == 1
        results = [call(part) for part in prepared.parts]
        if prepared.maps:
            results = [call(one.part, [results[part] for part in one.parts]) for one in prepared.maps]
        self.check(results[0] if prepared.combine is None else call(prepared.combine, results))

    def test_weights(self, kind: Kind) -> None:
        assert all(part.weight > 0 for part in kind(self.description, offer(2)).parts)

    def test_a_pilot_runs_it(self, manager: PilotManager) -> None:
        task = manager.submit_task(self.description)
        self.check(task.result(timeout=120))
        assert task.info.name

    def test_what_it_refuses(self, kind: Kind, manager: PilotManager) -> None:
        """Where the task is submitted, not in a worker."""
        if self.wrong is None:
            pytest.skip("it takes all descriptions")
        with pytest.raises(DescriptionError):
            kind(self.wrong, offer(2))
        with pytest.raises(DescriptionError):
            manager.submit_task(self.wrong)


def offer(cores: int) -> Offer:
    """One pilot without QPUs and GPUs."""
    return Offer(devices={}, cores=cores, cores_per_node=cores, gpus=0)


def call(part: Part, *more: Any) -> Any:
    """Run a part here, with copies of its function and arguments."""
    function, args = cloudpickle.loads(cloudpickle.dumps((part.function, part.args)))
    return function(*args, *more)
