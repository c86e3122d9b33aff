"""Policies with and without bundles in the queues of a trace. Workers run `play`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

import pilot.qos.simulation
from pilot.qos.families import circuit
from pilot.qos.placement import Known, Placement
from pilot.qos.simulation.bundling import Bundling
from pilot.qos.simulation.jobs import Kind, sharing
from pilot.qos.simulation.scenarios import end_of, named, on_trace
from pilot.qos.simulation.traces import read
from pilot.quantum.fidelities import Ideal, ideal_of
from pilot_miniapps.qos_multiprogramming.devices import LEVEL, snapshot
from pilot_miniapps.qos_scheduler.estimates import Estimates
from pilot_miniapps.qos_scheduler.queues import kinds, snapshot_of

#: 30 hours of three QPUs.
EXCERPT = str(Path(pilot.qos.simulation.__file__).parent / "data" / "queues.csv.xz")


class Completed(msgspec.Struct, frozen=True):
    """The circuits of one policy, in order.

    Attributes:
        seconds: `(n_circuits,)`: from the submission to the end; of one that has not ended, to the end of the trace.
        fidelity: `(n_circuits,)`; None where it has not run.
        shared: circuits that ran together with others.
    """

    seconds: list[float]
    fidelity: list[float | None]
    shared: int


class Wanted(msgspec.Struct, frozen=True):
    """What is the same for all policies."""

    trace: str
    interval: float
    burst: int
    seed: int
    max_loss: float
    buffer: int


def play(wanted: Wanted, policy: str, settings: Mapping[str, Any], share: bool, estimates: Estimates) -> Completed:
    """Run one policy; ``share``: all circuits may share QPUs."""
    recorded = read(wanted.trace)
    made = kinds(estimates)
    bundling = None
    if share:
        made = sharing(made)
        bundling = Bundling(OnSnapshots(wanted.buffer, wanted.max_loss), wanted.max_loss)
    names = {qpu: f"fake:{snapshot_of(qpu)}" for qpu in recorded}
    log = on_trace(
        recorded,
        named(policy, **settings),
        wanted.interval,
        made,
        names,
        seed=wanted.seed,
        bundling=bundling,
        burst=wanted.burst,
    )
    end = end_of(recorded)
    ended = np.where(np.isnan(log.ended_at), end, log.ended_at)
    fidelity = [None if np.isnan(value) else float(value) for value in log.fidelity]
    return Completed((ended - log.submitted_at).tolist(), fidelity, log.shared)


class OnSnapshots:
    """What circuits lose that share a QPU: they are placed on its snapshot, as a QPU's worker does it."""

    def __init__(self, buffer: int, max_loss: float) -> None:
        """Make it; arguments as of `MultiProgrammer`."""
        self._buffer, self._max_loss = buffer, max_loss
        self._placements: dict[str, Placement] = {}
        self._kept: dict[tuple[str, tuple[str, ...]], dict[str, tuple[float, float]] | None] = {}

    def __call__(self, qpu: str, some: Sequence[Kind]) -> Sequence[tuple[float, float]] | None:
        names = [f"{kind.name}/{[one.name for one in some[:at]].count(kind.name)}" for at, kind in enumerate(some)]
        key = (qpu, tuple(sorted(names)))
        if key not in self._kept:
            self._kept[key] = self._lost(qpu, key[1])
        found = self._kept[key]
        return None if found is None else [found[name] for name in names]

    def _lost(self, qpu: str, names: Sequence[str]) -> dict[str, tuple[float, float]] | None:
        device = snapshot(qpu.removeprefix("fake:"))
        if qpu not in self._placements:
            self._placements[qpu] = device.placement(self._buffer, 1 - self._max_loss)
        placement = self._placements[qpu]
        known = [device.known(placement, _circuit(name)) for name in names]
        if sum(one.program.qubits for one in known) > device.info.qubits:
            return None
        placed = placement.as_compiled(known)
        if placed is None or min(placed.relative) < 1 - self._max_loss:
            placed = placement.again(known, LEVEL)
        if placed is None or min(placed.relative) < 1 - self._max_loss:
            return None
        fidelity = [
            _fidelity(placement, made, name) / _alone(placement, one, name)
            for made, one, name in zip(placed.circuits, known, names, strict=True)
        ]
        return dict(zip(names, zip(placed.relative, fidelity, strict=True), strict=True))


@cache
def _circuit(name: str) -> Any:
    family, _, width = name.partition("/")[0].rpartition("-")
    return circuit(family, int(width))


@cache
def _ideal(name: str) -> Ideal | None:
    return ideal_of(_circuit(name))


def _fidelity(placement: Placement, made: Any, name: str) -> float:
    return placement.fidelities.estimate(made, _ideal(name)).value


_solo: dict[tuple[int, bytes], float] = {}


def _alone(placement: Placement, known: Known, name: str) -> float:
    key = (id(placement), known.key)
    if key not in _solo:
        _solo[key] = _fidelity(placement, known.compiled, name)
    return _solo[key]


def best_fidelities(wanted: Wanted, estimates: Estimates) -> NDArray[np.float64]:
    """`(n_circuits,)`: that of each on the best QPU, whatever the wait."""
    from pilot.qos.simulation.jobs import every
    from pilot.qos.simulation.scenarios import TRACE_REST

    made = kinds(estimates)
    best = {kind.name: max(kind.fidelity.values()) for kind in made}
    until = end_of(read(wanted.trace)) - TRACE_REST
    return np.array(
        [best[job.kind.name] for job in every(made, wanted.interval, until, wanted.seed, burst=wanted.burst)]
    )
