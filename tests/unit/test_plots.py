"""Plots: what they draw, and the files that they become."""

from __future__ import annotations

import random
import struct
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("matplotlib")
from pilot import plots


def saved(draw: Any, folder: Path) -> list[bytes]:
    figure, axes = plots.new()
    draw(axes)
    plots.label(axes, x="tasks", y="time (s)")
    plots.caption(figure, "A caption. " * 20)
    return [path.read_bytes() for path in plots.save(figure, folder, "plot")]


def test_a_figure_becomes_a_pdf_and_a_png_of_300_dpi(tmp_path: Path) -> None:
    def draw(axes: Any) -> None:
        plots.lines(axes, [1, 2, 4], [3, 2, 1], label="ours", spread=([2, 2, 0.5], [4, 2, 1]))
        plots.limit(axes, 1.5, "published")
        plots.limit(axes, 2, "here", vertical=True)
        plots.legend(axes)

    pdf, png = saved(draw, tmp_path)
    assert pdf.startswith(b"%PDF")
    at = png.index(b"pHYs") + 4
    assert struct.unpack(">II", png[at : at + 8]) == (11811, 11811)  # dots a metre
    assert saved(draw, tmp_path) == [pdf, png]


def test_the_style_is_for_the_block_alone() -> None:
    from matplotlib import rcParams

    before = dict(rcParams)
    with plots.style():
        assert rcParams["font.size"] == 8
    assert dict(rcParams) == before


@pytest.mark.parametrize("number", [0, 1, 50, 3000])
def test_spans_are_joined_where_nobody_sees_the_gap(number: int) -> None:
    """However many there are, the time that they cover is right to a thousandth of the whole for each gap closed."""
    dice = random.Random(number)
    tasks, at = [], 0.0
    for _ in range(number):
        at += dice.uniform(0, 0.02)
        end = at + dice.uniform(0, 1)
        tasks.append(plots.TaskSpan("p", "w", at, end))
        at = end
    figure, axes = plots.new(width="double")
    plots.timeline(axes, [plots.PilotSpan("p", 0.0, 0.0, at)], tasks)
    drawn = [path.get_extents() for one in axes.collections[2:] for path in one.get_paths()]
    assert len(drawn) <= max(number, 2000)
    covered, busy = sum(one.width for one in drawn), sum(one.ended - one.started for one in tasks)
    assert busy - 1e-6 <= covered <= busy + at * 0.2
    assert number < 100 or f"{busy / at:.0%} busy" in axes.get_yticklabels()[0].get_text()
    figure.canvas.draw()


def test_a_pilot_that_never_started_is_drawn(tmp_path: Path) -> None:
    def draw(axes: Any) -> None:
        plots.timeline(axes, [plots.PilotSpan("late", 1.0, None, None), plots.PilotSpan("p", 0.0, 2.0, 9.0)], [])

    assert saved(draw, tmp_path)


def test_bars_and_scaling(tmp_path: Path) -> None:
    figure, (left, right) = plots.new(1, 2, width="double")
    plots.bars(left, ["a", "b"], {"x": [1, 2], "y": [3, 4]}, spread={"y": ([2, 4], [5, 4])})
    assert [bar.get_height() for bar in left.patches] == [1, 2, 3, 4]
    assert [text.get_text() for text in left.texts] == ["1", "2", "3", "4"]
    plots.scaling(right, [1, 2, 4], {"strong": [1, 1.9, 3.5]}, what="nodes")
    ideal = right.lines[0]
    assert list(ideal.get_ydata()) == [1, 2, 4]
    assert right.get_ylabel() == "speed-up over 1 node"
    assert plots.save(figure, tmp_path, "both")
