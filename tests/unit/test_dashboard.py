"""What the dashboard is made of: the index of tasks, histograms, texts. The page itself: tests/browser."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import numpy as np
import pytest

from pilot import PilotManager, dashboard
from pilot.dashboard.histogram import BARS, shown
from pilot.dashboard.index import SORTS, STATES, Query, TaskIndex
from pilot.dashboard.wording import span
from pilot.errors import DescriptionError, PluginError, SessionError
from pilot.manager.following import TaskLine
from pilot.states import TaskState, is_final

# ---- the index ------------------------------------------------------------------------------------------------------


def made(count: int, seed: int) -> tuple[TaskIndex, list[TaskLine]]:
    """An index with tasks in all states, some ids left out, and the same tasks as a list."""
    chance = random.Random(seed)
    index, lines = TaskIndex(), []
    for id in sorted(chance.sample(range(1, 2 * count), count)):
        state, submitted = chance.choice(STATES), 1000.0 + id // 3
        name, pilot = chance.choice(["Bell", "ghz", "bell 2"]), "" if state is TaskState.QUEUED else f"p{id % 3}"
        index.add([(id, name, submitted)])
        started = ended = seconds = None
        if is_final(state):
            started, seconds = submitted + 1.0, chance.choice([0.5, 1.0, 2.0])
            ended = started + seconds
        elif state is TaskState.RUNNING:
            started = submitted + 1.0
        line = TaskLine(id, name, state, pilot, submitted, started, seconds, ended)
        if is_final(state):
            index.end([line])
        else:
            index.change([(id, state, pilot, submitted + 1.0)])
        lines.append(line)
    return index, lines


def test_lost_attempts_belong_to_the_line_of_their_task() -> None:
    index = TaskIndex()
    index.add([(1, "one", 0.5), (2, "two", 0.5)])
    index.lose([(1, 1, 1.0, 2.0), (1, 2, None, 3.0)])
    index.lose([(1, 2, None, 3.0)])  # the journal and an event tell of the same one
    assert [line.lost for line in index.page(Query(descending=False)).lines] == [((1.0, 2.0), (3.0, 3.0)), ()]


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("descending", [True, False])
@pytest.mark.parametrize("text", ["", "BELL", "17"])
@pytest.mark.parametrize("state", [None, TaskState.FAILED])
def test_pages_are_those_of_a_sorted_list(sort: str, descending: bool, text: str, state: TaskState | None) -> None:
    index, lines = made(300, seed=4)
    wanted = [
        line
        for line in lines
        if (state is None or line.state is state) and (text.lower() in line.name.lower() or str(line.id) == text)
    ]
    unknown = float("inf")  # tasks without a time come last, whatever the order

    def key(line: TaskLine) -> Any:
        value = STATES.index(line.state) if sort == "state" else getattr(line, sort)
        return unknown if value is None else -value if descending and sort not in ("name", "pilot") else value

    wanted.sort(key=key)
    if descending and sort in ("name", "pilot"):
        wanted.sort(key=key, reverse=True)  # stable: equal ones stay in the order of their ids
    found: list[TaskLine] = []
    query = Query(text=text, state=state, sort=sort, descending=descending, size=7)
    pages = index.page(query).pages
    for page in range(pages):
        found += index.page(Query(text=text, state=state, sort=sort, descending=descending, size=7, page=page)).lines
    assert found == wanted
    assert index.page(query).total == len(wanted)


def test_a_page_behind_the_last_one_is_the_last_one() -> None:
    index, _ = made(30, seed=1)
    assert index.page(Query(page=99)).page == 1
    assert TaskIndex().page(Query(page=5)) == ([], 0, 0, 1)


def test_counts_by_state_and_pilot() -> None:
    index, lines = made(200, seed=2)
    assert index.counts() == {state: sum(line.state is state for line in lines) for state in STATES}
    ended = index.by_pilot()["p1"][TaskState.DONE]
    assert ended == sum(line.pilot == "p1" and line.state is TaskState.DONE for line in lines)
    assert index.unfinished() == [line.id for line in lines if not is_final(line.state)]


def test_ends_over_time_are_all_counted_once() -> None:
    index, lines = made(200, seed=3)
    first, last = index.span() or (0.0, 0.0)
    ends = [line.ended for line in lines if line.ended is not None]
    assert last == max(ends)
    assert sum(index.ended_in(first, last, 13)) == len(ends)
    assert index.ended_in(first, last, 2)[0] == sum(end < (first + last) / 2 for end in ends)


def test_late_and_repeated_reports_change_nothing() -> None:
    index = TaskIndex()
    done = TaskLine(5, "five", TaskState.DONE, "p", 1.0, 2.0, 3.0, 5.0)
    index.end([done])
    index.add([(5, "other", 9.0)])
    index.change(
        [(5, TaskState.RUNNING, "q", 9.0), (6, TaskState.RUNNING, "q", 9.0), (10**6, TaskState.BOUND, "q", 9.0)]
    )
    assert index.page(Query()).lines == [done]
    index.end([done])
    assert index.counts()[TaskState.DONE] == 1


# ---- results --------------------------------------------------------------------------------------------------------


class Counted:
    def get_counts(self) -> dict[str, float]:
        return {"0": 0.25, "1": 0.75}


def test_counts_are_bars_in_the_order_of_the_outcomes() -> None:
    result = shown(Counted())
    assert result.bars == [("0", 0.25, pytest.approx(1 / 3)), ("1", 0.75, 1.0)]


def test_of_many_outcomes_the_rest_is_one_bar() -> None:
    counts = {format(number, "010b"): number for number in range(1, 101)}
    result = shown(counts)
    assert len(result.bars) == BARS + 1
    assert sum(bar.value for bar in result.bars) == sum(counts.values())
    assert result.bars[-1].label == "84 others"


@pytest.mark.parametrize(
    "values", [[1.0, 2.0, 2.0, 9.0], np.arange(100).reshape(10, 10), (3, 3), [0.5, float("nan"), 2.0]]
)
def test_every_finite_number_is_in_a_bar(values: Any) -> None:
    result = shown(values)
    assert sum(bar.value for bar in result.bars) == np.isfinite(np.asarray(values, float)).sum()


@pytest.mark.parametrize(
    "value", [{}, {"a": "b"}, [], [[1], [1, 2]], [float("nan")] * 2, "text", None, 1 + 2j, ["a"] * 3]
)
def test_other_results_are_texts(value: Any) -> None:
    result = shown(value)
    assert result.bars == []
    assert result.text


def test_quasi_counts_may_be_negative() -> None:
    assert shown({"0": 1.1, "1": -0.1}).bars[1].share == pytest.approx(0.1 / 1.1)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *[(0, "0 s"), (0.0123, "0.0123 s"), (9.99, "9.99 s"), (59.9, "60 s"), (60, "1 min 0 s")],
        *[(3599, "59 min 59 s"), (3600, "1 h 0 min"), (90000, "1 d 1 h"), (-5, "0 s"), (None, "–")],
    ],
)
def test_time_spans(seconds: float | None, text: str) -> None:
    assert span(seconds) == text


# ---- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("port", [-1, 65536, True, "8000", None])
def test_a_port_that_is_none(port: Any, tmp_path: Path) -> None:
    with pytest.raises(DescriptionError, match="port"):
        dashboard.open(tmp_path, port=port)


def test_what_is_no_session(tmp_path: Path) -> None:
    with pytest.raises(SessionError, match="holds no session"):
        dashboard.open(tmp_path)
    with pytest.raises(DescriptionError, match="session"):
        dashboard.open(7)  # type: ignore[arg-type]
    manager = PilotManager(tmp_path / "session")
    manager.close()
    with pytest.raises(SessionError, match="closed"):
        dashboard.open(manager)


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("pilot.dashboard.dashboards.find_spec", lambda package: None)
    with pytest.raises(PluginError, match=r"pip install 'quantum-pilot\[dashboard\]'"):
        dashboard.open(tmp_path)


# ---- as a command and as an application -----------------------------------------------------------------------------

MOUNTED = """
import sys
from contextlib import asynccontextmanager
from fastapi import FastAPI
from starlette.testclient import TestClient
from pilot.dashboard.recorded import RecordedSource
from pilot.dashboard.web import application, running

@asynccontextmanager
async def lifespan(app):
    async with running():
        yield

app = FastAPI(lifespan=lifespan)
app.get("/health")(lambda: "well")
app.mount("/", application(RecordedSource(sys.argv[1]), token="secret"))
with TestClient(app) as client:
    assert client.get("/health").json() == "well"
    assert client.get("/").status_code == client.get("/?token=Secret").status_code == 403
    page = client.get("/?token=secret")
    assert page.status_code == 200 and "a session that is mounted" in page.text
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
"""


def test_the_command_serves_the_page_until_it_is_interrupted(tmp_path: Path) -> None:
    folder = tmp_path / "a session that is over"
    PilotManager(folder).close()
    command = [sys.executable, "-m", "pilot.cli", "sessions", "show", folder, "--web"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        with urlopen(url) as answer:
            assert "a session that is over" in answer.read().decode()
        with pytest.raises(HTTPError, match="403"):
            urlopen(url[:-1])
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0


def test_it_can_be_mounted_in_another_application(tmp_path: Path) -> None:
    folder = tmp_path / "a session that is mounted"
    manager = PilotManager(folder)
    manager.close()
    done = subprocess.run([sys.executable, "-c", MOUNTED, folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
