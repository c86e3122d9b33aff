"""HTML for notebooks: tables and bars, without scripts and without addresses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

#: Bars of a histogram at most; the others are added up.
MOST_BARS = 32


def table(head: Sequence[str], rows: Iterable[Sequence[object]], caption: str = "") -> str:
    """A table of texts; what is in it is escaped."""
    top = "".join(f"<th>{escape(one)}</th>" for one in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(str(one))}</td>" for one in row) + "</tr>" for row in rows)
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f"<table>{title}<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def bars(values: Sequence[tuple[str, float]], caption: str) -> str:
    """A horizontal bar for each name, as long as its value; the values are not negative."""
    shown = list(values[:MOST_BARS])
    if len(values) > MOST_BARS:
        shown.append((f"{len(values) - MOST_BARS} more", sum(value for _, value in values[MOST_BARS:])))
    longest = max((value for _, value in shown), default=0.0) or 1.0
    rows = "".join(
        f'<tr><td style="font-family:monospace;text-align:right">{escape(name)}</td>'
        f'<td style="text-align:left"><span style="display:inline-block;height:0.8em;background:#0072B2;'
        f'width:{200 * max(0.0, value) / longest:.0f}px"></span> {value:.6g}</td></tr>'
        for name, value in shown
    )
    return f"<table><caption>{escape(caption)}</caption><tbody>{rows}</tbody></table>"


def progress(done: int, total: int, text: str) -> str:
    """A bar that shows how much is done, and a text."""
    return f'<progress value="{done}" max="{max(total, 1)}"></progress> {escape(text)}'
