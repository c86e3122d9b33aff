"""The errors that the guides for plugins name are those that such mistakes give."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pilot import registry
from pilot.cli import run
from pilot.interfaces import QPU, Launcher, Policy
from pilot.resources import ANY_QPU, CircuitFacts, QPUInfo, Resources
from pilot.testing import World
from pilot.testing.policies import SMALL
from pilot.testing.qpus import bell, run_job

GUIDES = Path(__file__).parents[2] / "docs/plugins"


def answers(method: str, answer: Callable[..., Any]) -> Callable[[], str]:
    """What a task ends with where a method of the policy answers so."""

    def call() -> str:
        made: Policy = type("Mine", (Policy,), {method: lambda self, *args: answer(*args)})()
        world = World(policy=made)
        world.pilot("p", cores=1, qpus=[SMALL])
        world.submit(20)
        circuit = {"resources": Resources(num_cpus=0.0, qpu=ANY_QPU), "facts": CircuitFacts(2, 100, 1, 1, 2)}
        world.submit(2, terms=circuit)
        world.tick(1.0)
        return next(iter(world.errors.values())).reason

    return call


def gives(*results: dict[str, int]) -> Callable[[], str]:
    """The error where a QPU returns these results for two circuits."""

    class Mine(QPU):
        def info(self) -> QPUInfo:
            return QPUInfo(name=self.name, qubits=5)

        def target(self) -> None:
            return None

        def run(self, run: Any) -> Any:
            return results

    return raised(lambda: run_job(Mine("mine:a", "a"), [bell(), bell()], 5, [1, 2]))


def raised(call: Callable[[], Any]) -> Callable[[], str]:
    """The error's text."""

    def text() -> str:
        with pytest.raises(Exception) as caught:
            call()
        return f"{type(caught.value).__name__}: {caught.value}"

    return text


def made_of(plugin: Any) -> Any:
    """As `registry.made`, of a launcher that is called "mine"."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "load", lambda group, name: plugin)
        return registry.made("pilot.launchers", "mine", Launcher)


#: The guide, and what makes the mistake.
MISTAKES: dict[str, tuple[str, Callable[[], str]]] = {
    "not installed": ("index", raised(lambda: registry.load("pilot.launchers", "mine"))),
    "not whole": ("index", raised(lambda: made_of(Launcher))),
    "no such engine": ("engine", raised(lambda: registry.load("pilot.engines", "mine"))),
    "no such kind": ("kind", raised(lambda: registry.load("pilot.kinds", "mine"))),
    "no such mini-app": ("miniapp", raised(lambda: run.run_miniapp(None, "mine", []))),  # type: ignore[arg-type]
    "settings": ("policy", raised(lambda: registry.policy("balanced", speed=3))),
    "keys": ("policy", answers("order", lambda task, now: None if task.id % 2 else 1.0)),
    "no answer": ("policy", answers("choose", lambda terms, candidates: None)),
    "no candidate": ("policy", answers("choose", lambda terms, candidates: ("p", "why"))),
    "too few numbers": ("policy", answers("assign", lambda queue, table, now: [])),
    "no such QPU": ("policy", answers("assign", lambda queue, table, now: [99] * len(queue))),
    "too few results": ("qpu", gives({"00": 5})),
    "bits": ("qpu", gives({"0": 5}, {"0": 5})),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(mistake: str) -> None:
    guide, text = MISTAKES[mistake]
    shown = re.findall(r"^\| `([^`]+)`[^|]* \|", (GUIDES / f"{guide}.md").read_text(), re.MULTILINE)
    patterns = [re.escape(one).replace(re.escape("..."), ".*") for one in shown]
    error = text()
    assert [one for one in patterns if re.search(one, error)], error
