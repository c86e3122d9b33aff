"""One task: its record, why it waits or where it went, its output, its result as a histogram."""

from __future__ import annotations

import asyncio

from nicegui import ui

from pilot.dashboard.elements import Text, button, heading, set_attribute
from pilot.dashboard.histogram import Shown, shown
from pilot.dashboard.sources import Source, TaskDetails
from pilot.dashboard.wording import clock, span
from pilot.errors import error_text

#: Characters of a task's output that are shown, the last ones.
LETTERS = 4000


class Details:
    """A panel for one task. It is hidden until a task is opened."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._task = 0
        #: What had the focus before.
        self._from: Text | None = None
        self._seen: tuple[int, TaskDetails] | None = None
        self._result: Shown | str | None = None
        with Text("aside", classes="details", aria_label="One task", hidden=True) as self._panel:
            with Text("div", classes="bar"):
                self._title = heading(2, "Task")
                self._title.props["tabindex"] = -1
                button("Close", self.close)
            self._body = Text("div")

    async def open(self, task: int, opener: Text) -> None:
        """Show a task, and move the focus there."""
        self._task, self._from, self._seen, self._result = task, opener, None, None
        set_attribute(self._panel, "hidden", None)
        await self.refresh()
        _focus(self._title)

    def close(self) -> None:
        """Hide it, and move the focus back."""
        if self._task:
            self._task = 0
            set_attribute(self._panel, "hidden", True)
            if self._from is not None:
                _focus(self._from)

    async def refresh(self) -> None:
        """Show how it is now."""
        if not (task := self._task):
            return
        try:
            details = await asyncio.to_thread(self._source.task, task)
        except Exception as error:  # it was forgotten, or the session has ended
            reason = "It was forgotten." if isinstance(error, KeyError) else error_text(error)
            details = TaskDetails([], reason, "", "", [], False)
        if task == self._task and (task, details) != self._seen:
            self._seen = task, details
            self._title.show(f"Task {task}")
            self._show(details)

    def _show(self, details: TaskDetails) -> None:
        self._body.clear()
        with self._body:
            Text("p", details.reason, "reason")
            _facts(details.facts)
            _steps(details.steps)
            with Text("div") as self._place:
                if details.has_result and self._result is None:
                    button("Show the result", self._load)
                elif self._result is not None:
                    self._show_result()
            for title, text in (("Output", details.stdout), ("Errors", details.stderr)):
                if text:
                    heading(3, title)
                    Text("pre", text[-LETTERS:], tabindex=0, role="region", aria_label=title)

    async def _load(self) -> None:
        task = self._task
        try:
            result: Shown | str = shown(await asyncio.to_thread(self._source.result, task))
        except Exception as error:  # whatever unpickling it raises
            result = error_text(error)
        if task == self._task:
            self._result = result
            self._place.clear()
            with self._place:
                _focus(self._show_result())

    def _show_result(self) -> Text:
        """Returns the heading."""
        title = heading(3, "Result")
        title.props["tabindex"] = -1
        result = self._result
        if not isinstance(result, Shown):
            Text("p", str(result))
            return title
        if result.bars:
            _histogram(result)
        else:
            Text("p", result.title)
            Text("pre", result.text, tabindex=0, role="region", aria_label="Result")
        return title


def _facts(facts: list[tuple[str, str]]) -> None:
    with Text("dl", classes="facts"):
        for what, value in facts:
            Text("dt", what)
            Text("dd", value)


def _steps(steps: list[tuple[str, float]]) -> None:
    """The way of a task, each step with the time since the one before."""
    if not steps:
        return
    heading(3, "Timeline")
    with Text("ol", classes="steps"):
        before = steps[0][1]
        for what, moment in steps:
            Text("li", f"{clock(moment)} {what}" + (f", {span(moment - before)} later" if moment > before else ""))
            before = moment


def _histogram(result: Shown) -> None:
    with Text("table", classes="histogram"):
        Text("caption", result.title)
        with Text("thead"), Text("tr"):
            for column in ("Outcome", "Number", "Share of the largest"):
                Text("th", column, scope="col")
        with Text("tbody"):
            for label, value, share in result.bars:
                with Text("tr"):
                    Text("th", label, scope="row")
                    Text("td", f"{value:,.6g}")
                    with Text("td"):
                        style = f"width:{100 * share:.1f}%"
                        Text("div", classes="negative" if value < 0 else "positive", style=style, aria_hidden="true")


def _focus(element: Text) -> None:
    """Move the focus there, unless the user is in a field by now: the next key is meant for that."""
    is_free = "!document.activeElement?.matches('input, select')"
    move = f"document.getElementById('{element.html_id}')?.focus()"
    ui.run_javascript(f"requestAnimationFrame(() => {{ if ({is_free}) {move}; }})")
