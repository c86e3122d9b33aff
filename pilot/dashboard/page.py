"""The page: its parts, and what is pushed to the browser while it is open."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
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
#: Instead of a session that may not be seen any more.
GONE = "not shown any more: this dashboard was closed, or the token of its address was revoked or has expired"
_STYLE = (Path(__file__).parent / "dashboard.css").read_text(encoding="utf-8")
_THEMES = {"": None, "light": False, "dark": True}


def build(source: Source, may_see: Callable[[], bool]) -> None:
    """Make the page of a session for one browser, which is asked for while the page is open whether it still may see
    it."""
    ui.page_title(f"{source.name} – quantum-pilot")
    ui.add_head_html(f"<style>{_STYLE}</style>")
    Page(source, may_see)


class Page:
    """One browser's view of a session."""

    _details: Details

    def __init__(self, source: Source, may_see: Callable[[], bool]) -> None:
        self._source, self._may_see = source, may_see
        self._is_paused = self._is_final = False
        self._dark = ui.dark_mode(None)
        self._header()
        with Text("div", classes="parts") as self._parts:
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
        ui.skip_link("Skip to the content", target=self._parts)
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
        if not await asyncio.to_thread(self._may_see):
            self._timer.deactivate()
            self._parts.clear()
            self._status.show(GONE)
        elif not (self._is_paused or self._is_final):
            self._is_final = self._source.is_over  # what would be read later may be removed
            self._status.show(self._source.status)
            for part in (self._counts, self._throughput, self._pilots, self._qpus, self._tasks):
                part.refresh()
            if not self._is_final:
                await self._details.refresh()


@contextmanager
def _section(classes: str) -> Iterator[None]:
    with Text("section", classes=classes):
        yield
