"""Which of the pilots with room gets a batch."""

from __future__ import annotations

from collections.abc import Sequence

from pilot.interfaces import Candidate, Policy
from pilot.resources import Terms


class Balanced(Policy):
    """The pilot on which the work is expected to be finished first, by measured speed."""

    def choose(self, terms: Terms, candidates: Sequence[Candidate]) -> tuple[Candidate, str]:
        """The one that is expected to finish first; between equals the faster pilot, then the one with more free
        cores."""
        best = min(candidates, key=lambda one: (one.expected_wait + one.seconds, one.slowness, -one.free_cores))
        if len(candidates) == 1:
            return best, f"{_called(best)} is the only pilot that fits and has room"
        waits = ", ".join(f"{_called(one)} {one.expected_wait + one.seconds:.3f} s" for one in candidates)
        return best, f"{_called(best)} is expected to finish first of the pilots with room ({waits})"


def _called(candidate: Candidate) -> str:
    """The pilot's name, and what the task would have there where that is not a slot."""
    needs = candidate.option.resources
    if needs.qpu:
        return f"{needs.qpu} of {candidate.name}"
    return f"{candidate.name} ({needs.num_gpus:g} GPUs)" if needs.num_gpus else candidate.name
