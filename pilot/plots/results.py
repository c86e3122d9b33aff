"""Results of circuits: counts and probabilities, expectation values, density matrices. Each function returns its
axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any

from pilot.errors import invalid
from pilot.plots.charts import bars, lines
from pilot.plots.figures import COLOURS, MARKERS, axes_for, label, legend, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

#: Outcomes of a histogram that have a bar of their own, at most.
MOST_OUTCOMES = 32
#: Outcomes that are named below their bars, at most.
MOST_NAMES = 100
#: Bits of an outcome that are written as they are; longer ones are hexadecimal numbers.
MOST_BITS = 16
#: Points of a line that have markers, at most.
MOST_MARKERS = 40
#: Letters that fit below the axes of a figure, by its width; if there are more they are turned.
LETTERS = {"single": 45, "double": 100}
#: Rows of a matrix that have a number in each cell, at most.
MOST_NUMBERS = 8


def histogram(
    weights: Mapping[str, Mapping[str, float]],
    ax: Axes | None = None,
    *,
    y: str = "counts",
    errors: Mapping[str, Mapping[str, float]] | None = None,
    most: int = MOST_OUTCOMES,
    **options: Any,
) -> Axes:
    """Bars of outcomes, in the order of their bits as Qiskit's `plot_histogram` has them.

    Args:
        weights: by series (for the legend), counts or probabilities by bit string.
        ax: to draw in; None: those of a new figure.
        y: what the weights are.
        errors: by series, one standard error of each weight.
        most: so many outcomes, those that weigh most, have a bar; the axis says what the others weigh together.
        **options: of matplotlib's `Axes.bar`.

    Raises:
        DescriptionError: ``most`` or ``ax`` is not valid.
    """
    if isinstance(most, bool) or not isinstance(most, Integral) or most < 1:
        raise invalid("most", most, "a whole number of at least 1")
    size = {text: max(abs(one.get(text, 0.0)) for one in weights.values()) for one in weights.values() for text in one}
    heaviest = sorted(size, key=lambda text: (-size[text], text))
    shown, rest = sorted(heaviest[:most]), heaviest[most:]
    names, under = _short(shown)
    columns = {name: [one.get(text, 0.0) for text in shown] for name, one in weights.items()}
    spread = {
        name: _spread(columns[name], [one.get(text, 0.0) for text in shown]) for name, one in (errors or {}).items()
    }
    if rest:
        left = " and ".join(f"{sum(one.get(text, 0.0) for text in rest):,.4g}" for one in weights.values())
        under += f"\nnot shown: {len(rest):,} others, {y} together {left}"
    width = "double" if len(names) * len(weights) > 12 else "single"
    turned = sum(len(name) + 1 for name in names) > LETTERS[width if ax is None else "single"]
    tall = 2.6 + (0.055 * max(map(len, names), default=0) if turned else 0.0)
    ax = axes_for(ax, width=width, height=tall)
    number = "{:.3g}" if len(names) * len(weights) <= 12 and not spread else None
    every = -(-len(names) // MOST_NAMES)
    names = [name if place % every == 0 else "" for place, name in enumerate(names)]
    bars(ax, names, columns, spread=spread, number=number, **options)
    with style():
        if turned:
            ax.tick_params(axis="x", rotation=90)
        if any(value < 0 for column in columns.values() for value in column):
            ax.axhline(0.0, color="black", linewidth=0.6)
    _name(ax, under, f"{y} ± standard error" if spread else y)
    legend(ax, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3)
    return ax


def _name(ax: Axes, x: str, y: str) -> None:
    """Name axes that have no name yet: what a user wrote, or an earlier plot in them, stays."""
    label(ax, x=ax.get_xlabel() or x, y=ax.get_ylabel() or y)


def _short(texts: list[str]) -> tuple[list[str], str]:
    """Bit strings as they are shown, and the name of their axis."""
    if max(map(len, texts), default=0) <= MOST_BITS:
        return texts, "outcome"
    bits = [text.replace(" ", "") for text in texts]
    numbers = [f"{int(text, 2):0{-(-len(text) // 4)}x}" for text in bits]
    return [text if len(text) <= MOST_BITS else f"{text[:7]}…{text[-7:]}" for text in numbers], "outcome (hexadecimal)"


def _spread(values: Sequence[float], errors: Sequence[float]) -> tuple[list[float], list[float]]:
    pairs = list(zip(values, errors, strict=True))
    return [value - error for value, error in pairs], [value + error for value, error in pairs]


def values(
    found: ArrayLike,
    errors: ArrayLike | None = None,
    ax: Axes | None = None,
    *,
    x: ArrayLike | None = None,
    names: Sequence[str] | None = None,
    **options: Any,
) -> Axes:
    """Expectation values with bars of one standard error: points, or lines over a sweep.

    Args:
        found: `(n_observables,)`: a point for each; or `(n_sets, n_observables)`: a line for each observable.
        errors: in the shape of the values, one standard error each; None or 0: exact.
        ax: to draw in; None: those of a new figure.
        x: `(n_sets,)`: the parameter that was swept; None: the number of the set.
        names: of the observables; None: their numbers.
        **options: of matplotlib's `Axes.errorbar`.

    Raises:
        ValueError: shapes do not fit.
    """
    import numpy

    table = numpy.asarray(found, dtype=float)
    bounds = numpy.zeros_like(table) if errors is None else numpy.asarray(errors, dtype=float)
    if table.ndim not in (1, 2) or bounds.shape != table.shape:
        raise ValueError(f"values of shape {table.shape} with errors of shape {bounds.shape} cannot be drawn")
    known = list(names) if names is not None else [str(number) for number in range(table.shape[-1])]
    if len(known) != table.shape[-1]:
        raise ValueError(f"names: {len(known)} given for {table.shape[-1]} observables")
    ax = axes_for(ax)
    if table.ndim == 1:
        if x is not None:
            raise ValueError("x: the values are of one set of parameters; give them as names=[...]")
        _points(ax, table, bounds, known, options)
    else:
        places = numpy.arange(len(table)) if x is None else numpy.asarray(x, dtype=float)
        if places.shape != (len(table),):
            raise ValueError(f"x: shape {places.shape} given; expected ({len(table)},), one for each set of parameters")
        order = numpy.argsort(places, kind="stable")
        for series, name in enumerate(known):
            value, error = table[order, series], bounds[order, series]
            spread = (value - error, value + error) if error.any() else None
            look: dict[str, Any] = {"marker": ""} if len(table) > MOST_MARKERS else {}
            look["label"] = name if len(known) > 1 or names is not None else None
            lines(ax, places[order], value, series=series, spread=spread, **{**look, **options})
    legend(ax, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=4)
    under = "observable" if table.ndim == 1 else "set of parameters" if x is None else "parameter"
    _name(ax, under, "expectation value" + (" ± standard error" if bounds.any() else ""))
    return ax


def _points(ax: Axes, table: Any, bounds: Any, known: list[str], options: Mapping[str, Any]) -> None:
    look = {"fmt": MARKERS[0], "color": COLOURS[0], **options}
    with style():
        ax.axhline(0.0, color="black", linewidth=0.6)
        ax.errorbar(range(len(table)), table, yerr=bounds if bounds.any() else None, **look)
        step = max(1, -(-len(known) // MOST_OUTCOMES))
        ax.set_xticks(range(0, len(known), step), known[::step])
        if sum(len(name) + 1 for name in known[::step]) > LETTERS["single"]:
            ax.tick_params(axis="x", rotation=90)
        ax.grid(visible=False, axis="x")
        ax.margins(x=0.5 / max(len(known), 1), y=0.12)


def matrix(found: ArrayLike, ax: Axes | None = None, *, part: str = "real", **options: Any) -> Axes:
    """A part of a density matrix as colours, with a number in each cell of a small one.

    Args:
        found: `(2**n, 2**n)`, complex.
        ax: to draw in; None: those of a new figure.
        part: "real", "imag" or "abs".
        **options: of matplotlib's `Axes.imshow`.

    Raises:
        ValueError: there is no such part.
    """
    import numpy

    parts: dict[str, Any] = {"real": numpy.real, "imag": numpy.imag, "abs": numpy.abs}
    if part not in parts:
        raise ValueError(f"part: {part!r} given; expected one of {', '.join(map(repr, parts))}")
    shown = parts[part](numpy.asarray(found, dtype=complex))
    size, most = len(shown), float(numpy.abs(found).max())  # the same colours for all parts
    wanted = {"real": "Re ρ", "imag": "Im ρ", "abs": "|ρ|"}[part]
    ax = axes_for(ax, height=2.9)
    width = max(1, (size - 1).bit_length())
    step = -(-size // MOST_NUMBERS) if size > 2 * MOST_NUMBERS else 1
    with style():
        image = ax.imshow(shown, **{"cmap": "RdBu_r", "vmin": -most, "vmax": most, **options})
        ax.figure.colorbar(image, ax=ax, label=wanted, shrink=0.9)
        names = [format(number, f"0{width}b") for number in range(0, size, step)]
        ax.set_xticks(range(0, size, step), names, rotation=90 if size > 4 else 0)
        ax.set_yticks(range(0, size, step), names)
        ax.grid(visible=False)
        ax.spines[:].set_visible(True)
        for (row, column), value in numpy.ndenumerate(shown) if size <= MOST_NUMBERS else ():
            ink = "white" if abs(value) > 0.6 * most else "black"
            text = f"{value:.2f}".replace("-0.00", "0.00").replace("-", "−")
            ax.text(column, row, text, ha="center", va="center", size=7 if size <= 4 else 4.5, color=ink)
    _name(ax, "basis state", "basis state")
    return ax
