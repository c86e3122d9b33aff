"""Error mitigation: stages that reduce the errors of a QPU, each a pair of plan and combine.

    mitigation = stages(["readout", "dd"])
    device = Device(target=target, name="fake:kolkata", calibrated=1.6e9)
    planned = mitigation.stage.plan(compiled, 4096, device, seed=1)
    outcomes = planned.combine(run(planned.circuits, planned.shots))       # one for each of `compiled`

Stages work on circuits that are compiled already, and know nothing of how these run. The first of several is the
outermost: it plans first and combines last. Readout comes first, so that it corrects what twirling merged;
decoupling last, since it fixes when each gate begins. Zero-noise extrapolation works on expectation values and
stands around them all:

    folded = zero_noise.scaled(compiled, device)                           # a list of circuits for each factor
    values = [… the values that the outcomes of each list give …]
    value, error, form = zero_noise.extrapolate(values, errors, expectation_plan.constants)

Read next: `stage` (the protocol), then one of `readout`, `twirling`, `decoupling`, `extrapolation`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from pilot.errors import DescriptionError, invalid
from pilot.quantum.mitigation.decoupling import DynamicalDecoupling
from pilot.quantum.mitigation.extrapolation import ZeroNoise
from pilot.quantum.mitigation.folding import fold_global, fold_local
from pilot.quantum.mitigation.readout import Calibrations, Readout
from pilot.quantum.mitigation.stage import Device, Planned, Stage, compose
from pilot.quantum.mitigation.twirling import Twirling

__all__ = [
    "Calibrations",
    "Device",
    "DynamicalDecoupling",
    "Mitigation",
    "Planned",
    "Readout",
    "Stage",
    "Twirling",
    "ZeroNoise",
    "compose",
    "fold_global",
    "fold_local",
    "listed",
    "stages",
]

_NAMED: dict[str, Callable[[Calibrations], Stage | ZeroNoise]] = {
    "readout": lambda calibrations: Readout(calibrations=calibrations),
    "twirling": lambda calibrations: Twirling(),
    "dd": lambda calibrations: DynamicalDecoupling(),
    "zne": lambda calibrations: ZeroNoise(),
}


class Mitigation(NamedTuple):
    """What stands between compiled circuits and their outcomes, and what stands around that."""

    #: All stages as one; without any it changes nothing.
    stage: Stage
    #: None: values are taken as they are.
    zero_noise: ZeroNoise | None


def stages(given: Iterable[str | Stage | ZeroNoise] | str, calibrations: Calibrations | None = None) -> Mitigation:
    """The stages that are named, as one.

    Args:
        given: "readout", "twirling", "dd" and "zne", in this order, each at most once; or stages themselves
            instead of their names, for other settings. Stages of other names may stand anywhere but after "zne".
        calibrations: where the stage named "readout" keeps its own; None: nowhere.

    Raises:
        DescriptionError: a name is unknown, comes twice or out of order.
    """
    entries = listed(given)
    chosen: list[Stage | ZeroNoise] = []
    for entry in entries:
        if isinstance(entry, Stage | ZeroNoise):
            chosen.append(entry)
        elif isinstance(entry, str) and entry in _NAMED:
            chosen.append(_NAMED[entry](Calibrations() if calibrations is None else calibrations))
        else:
            raise _refused(entries, f"{entry!r} is not one of them")
    names = [stage.name for stage in chosen]
    for name in names:
        if names.count(name) > 1:
            raise _refused(entries, f"{name!r} comes twice")
    order = [list(_NAMED).index(name) for name in names if name in _NAMED]
    if order != sorted(order) or any(isinstance(stage, ZeroNoise) for stage in chosen[:-1]):
        raise _refused(entries, "the order is wrong")
    plain = [stage for stage in chosen if isinstance(stage, Stage)]
    zero_noise = next((stage for stage in chosen if isinstance(stage, ZeroNoise)), None)
    return Mitigation(compose(plain), zero_noise)


def listed(given: Iterable[str | Stage | ZeroNoise] | str | Stage | ZeroNoise) -> tuple[str | Stage | ZeroNoise, ...]:
    """What `stages` takes: one entry, or several.

    Raises:
        DescriptionError: it is neither.
    """
    if isinstance(given, str | Stage | ZeroNoise):
        return (given,)
    if not isinstance(given, Iterable) or isinstance(given, Iterator | set | frozenset):  # no order, or read once
        raise _refused((given,), "it is not a list of stages")
    return tuple(given)


def _refused(entries: Iterable[Any], reason: str) -> DescriptionError:
    forms = f"in this order, {', '.join(map(repr, _NAMED))}, or stages of pilot.quantum.mitigation"
    return invalid("mitigation", list(entries), f"{forms}: {reason}")
