"""Plots: what they draw, and the files that they become."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("matplotlib")
from pilot import DescriptionError, PluginError, plots


@pytest.fixture(autouse=True)
def no_display() -> Iterator[None]:
    """Figures of pyplot are made without a window, and closed."""
    from matplotlib import pyplot

    pyplot.switch_backend("agg")
    yield
    pyplot.close("all")


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
    plots.histogram({"": {"0": 1}}).figure.canvas.draw()
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
    idle, *drawn = [path.get_extents() for one in axes.collections for path in one.get_paths()]
    assert len(drawn) <= max(number, 2000)
    busy = sum(one.ended - one.started for one in tasks)
    covered = sum(one.width for one in drawn) * (at / idle.width if number else 1)  # the axis is in minutes
    assert busy - 1e-6 <= covered <= busy + at * 0.2
    assert number < 100 or f"{busy / at:.0%} busy" == axes.texts[0].get_text()
    figure.canvas.draw()


def widths(axes: Any, colour: str) -> list[tuple[float, float, float]]:
    """Begin, end and height of what is drawn in a colour, from the top."""
    from matplotlib.colors import to_rgb

    found = []
    for one in axes.collections:
        if tuple(one.get_facecolor()[0][:3]) == to_rgb(colour) and one.get_alpha() is None:
            boxes = [path.get_extents() for path in one.get_paths()]
            found += [(round(box.x0, 6), round(box.x1, 6), round(box.y1 - box.y0, 2)) for box in boxes]
    return found


def test_a_task_of_several_cores_has_as_many_rows_and_one_that_failed_is_seen() -> None:
    tasks = [
        plots.TaskSpan("p", "w1", 2, 4),
        plots.TaskSpan("p", "w2", 2, 6, cores=1.0),
        plots.TaskSpan("p", "w3", 6, 8, cores=2.0),
        plots.TaskSpan("p", "w2", 9, 9.0, failed=True),
        plots.TaskSpan("p", "w2", 8.9, float("inf")),  # its clock has stepped back
        plots.TaskSpan("p", "qpu", 3, 5, qpu="manila"),
        plots.TaskSpan("p", "qpu", 4, 6, qpu="manila"),
    ]
    _, axes = plots.new(width="double")
    plots.timeline(axes, [plots.PilotSpan("p", 0, 2, None, started=1, slots=2, note="failed")], tasks, last=10)
    rows = widths(axes, plots.COLOURS[0])
    assert rows == [(2, 4, 0.76), (6, 8, 0.76), (2, 6, 0.76), (6, 8, 0.76), (8.9, 10, 0.76), (3, 6, 0.76)]
    assert len(widths(axes, plots.COLOURS[-1])) == 1  # a thousandth wide at least
    assert [one.get_text() for one in axes.get_yticklabels()] == ["p (failed)", "manila"]
    assert [one.get_text() for one in axes.texts] == [f"{(2 + 4 + 4 + 1.1) / 16:.0%} busy", f"{3 / 8:.0%} busy"]


def test_lost_attempts_are_crossed_and_their_task_waited_before_and_after() -> None:
    tasks = [plots.TaskSpan("p", "w2", 6, 8, submitted=1.0)]
    lost = [
        plots.TaskSpan("p", "w1", 2, 4, submitted=1.0, lost=True),
        plots.TaskSpan("p", "w3", 5, 5, submitted=1.0, lost=True),  # when it began is not known
    ]
    spans = plots.SessionSpans([plots.PilotSpan("p", 0, 2, 10, slots=2)], tasks, [], 0, lost=lost)
    axes = plots.session(spans, "timeline")
    (crossed,) = (one for one in axes.collections if one.get_hatch() == "xxxxx")
    boxes = [path.get_extents() for path in crossed.get_paths()]
    assert [(box.x0, box.x1) for box in boxes] == [(2, 4), (pytest.approx(5 - 0.003 * 10), 5)]
    assert widths(axes, plots.COLOURS[0]) == [(6, 8, 0.76)]
    assert axes.texts[0].get_text() == "25% busy"  # 2 + 2 of 2 x 8
    assert "lost attempt" in [one.get_text() for one in axes.get_legend().get_texts()]
    waiting, running = plots.session(spans, "tasks").lines
    for line, expected in ((waiting, [1, 0, 1, 1, 0, 0]), (running, [0, 1, 0, 0, 1, 0])):
        at = dict(zip(line.get_xdata(), line.get_ydata(), strict=True))
        assert [at[max(x for x in at if x <= moment)] for moment in (1.5, 3, 4.5, 5.5, 7, 9)] == expected


def test_tasks_of_many_slots_are_a_band_of_the_right_area() -> None:
    dice, tasks = random.Random(1), []
    for slot in range(200):
        at = 0.0
        for _ in range(100):
            end = at + dice.uniform(0.5, 1.5)
            tasks.append(plots.TaskSpan("p", str(slot), at, end, submitted=0.0))
            at = end
    spans = plots.SessionSpans([plots.PilotSpan("p", 0, 0, None, slots=200)], tasks, [1.0] * 3, 2)
    figure = plots.session_figure(spans)
    timeline, rate, counts = figure.axes
    (band,) = (one for one in timeline.collections if len(one.get_paths()[0].vertices) > 100)
    corners = band.get_paths()[0].vertices
    x, y = corners[:, 0], corners[:, 1]
    area = abs(sum(x[:-1] * y[1:] - x[1:] * y[:-1])) / 2  # the shoelace formula
    assert area == pytest.approx(sum(one.ended - one.started for one in tasks) / 200 * 7.76, rel=0.01)
    heights, edges, _ = rate.patches[0].get_data()
    assert sum(heights * (edges[1:] - edges[:-1])) == pytest.approx(len(tasks))
    running = counts.lines[1]
    middle = len(running.get_xdata()) // 2
    moment = running.get_xdata()[middle]
    assert running.get_ydata()[middle] == sum(one.started <= moment < one.ended for one in tasks)
    assert counts.get_xlabel().endswith("(s)\ntasks: 3 waiting, 2 never ran")


@pytest.mark.parametrize("pilots", [0, 1, 100])
def test_sessions_without_tasks_are_drawn(pilots: int) -> None:
    spans = [plots.PilotSpan(f"p{one}", one, None, one + 1.0) for one in range(pilots)]
    figure = plots.session_figure(plots.SessionSpans(spans, [], [], 0))
    figure.canvas.draw()
    assert figure.get_figheight() < 15


def test_a_histogram_says_what_has_no_bar() -> None:
    weights = {format(number, "020b"): number for number in range(1, 41)}
    axes = plots.histogram({"run": weights, "ideal": {"0" * 20: 5.0}}, most=30)
    assert [bar.get_height() for bar in axes.patches[:30]] == list(range(11, 41))
    names = [one.get_text() for one in axes.get_xticklabels()]
    assert (names[0], names[29]) == ("0000b", "00028")
    left = sum(range(1, 11))
    assert axes.get_xlabel() == f"outcome (hexadecimal)\nnot shown: 11 others, counts together {left} and 5"
    many = plots.histogram({"run": {format(number, "010b"): 1 for number in range(1000)}}, most=1000)
    assert [one.get_text() for one in many.get_xticklabels()][:2] == ["0000000000", "0000001010"]


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"most": -1}, "most: -1 is not valid; expected a whole number of at least 1"),
        ({"ax": [1, 2]}, "ax: list is not valid; expected matplotlib's axes"),
    ],
)
def test_what_is_no_number_of_bars_or_no_axes_is_refused(wrong: dict[str, Any], text: str) -> None:
    with pytest.raises(DescriptionError, match=text):
        plots.histogram({"run": {"0": 1}}, **wrong)


def test_values_are_points_or_lines_with_their_errors() -> None:
    axes = plots.values([1.0, -0.5], [0.1, 0.0], names=["ZZ", "XX"])
    assert [one.get_text() for one in axes.get_xticklabels()] == ["ZZ", "XX"]
    assert axes.get_ylabel() == "expectation value ± standard error"
    swept = plots.values([[1, 2], [3, 4], [5, 6]], x=[2.0, 1.0, 3.0])
    assert [list(line.get_ydata()) for line in swept.lines] == [[3, 1, 5], [4, 2, 6]]
    assert list(swept.lines[0].get_xdata()) == [1, 2, 3]
    for wrong in ({"x": [1, 2]}, {"names": ["one"]}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            plots.values([[1, 2], [3, 4], [5, 6]], **wrong)


def test_a_pilot_that_never_started_is_drawn(tmp_path: Path) -> None:
    def draw(axes: Any) -> None:
        plots.timeline(axes, [plots.PilotSpan("late", 1.0, None, None), plots.PilotSpan("p", 0.0, 2.0, 9.0)], [])
        hatches = [(one.get_hatch(), one.get_paths()[0].get_extents().bounds[::2]) for one in axes.collections]
        assert hatches == [("....", (1.0, 8.0)), ("////", (0.0, 2.0)), (None, (2.0, 7.0))]

    assert saved(draw, tmp_path)


def test_dollars_in_the_name_of_a_pilot_are_no_formula(tmp_path: Path) -> None:
    figure, axes = plots.new()
    plots.timeline(axes, [plots.PilotSpan(r"5 $\us in $\eu", 0.0, 1.0, 2.0)], [])
    plots.save_as(figure, tmp_path / "drawn.svg")
    assert r"5 $\us in $\eu" in (tmp_path / "drawn.svg").read_text()


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pilot.plots.figures.find_spec", lambda name: None)
    for draw in (plots.new, lambda: plots.histogram({"": {"0": 1}})):
        with pytest.raises(PluginError, match=r"pip install 'quantum-pilot\[plots\]'"):
            draw()


def test_numbers_wider_than_their_bars_stand_upright(tmp_path: Path) -> None:
    _, (narrow, wide, *_) = plots.new(1, 4, width="double")
    plots.bars(narrow, ["a", "b", "c"], {name: [0.998] * 3 for name in "xyz"})
    plots.bars(wide, ["a"], {"x": [0.998]})
    assert {text.get_rotation() for text in narrow.texts} == {90.0} and narrow.get_ylim()[1] > 1.29
    assert {text.get_rotation() for text in wide.texts} == {0.0}


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


def test_a_width_that_there_is_not_is_refused() -> None:
    with pytest.raises(DescriptionError, match="width: 'wide' is not valid; expected 'single' or 'double'"):
        plots.new(width="wide")


def test_a_figure_is_saved_at_a_path_that_is_a_text(tmp_path: Path) -> None:
    plots.save_as(plots.new()[0], f"{tmp_path}/one.svg")
    assert (tmp_path / "one.svg").read_text().startswith("<?xml")
