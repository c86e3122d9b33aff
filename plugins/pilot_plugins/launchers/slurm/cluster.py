"""One Slurm: its commands (sbatch(1), squeue(1), sacct(1), scancel(1)), and the states of our jobs there."""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from pilot.errors import PilotError
from pilot.interfaces import JobState
from pilot_plugins.launchers.slurm.answers import SACCT, SQUEUE, Line, sacct_lines, scontrol_lines, squeue_lines
from pilot_plugins.launchers.slurm.hosts import Host, in_one_line, is_busy
from pilot_plugins.launchers.slurm.ids import SlurmId
from pilot_plugins.launchers.slurm.states import Shown, WatchedJob, is_final
from pilot_plugins.launchers.slurm.submission import Loose, on, only

#: Seconds that `status` waits for an answer of squeue; after that it returns the last known states.
STATUS_SECONDS = 2.0
#: Seconds that a cancelled job has to end by itself, before SIGKILL (of Slurm's own, that takes 6 to 10 s).
GRACE_SECONDS = 2.0
#: Seconds until a cancelled job must be gone, and between two calls of scancel.
CANCEL_SECONDS, REPEAT_SECONDS = 25.0, 5.0


class Cluster:
    """One Slurm: its commands, and the states of our jobs there."""

    def __init__(self, host: Host, loose: Loose, name: str = "") -> None:
        """Make it.

        Args:
            host: where its commands run.
            loose: jobs that are looked for there as often as ours are asked about.
            name: for ``--clusters``; "": the cluster that the commands on this host take by themselves.
        """
        self._host = host
        self.loose = loose
        self._on = on(name)
        self._watched: dict[SlurmId, WatchedJob] = {}
        self._poll: _Poll | None = None
        self._asked = -math.inf
        self._has_sacct: bool | None = None

    # ---- status -------------------------------------------------------------------------------------------------

    def watch(self, ids: Sequence[SlurmId], folders: Sequence[Path]) -> None:
        """These jobs have just been submitted."""
        for id, folder in zip(ids, folders, strict=True):
            self._watched[id] = WatchedJob(id, folder)
            self._watched[id].is_new = True

    def look(self, folders: Mapping[SlurmId, Path], interval: float) -> dict[SlurmId, tuple[JobState, str]]:
        """The states of these jobs; asks squeue when its last answer is older than ``interval`` seconds."""
        for id, folder in folders.items():
            self._watched.setdefault(id, WatchedJob(id, folder)).read()
        now = time.monotonic()
        open_ids = [id for id in folders if self._watched[id].open]
        idle = self._poll is None or self._poll.answered.is_set()
        if open_ids and idle and now - self._asked >= interval:
            self._asked = now
            self._poll = _Poll(self, open_ids)
        if self._poll is not None:
            self._poll.answered.wait(max(0.0, self._asked + STATUS_SECONDS - time.monotonic()))
            if self._poll.answered.is_set() and not self._poll.taken:
                self._poll.taken = True
                for id in self._poll.ids:
                    if id in self._watched:
                        self._watched[id].take(self._poll.found.get(id), self._poll.begun, self._poll.trouble)
                        self._watched[id].read()  # what it wrote while squeue was asked
        return {id: self._watched[id].state() for id in folders}

    def ask(self, ids: Collection[SlurmId]) -> tuple[dict[SlurmId, Shown], str]:
        """What squeue, else sacct, else scontrol knows of these jobs; and what is wrong when squeue cannot be asked.

        A job with the number of one of ours and another name is not ours.
        """
        code, output, errors = self._call("squeue", *SQUEUE, f"--jobs={_list(ids)}")
        if code and "Invalid job id" not in errors:
            return {}, in_one_line(errors) or f"squeue ended with code {code}"
        found = _ours(ids, squeue_lines(output))
        if (missing := set(ids) - found.keys()) and self._has_sacct is not False:
            found |= self._account(missing)
        for id in set(ids) - found.keys():
            found |= _ours([id], (line._replace(number=id.number) for line in self._control(id.number)))
        return found | self._removed(set(ids) - found.keys()), ""

    def _control(self, number: str) -> list[Line]:
        code, output, _ = self._call("scontrol", "--oneliner", "show", "job", number)
        return [] if code else list(scontrol_lines(output))

    def _removed(self, ids: Iterable[SlurmId]) -> dict[SlurmId, Shown]:
        """Those that were cancelled while they waited in an array: Slurm knows the array, and nothing of them."""
        waited = {id for id in ids if id.array and not self._has_started(id)}
        names = {array: {line.name for line in self._control(array)} for array in {id.array for id in waited}}
        return {id: ("CANCELLED", "", "while it waited") for id in waited if id.name in names[id.array]}

    def _has_started(self, id: SlurmId) -> bool:
        watched = self._watched.get(id)
        return watched is not None and watched.has_started()

    def _account(self, ids: Collection[SlurmId]) -> dict[SlurmId, Shown]:
        code, output, errors = self._call("sacct", *SACCT, f"--jobs={_list(ids)}")
        if code:
            if not is_busy(errors):
                self._has_sacct = False
            return {}
        self._has_sacct = True
        return _ours(ids, sacct_lines(output))

    def _call(self, command: str, *options: str) -> tuple[int, str, str]:
        return self._host.call((command, *self._on, *options))

    # ---- cancel -------------------------------------------------------------------------------------------------

    def cancel(self, folders: Mapping[SlurmId, Path | None]) -> None:
        """End these jobs; asks squeue only about those whose own file does not show that they have ended."""
        watched = {id: self._watched.get(id) or WatchedJob(id, folder) for id, folder in folders.items()}
        for id in watched:
            self._watched.pop(id, None)
        left = {id for id, one in watched.items() if not one.is_over()}
        if not left:
            return
        # A signal to a job that is pending would make scancel wait for its start: requeued ones are not among these.
        started = {id for id in left if watched[id].has_started() and not watched[id].is_pending()}
        self._scancel(left - started)
        self._scancel(started, "--state=RUNNING", "--signal=TERM", "--full")
        deadline = time.monotonic() + GRACE_SECONDS
        while not all(watched[id].has_ended() for id in started) and time.monotonic() < deadline:
            time.sleep(0.05)
        stubborn = {id for id in started if not watched[id].has_ended()}
        # scancel alone kills after 6 to 10 s, and nothing can be sent to a job any more once it was cancelled.
        self._scancel(stubborn, "--state=RUNNING", "--signal=KILL", "--full")
        self._scancel(stubborn)
        self._wait_gone(stubborn | (left - started))

    def _wait_gone(self, left: set[SlurmId]) -> None:
        """Block until Slurm shows none of these as unfinished. A call of scancel that did not reach it is repeated."""
        begun = time.monotonic()
        orders = 1
        while left and (left := left & self._unfinished(left)):
            seconds = time.monotonic() - begun
            if seconds > CANCEL_SECONDS:
                words = ", ".join(sorted(id.number for id in left))
                raise PilotError(f"Slurm jobs {words} do not end: check squeue, then use scancel")
            if seconds > orders * REPEAT_SECONDS:
                orders += 1
                self._scancel(left)
            time.sleep(0.5)

    def _scancel(self, ids: Iterable[SlurmId], *options: str) -> None:
        """``scancel`` for jobs that have our number and our name: one call for each name.

        With an option that selects jobs, such as --name, scancel 22.05 ends all waiting jobs of an array, also those
        whose numbers were not given. So squeue is asked first for the names of jobs in arrays; those that it does not
        show are ended with the option.
        """
        ids = sorted(ids)
        if not options and (members := [id for id in ids if id.array]):
            known, _ = self.ask(members)
            self._order([id.number for id in sorted(known) if not is_final(known[id][0])])
            ids = [id for id in ids if id not in known]
        by_name: dict[str, list[str]] = {}
        for id in ids:
            by_name.setdefault(id.name, []).append(id.number)
        for name, some in by_name.items():
            self._order(some, *only(self._host, name), *options)

    def _order(self, numbers: Sequence[str], *options: str) -> None:
        if not numbers:
            return
        code, _, errors = self._host.call_with_retries(("scancel", *self._on, *options, *numbers))
        if code and not re.search("Invalid job id|already complet|not running", errors):
            raise PilotError(f"scancel failed, these jobs may still run: {', '.join(numbers)}: {in_one_line(errors)}")

    def _unfinished(self, ids: Collection[SlurmId]) -> set[SlurmId]:
        found, trouble = self.ask(ids)
        if trouble:
            return set(ids)
        return {id for id, (state, *_) in found.items() if not is_final(state)}


class _Poll:
    """One call of squeue, in a thread: without a controller it takes 18 s to fail."""

    def __init__(self, cluster: Cluster, ids: Sequence[SlurmId]) -> None:
        self.ids = ids
        self.begun = time.monotonic()
        self.found: dict[SlurmId, Shown] = {}
        self.trouble = ""
        self.taken = False
        self.answered = threading.Event()
        threading.Thread(target=self._run, args=(cluster,), name="pilot-squeue", daemon=True).start()

    def _run(self, cluster: Cluster) -> None:
        try:
            self.found, self.trouble = cluster.ask(self.ids)
            cluster.loose.end()
        except Exception as error:
            self.trouble = f"{type(error).__name__}: {error}"
        finally:
            self.answered.set()


def _list(ids: Iterable[SlurmId]) -> str:
    return ",".join(id.number for id in sorted(ids))


def _ours(ids: Iterable[SlurmId], lines: Iterable[Line]) -> dict[SlurmId, Shown]:
    """The lines of these jobs: by number, and by name where that is known."""
    by_number = {id.number: id for id in ids}
    found = {}
    for line in lines:
        id = by_number.get(line.number)
        if id is not None and id.name in ("", line.name):
            found[id] = line.shown
    return found
