"""What is seen of a schedule of `chaos.py`, for `_chaos_checks`."""

from __future__ import annotations

from dataclasses import dataclass, field

from _chaos_plan import Fault, Schedule
from _chaos_tasks import Note

#: A task's state, and its value or error as a text.
End = tuple[str, str]


@dataclass
class Evidence:
    """What happened in a schedule."""

    schedule: Schedule
    #: Each task's end in the last session that ran the tasks, and in the one that was attached after it.
    ends: dict[int, End] = field(default_factory=dict)
    reopened: dict[int, End] | None = None
    #: Of each manager but the first: the tasks that it knew when it had attached, the ends that it found, and those
    #: that an earlier manager had on disk before.
    attached: list[tuple[set[int], dict[int, End], dict[int, End]]] = field(default_factory=list)
    #: Of each manager: tasks whose callback was not called once, or whose end was reported twice.
    twice: list[int] = field(default_factory=list)
    #: Attempts that did not count, of each task: why, and when.
    attempts: dict[int, list[tuple[str, float]]] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)
    cancelled: set[int] = field(default_factory=set)
    #: What was done, and when (seconds since the epoch).
    done: list[tuple[float, Fault]] = field(default_factory=list)
    #: Sentences of the managers: invariants that they found violated themselves.
    reports: list[tuple[str, str]] = field(default_factory=list)
    #: What was left after the end.
    processes: list[str] = field(default_factory=list)
    ports: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    #: MiB and threads of the managers above those when they were ready, at most.
    memory_growth: float = 0.0
    thread_growth: int = 0
    close_s: float = 0.0
    seconds: float = 0.0
