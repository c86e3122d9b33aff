"""What must hold after any schedule of `chaos.py`: invariants by name, each a sentence for every violation."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator

import _chaos_tasks
from _chaos_evidence import Evidence
from _chaos_tasks import Note

#: MiB and threads that a manager may have above those when it was ready.
MEMORY_MIB, THREADS = 150.0, 60
#: Seconds that a close may take.
CLOSE_SECONDS = 30.0
#: Seconds for which processes may go on after they were lost, on a busy machine.
GRACE_SECONDS = 5.0
#: Clocks of two processes are read a moment apart.
TOLERANCE_SECONDS = 0.1


def violations(evidence: Evidence) -> list[tuple[str, str]]:
    """All violations: the invariant's name, and what was seen."""
    found = list(evidence.reports)
    for check in CHECKS:
        found += [(check.__name__, text) for text in check(evidence)]
    return found


def one_end(evidence: Evidence) -> Iterator[str]:
    """Each task has exactly one end, which is reported once, and a later attach finds the same."""
    if not evidence.schedule.closes_early:
        missing = set(range(1, evidence.schedule.tasks + 1)) - evidence.ends.keys()
        if missing:
            yield f"tasks {sorted(missing)[:5]} are not there at the end"
    for number, (state, text) in evidence.ends.items():
        if state == "open":
            yield f"task {number} is {text} after the close"
    for number in evidence.twice:
        yield f"the callback of task {number} was not called once, or its end was reported twice"
    if evidence.reopened is not None:
        for number, end in evidence.ends.items():
            if evidence.reopened.get(number) != end:
                yield f"task {number} ended as {end}; after an attach it is {evidence.reopened.get(number)}"


def right_value(evidence: Evidence) -> Iterator[str]:
    """Each value and error is the right one. Others are allowed where the schedule cancels or kills on purpose."""
    for number, (state, text) in evidence.ends.items():
        right = _chaos_tasks.right_end(evidence.schedule.seed, number)
        if (state, text) != right and state != "open" and not _excused(evidence, number, state, text):
            yield f"task {number} ended as {(state, text)}, right is {right}"


def _excused(evidence: Evidence, number: int, state: str, text: str) -> bool:
    if state == "cancelled":
        return evidence.schedule.closes_early or number in evidence.cancelled
    if text == f"ValueError: {number}" and number in evidence.cancelled:
        return True  # it raised while it was cancelled, and is not tried again
    if text == "DependencyFailed":
        needs = _chaos_tasks.spec(evidence.schedule.seed, number).needs
        return any(evidence.ends.get(need, ("", ""))[0] != "done" for need in needs)
    # it is suspected after three deaths of its worker: with others, and twice alone
    kills = sum(fault.deed in ("kill worker", "kill raylet") for _, fault in evidence.done)
    return text == "WorkerDied" and kills >= 3 and len(evidence.attempts.get(number, ())) >= 2


def no_result_lost(evidence: Evidence) -> Iterator[str]:
    """An attached manager knows all tasks that were on disk, and the ends of all that had ended."""
    for known, restored, committed in evidence.attached:
        unknown = (set(range(1, evidence.schedule.first + 1)) | committed.keys()) - known
        if unknown:
            yield f"tasks {sorted(unknown)[:5]} are unknown after an attach"
        for number, end in committed.items():
            if restored.get(number) != end:
                yield f"task {number} had ended as {end}; after an attach it is {restored.get(number)}"
    last = evidence.attached[-1][2] if evidence.attached else {}
    for number, end in last.items():
        if number in evidence.ends and evidence.ends[number] != end:
            yield f"task {number} had ended as {end}, and ends as {evidence.ends[number]}"


def runs_again_with_cause(evidence: Evidence) -> Iterator[str]:
    """A task runs again only after it raised, or after a deed that loses attempts, while it ran or shortly before."""
    causes = [(when, when) for when in _deaths(evidence)]
    for when, fault in evidence.done:
        if fault.loses:
            causes.append((when, when + (fault.seconds if fault.lasts else 0.0)))
    for number, notes in _by_task(evidence).items():
        begins = [one for one in notes if one.what == "b"]
        for before, after in itertools.pairwise(begins):
            raised = any(one.what == "x" and one.pid == before.pid and one.time >= before.time for one in notes)
            lost = any(
                first <= after.time + TOLERANCE_SECONDS and before.time <= last + GRACE_SECONDS
                for first, last in causes
            )
            if not raised and not lost and after.time:
                yield f"task {number} began at {before.time:.2f} and again at {after.time:.2f}, without a cause"
        allowed = 1 + len(evidence.attempts.get(number, ())) + _uncounted(evidence)
        counted = sum(not any(0 <= kill - one.time <= GRACE_SECONDS for kill in _kills(evidence)) for one in begins)
        if counted > allowed:
            yield f"task {number} began {counted} times; {allowed} are accounted for"


def _deaths(evidence: Evidence) -> list[float]:
    """When tasks began that end their workers, with all others of their batch."""
    seed = evidence.schedule.seed
    return [
        one.time for one in evidence.notes if one.what == "b" and _chaos_tasks.spec(seed, one.number).kind == "deadly"
    ]


def _kills(evidence: Evidence) -> list[float]:
    """When managers were killed. What was lost shortly before is not on disk."""
    return [when for when, fault in evidence.done if fault.deed in ("kill manager", "kill all")]


def _uncounted(evidence: Evidence) -> float:
    """Attempts of a task that no manager may have counted: those that ran when it was killed; all, with a full disk."""
    is_full = any(fault.deed == "fill disk" for _, fault in evidence.done)
    kills = len(_kills(evidence))
    return float("inf") if kills and is_full else kills


def _by_task(evidence: Evidence) -> dict[int, list[Note]]:
    notes = defaultdict(list)
    for one in evidence.notes:
        notes[one.number].append(one)
    return notes


def never_twice_at_once(evidence: Evidence) -> Iterator[str]:
    """No two runs of a task overlap and both come to their end."""
    for number, notes in _by_task(evidence).items():
        spans = []
        for begin in (one for one in notes if one.what == "b" and one.time):
            later = (one for one in notes if one.what != "b" and one.pid == begin.pid and one.time >= begin.time)
            if (end := next(later, None)) is not None:
                spans.append((begin.time, end.time))
        spans.sort()
        for (_, before), (after, _) in itertools.pairwise(spans):
            if after < before:
                yield f"task {number} ran twice at once, for {before - after:.3f} s"


def retries_for_errors_only(evidence: Evidence) -> Iterator[str]:
    """A retry is used when a task raised, as often as it says, and for nothing else."""
    seed = evidence.schedule.seed
    for number, attempts in evidence.attempts.items():
        wanted = _chaos_tasks.spec(seed, number)
        used = sum(reason == "it raised" for reason, _ in attempts)
        raised = sum(one.what == "x" and one.number == number for one in evidence.notes)
        if used > min(wanted.retries, raised):
            yield f"task {number} used {used} retries; it has {wanted.retries} and raised {raised} times"


def losses_have_causes(evidence: Evidence) -> Iterator[str]:
    """No attempt is lost before the first deed that loses attempts."""
    causes = [*(when for when, fault in evidence.done if fault.loses), *_deaths(evidence)]
    first = min(causes, default=float("inf"))
    for number, attempts in evidence.attempts.items():
        for reason, ended in attempts:
            if reason != "it raised" and ended < first - TOLERANCE_SECONDS:
                yield f"task {number} lost an attempt without a cause: {reason}"


def nothing_left(evidence: Evidence) -> Iterator[str]:
    """No process, no port and no file remains after the close."""
    for what in ("processes", "ports", "files"):
        if left := getattr(evidence, what):
            yield f"{what}: {left}"


def bounded_manager(evidence: Evidence) -> Iterator[str]:
    """Memory and threads of the manager, and the time of its close, have a limit."""
    if evidence.memory_growth > MEMORY_MIB:
        yield f"the manager took {evidence.memory_growth:.0f} MiB more"
    if evidence.thread_growth > THREADS:
        yield f"the manager had {evidence.thread_growth} threads more"
    if evidence.close_s > CLOSE_SECONDS:
        yield f"the close took {evidence.close_s:.0f} s"


CHECKS: tuple[Callable[[Evidence], Iterator[str]], ...] = (
    one_end,
    right_value,
    no_result_lost,
    runs_again_with_cause,
    never_twice_at_once,
    retries_for_errors_only,
    losses_have_causes,
    nothing_left,
    bounded_manager,
)
