"""The table of tasks: a page of those that pass the filter."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec
from nicegui import ui

from pilot.dashboard.elements import Choice, Text, button, choice, heading, scrolling, set_attribute
from pilot.dashboard.index import STATES, Page, Query
from pilot.dashboard.sources import Source
from pilot.dashboard.wording import NOTHING, clock, count, span
from pilot.manager.following import TaskLine
from pilot.states import TaskState

#: Heads of the columns, and what a click on one sorts by.
COLUMNS = (
    ("Task", "id"),
    ("Name", "name"),
    ("State", "state"),
    ("Pilot", "pilot"),
    ("Submitted", "submitted"),
    ("Waited", ""),
    ("Ran", "seconds"),
)
#: Lost attempts of one task that are shown, the last ones, and the least width of each in percent.
STRIPES, SEEN = 20, 0.5

#: Has the fields of a form send their values.
_SEND_AGAIN = """
for (const field of document.getElementById("c%s").querySelectorAll("input, select"))
  field.dispatchEvent(new Event(field.tagName === "SELECT" ? "change" : "input"));
"""


class TaskTable:
    """Filter, table and pager. ``opened`` is called with the id of a task and its button."""

    def __init__(self, source: Source, opened: Callable[[int, Text], Any]) -> None:
        self._source, self._opened = source, opened
        self._query = Query()
        heading(2, "Tasks")
        self._make_filter()
        self._make_table()
        with Text("nav", classes="pager", aria_label="Pages of tasks"):
            button("First", lambda: self._go(0))
            self._before = button("Previous", lambda: self._go(self._query.page - 1))
            self._place = Text("p", role="status")
            self._after = button("Next", lambda: self._go(self._query.page + 1))
            button("Last", lambda: self._go(1 << 60))
        self.refresh()

    # ---- what it is made of ---------------------------------------------------------------------------------------

    def _make_filter(self) -> None:
        with Text("form", classes="filter", role="search") as form:
            form.on("submit.prevent", lambda: None, js_handler="() => {}")
            # what was changed while the connection was lost did not arrive
            ui.context.client.on_connect(lambda: ui.run_javascript(_SEND_AGAIN % form.id))
            with Text("label", "Name contains, or number", "field"):
                field = Text("input", type="search", autocomplete="off", spellcheck="false")
                field.on(
                    "input",
                    lambda event: self._ask(text=event.args),
                    js_handler="(event) => emit(event.target.value)",
                )
            states = [("", "any"), *((state.value, state.value) for state in STATES)]
            choice("State", states, "", lambda value: self._ask(state=TaskState(value) if value else None))
            self._pilots: Choice = choice("Pilot", [("", "any")], "", lambda value: self._ask(pilot=value or None))

    def _make_table(self) -> None:
        self._heads: dict[str, Text] = {}
        with (
            scrolling("Tasks of the session"),
            Text("table", classes="tasks"),
        ):
            self._caption = Text("caption")
            with Text("thead"), Text("tr"):
                for text, sort in COLUMNS:
                    with Text("th", "" if sort else text, scope="col") as head:
                        if sort:
                            self._heads[sort] = head
                            button(text, partial(self._sort, sort))
                self._scale = Text("th", "Timeline", scope="col")
            with Text("tbody"):
                self._rows = [_Row(self._opened) for _ in range(self._query.size)]

    # ---- what the user does ---------------------------------------------------------------------------------------

    def _ask(self, **changes: Any) -> None:
        if any(getattr(self._query, name) != value for name, value in changes.items()):
            self._query = msgspec.structs.replace(self._query, page=0, **changes)
            self.refresh()

    def _sort(self, by: str) -> None:
        same = by == self._query.sort
        self._ask(sort=by, descending=not self._query.descending if same else by in ("id", "submitted", "seconds"))

    def _go(self, page: int) -> None:
        self._query = msgspec.structs.replace(self._query, page=page)
        self.refresh()

    # ---- what it shows --------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Show how it is now."""
        names = {pilot.line.id: pilot.name for pilot in self._source.pilots()}
        self._pilots.set_options([("", "any"), *names.items()])
        page = self._source.index.page(self._query)
        self._query = msgspec.structs.replace(self._query, page=page.page)
        self._show_place(page)
        for sort, head in self._heads.items():
            order = "descending" if self._query.descending else "ascending"
            set_attribute(head, "aria-sort", order if sort == self._query.sort else None)
        first, last = _range(page.lines)
        self._scale.show(f"Timeline: {clock(first)} to {clock(last)}" if page.lines else "Timeline")
        for number, row in enumerate(self._rows):
            row.show(page.lines[number] if number < len(page.lines) else None, names, first, last)

    def _show_place(self, page: Page) -> None:
        total = f"{count(page.total)} task{'' if page.total == 1 else 's'}"
        self._place.show(f"{total}; page {count(page.page + 1)} of {count(page.pages)}")
        column = next(text for text, sort in COLUMNS if sort == self._query.sort)
        order = "descending" if self._query.descending else "ascending"
        self._caption.show(f"{total} by “{column}”, {order}")
        set_attribute(self._before, "disabled", True if page.page == 0 else None)
        set_attribute(self._after, "disabled", True if page.page + 1 == page.pages else None)


class _Row:
    """One row of the table; it shows one task after another."""

    def __init__(self, opened: Callable[[int, Text], Any]) -> None:
        with Text("tr") as self._row:
            with Text("th", scope="row"):
                self._button = Text("button", type="button")
                # which task it was that the user saw, the browser knows
                js = "(event) => emit(Number(event.currentTarget.dataset.task))"
                self._button.on("click", lambda event: opened(event.args, self._button), js_handler=js)
            self._cells = [Text("td") for _ in COLUMNS[1:]]
            with Text("td"), Text("div", classes="timeline", aria_hidden="true"):
                self._waited, self._ran, self._lost = (Text("span", classes=one) for one in ("waited", "ran", "lost"))

    def show(self, line: TaskLine | None, names: dict[str, str], first: float, last: float) -> None:
        """Show a task; None: nothing."""
        set_attribute(self._row, "hidden", None if line else True)
        if line is None:
            return
        self._button.show(str(line.id), data_task=line.id, aria_label=f"Task {line.id}, {line.name}: details")
        began, ended = _times(line)
        waited = None if line.submitted is None else began - line.submitted
        texts = (line.name, line.state.value, names.get(line.pilot, line.pilot) or NOTHING)
        times = (clock(line.submitted), span(waited), span(None if line.started is None else ended - began))
        for cell, text in zip(self._cells, (*texts, *times), strict=True):
            cell.show(text)
        set_attribute(self._cells[1], "data-state", line.state.value)
        submitted = began if line.submitted is None else line.submitted
        _place(self._waited, submitted, began, first, last)
        _place(self._ran, began, ended, first, last)
        set_attribute(self._ran, "hidden", True if line.started is None else None)
        set_attribute(self._lost, "style", _stripes(line.lost, first, last))


def _times(line: TaskLine) -> tuple[float, float]:
    """When a task began and ended, or now."""
    now = time.time()
    ended = now if line.ended is None else line.ended
    if line.started is None:
        return ended, ended
    return line.started, line.started + (ended - line.started if line.seconds is None else line.seconds)


def _range(lines: list[TaskLine]) -> tuple[float, float]:
    """From the first submission on a page to the last end."""
    if not lines:
        return 0.0, 1.0
    first = min(_times(line)[0] if line.submitted is None else line.submitted for line in lines)
    return first, max(first + 0.001, *(_times(line)[1] for line in lines))


def _place(bar: Text, begin: float, end: float, first: float, last: float) -> None:
    """A bar from one time to another, in percent of the time line."""
    left, right = _percent(begin, first, last), _percent(end, first, last)
    set_attribute(bar, "style", f"left:{left:.1f}%;width:{max(right - left, 0.0):.1f}%")


def _percent(moment: float, first: float, last: float) -> float:
    return 100.0 * min(max((moment - first) / (last - first), 0.0), 1.0)


def _stripes(spans: Sequence[tuple[float, float]], first: float, last: float) -> str | None:
    """The style of an element as long as the time line that shows only these spans of it, each `SEEN` percent at least;
    None: there are none."""
    edges = ["transparent 0"]
    for begin, end in sorted(spans)[-STRIPES:]:
        right = _percent(end, first, last)
        left = max(min(_percent(begin, first, last), right - SEEN), 0.0)
        edges += [f"transparent {left:.1f}%", f"#000 {left:.1f}%", f"#000 {right:.1f}%", f"transparent {right:.1f}%"]
    return f"mask-image:linear-gradient(to right,{','.join(edges)})" if spans else None
