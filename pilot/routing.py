"""Which pilot gets a task, and the reason in words.

Whether a pilot *fits* is a fact (`misfit`, and `unservable` for all of them); which one of those with room is
*chosen* is a policy.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pilot.descriptions import Terms
from pilot.interfaces import Candidate, Policy


class Capacity(NamedTuple):
    """What a pilot has in all, per node."""

    id: str
    name: str
    labels: tuple[str, ...]
    cores: int
    gpus: int
    #: Bytes.
    memory: int
    #: Seconds of walltime left; None: no end is known.
    seconds: float | None
    #: Its state, when that means that it takes nothing any more.
    over: str | None = None


def misfit(terms: Terms, pilot: Capacity) -> str | None:
    """Why this pilot can never serve such a task; None when it can."""
    if pilot.over is not None:
        return f"{pilot.name} is {pilot.over}"
    if terms.pilots and pilot.id not in terms.pilots and pilot.name not in terms.pilots:
        return f"{pilot.name} is not among the pilots asked for ({', '.join(terms.pilots)})"
    missing = [label for label in terms.labels if label not in pilot.labels]
    if missing:
        return f"{pilot.name} lacks the label {missing[0]!r} (it has: {', '.join(pilot.labels) or 'none'})"
    needs = terms.resources
    for need, have, what in (
        (needs.num_cpus, pilot.cores, "cores"),
        (needs.num_gpus, pilot.gpus, "GPUs"),
        (needs.memory, pilot.memory, "bytes of memory"),
    ):
        if need > have:
            return f"{pilot.name} has {have} {what}, {need:g} are needed"
    if terms.walltime is not None and pilot.seconds is not None and pilot.seconds < terms.walltime:
        return f"{pilot.name} has {pilot.seconds:.0f} s of walltime left, {terms.walltime:g} s are needed"
    return None


def unservable(terms: Terms, pilots: Iterable[Capacity]) -> str | None:
    """Why none of these pilots can ever serve such a task; None when one can."""
    reasons = []
    for pilot in pilots:
        reason = misfit(terms, pilot)
        if reason is None:
            return None
        reasons.append(reason)
    return "; ".join(reasons) or "there is no pilot: call submit_pilot first"


class Balanced(Policy):
    """The pilot on which the work is expected to be finished first, by measured speed."""

    def choose(self, terms: Terms, candidates: Sequence[Candidate]) -> tuple[Candidate, str]:
        """The least expected wait; between equals the faster pilot, then the one with more free cores."""
        best = min(candidates, key=lambda one: (one.expected_wait, one.slowness, -one.free_cores))
        if len(candidates) == 1:
            return best, f"{best.name} is the only pilot that fits and has room"
        waits = ", ".join(f"{one.name} {one.expected_wait:.3f} s" for one in candidates)
        return best, f"{best.name} has the least expected wait of the pilots with room ({waits})"
