"""The state of one job, from squeue, sacct and its own files, as a `JobState`."""

from __future__ import annotations

import logging
import math
import time
from pathlib import Path

from pilot.interfaces import JobState
from pilot_plugins.launchers.slurm.ids import SlurmId

log = logging.getLogger(__name__)

#: Polls that must not know a job before it counts as missing.
FORGOTTEN_POLLS = 2
#: Seconds in which Slurm reports how a job ended that was asked to end.
SETTLE_SECONDS = 60.0

#: Every state of squeue(1), "JOB STATE CODES". Not here, because it is not an end yet: a job that is COMPLETING.
STATES = {
    "BOOT_FAIL": JobState.TAKEN,
    "CANCELLED": JobState.CANCELLED,
    "COMPLETED": JobState.ENDED,
    "COMPLETING": JobState.RUNNING,
    "CONFIGURING": JobState.QUEUED,
    "DEADLINE": JobState.EXPIRED,
    "FAILED": JobState.ENDED,
    "LAUNCH_FAILED": JobState.TAKEN,
    "NODE_FAIL": JobState.TAKEN,
    "OUT_OF_MEMORY": JobState.ENDED,
    "PENDING": JobState.QUEUED,
    "PREEMPTED": JobState.TAKEN,
    "RECONFIG_FAIL": JobState.TAKEN,
    "REQUEUED": JobState.TAKEN,
    "REQUEUE_FED": JobState.TAKEN,
    "REQUEUE_HOLD": JobState.TAKEN,
    "RESIZING": JobState.RUNNING,
    "RESV_DEL_HOLD": JobState.TAKEN,
    "REVOKED": JobState.TAKEN,
    "RUNNING": JobState.RUNNING,
    "SIGNALING": JobState.RUNNING,
    "SPECIAL_EXIT": JobState.TAKEN,
    "STAGE_OUT": JobState.RUNNING,
    "STOPPED": JobState.RUNNING,
    "SUSPENDED": JobState.RUNNING,
    "TIMEOUT": JobState.EXPIRED,
}

_PARTITION = "it asks for more nodes, cores, memory or time than the partition has or allows (scontrol show partition)"
_HELD = "it is held: scontrol release {id}, by the user who holds it"
#: Reasons for which a pending job never starts, and what to do.
NEVER = {
    "AccountNotAllowed": "the partition does not take this project",
    "BadConstraints": "no node has what constraint, gres, memory, cores_per_node or gpus_per_node ask for",
    "DependencyNeverSatisfied": "the job that it depends on has failed",
    "InvalidAccount": "project is not an account that you may use (sacctmgr show associations user=$USER)",
    "InvalidQOS": "qos is not one that you may use (sacctmgr show associations user=$USER)",
    "JobHeldAdmin": "an administrator holds it: ask there",
    "JobHeldUser": _HELD,
    "PartitionConfig": _PARTITION,
    "PartitionNodeLimit": "number_of_nodes is above the partition's limit (scontrol show partition)",
    "PartitionTimeLimit": "walltime is above the partition's limit (scontrol show partition)",
    "QOSNotAllowed": "the partition does not take this qos",
    "ReservationDeleted": "the reservation is gone",
}

#: One job as squeue or sacct shows it: its state, nodes and reason.
Shown = tuple[str, str, str]


class WatchedJob:
    """What is known of one job: from its own files, and from the last answer of squeue."""

    def __init__(self, id: SlurmId, folder: Path | None) -> None:
        self._id = id
        self._folder = folder
        #: It was submitted in this process.
        self.is_new = False
        self._started: list[str] | None = None
        self._seen_started = math.inf
        self._ended: list[str] | None = None
        #: Why the job could not start its agent.
        self._refused = ""
        self._seen_ended = math.inf
        self._shown: Shown | None = None
        #: When the poll began that showed it (`time.monotonic`).
        self._shown_at = -math.inf
        self._unknown = 0
        self._trouble = ""
        self._warned = ""

    def read(self) -> None:
        """Read the job's files."""
        if self._started is None and (words := self._file("started")) is not None:
            self._started, self._seen_started = words, time.monotonic()
        if self._ended is None and (words := self._file("ended")) is not None:
            self._ended, self._seen_ended = words, time.monotonic()
            self._refused = " ".join(self._file("refused") or ())

    def _file(self, name: str) -> list[str] | None:
        """The words after the id; None when there is no such file, or it is about an earlier job of this pilot."""
        if self._folder is None:
            return None
        try:
            id, *words = (self._folder / name).read_text().split()
        except (OSError, ValueError):
            return None
        return words if id == self._id.number else None

    def take(self, shown: Shown | None, asked: float, trouble: str) -> None:
        """Take over the answer of a poll.

        Args:
            shown: the job as squeue or sacct shows it; None: neither knows it.
            asked: when the poll began (`time.monotonic`).
            trouble: why squeue could not be asked; "" when it could.
        """
        self._trouble = trouble
        if trouble:
            return
        self._unknown += 1
        if shown is not None:
            self._unknown, self._shown, self._shown_at = 0, shown, asked
        state, words = self._judge()
        reason = self._shown[2] if self._shown is not None else ""
        if state is JobState.QUEUED and reason in NEVER and reason != self._warned:
            self._warned = reason
            log.warning("Slurm job %s is %s", self._id.number, words)

    @property
    def open(self) -> bool:
        """True while squeue may report something that is not known yet."""
        return self._judge()[0] in (JobState.UNKNOWN, JobState.QUEUED, JobState.RUNNING, JobState.MISSING)

    def is_over(self) -> bool:
        """True when nothing remains to be cancelled, as far as is known."""
        self.read()
        if self._shown is not None and is_final(self._shown[0]):
            return True
        state, _ = self._judge()
        return state in (JobState.ENDED, JobState.EXPIRED, JobState.REFUSED)

    def has_started(self) -> bool:
        """True when its script runs or ran, as far as is known."""
        self.read()
        return self._started is not None or (self._shown is not None and self._shown[0] == "RUNNING")

    def is_pending(self) -> bool:
        """True when squeue reported it after everything in its files."""
        return self._shown is not None and STATES.get(self._shown[0]) is JobState.QUEUED and self._is_shown_last()

    def _is_shown_last(self) -> bool:
        """True when squeue answered after everything in its files."""
        return self._started is None or self._shown_at > self._seen_started

    def has_ended(self) -> bool:
        """True when its script has come to its end."""
        self.read()
        return self._ended is not None

    def state(self) -> tuple[JobState, str]:
        """Its state, and a text about it."""
        state, words = self._judge()
        cluster = f" ({self._id.cluster})" if self._id.cluster else ""
        return state, f"Slurm job {self._id.number}{cluster}: {words}"

    def _judge(self) -> tuple[JobState, str]:
        shown = self._shown
        name = shown[0] if shown is not None else ""
        state = STATES.get(name, JobState.UNKNOWN)
        if self._refused:
            return JobState.REFUSED, self._refused
        has_own_word = self._ended is not None and "TERM" not in self._ended
        if shown is not None and state in (JobState.EXPIRED, JobState.TAKEN, JobState.CANCELLED):
            return state, self._describe_end(shown)
        if self._ended is not None and has_own_word:  # it shows better than Slurm with which signals it ended
            if "USR1" in self._ended:
                return JobState.EXPIRED, "its walltime was nearly over, and the agents ended"
            return JobState.ENDED, f"the agents ended with code {self._ended[0]}"
        if shown is not None and state is JobState.ENDED:
            if self._started is None and shown[2] in NEVER:
                return JobState.REFUSED, f"{self._describe_end(shown)}: {NEVER[shown[2]].format(id=self._id.number)}"
            return state, self._describe_end(shown)
        is_forgotten = self._unknown >= FORGOTTEN_POLLS
        if self._ended is not None and (is_forgotten or time.monotonic() - self._seen_ended > SETTLE_SECONDS):
            return JobState.ENDED, f"the job was ended from outside, with code {self._ended[0]}"
        if is_forgotten:
            return JobState.MISSING, "Slurm does not know it any more"
        if self._trouble:
            return JobState.UNKNOWN, f"squeue cannot be asked: {self._trouble}"
        if state is JobState.QUEUED and shown is not None:
            return self._judge_queued(shown)
        if self._ended is not None:
            return JobState.RUNNING, "was asked to end, and is ending"
        if state is JobState.RUNNING and shown is not None:
            return state, f"{name} on {shown[1]}" if shown[1] else name
        if name:
            return JobState.UNKNOWN, f"{name}, a state that is not known here"
        if self._started is not None:
            return JobState.RUNNING, f"RUNNING on {' '.join(self._started)}"
        if self.is_new:
            return JobState.QUEUED, "submitted"
        return JobState.UNKNOWN, "squeue has not reported it yet"

    def _judge_queued(self, shown: Shown) -> tuple[JobState, str]:
        name, nodes, reason = shown
        if self._started is not None:
            if not self._is_shown_last():
                return JobState.RUNNING, f"RUNNING on {' '.join(self._started)}"
            if self._was_signalled():
                return JobState.TAKEN, f"it was requeued ({name}: {reason})"
            return JobState.MISSING, f"it has started, and is in the queue ({name}: {reason})"
        if name == "CONFIGURING":
            return JobState.QUEUED, f"its nodes {nodes} are being started"
        if reason in ("", "None"):
            return JobState.QUEUED, "pending"
        advice = NEVER.get(reason, "").format(id=self._id.number)
        return JobState.QUEUED, f"pending: {reason}" + (f", it can never start: {advice}" if advice else "")

    def _was_signalled(self) -> bool:
        """True when its script has got a signal, or has ended: it does not run on."""
        return self._ended is not None or (self._folder is not None and (self._folder / "expiring").exists())

    def _describe_end(self, shown: Shown) -> str:
        words, nodes, reason = shown
        if reason and reason != "None":
            words += f" {reason}" if reason.startswith("by ") else f" ({reason})"
        if nodes:
            words += f" on {nodes}"
        if self._ended is not None:
            words += f"; the agents ended with code {self._ended[0]}"
        return words


def is_final(state: str) -> bool:
    """True when a job in this state of Slurm's will never run (again)."""
    return STATES.get(state) in (JobState.ENDED, JobState.EXPIRED, JobState.CANCELLED) or state in (
        "BOOT_FAIL", "LAUNCH_FAILED", "NODE_FAIL", "PREEMPTED", "RECONFIG_FAIL", "REVOKED"
    )  # fmt: skip
