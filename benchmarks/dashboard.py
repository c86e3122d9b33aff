"""The dashboard of a session with 100,000 tasks, in a headless Chromium.

    python benchmarks/dashboard.py [--tasks 100000] [--json FILE]

`first_paint_ms`: from the start of the navigation, with an empty cache, until the frame in which the first tasks of
the table are drawn; `first_paint_cpu_ms` is the CPU time that server and page take for it. `longest_frame_ms`: the
most CPU time that the page takes between two frames while a user filters, sorts, turns pages and opens tasks, and
further tasks end; `longest_frame_wall_ms` is the longest time by the clock between two frames then, which other
programs make longer. `axe_violations`: what axe-core finds in the page, light and dark, wide and narrow.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import _bench
from playwright.sync_api import sync_playwright

#: Seconds that the page is used.
USED = 15.0
#: Of the trace that the figure is made of.
CATEGORIES = ["toplevel", "devtools.timeline", "disabled-by-default-devtools.timeline"]
#: Tasks that are submitted at once while the page is used.
MORE = 200
#: Frames begin to be counted with the page; the table is drawn in the frame after the one that finds it.
SCRIPT = """
window.drawn = null; window.frames_ms = []; let last = performance.now();
const frame = now => {
  window.frames_ms.push(now - last); last = now;
  if (window.drawn === null && document.querySelector('table.tasks tbody tr:not([hidden]) button')?.innerText)
    requestAnimationFrame(() => setTimeout(() => { window.drawn ??= performance.now(); }));
  requestAnimationFrame(frame);
};
requestAnimationFrame(frame);
"""


@contextmanager
def session(tasks: int) -> Iterator[tuple[Any, str]]:
    """A manager with so many tasks that are done, and the address of its dashboard."""
    from pilot import PilotDescription, PilotManager, TaskDescription, dashboard

    with tempfile.TemporaryDirectory(prefix="pilot-bench-") as folder, PilotManager(Path(folder, "s")) as manager:
        manager.submit_pilot(PilotDescription(cores_per_node=1))
        manager.submit_tasks([TaskDescription(function=dict, args=[{"00": 40, "11": 60}], name="counts")])
        for first in range(0, tasks - 1, 10_000):
            manager.wait_tasks(manager.map(abs, range(first, min(first + 10_000, tasks - 1))))
        with dashboard.open(manager) as opened:
            yield manager, opened.url


@contextmanager
def busy(manager: Any) -> Iterator[None]:
    """Tasks are submitted and end all the time."""
    over = threading.Event()

    def submit() -> None:
        while not over.wait(0.1):
            manager.wait_tasks(manager.map(abs, range(MORE)))

    thread = threading.Thread(target=submit)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def first_paint(browser: Any, url: str) -> tuple[float, float]:
    """Milliseconds until the table is drawn, in a browser that has seen nothing before: by the clock, and the CPU of
    the server and of the page's thread."""
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    context.add_init_script(SCRIPT)
    page = context.new_page()
    chromium = context.new_cdp_session(page)
    chromium.send("Performance.enable", {"timeDomain": "threadTicks"})
    before = time.process_time()
    page.goto(url, wait_until="commit")
    page.wait_for_function("() => window.drawn !== null")
    server = time.process_time() - before
    metrics = {one["name"]: one["value"] for one in chromium.send("Performance.getMetrics")["metrics"]}
    drawn: float = page.evaluate("() => window.drawn")
    context.close()
    return drawn, 1000 * (server + metrics["TaskDuration"])


def longest_frame(browser: Any, url: str) -> tuple[float, float]:
    """Milliseconds of CPU, and by the clock, between two frames, at most, while the page is used."""
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    context.add_init_script(SCRIPT)
    page = context.new_page()
    page.goto(url)
    page.wait_for_function("() => document.querySelector('header').innerText.includes('live')")
    page.wait_for_load_state("networkidle")
    page.evaluate("() => { window.frames_ms.length = 0; }")
    browser.start_tracing(page=page, categories=CATEGORIES)
    end = time.monotonic() + USED
    while time.monotonic() < end:
        use(page)
    events = json.loads(browser.stop_tracing())["traceEvents"]
    frames: list[float] = page.evaluate("() => window.frames_ms")
    context.close()
    return max(cpu_of_frames(events)), max(frames)


def cpu_of_frames(events: list[dict[str, Any]]) -> list[float]:
    """Milliseconds of CPU that the thread of a page has taken for each frame, from a trace of Chromium."""
    threads = [event for event in events if event["name"] == "thread_name"]
    mains = {(event["pid"], event["tid"]) for event in threads if event["args"]["name"] == "CrRendererMain"}
    of_page = [event for event in events if (event["pid"], event["tid"]) in mains and event["ph"] == "X"]
    frames = [0.0]
    for event in sorted(of_page, key=lambda event: event["ts"]):
        if event["name"] == "ThreadControllerImpl::RunTask":
            frames[-1] += event.get("tdur", 0) / 1000  # one that was cut off by the end of the trace has none
        elif event["name"] == "Commit":  # in the task that was counted last
            frames.append(0.0)
    assert len(frames) > USED, f"{len(frames)} frames in {USED:.0f} s"
    return frames


def use(page: Any) -> None:
    """What a user does, once."""
    page.fill("input[type=search]", "counts")
    page.wait_for_function("() => document.querySelector('.pager').innerText.includes('1 task;')")
    page.click("table.tasks tbody button >> nth=0")
    page.click("text=Show the result")
    page.wait_for_selector(".histogram")
    page.keyboard.press("Escape")
    page.fill("input[type=search]", "")
    page.wait_for_function("() => !document.querySelector('.pager').innerText.includes('1 task;')")
    for name in ("Next", "Last", "First"):
        page.click(f".pager >> text={name}")
    for head in ("Ran", "Name", "Task"):
        page.click(f"table.tasks thead >> text={head}")


def violations(browser: Any, url: str) -> list[str]:
    """What axe-core finds."""
    from axe_playwright_python.sync_playwright import Axe

    found = []
    for width, colours in ((1400, "light"), (1400, "dark"), (400, "light"), (400, "dark")):
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=colours)
        page.goto(url)
        page.fill("input[type=search]", "counts")
        page.wait_for_function("() => document.querySelector('.pager').innerText.includes('1 task;')")
        page.click("table.tasks tbody button >> nth=0")
        page.click("text=Show the result")
        page.wait_for_selector(".histogram")
        for one in Axe().run(page).response["violations"]:
            places = ", ".join(" ".join(node["target"]) for node in one["nodes"][:5])
            found.append(f"{width} {colours}: {one['id']}: {one['help']}: {places}")
        page.close()
    return found


def main() -> None:
    parser = _bench.arguments(__doc__, engines=(), repeat=5)
    parser.add_argument("--tasks", type=int, default=100_000, help="tasks of the session")
    options = parser.parse_args()
    chromium = shutil.which("chromium") or sys.exit("chromium is not installed: scripts/setup_slurm installs it")
    with session(options.tasks) as (manager, url), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        paints = [first_paint(browser, url) for _ in range(options.repeat)]
        with busy(manager):
            frame, wall = longest_frame(browser, url)
        found = violations(browser, url)
        browser.close()
    for one in found:
        sys.stdout.write(f"{one}\n")
    _bench.report(
        "dashboard",
        {
            "first_paint_ms": ([drawn for drawn, _ in paints], _bench.Bar("<=", 1000, "ms")),
            "first_paint_cpu_ms": ([cpu for _, cpu in paints], None),
            "longest_frame_ms": (frame, _bench.Bar("<=", 100, "ms")),
            "longest_frame_wall_ms": (wall, None),
            "axe_violations": (len(found), _bench.Bar("==", 0)),
        },
        rows=[{"run": number, "first_paint_ms": drawn, "cpu_ms": cpu} for number, (drawn, cpu) in enumerate(paints, 1)],
        configuration={"tasks": options.tasks, "repeat": options.repeat},
        file=options.json,
    )


if __name__ == "__main__":
    main()
