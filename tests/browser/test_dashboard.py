"""The dashboard in a browser: what it shows, the keyboard, live updates, who may see it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from pilot import PilotDescription, PilotManager, Task, TaskDescription
from pilot import dashboard as dashboards
from pilot.dashboard.live import LiveSource
from pilot.dashboard.sources import QPUView
from pilot.resources import QPUInfo
from pilot.states import TaskState

COUNTS = {"00": 520, "01": 3, "10": 1, "11": 476}
HOSTILE = "<img src=x onerror=alert(1)>`${alert(2)}`"
#: The test waits so long for the page; a busy machine takes several times as long as another one.
PATIENCE = 60_000


def wait_for(gate: str) -> None:
    Path(gate).touch()
    while Path(gate).exists():
        time.sleep(0.02)


class Session(LiveSource):
    """The session of a manager, whose pilot has a QPU with a queue."""

    def qpus(self) -> list[QPUView]:
        asked = self.pilots()[0].line.times[next(iter(self.pilots()[0].line.times))]
        info = QPUInfo(
            name="ibm:ibm_test",
            qubits=27,
            accepts_jobs=True,
            pending_jobs=3,
            expected_wait=75.0,
            calibrated=asked - 2 * 3600.0 - 300.0,
            asked=asked,
            error_2q=0.0123,
            t1=1.05e-4,
        )
        return [QPUView("pilot-1", info.name, info)]


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PilotManager]:
    with PilotManager(tmp_path_factory.mktemp("sessions") / "bell states") as manager:
        manager.submit_pilot(PilotDescription(cores_per_node=1, walltime=7200, name="laptop"))
        yield manager


@pytest.fixture(scope="module")
def gate(manager: PilotManager, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file; what runs now ends when it is removed. Tasks 1 to 62 are over, 63 runs, 64 to 66 wait for it."""
    gate = tmp_path_factory.mktemp("gate") / "closed"
    manager.submit_tasks([TaskDescription(function=dict, args=[COUNTS], name="counts") for _ in range(60)])
    manager.submit_task(TaskDescription(function=int, args=["twelve"], name="wrong"))
    manager.submit_task(TaskDescription(function=str, args=[HOSTILE], name=HOSTILE))
    manager.wait_tasks()
    manager.submit_task(TaskDescription(function=wait_for, args=[str(gate)], name="gate"))
    manager.submit_tasks([TaskDescription(function=abs, args=[-1], name="behind") for _ in range(3)])
    yield gate
    gate.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def dashboard(manager: PilotManager, gate: Path) -> Iterator[dashboards.Dashboard]:
    with dashboards.open(Session(manager)) as dashboard:
        yield dashboard


@pytest.fixture(scope="module")
def context(browser: Any) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1400, "height": 900}, color_scheme="light")
    context.set_default_timeout(PATIENCE)
    yield context
    context.close()


@pytest.fixture(scope="module")
def visited(context: Any) -> list[str]:
    """Every address that the browser has asked for."""
    addresses: list[str] = []
    context.on("request", lambda request: addresses.append(request.url))
    return addresses


@pytest.fixture(scope="module")
def page(context: Any, visited: list[str], dashboard: dashboards.Dashboard) -> Any:
    page = context.new_page()
    page.on("dialog", lambda dialog: pytest.fail(f"a text of the session was run: {dialog.message}"))
    page.goto(dashboard.url)
    shows(page, "header", "live")
    return page


def shows(page: Any, where: str, text: str) -> None:
    """Wait until a part of the page has this text."""
    page.wait_for_function(
        "([where, text]) => [...document.querySelectorAll(where)].some(one => one.innerText.includes(text))",
        arg=[where, text],
    )


def tab_to(page: Any, wanted: Callable[[dict[str, str]], bool], key: str = "Tab") -> dict[str, str]:
    """Press a key until what has the focus is what is wanted, as a user without a mouse does."""
    for _ in range(120):
        page.keyboard.press(key)
        focused: dict[str, str] = page.evaluate(
            "() => { const one = document.activeElement; const label = one.closest('label');"
            "return {tag: one.tagName, text: one.innerText ?? '', label: label?.innerText ?? '',"
            "name: one.ariaLabel ?? '', ring: getComputedStyle(one).outlineStyle}; }"
        )
        if wanted(focused):
            assert focused["ring"] != "none", f"the focus cannot be seen on {focused}"
            return focused
    raise AssertionError("the keyboard does not reach it")


def rows(page: Any) -> list[list[str]]:
    return page.evaluate(
        "() => [...document.querySelectorAll('table.tasks tbody tr:not([hidden])')]"
        ".map(row => [...row.children].slice(0, 7).map(cell => cell.innerText))"
    )


def cells(page: Any, table: str) -> dict[str, str]:
    """The first row of a table by the heads of its columns."""
    return page.evaluate(
        "name => { const table = [...document.querySelectorAll('table')].find(one => one.caption.innerText == name);"
        "const texts = cells => [...cells].map(cell => cell.innerText);"
        "const row = texts(table.tBodies[0].rows[0].cells);"
        "return Object.fromEntries(texts(table.tHead.rows[0].cells).map((head, at) => [head, row[at]])); }",
        table,
    )


# ---- what it shows --------------------------------------------------------------------------------------------------


def test_counts_pilot_and_qpu(page: Any) -> None:
    shows(page, ".counts", "61")  # 60 and the hostile one
    texts = page.evaluate("() => [...document.querySelectorAll('.counts > div')].map(one => one.innerText)")
    counts = {state: int(number) for state, number in (text.split() for text in texts)}
    assert counts.pop("queued") + counts.pop("bound") == 3  # one may be sent ahead
    assert counts == {"running": 1, "done": 61, "failed": 1, "cancelled": 0}
    pilot = cells(page, "Pilots of the session")
    assert (pilot["Pilot"], pilot["State"], pilot["Slots"], pilot["Ended"]) == ("laptop", "active", "1", "62")
    assert re.fullmatch(r"1 h 5\d min", pilot["Walltime left"])
    qpu = cells(page, "QPUs of the pilots")
    assert (qpu["State"], qpu["Qubits"], qpu["Error 2q"]) == ("takes jobs", "27", "1.2e-02")
    assert qpu["Queue"] == "3 jobs, 1 min 15 s to wait"
    assert "(2 h 5 min ago)" in qpu["Calibrated"]
    assert qpu["T1"] == "105 µs"


def test_texts_of_tasks_are_never_run(page: Any) -> None:
    assert ["62", HOSTILE, "done"] in [row[:3] for row in rows(page)]
    page.click("button[data-task='62']")
    page.click("text=Show the result")
    shows(page, ".details pre", HOSTILE)
    page.keyboard.press("Escape")


# ---- by keyboard ----------------------------------------------------------------------------------------------------


def test_filter_sort_and_pages_by_keyboard(page: Any) -> None:
    page.evaluate("() => document.activeElement.blur()")
    tab_to(page, lambda one: one["label"].startswith("Name contains"))
    page.keyboard.type("COUNT")
    shows(page, ".pager", "60 tasks; page 1 of 3")
    tab_to(page, lambda one: one["text"] == "Next")
    page.keyboard.press("Enter")
    shows(page, ".pager", "page 2 of 3")
    assert [row[0] for row in rows(page)] == [str(id) for id in range(35, 10, -1)]
    tab_to(page, lambda one: one["tag"] == "BUTTON" and one["text"] == "Task", key="Shift+Tab")
    page.keyboard.press("Space")
    page.wait_for_selector("th[aria-sort='ascending']")
    assert [row[0] for row in rows(page)] == [str(id) for id in range(1, 26)]
    tab_to(page, lambda one: one["label"].startswith("Pilot"), key="Shift+Tab")
    page.keyboard.type("laptop")
    tab_to(page, lambda one: one["label"].startswith("State"), key="Shift+Tab")
    page.keyboard.type("failed")
    shows(page, ".pager", "0 tasks; page 1 of 1")
    tab_to(page, lambda one: one["label"].startswith("Name contains"), key="Shift+Tab")
    page.keyboard.press("Control+A")
    page.keyboard.press("Delete")
    shows(page, ".pager", "1 task; page 1 of 1")
    assert [row[:4] for row in rows(page)] == [["61", "wrong", "failed", "laptop"]]


def test_a_task_and_its_histogram_by_keyboard(page: Any) -> None:
    tab_to(page, lambda one: one["text"] == "61")
    page.keyboard.press("Enter")
    shows(page, ".details", "invalid literal for int() with base 10: 'twelve'")
    page.keyboard.press("Escape")
    page.wait_for_function("() => document.activeElement.innerText == '61'")
    tab_to(page, lambda one: one["label"].startswith("State"), key="Shift+Tab")
    page.keyboard.type("done")
    shows(page, ".pager", "61 tasks")
    tab_to(page, lambda one: one["text"] == "1")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.activeElement.innerText == 'Task 1'")
    tab_to(page, lambda one: one["text"] == "Show the result")
    page.keyboard.press("Enter")
    page.wait_for_selector(".histogram")
    bars = page.evaluate(
        "() => [...document.querySelectorAll('.histogram tbody tr')].map(row => [row.cells[0].innerText,"
        "Number(row.cells[1].innerText), row.querySelector('div').offsetWidth])"
    )
    assert {name: value for name, value, _ in bars} == COUNTS
    widths = {name: width for name, _, width in bars}
    assert widths["11"] / widths["00"] == pytest.approx(476 / 520, abs=0.02)
    tab_to(page, lambda one: one["text"] == "Close", key="Shift+Tab")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.activeElement.innerText == '1'")


def test_colours_by_keyboard(page: Any) -> None:
    lightness = "() => getComputedStyle(document.body).backgroundColor.match(/\\d+/g).reduce((sum, x) => sum + +x, 0)"
    assert page.evaluate(lightness) > 600
    tab_to(page, lambda one: one["label"].startswith("Colours"), key="Shift+Tab")
    page.keyboard.type("dark")
    page.wait_for_function(f"({lightness})() < 150")
    page.keyboard.press("Home")
    page.wait_for_function(f"({lightness})() > 600")
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(f"({lightness})() < 150")
    page.emulate_media(color_scheme="light")


# ---- live -----------------------------------------------------------------------------------------------------------


def test_it_shows_why_a_task_waits_and_then_that_it_ran(page: Any, manager: PilotManager, gate: Path) -> None:
    page.reload()
    page.click("button[data-task='66']")
    shows(page, ".details .reason", "task 66 (behind) is")
    shows(page, ".details .reason", "laptop")
    page.evaluate("() => { window.same = true; }")
    gate.unlink()
    shows(page, ".details .facts", "done")
    page.wait_for_function("() => document.querySelector('.counts [data-state=done] dd').innerText == '65'")
    assert page.evaluate("() => window.same"), "the page was loaded again"
    assert manager.tasks[66].state is TaskState.DONE


def test_paused_it_stays_as_it_is(page: Any, manager: PilotManager) -> None:
    tab_to(page, lambda one: one["text"] == "Pause updates", key="Shift+Tab")
    page.keyboard.press("Enter")
    page.wait_for_selector("[aria-pressed='true']")
    task: Task[int] = manager.submit_task(TaskDescription(function=abs, args=[-2], name="later"))
    assert task.result() == 2
    page.click("text=Last")  # answered by the server after the task has ended
    shows(page, ".pager", "page 3 of 3")
    assert page.inner_text(".counts [data-state=done] dd") == "65"
    page.click("text=Pause updates")
    page.wait_for_function("() => document.querySelector('.counts [data-state=done] dd').innerText == '66'")


def test_a_filter_that_was_changed_while_the_connection_was_lost(
    context: Any, dashboard: dashboards.Dashboard, eventually: Callable[..., Any]
) -> None:
    """What is sent over a dead connection is lost; with the next one, the table follows the fields."""
    page, connections = context.new_page(), []
    sent: dict[bool, list[str]] = {True: [], False: []}
    is_dead = False

    def connect(socket: Any) -> None:
        server = socket.connect_to_server()
        connections.append((socket, server))

        def pass_on(message: str) -> None:
            sent[is_dead].append(message)
            if not is_dead:
                server.send(message)

        socket.on_message(pass_on)

    def events() -> int:
        page.wait_for_timeout(20)  # Playwright calls `pass_on` meanwhile
        return sum(message.startswith('42["event"') for message in sent[is_dead])

    page.route_web_socket(lambda url: "_nicegui_ws" in url, connect)
    page.goto(dashboard.url)
    eventually(lambda: events() >= 3)  # the three fields
    page.click(".pager >> text=Next")
    shows(page, ".pager", "page 2 of 3")
    for end in connections[0]:
        end.close()
    eventually(lambda: events() >= 7)
    shows(page, ".pager", "page 2 of 3")  # nothing was changed

    is_dead = True
    page.fill("input[type=search]", "counts")
    page.select_option("label:has-text('State') select", "failed")
    eventually(lambda: events() >= 2)
    is_dead = False
    for end in connections[1]:
        end.close()
    shows(page, ".pager", "0 tasks; page 1 of 1")
    page.fill("input[type=search]", "")
    shows(page, ".pager", "1 task; page 1 of 1")
    page.close()


def test_the_focus_stays_where_the_user_types(
    context: Any, dashboard: dashboards.Dashboard, eventually: Callable[..., Any]
) -> None:
    """The answer to Escape, which moves the focus back to the table, comes when the user is in the filter."""
    page, held = context.new_page(), list[str]()
    is_slow = False

    def connect(socket: Any) -> None:
        server = socket.connect_to_server()
        server.on_message(lambda message: held.append(message) if is_slow else socket.send(message))
        sockets.append(socket)

    sockets: list[Any] = []
    page.route_web_socket(lambda url: "_nicegui_ws" in url, connect)
    page.goto(dashboard.url)
    shows(page, "header", "live")
    page.click("button[data-task='62']")
    page.wait_for_function("() => document.activeElement.matches('.details h2')")
    is_slow = True
    page.keyboard.press("Escape")
    eventually(lambda: page.wait_for_timeout(20) or any("focus()" in message for message in held))
    page.focus("input[type=search]")
    is_slow = False
    for message in held:
        sockets[0].send(message)
    page.wait_for_selector(".details", state="hidden")
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    page.keyboard.type("counts")
    shows(page, ".pager", "60 tasks")
    page.close()


# ---- who may see it -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", ["", "?token=", "?token=wrong", "?token=%00", "/?token=wrong"])
def test_without_the_token_it_is_refused(context: Any, dashboard: dashboards.Dashboard, query: str) -> None:
    address = dashboard.url.partition("?")[0]
    answer = context.request.get(address + query)
    assert answer.status == 403
    assert "bell states" not in answer.text()


def test_a_closed_dashboard_is_refused_and_its_open_pages_show_nothing_more(
    context: Any, manager: PilotManager, gate: Path
) -> None:
    page = context.new_page()
    with dashboards.open(manager) as second:
        assert context.request.get(second.url).status == 200
        page.goto(second.url)
        shows(page, ".tasks", "counts")
        page.click("text=Pause updates")
    assert context.request.get(second.url).status == 403
    shows(page, "header", "not shown any more")
    assert rows(page) == []
    page.close()


def test_nothing_is_asked_of_another_host(page: Any, visited: list[str], dashboard: dashboards.Dashboard) -> None:
    own = urlsplit(dashboard.url).netloc
    assert urlsplit(dashboard.url).hostname == "127.0.0.1"
    assert visited
    assert [url for url in visited if not url.startswith(("data:", "blob:")) and urlsplit(url).netloc != own] == []
    assert page.evaluate("() => fetch('http://127.0.0.2:9/').then(() => 'sent', error => error.name)") == "TypeError"


# ---- a recorded session ---------------------------------------------------------------------------------------------


def test_a_session_that_is_read_is_followed(context: Any, manager: PilotManager) -> None:
    manager.flush()
    with dashboards.open(manager.session_dir) as recorded:
        page = context.new_page()
        page.goto(recorded.url)
        shows(page, "header", "as recorded; its manager runs")
        before = len(manager.tasks)
        shows(page, ".pager", f"{before} tasks")
        page.click("button[data-task='64']")
        page.click("text=Show the result")
        shows(page, ".details pre", "1")
        manager.submit_task(abs, -3).result()
        shows(page, ".pager", f"{before + 1} tasks")
        page.close()
