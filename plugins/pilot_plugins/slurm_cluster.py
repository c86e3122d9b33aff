"""One Slurm: its commands (sbatch(1), squeue(1), sacct(1), scancel(1)), and what is known of our jobs there."""

from __future__ import annotations

import logging
import math
import os
import re
import shlex
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pilot.errors import JobRefused, PilotError
from pilot.interfaces import Job, JobState
from pilot_plugins.slurm_hosts import SLOW, SSH_FAILED, Runner, connection
from pilot_plugins.slurm_script import script
from pilot_plugins.slurm_states import Shown, WatchedJob, is_final

log = logging.getLogger(__name__)

#: Seconds that `status` waits for an answer of squeue; after that it says what was known before.
STATUS_SECONDS = 2.0
#: Seconds before the next try when Slurm is too busy to take a command.
BACK_OFF = (1.0, 4.0)
#: Seconds that a cancelled job has to end by itself, before SIGKILL (of Slurm's own, that takes 6 to 10 s).
GRACE_SECONDS = 2.0
#: Seconds until a cancelled job must be gone.
CANCEL_SECONDS = 25.0

_BUSY = re.compile(
    r"Socket timed out|Resource temporarily unavailable|Unable to contact slurm controller|try again|"
    r"Transport endpoint|Zero Bytes were transmitted",
    re.IGNORECASE,
)
#: Code of our remote command for a folder that is not there (EX_NOINPUT of sysexits.h).
_NOT_VISIBLE = 66
_SEPARATOR = "|"
_SQUEUE = ("squeue", "--noheader", "--array", "--states=all", f"--format={_SEPARATOR.join(('%i', '%T', '%N', '%r'))}")
_SACCT = ("sacct", "--noheader", "--allocations", "--parsable2", "--format=JobID,State,NodeList,ExitCode")


class Cluster:
    """One Slurm: its commands, and what is known of our jobs there."""

    def __init__(self, host: str, runner: Runner) -> None:
        self._host = host
        self._runner = runner
        self._prefix: tuple[str, ...] = connection(host, self) if host else ()
        self._watched: dict[str, WatchedJob] = {}
        self._poll: _Poll | None = None
        self._asked = -math.inf
        self._has_sacct: bool | None = None

    def call(self, command: Sequence[str], input: str = "") -> tuple[int, str, str]:
        """Run one of Slurm's commands, where the cluster is."""
        words = (*self._prefix, shlex.join(command)) if self._host else tuple(command)
        return self._runner(words, input)

    def _patiently(self, command: Sequence[str], input: str = "") -> tuple[int, str, str]:
        """`call`, again after a while when Slurm is too busy."""
        for seconds in (*BACK_OFF, 0.0):
            code, output, errors = self.call(command, input)
            if not code or not _BUSY.search(errors) or not seconds:
                break
            log.warning("%s: %s; trying again in %g s", command[0], errors.strip(), seconds)
            time.sleep(seconds)
        return code, output, errors

    # ---- submit -------------------------------------------------------------------------------------------------

    def submit(self, jobs: Sequence[Job]) -> str:
        """The number of the job, or job array, that these have become."""
        folder = jobs[0].folder
        text = script(jobs)
        path = folder / "job.sh"
        path.unlink(missing_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:  # noqa: PTH123
            file.write(text)
        if len(jobs) > 1:
            for index, job in enumerate(jobs):  # where sbatch's --output=…%a leads
                link = folder / f"array-{index}.log"
                link.unlink(missing_ok=True)
                link.symlink_to(job.log_path)
        sbatch = ("sbatch", "--parsable")
        if self._host:
            visible = f"test -r {shlex.quote(str(path))} || exit {_NOT_VISIBLE}; exec {shlex.join(sbatch)}"
            code, output, errors = self._patiently(("sh", "-c", visible), text)
        else:
            code, output, errors = self._patiently((*sbatch, str(path)))
        if code == _NOT_VISIBLE and self._host:
            raise JobRefused(
                f"the session folder is not visible on {self._host}: {path} cannot be read there. Give the manager a "
                "session_dir on a file system that this host, the login node and the compute nodes share"
            )
        if code:
            where = f" on {self._host}" if self._host else ""
            if _BUSY.search(errors) or code in (SLOW, SSH_FAILED if self._host else None):
                raise PilotError(f"sbatch{where} cannot be asked: {_words(errors)}")
            raise JobRefused(f"sbatch{where} refused the job: {_words(errors) or f'code {code}'} (script: {path})")
        number = output.split()[-1].partition(";")[0] if output.split() else ""
        if not number.isdigit():
            raise PilotError(f"sbatch gave no job id but {output!r}")
        return number

    # ---- status -------------------------------------------------------------------------------------------------

    def watch(self, ids: Sequence[str], folders: Sequence[Path]) -> None:
        """These jobs have just been submitted."""
        for id, folder in zip(ids, folders, strict=True):
            self._watched[id] = WatchedJob(id, folder)
            self._watched[id].is_new = True

    def look(self, folders: Mapping[str, Path], interval: float) -> dict[str, tuple[JobState, str]]:
        """What is known of these jobs; asks squeue when its last answer is older than ``interval`` seconds."""
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
        return {id: self._watched[id].state() for id in folders}

    def ask(self, ids: Sequence[str]) -> tuple[dict[str, Shown], str]:
        """What squeue, then sacct, know of these jobs; and what is wrong when squeue cannot be asked."""
        code, output, errors = self.call((*_SQUEUE, f"--jobs={','.join(ids)}"))
        if code and "Invalid job id" not in errors:
            return {}, _words(errors) or f"squeue ended with code {code}"
        found = {}
        for line in output.splitlines():
            id, state, nodes, reason = (line.split(_SEPARATOR, 3) + [""] * 3)[:4]
            found[id] = (state, nodes, reason)
        missing = [id for id in ids if id not in found]
        if missing and self._has_sacct is not False:
            found |= self._account(missing)
        return {id: found[id] for id in ids if id in found}, ""

    def _account(self, ids: Sequence[str]) -> dict[str, Shown]:
        code, output, errors = self.call((*_SACCT, f"--jobs={','.join(ids)}"))
        if code:
            if not _BUSY.search(errors):
                self._has_sacct = False
            return {}
        self._has_sacct = True
        found = {}
        for line in output.splitlines():
            id, state, nodes, exit_code = (line.split(_SEPARATOR, 3) + [""] * 3)[:4]
            word, _, by = state.partition(" ")  # "CANCELLED by 1000"
            found[id] = (word, "" if nodes == "None assigned" else nodes, by or f"exit code {exit_code}")
        return found

    # ---- cancel -------------------------------------------------------------------------------------------------

    def cancel(self, folders: Mapping[str, Path | None]) -> None:
        """End these jobs; asks squeue only about those whose own file does not say that they have ended."""
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
        self._scancel(
            stubborn, "--state=RUNNING", "--signal=KILL", "--full"
        )  # scancel alone kills after 6 to 10 s, and nothing can be
        self._scancel(stubborn)  # sent to a job any more once it was cancelled
        left = stubborn | (left - started)
        deadline = time.monotonic() + CANCEL_SECONDS
        while left and (left := left & self._unfinished(left)):
            if time.monotonic() > deadline:
                raise PilotError(f"Slurm jobs {', '.join(sorted(left))} do not end: look at squeue, then scancel")
            time.sleep(0.5)

    def _scancel(self, ids: Iterable[str], *options: str) -> None:
        if not (ids := sorted(ids)):
            return
        code, _, errors = self._patiently(("scancel", *options, *ids))
        if code and not re.search("Invalid job id|already complet|not running", errors):
            raise PilotError(f"scancel failed, these jobs may still run: {', '.join(sorted(ids))}: {_words(errors)}")

    def _unfinished(self, ids: Iterable[str]) -> set[str]:
        found, trouble = self.ask(sorted(ids))
        if trouble:
            return set(ids)
        return {id for id, (state, *_) in found.items() if not is_final(state)}


class _Poll:
    """One question to squeue, asked in a thread: without a controller it takes 18 s to fail."""

    def __init__(self, cluster: Cluster, ids: Sequence[str]) -> None:
        self.ids = ids
        self.begun = time.monotonic()
        self.found: dict[str, Shown] = {}
        self.trouble = ""
        self.taken = False
        self.answered = threading.Event()
        threading.Thread(target=self._run, args=(cluster,), name="pilot-squeue", daemon=True).start()

    def _run(self, cluster: Cluster) -> None:
        try:
            self.found, self.trouble = cluster.ask(self.ids)
        except Exception as error:
            self.trouble = f"{type(error).__name__}: {error}"
        finally:
            self.answered.set()


def _words(errors: str) -> str:
    """What a command said, in one line."""
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    return "; ".join(line.removeprefix("sbatch: error: ").removeprefix("squeue: error: ") for line in lines)
