"""What a mini-app found: its oracle's answer, measured figures, and the bars that they must reach."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from pilot import DescriptionError

_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    "<": operator.lt,
    "==": operator.eq,
    ">=": operator.ge,
    ">": operator.gt,
}
#: Units of time. A bar in one of them, or in a rate ("tasks/s"), is scaled to the machine.
_TIMES = ("us", "µs", "ms", "s", "min", "h")
#: The machine for which bars in time are written: `pilot_miniapps.frame.host.reference_ms`.
REFERENCE_MS = 40.0


class Oracle(msgspec.Struct, frozen=True):
    """What an independent calculation says about the result.

    Attributes:
        passed: the result is right.
        deviation: how far it is from what the oracle says; `unit` says in what.
        unit: of the deviation, such as "standard errors" or "Ha".
        text: one sentence: what was compared with what.
    """

    passed: bool
    deviation: float
    unit: str
    text: str


class Figure(msgspec.Struct, frozen=True, omit_defaults=True):
    """One measured figure, as `report.json` holds it.

    Attributes:
        value: what was measured.
        unit: of the value.
        bar: what it must reach, such as "<= 1.6".
        met: whether it does; None without a bar, or where the figure is not comparable.
        spread: the least and the greatest of the values behind it.
        n: how many values are behind it.
        scaled_bar: the bar on this machine, where it is an absolute time or rate.
        comparable: False for a figure of time of a resumed run.
    """

    value: float
    unit: str
    bar: str | None = None
    met: bool | None = None
    spread: tuple[float, float] | None = None
    n: int | None = None
    scaled_bar: str | None = None
    comparable: bool = True


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a mini-app found.

    Attributes:
        oracle: whether the result is right.
        rows: the table: one mapping from column to value for each configuration that was measured; all with the same
            columns.
        note: a sentence below the table, such as where published values in it are from.
        details: what else the report shall hold; anything that `msgspec.to_builtins` can turn into JSON.
        results: what must be the same in another run with these settings, so no times. None: the oracle's answer and
            the figures that are not times.
    """

    oracle: Oracle
    rows: Sequence[Mapping[str, Any]] = ()
    note: str = ""
    details: Mapping[str, Any] = {}
    results: Mapping[str, Any] | None = None


class Bar(msgspec.Struct, frozen=True):
    """What a figure must reach: ``Bar("<=", 1.1, "ratio")``."""

    relation: str
    limit: float
    unit: str = ""

    @classmethod
    def from_text(cls, text: str, unit: str = "") -> Bar:
        """The bar that a text such as "<= 1.6" describes.

        Raises:
            DescriptionError: it is no operator and number.
        """
        match = re.fullmatch(r"\s*(<=|>=|==|<|>)\s*(\S+)\s*", text)
        try:
            return cls(match[1], float(match[2]), unit)  # type: ignore[index]
        except (TypeError, ValueError):
            raise DescriptionError(
                f"bar: {text!r} is not valid; expected an operator and a number, such as '<= 1.6'"
            ) from None

    def __str__(self) -> str:
        return f"{self.relation} {self.limit:g}"

    def scaled(self, reference_ms: float) -> Bar:
        """The bar on a machine of this speed; it holds as written where that is 40 ms. A bar in time grows with it, a
        bar in rate falls."""
        slower = reference_ms / REFERENCE_MS
        if self.unit in _TIMES:
            return Bar(self.relation, self.limit * slower, self.unit)
        if self.unit.rpartition("/")[2] in _TIMES and "/" in self.unit:
            return Bar(self.relation, self.limit / slower, self.unit)
        return self

    def is_met(self, value: float, reference_ms: float = REFERENCE_MS) -> bool:
        """True where the value reaches it on a machine of this speed."""
        return _COMPARE[self.relation](value, self.scaled(reference_ms).limit)


def met(value: float, bar: str | None) -> bool | None:
    """True where the value holds the bar as it is written; None without a bar."""
    return None if bar is None else Bar.from_text(bar).is_met(value)


def is_time(unit: str) -> bool:
    """True for a unit of time, or of a rate."""
    return unit.rpartition("/")[2] in _TIMES


def judged(figure: Figure, reference_ms: float, *, comparable: bool = True) -> Figure:
    """The figure with what became of its bar on a machine of this speed."""
    if figure.bar is None or not comparable:
        return msgspec.structs.replace(figure, met=None, comparable=comparable)
    bar = Bar.from_text(figure.bar, figure.unit)
    scaled = bar.scaled(reference_ms)
    return msgspec.structs.replace(
        figure,
        met=bar.is_met(figure.value, reference_ms),
        scaled_bar=None if scaled is bar else f"{scaled.relation} {scaled.limit:.4g}",
    )
