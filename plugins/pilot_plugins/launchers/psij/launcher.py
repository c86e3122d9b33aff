"""Placeholder jobs through PSI/J: ``psij://slurm``, ``psij://local``, ``psij://pbs``, ``psij://lsf``, …

Any executor that PSI/J has here can be named. The job runs a shell script of ours, on every node of the pilot, which
leaves three files in the job's folder:

- ``started``: seconds since 1970 when it started, and its walltime in seconds (0: none);
- ``expiring``: it got SIGTERM or SIGUSR1;
- ``ended``: the exit code of the command.

They come first, then the state that PSI/J reports (`PsijLauncher.status` has the rules). `job.py` has the script.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

from pilot.descriptions import PilotDescription
from pilot.errors import JobRefused, PilotError
from pilot.interfaces import Job, JobState, Launcher, Misfit, Refusal
from pilot.wire.folders import remove_scratch
from pilot.wire.marks import identify
from pilot.wire.processes import end_marked, is_alive
from pilot_plugins.launchers.local import check_gpus
from pilot_plugins.launchers.psij import executors
from pilot_plugins.launchers.psij.executors import (  # imported there first, with its signal handler put back
    SlurmExecutor,
    psij,
)
from pilot_plugins.launchers.psij.fields import check_values, refusal
from pilot_plugins.launchers.psij.job import directives, job_name, script, spec
from pilot_plugins.launchers.slurm.hosts import Host, run
from pilot_plugins.launchers.slurm.names import explained
from pilot_plugins.launchers.slurm.preflight import Site
from pilot_plugins.launchers.slurm.script import check_options, clusters_of
from pilot_plugins.launchers.slurm.states import STATES

log = logging.getLogger(__name__)

#: Seconds in which files written by the job's host are seen here, and Slurm reports why a job that it signalled ends.
SETTLE_SECONDS = 15.0
#: Seconds that `cancel` waits for the end of a job at most.
CANCEL_SECONDS = 20.0
#: So many seconds before its walltime is over an end counts as the walltime's, when no reason is known.
EARLY_SECONDS = 60.0

#: Messages of Slurm, PBS and LSF when they cannot take any job now.
_BUSY = re.compile(r"contact|connect|timed out|temporarily|try again|busy", re.IGNORECASE)

_JOBS = {
    "NEW": JobState.UNKNOWN,
    "QUEUED": JobState.QUEUED,
    "ACTIVE": JobState.RUNNING,
    "COMPLETED": JobState.ENDED,
    "FAILED": JobState.ENDED,
    "CANCELED": JobState.CANCELLED,
}
#: Ends of jobs that only Slurm knows; PSI/J reports that the job has failed, or waits.
_SLURMS_OWN = (JobState.EXPIRED, JobState.TAKEN, JobState.CANCELLED)
_OVER = (JobState.ENDED, *_SLURMS_OWN)


class PsijLauncher(Launcher):
    """``psij://EXECUTOR``. Its native ids are ``EXECUTOR:ID`` with PSI/J's id; a local one has its start time too, one
    of Slurm's the job's name behind a ``#``."""

    poll_interval = float(executors.POLL_SECONDS)
    remote = True

    def __init__(self) -> None:
        self._executors: dict[str, psij.JobExecutor] = {}
        self._jobs: dict[str, psij.Job] = {}
        self._folders: dict[str, Path] = {}
        self._checked: set[str] = set()
        self._site: Site | None = None
        #: When a job was first seen in a condition (`time.monotonic`), by native id and the condition's name.
        self._since: dict[tuple[str, str], float] = {}

    def refusal(self, resource: str, field: str) -> Refusal | None:
        return refusal(_executor_of(resource), field)

    def variants(self) -> Sequence[str]:
        return executors.names()

    # ---- what can be started ---------------------------------------------------------------------------------

    def check(self, description: PilotDescription) -> None:
        """The executor must be one of PSI/J's, and it must be able to pass on all that the pilot asks for."""
        name = self._name(description)
        if name == "local":
            check_gpus(description)
        directives(description, name)
        check_values(description, name)
        if name == "slurm":
            _check_slurm(description)
        self._checked.add(name)
        if self._checked == {"local"}:
            self.remote, self.poll_interval = False, 0.5
        else:
            self.remote, self.poll_interval = True, float(executors.POLL_SECONDS)

    def preflight(self, description: PilotDescription) -> list[Misfit]:
        """As `Launcher.preflight`; only Slurm can be asked."""
        if self._name(description) != "slurm":
            return []
        self._site = self._site or Site(Host("", run))
        return self._site.misfits(description)

    def _name(self, description: PilotDescription) -> str:
        name = _executor_of(description.resource)
        if name not in executors.names():
            known = ", ".join(f"psij://{one}" for one in executors.names())
            raise description.wrong("resource", f"an executor that PSI/J has here: {known}")
        return name

    def _executor(self, name: str, folder: Path | None) -> psij.JobExecutor:
        """The one executor of this name; the first job's folder, or the first that is asked for, holds its files."""
        if name not in self._executors:
            try:
                self._executors[name] = executors.make(name, folder)
            except Exception as error:
                cause = f": {error.__cause__}" if error.__cause__ else ""
                raise PilotError(f"PSI/J's executor {name!r} does not work here: {error}{cause}") from error
        return self._executors[name]

    # ---- start -----------------------------------------------------------------------------------------------

    def submit(self, job: Job) -> str:
        description = job.description
        name = self._name(description)
        executor = self._executor(name, job.folder)
        for file in ("started", "expiring", "ended", "refused"):  # of the job that this pilot had before
            (job.folder / file).unlink(missing_ok=True)
        path = job.folder / "job.sh"
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)
        path.write_text(script(job, name))
        one = psij.Job(spec(job, name, path))
        suffix = ""
        if isinstance(executor, SlurmExecutor):
            executor.lines[one.id] = directives(description, name)
            executor.names[one.id] = job_name(job)
            suffix = f"#{job_name(job)}"
        try:
            executor.submit(one)
        except JobRefused as error:  # of our own Slurm executor
            raise explained(error, description, Host("", run)) from None
        except PilotError:
            raise
        except Exception as error:
            words = str(getattr(error, "exception", None) or error).strip()
            refused = isinstance(error, psij.SubmitException) and not error.transient and not _BUSY.search(words)
            kind = JobRefused if refused else PilotError
            raise kind(f"PSI/J's executor {name!r} did not take the job: {words}") from error
        native_id = f"{name}:{_native(one)}{suffix}"
        if name == "local":
            with contextlib.suppress(OSError):  # gone already
                native_id = f"{name}:{identify(int(_native(one)))}"
        self._parts(native_id)
        self._jobs[native_id] = one
        self._folders[native_id] = job.folder
        return native_id

    def _parts(self, native_id: str) -> tuple[str, str]:
        """The executor's name and the job's id there. Of a job of Slurm's the executor learns the name."""
        executor, _, rest = native_id.partition(":")
        id, _, name = rest.partition("#")
        one = self._executors.get(executor)
        if name and isinstance(one, SlurmExecutor):
            one.names[id] = name
        return executor, id

    # ---- states ----------------------------------------------------------------------------------------------

    def status(self, jobs: Mapping[str, Path]) -> Mapping[str, tuple[JobState, str]]:
        """As `Launcher.status`. In this order:

        1. ``ended`` is there: the job is over. Why, Slurm knows better when it ended the job itself (TIMEOUT,
           PREEMPTED, CANCELLED, …); when the job was signalled and Slurm has not reported why yet, it counts as running
           for up to `SETTLE_SECONDS`, and then as EXPIRED if its walltime is about over.
        2. PSI/J reports its end, and ``ended`` is not there. What only Slurm can know is believed at once. All
           else is UNKNOWN for `SETTLE_SECONDS`, since the file may be on its way, then MISSING where PSI/J reports it
           for every job that a queue does not show; and when PSI/J only failed to read the queue, which it reports as
           FAILED, for as long as that lasts.
        3. ``started`` is there: RUNNING, unless Slurm has put the job back into the queue (TAKEN; MISSING when nothing
           else shows it), or does not know it any more (MISSING).
        4. The state that PSI/J reports, with Slurm's reason for a pending job.
        """
        return {native_id: self._state(native_id, folder) for native_id, folder in jobs.items()}

    def _state(self, native_id: str, folder: Path) -> tuple[JobState, str]:
        self._folders.setdefault(native_id, folder)
        name, rest = self._parts(native_id)
        if name == "local" and not is_alive(rest) and not (folder / "ended").exists():
            return self._lost(native_id)
        state, words = self._reported(native_id, name, rest, folder)
        code = _read(folder / "ended")
        if code.lstrip("-").isdigit():
            return self._end(native_id, folder, int(code), state, words)
        if state in _OVER:
            return self._unmarked_end(native_id, folder, state, words)
        self._since.pop((native_id, "over"), None)
        if not (folder / "started").exists():
            return state, words
        seen = self._first(native_id, "started")
        _, _, at = self._report(name, rest)
        if state is JobState.QUEUED and at > seen:
            was_signalled = (folder / "expiring").exists()
            return JobState.TAKEN if was_signalled else JobState.MISSING, f"back in the queue: {words}"
        return (state, words) if state is JobState.MISSING else (JobState.RUNNING, "running")

    def _end(self, native_id: str, folder: Path, code: int, state: JobState, words: str) -> tuple[JobState, str]:
        """The job has written its exit code."""
        if reason := _read(folder / "refused"):
            return JobState.REFUSED, reason
        if state in _OVER and state is not JobState.ENDED:
            return state, words
        how = f"was killed by signal {code - 128}" if code > 128 else f"ended with code {code}"
        if state is not JobState.ENDED and (folder / "expiring").exists() and not native_id.startswith("local:"):
            if time.monotonic() - self._first(native_id, "signalled") < SETTLE_SECONDS:
                return JobState.RUNNING, "it was asked to end, and is ending"
            if _is_late(folder):
                return JobState.EXPIRED, f"its walltime is over; the agent {how}"
        return JobState.ENDED, f"the agent {how}"

    def _unmarked_end(self, native_id: str, folder: Path, state: JobState, words: str) -> tuple[JobState, str]:
        """PSI/J reports its end, and the job has not."""
        if state is not JobState.ENDED:
            return state, words
        if time.monotonic() - self._first(native_id, "over") < SETTLE_SECONDS:
            return JobState.UNKNOWN, f"PSI/J reports its end ({words}); its own report is awaited"
        if _is_late(folder):
            return JobState.EXPIRED, f"its walltime is over ({words})"
        if not native_id.startswith(
            ("slurm:", "local:")
        ):  # PSI/J reports this also for a job that the queue did not show
            return JobState.MISSING, words
        return state, words

    def _lost(self, native_id: str) -> tuple[JobState, str]:
        """A local job whose process is gone, and that has written no exit code."""
        if time.monotonic() - self._first(native_id, "over") < 1.0:
            return JobState.UNKNOWN, "its process is gone; its own report is awaited"
        return JobState.ENDED, "the agent is gone"

    def _reported(self, native_id: str, name: str, rest: str, folder: Path) -> tuple[JobState, str]:
        """The state that PSI/J reports, and Slurm through it."""
        job = self._attached(native_id, name, rest, folder)
        if job is None:
            return JobState.UNKNOWN, "PSI/J cannot find it"
        status = job.status
        message = (status.message or "").strip()
        if status.state is psij.JobState.FAILED and message.startswith(
            ("Failed to poll", "Error updat", "Failed to up")
        ):
            del self._jobs[native_id]  # PSI/J has given it up: attach again at the next look
            return JobState.UNKNOWN, f"the queue cannot be read: {message.splitlines()[-1]}"
        slurm, reason, _ = self._report(name, rest)
        executor = self._executors.get(name)
        if isinstance(executor, SlurmExecutor) and executor.is_missing(rest):
            return JobState.MISSING, "Slurm does not know it any more"
        if slurm:
            words = slurm if reason in ("", "None") else f"{slurm}: {reason}"
            if (state := STATES.get(slurm)) in _SLURMS_OWN:
                return state, words
            return _JOBS[executors.common(slurm)], reason if slurm == "PENDING" else words
        words = str(status.state).rpartition(".")[2].lower()
        if status.exit_code is not None:
            words += f" with code {status.exit_code}"
        return _JOBS[status.state.name], f"{words}: {message}" if message else words

    def _report(self, name: str, rest: str) -> tuple[str, str, float]:
        executor = self._executors.get(name)
        return executor.reports.get(rest, ("", "", 0.0)) if isinstance(executor, SlurmExecutor) else ("", "", 0.0)

    def _attached(self, native_id: str, name: str, rest: str, folder: Path) -> psij.Job | None:
        if native_id not in self._jobs:
            job = psij.Job()
            try:
                if name == "local" and not is_alive(rest):
                    return None
                executor = self._executor(name, folder)
                self._parts(native_id)
                executor.attach(job, rest.partition(":")[0] if name == "local" else rest)
            except Exception as error:
                log.debug("%s cannot be attached: %s", native_id, error)
                return None
            self._jobs[native_id] = job
        return self._jobs[native_id]

    def _first(self, native_id: str, what: str) -> float:
        return self._since.setdefault((native_id, what), time.monotonic())

    # ---- end -------------------------------------------------------------------------------------------------

    def cancel(self, native_id: str, mark: str) -> None:
        """End the job, its processes here that carry the mark, and PSI/J's files of it. Blocks for at most about
        `CANCEL_SECONDS`.

        Raises:
            PilotError: the resource manager did not accept the cancellation.
        """
        name, rest = self._parts(native_id)
        folder = self._folders.get(native_id)
        if name == "local":
            self._cancel_local(rest, mark)
        else:
            self._cancel_queued(native_id, name, rest, folder)
        end_marked(mark)
        remove_scratch(mark)
        if folder is not None and folder.is_dir():
            _write_end(folder)
        executor = self._executors.get(name)
        work = getattr(executor, "work_directory", None)
        job = self._jobs.pop(native_id, None)
        if isinstance(work, Path):
            for file in (f"{rest}.out", f"{rest}.ec", f"{rest}.nodefile", f"{getattr(job, 'id', rest)}.job"):
                (work / file).unlink(missing_ok=True)
        self._since = {key: when for key, when in self._since.items() if key[0] != native_id}

    def _cancel_local(self, identity: str, mark: str) -> None:
        """The script ends with its command, and writes its exit code. If it does not, because it still prepares, it is
        killed: not by PSI/J, whose thread that waits for processes dies when one is gone before it is killed."""

        def is_gone() -> bool:
            end_marked(mark)
            return not is_alive(identity)

        if _wait(is_gone, 1.0):
            return
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(int(identity.partition(":")[0]))
            for process in [*root.children(recursive=True), root]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        _wait(is_gone, CANCEL_SECONDS)

    def _cancel_queued(self, native_id: str, name: str, rest: str, folder: Path | None) -> None:
        executor = self._executor(name, folder)
        self._parts(native_id)
        known = self._jobs.get(native_id)
        if known is not None and known.status.final and folder is not None and (folder / "ended").exists():
            return
        job = psij.Job()  # PSI/J refuses to cancel jobs that it believes to be over: a new object has no state
        deadline = time.monotonic() + CANCEL_SECONDS
        words = ""
        ordered = False
        while not self._is_gone(executor, job, rest):
            if time.monotonic() > deadline:
                break
            if not ordered:
                try:
                    if job.native_id is None:
                        executor.attach(job, rest)
                    executor.cancel(job)
                    ordered = True
                except Exception as error:
                    words = str(error).strip()
            threading.Event().wait(0.2)
        else:
            return
        if not ordered:
            raise PilotError(f"job {native_id} cannot be cancelled: {words}", native_id=native_id)
        log.warning("job %s was cancelled %g s ago and is not gone yet", native_id, CANCEL_SECONDS)

    def _is_gone(self, executor: psij.JobExecutor, job: psij.Job, rest: str) -> bool:
        if not isinstance(executor, SlurmExecutor):
            return bool(job.status.final)
        return executor.is_over(rest)


def _executor_of(resource: str) -> str:
    return resource.partition("://")[2].rstrip("/")


def _check_slurm(wanted: PilotDescription) -> None:
    """Raise DescriptionError for what a job of ``psij://slurm`` cannot have."""
    check_options(wanted)
    clusters = [name for name in ("SBATCH_CLUSTERS", "SLURM_CLUSTERS") if os.environ.get(name)]
    if clusters_of(wanted) or clusters:
        where = f"nor {clusters[0]} in the environment" if clusters else "in scheduler_script_commands"
        raise wanted.wrong(
            "resource", f"slurm://, for a job on another cluster: no --clusters with psij://slurm, {where}"
        )
    for option in ("array", "a", "clusters", "M", "test-only", "wait", "W"):
        if f"slurm.{option}" in wanted.custom_attributes:
            raise wanted.wrong(
                "custom_attributes", f"no slurm.{option} with psij://slurm: its job could not be followed"
            )


def _wait(condition: Callable[[], object], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        threading.Event().wait(0.02)
    return True


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _write_end(folder: Path) -> None:
    """The job is over, and will not report that itself."""
    if not (folder / "ended").exists():
        with contextlib.suppress(OSError):
            (folder / "ended.new").write_text("143\n")
            (folder / "ended.new").rename(folder / "ended")


def _is_late(folder: Path) -> bool:
    """True when the job's walltime is over, or nearly; by the clock of this host."""
    words = _read(folder / "started").split()
    if len(words) != 2 or not words[0].isdigit() or not float(words[1]):
        return False
    return time.time() > float(words[0]) + float(words[1]) - EARLY_SECONDS


def _native(job: psij.Job) -> str:
    """PSI/J's native id, which some executors give a moment later, or only in the status."""

    def found() -> str:
        metadata = job.status.metadata or {}
        return str(job.native_id or metadata.get("nativeId") or "")

    if not _wait(found, 10.0):
        raise PilotError("PSI/J gave the job no native id")
    return found()
