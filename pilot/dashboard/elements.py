"""HTML elements whose text and attributes are pushed to the browser when they change, and only then."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from nicegui.element import Element
from nicegui.elements.mixins.text_element import TextElement
from nicegui.events import GenericEventArguments


class Text(TextElement):
    """An element of HTML with a text, which may have further elements in it."""

    def __init__(self, tag: str, text: str = "", classes: str = "", **attributes: Any) -> None:
        """Make it where the page is built now.

        Args:
            tag: of HTML.
            text: is escaped.
            classes: of the style sheet, with blanks between.
            **attributes: of HTML; ``_`` stands for ``-``.
        """
        super().__init__(tag=tag, text=text)
        if classes:
            self.classes(classes)
        for name, value in attributes.items():
            self.props[name.rstrip("_").replace("_", "-")] = value

    def show(self, text: str, **attributes: Any) -> None:
        """Change text and attributes; nothing is sent where they are the same."""
        self.text = text
        for name, value in attributes.items():
            set_attribute(self, name.rstrip("_").replace("_", "-"), value)


def set_attribute(element: Element, name: str, value: Any) -> None:
    """Change an attribute; nothing is sent where it is the same. None: there is none."""
    if element.props.get(name) != value:
        element.props.set_optional(name, value)


def heading(level: int, text: str) -> Text:
    """A heading."""
    return Text(f"h{level}", text)


def button(text: str, call: Callable[[], Any], **attributes: Any) -> Text:
    """A button of HTML, which the keyboard reaches."""
    made = Text("button", text, type="button", **attributes)
    made.on("click", lambda: call(), js_handler="() => emit()")
    return made


def choice(label: str, options: Sequence[tuple[str, str]], value: str, call: Callable[[str], Any]) -> Choice:
    """A list to choose from, with its label."""
    with Text("label", label, "field"):
        return Choice(options, value, call)


class Choice(Text):
    """A ``select`` of HTML."""

    def __init__(self, options: Sequence[tuple[str, str]], value: str, call: Callable[[str], Any]) -> None:
        super().__init__("select")
        self._options: list[tuple[str, str]] = []
        self._value = value
        self.set_options(options)
        self._call = call
        self.on("change", self._chosen, js_handler="(event) => emit(event.target.value)")

    def _chosen(self, event: GenericEventArguments) -> None:
        self._value = event.args
        self._call(self._value)

    def set_options(self, options: Sequence[tuple[str, str]]) -> None:
        """Change what there is to choose from: values and texts."""
        if list(options) != self._options:
            self._options = list(options)
            self.clear()
            with self:
                for value, text in options:
                    option = Text("option", text, value=value)
                    option.props.set_bool("selected", value == self._value)


class Rows:
    """A table of texts with as many rows as there are things; it scrolls sideways where there is no room."""

    def __init__(self, caption: str, columns: Sequence[str], nothing: str) -> None:
        """Make an empty one.

        Args:
            caption: of the table.
            columns: their heads.
            nothing: the text that stands there while there are no rows.
        """
        self._width = len(columns)
        self._cells: list[list[Text]] = []
        self._rows: list[Text] = []
        self._nothing = Text("p", nothing)
        with scrolling(caption) as self._table, Text("table"):
            Text("caption", caption)
            with Text("thead"), Text("tr"):
                for column in columns:
                    Text("th", column, scope="col")
            self._body = Text("tbody")

    def show(self, rows: Sequence[Sequence[str]], states: Sequence[str]) -> None:
        """Show these; the first cell of each names it. ``states`` are those of each row's second cell."""
        set_attribute(self._nothing, "hidden", True if rows else None)
        set_attribute(self._table, "hidden", None if rows else True)
        while len(self._rows) > len(rows):
            self._rows.pop().delete()
            self._cells.pop()
        with self._body:
            while len(self._rows) < len(rows):
                with Text("tr") as row:
                    self._rows.append(row)
                    self._cells.append([Text("th", scope="row"), *(Text("td") for _ in range(self._width - 1))])
        for cells, texts, state in zip(self._cells, rows, states, strict=True):
            for cell, text in zip(cells, texts, strict=True):
                cell.show(text)
            set_attribute(cells[1], "data-state", state)


def scrolling(label: str) -> Text:
    """A part of the page that scrolls by itself, with the keyboard too."""
    return Text("div", classes="scroll", tabindex=0, role="region", aria_label=label)
