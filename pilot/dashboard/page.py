"""The page: its parts, and what is pushed to the browser while it is open."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nicegui import ui

from pilot.dashboard.details import Details
from pilot.dashboard.elements import Text, button, choice, heading
from pilot.dashboard.panels import Counts, Pilots, QPUs, Throughput
from pilot.dashboard.sources import Source
from pilot.dashboard.task_table import TaskTable

#: Seconds between two updates.
REFRESH_SECONDS = 1.0
_STYLE = (Path(__file__).parent / "dashboard.css").read_text(encoding="utf-8")
_THEMES = {"": None, "light": False, "dark": True}


def build(source: Source) -> None:
    """Make the page of a session for one browser."""
    ui.page_title(f"{source.name} – quantum-pilot")
    ui.add_head_html(f"<style>{_STYLE}</style>")
    Page(source)


class Page:
    """One browser's view of a session."""

    _details: Details

    def __init__(self, source: Source) -> None:
        self._source = source
        self._is_paused = False
        self._dark = ui.dark_mode(None)
        self._header()
        with Text("div", classes="parts") as parts:
            with _section("top"):
                self._counts = Counts(source)
            with _section("top"):
                self._throughput = Throughput(source)
            with _section("wide"):
                self._pilots = Pilots(source)
            with _section("wide"):
                self._qpus = QPUs(source)
            with Text("div", classes="wide work") as work:
                work.on("keydown.escape", lambda: self._details.close(), js_handler="() => emit()")
                with _section(""):
                    self._tasks = TaskTable(source, lambda task, opener: self._details.open(task, opener))
                self._details = Details(source)
        ui.skip_link("Skip to the content", target=parts)
        self._timer = ui.timer(REFRESH_SECONDS, self._refresh)

    def _header(self) -> None:
        with Text("header", classes="head"):
            heading(1, self._source.name)
            self._status = Text("p", self._source.status, role="status")
            self._pause = button("Pause updates", self._toggle, aria_pressed="false")
            themes = [("", "as the system"), ("light", "light"), ("dark", "dark")]
            choice("Colours", themes, "", lambda value: self._dark.set_value(_THEMES[value]))

    def _toggle(self) -> None:
        self._is_paused = not self._is_paused
        self._pause.show("Pause updates", aria_pressed="true" if self._is_paused else "false")

    async def _refresh(self) -> None:
        """Show how it is now; only what has changed is sent."""
        if self._is_paused:
            return
        is_over = self._source.is_over
        self._status.show(self._source.status)
        for part in (self._counts, self._throughput, self._pilots, self._qpus, self._tasks):
            part.refresh()
        if is_over:  # nothing changes any more, and what would be read may be removed
            self._timer.deactivate()
        else:
            await self._details.refresh()


@contextmanager
def _section(classes: str) -> Iterator[None]:
    with Text("section", classes=classes):
        yield
