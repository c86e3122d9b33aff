"""Simulated pilots that come and go, beside walks through their lives by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pilot import PilotDescription, PilotState
from pilot.cli.main import main
from pilot.errors import DescriptionError
from pilot.manager import history
from pilot.manager.recovery import RestoredPilot
from pilot.qos.simulation import scenarios, sessions
from pilot.qos.simulation.log import Log
from pilot.resources import ANY_QPU, CircuitFacts, QPUEstimate, Resources, Terms

#: Submissions and run times of jobs of one core; the other settings; when they begin, on which pilots; pilots' hours.
LIVES = {
    # After the first job the mean is 60 s, so the second one needs 90 s (1.5 times that) of a pilot that has 40 s left.
    # The first pilot lasts from 20 s to 120 s and drains 10 s before; its successor is asked for 30 s before that.
    "a job waits for the successor": (
        [(0, 60), (0, 60)],
        {"walltime": 100.0, "renewals": 1, "queue_wait": 20.0},
        ([20, 100], ["nodes", "nodes.2"], 90 + 60),
    ),
    # The mean is 10 s, so the second job begins at 60 s, with 50 s left of the walltime; it takes 55 s.
    "a job is lost with its pilot and begins again": (
        [(0, 10), (60, 55)],
        {"walltime": 110.0, "renewals": 1},
        ([0, 110], ["nodes", "nodes.2"], 110 + 96),
    ),
    # Too much is queued from the tick at 1 s on; 5 s later two pilots are asked for, which wait 30 s. They are idle
    # from the tick at 46 s on and given back 60 s later. The same happens again at 201 s.
    "an autoscaler asks for pilots and gives them back": (
        [(0.5, 10), (0.5, 10), (200.5, 10)],
        {"autoscale": (0, 2), "queue_wait": 30.0},
        ([36, 36, 236], ["nodes.2", "nodes.3", "nodes.4"], 2 * (106 - 36) + 10),
    ),
    # One of two pilots is there whatever is queued.
    "an autoscaler with a minimum": (
        [(10, 5), (20, 5)],
        {"autoscale": (1, 2), "queue_wait": 2.0},
        ([10, 20], ["nodes.2", "nodes.2"], 25 - 10),
    ),
}


def simulated(rows: list[tuple[float, float]], folder: Path, **settings: object) -> Log:
    """Jobs of one core each, on pilots of one core."""
    lines = [f"{at} {time:g} -1 {seconds:g} 1 -1 -1 1" + 10 * " -1" for at, (time, seconds) in enumerate(rows)]
    (folder / "log.swf").write_text("\n".join(lines) + "\n")
    return scenarios.simulate(scenarios.Settings(swf=str(folder / "log.swf"), nodes=1, cores=1, **settings))  # type: ignore[arg-type]


@pytest.mark.parametrize("rows, settings, expected", LIVES.values(), ids=LIVES)
def test_lives_of_pilots(
    rows: list[tuple[float, float]],
    settings: dict[str, object],
    expected: tuple[list[float], list[str], float],
    tmp_path: Path,
) -> None:
    log = simulated(rows, tmp_path, **settings)
    starts, pilots, seconds = expected
    assert log.began_at.tolist() == starts
    assert [log.places[place] for place in log.place] == pilots
    assert np.allclose(log.ended_at - log.began_at, [length for _, length in rows])
    figures = log.summary()
    assert figures["capacity_hours"] == pytest.approx(seconds / 3600.0)
    assert figures["lost_attempts"] == sum(begin == 110 for begin in starts)
    assert figures["done"] == len(rows)


def test_what_no_pilot_is_left_for(tmp_path: Path) -> None:
    """The second job comes when the only pilot is gone."""
    log = simulated([(0, 10), (200, 10)], tmp_path, walltime=100.0)
    assert (log.summary()["done"], log.summary()["refused"]) == (1, 1)


def test_a_job_that_no_pilot_lasts_long_enough_for(tmp_path: Path) -> None:
    with pytest.raises(DescriptionError, match="walltime: 100 s given, but a job runs for 101 s"):
        simulated([(0, 101)], tmp_path, walltime=100.0, renewals=5)


@pytest.mark.parametrize(
    "words, expected",
    [
        (["--walltime", "60"], "walltime: 60.0 given, which is for pilots of nodes: give it with swf or journal"),
        (["--swf", "LOG", "--renewals", "1"], "renewals: 1 given: pilots without a walltime need no successors"),
        (["--swf", "LOG", "--idle", "9"], "idle: 9 given, which is for an autoscaler: give autoscale, too"),
        (["--swf", "LOG", "--autoscale", "3,2"], "autoscale.minimum: 3"),
        (["--swf", "LOG", "--autoscale", "1.5,2"], "--autoscale: '1.5,2' is not valid; expected two numbers"),
        (["--swf", "LOG", "--queue-wait", "-1"], "--queue-wait: -1.0 is not valid; expected a number, at least 0"),
        (["--journal", "DIR", "--nodes", "2"], "nodes: with journal the pilots are those of the session"),
    ],
)
def test_wrong_words(words: list[str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    simulated([(0, 1)], tmp_path)
    assert main(["simulate", *(word.replace("LOG", str(tmp_path / "log.swf")) for word in words)]) == 2
    assert expected in capsys.readouterr().err


# ---- own runs --------------------------------------------------------------------------------------------------

BOTH = (QPUEstimate("a", 0.9, 2.5), QPUEstimate("b", 0.8, 4.0))


def ran(id: int, submitted: float, seconds: float, qpu: str | None = None, **more: Any) -> history.Ran:
    """A task of a session that began at 100."""
    terms = Terms(Resources(num_cpus=0.0, qpu=ANY_QPU), facts=CircuitFacts(2)) if qpu else Terms()
    usual = {"title": "task", "function": "digest", "needs": (), "estimates": (), "ended": 200.0}
    return history.Ran(id=id, terms=terms, submitted=100.0 + submitted, seconds=seconds, qpu=qpu, **{**usual, **more})


def pilot(id: str, asked: float, active: float, over: float | None = None, **fields: Any) -> RestoredPilot:
    times = {PilotState.QUEUED: 100.0 + asked, PilotState.ACTIVE: 100.0 + active}
    if over is not None:
        times[PilotState.DRAINING] = 100.0 + over
    description = PilotDescription(cores_per_node=1, **fields)
    return RestoredPilot(id, description, PilotState.DONE, "", (), times=times)


def test_own_tasks_come_again_on_the_pilots_that_were_there() -> None:
    """The second task needs the first; the third comes when the first pilot is gone, and waits for the second one."""
    tasks = [ran(1, 0, 5), ran(4, 1, 3, needs=(1, 2)), ran(6, 30, 2)]
    pilots = [pilot("p", 0, 10, over=25), pilot("q", 40, 45)]
    found = sessions.play(history.History(tasks, 0, pilots), None, None)
    assert found.began_at.tolist() == [10, 15, 45]
    assert [found.places[place] for place in found.place] == ["p", "p", "q"]


def test_a_circuit_takes_on_another_qpu_what_was_estimated_or_others_took() -> None:
    """Four at once on two QPUs: with the least wait each QPU gets two, with the best fidelity all go where they are
    best. What was not estimated takes on the other QPU as long as circuits of its kind took there."""
    tasks = [ran(1, 0, 2, "a", estimates=BOTH), ran(2, 0, 2, "a", estimates=BOTH)]
    tasks += [ran(3, 50, 7, "b"), ran(4, 50, 3, "a")]
    session = history.History(tasks, 0, [])
    best = sessions.play(session, None, scenarios.named("best-fidelity"))
    assert [best.places[place] for place in best.place][:2] == ["a", "a"]
    assert (best.ended_at - best.began_at)[:2].tolist() == [2, 2]
    assert best.fidelity[:2].tolist() == [0.9, 0.9]
    least = sessions.play(session, None, scenarios.named("least-wait"))
    spans = {}
    for number in range(4):
        spans[number, least.places[least.place[number]]] = float((least.ended_at - least.began_at)[number])
    mean_on_a = (2 + 2 + 3) / 3  # of one function
    possible = {(0, "a"): 2, (0, "b"): 4, (1, "a"): 2, (1, "b"): 4}
    possible |= {(2, "a"): mean_on_a, (2, "b"): 7, (3, "a"): 3, (3, "b"): 7}
    assert spans == pytest.approx({key: possible[key] for key in spans})
    assert sorted(place for _, place in list(spans)[:2]) == ["a", "b"]


def test_a_session_in_which_nothing_ran() -> None:
    with pytest.raises(DescriptionError, match="no task of this session has a result"):
        sessions.play(history.History([], 3, []), None, None)
