"""The pilots' placeholder jobs: described, started, watched and ended through their launchers, in one thread."""

from __future__ import annotations

import contextlib
import itertools
import logging
import shlex
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from pilot import registry
from pilot.descriptions import PilotDescription
from pilot.errors import JobRefused, PilotError, PluginError, error_text, pass_interrupt, text_of
from pilot.interfaces import Job, JobState, Launcher
from pilot.manager.call_queue import CallQueue
from pilot.manager.search_path import search_path
from pilot.registry import devices
from pilot.wire.marks import LOG_LEVEL, MARK, nodes_mark
from pilot.wire.session import JOB as NODES_JOB
from pilot.wire.session import AgentSettings, SessionFolder, memory_of, new_mark, write_private

log = logging.getLogger(__name__)

#: Seconds that a submission that is under way may take when the jobs are to end.
SUBMIT_SECONDS = 5.0
#: Seconds that calls about other jobs may take then.
END_SECONDS = 120.0
#: Seconds between two reads of the jobs' states, at most: launchers also read files, and ask their resource manager
#: less often.
LOOK_SECONDS = 0.25
#: Seconds for which a job has to be missing, and its agent not heard, until it counts as ended.
MISSING_SECONDS = 60.0
#: Jobs for a resource manager that are requested within so many seconds are submitted together.
GATHER_SECONDS = 0.05

_OVER = (JobState.ENDED, JobState.EXPIRED, JobState.TAKEN, JobState.CANCELLED, JobState.REFUSED)


class JobObserver(Protocol):
    """What becomes of the jobs; called in the thread of `PlaceholderJobs`."""

    def job_started(self, pilot: str, native_id: str) -> None:
        """A job was submitted."""

    def job_seen(self, pilot: str, text: str) -> None:
        """The resource manager's text about a job has changed."""

    def job_ended(self, pilot: str, mark: str, reason: str, how: JobState = JobState.ENDED) -> None:
        """A job has ended or cannot be started; ``how``: ENDED, EXPIRED, TAKEN, CANCELLED or REFUSED."""

    def is_heard(self, pilot: str) -> bool:
        """True while the pilot's agent is connected: then its job runs, also when the resource manager reports
        otherwise."""


def _agent_job(folder: SessionFolder, id: str, wanted: PilotDescription, remote: bool) -> tuple[Job, str]:
    """The placeholder job of a pilot, with a new mark; writes the settings that its agent reads."""
    own, mark = folder.pilot(id), new_mark()
    mpi = {"PILOT_MPI": shlex.join(wanted.mpi)} if wanted.mpi else {}  # read in ``worker/mpi.py``
    settings = AgentSettings(
        pilot=id,
        mark=mark,
        engine=wanted.engine,
        remote=remote,
        nodes=wanted.number_of_nodes,
        cores=wanted.cores,
        gpus=wanted.gpus_per_node,
        memory=memory_of(wanted),
        devices=devices(wanted),
        environment=mpi | {LOG_LEVEL: str(logging.getLogger().level), **wanted.environment},
        working_directory=str(Path(wanted.working_directory or "").expanduser().absolute()),
        scratch=wanted.scratch or "",
        interface=wanted.interface or "",
        orphan_timeout=wanted.orphan_timeout,  # type: ignore[arg-type]  # seconds since it was built
        tunnel=tuple(wanted.tunnel),
        walltime=wanted.seconds,
        drain=wanted.drain_seconds,
        ports=wanted.ports,
        sys_path=search_path(wanted),
    )
    write_private(own / "agent.json", msgspec.json.encode(settings))
    job = Job(
        pilot=id,
        command=_command(folder, id, mark),
        environment={**wanted.environment, MARK: mark},
        description=wanted,
        folder=own,
        log_path=own / "agent.log",
    )
    return job, mark


def job_name(pilot: str, number: int) -> str:
    """What a job of further nodes is called here, and in its name at the resource manager."""
    return f"{pilot}+{number}"


def pilot_of(job: str) -> tuple[str, int]:
    """The pilot that a job belongs to, and its number among those of further nodes; 0: it is the pilot's own."""
    pilot, _, number = job.partition("+")
    return pilot, int(number or 0)


def _nodes_job(folder: SessionFolder, id: str, wanted: PilotDescription, number: int) -> tuple[Job, str]:
    """The job of further nodes for a pilot that was started, with a mark below that of its agent."""
    own = folder.pilot(id)
    mark = msgspec.json.decode((own / "agent.json").read_bytes(), type=AgentSettings).mark
    job = Job(
        pilot=job_name(id, number),
        command=_command(folder, id, mark),
        environment={**wanted.environment, MARK: nodes_mark(mark, number), NODES_JOB: str(number)},
        description=wanted,
        folder=folder.pilot(f"{id}/nodes-{number}"),
        log_path=own / f"nodes-{number}.log",
    )
    return job, nodes_mark(mark, number)


def _command(folder: SessionFolder, pilot: str, mark: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "pilot.agent", str(folder.path), pilot, mark)


def _named(launcher: Launcher) -> str:
    return f"the launcher {type(launcher).__name__}"


class _Running:
    def __init__(self, launcher: Launcher, native_id: str, mark: str, folder: Path) -> None:
        self.launcher = launcher
        self.folder = folder
        self.native_id = native_id
        self.mark = mark
        self.stop_by: float | None = None
        self.missing_since: float | None = None
        self.text = ""

    def is_overdue(self, state: JobState, now: float) -> bool:
        """True when its agent was asked to end and did not, or there is no agent yet."""
        return self.stop_by is not None and (state is JobState.QUEUED or now >= self.stop_by)

    def is_gone(self, is_missing: bool, now: float) -> bool:
        """True when it has been missing for long enough; call this at each look."""
        if not is_missing:
            self.missing_since = None
        elif self.missing_since is None:
            self.missing_since = now
        return self.missing_since is not None and now - self.missing_since >= MISSING_SECONDS


def _jobs_of(pilot: str, known: Iterable[str]) -> list[str]:
    """A pilot's own job, and those of nodes that were added to it (``PILOT+1``)."""
    return [one for one in list(known) if one == pilot or one.startswith(f"{pilot}+")]


class PlaceholderJobs:
    """The jobs of one session. Its methods return at once unless they say otherwise."""

    def __init__(self, folder: SessionFolder, clock: Callable[[], float] = time.monotonic) -> None:
        """Make it; `begin` starts its thread.

        Args:
            folder: where the files of the jobs go.
            clock: seconds, by a clock that never steps.
        """
        self._folder = folder
        self._clock = clock
        self._observer: JobObserver
        self._launchers: dict[str, Launcher] = {}
        self._jobs: dict[str, _Running] = {}
        self._waiting: deque[tuple[Job, str]] = deque()
        self._starting: set[str] = set()
        self._unwanted: set[str] = set()
        self._calls = CallQueue()
        self._closing = False
        self._next_look = 0.0
        self._looking = threading.Event()
        #: Numbers of the jobs of further nodes.
        self.numbers = itertools.count(1)

    def begin(self, observer: JobObserver) -> None:
        """Start the thread, which reports the jobs' starts, states and ends to ``observer``."""
        self._observer = observer
        self._calls.start()

    def launcher(self, description: PilotDescription) -> Launcher:
        """The launcher for a description's ``resource``.

        Raises:
            PluginError: there is none for its scheme, or it cannot be made.
        """
        scheme = description.resource.partition("://")[0]
        if scheme not in self._launchers:
            self._launchers[scheme] = registry.made("pilot.launchers", scheme, Launcher)
        return self._launchers[scheme]

    def describe(self, pilot: str, wanted: PilotDescription) -> tuple[Job, str]:
        """The placeholder job of a pilot, with a new mark; the settings that its agent reads are written.

        Raises:
            SessionError: they cannot be written.
        """
        return _agent_job(self._folder, pilot, wanted, self.launcher(wanted).remote)

    def add_nodes(self, pilot: str, description: PilotDescription, count: int) -> None:
        """Submit a job of further nodes for a pilot.

        Raises:
            DescriptionError: its launcher has no further nodes, or not so many.
        """
        wanted = msgspec.structs.replace(description, number_of_nodes=count)
        launcher = self.launcher(wanted)
        if not launcher.remote:
            raise wanted.wrong("resource", "a cluster's: the nodes of a local:// pilot are this machine alone")
        launcher.check(wanted)
        self.submit(*_nodes_job(self._folder, pilot, wanted, next(self.numbers)))

    def submit(self, job: Job, mark: str) -> None:
        """Submit a job; what is left of the pilot's last one is ended first."""
        self._unwanted.discard(job.pilot)
        self._starting.add(job.pilot)
        self._waiting.append((job, mark))
        self._calls.submit(self._start_waiting)

    def _start_waiting(self) -> None:
        """Submit what waits; jobs for one launcher together."""
        if any(job.description.resource.partition("://")[0] != "local" for job, _ in list(self._waiting)):
            time.sleep(GATHER_SECONDS)
        by_launcher: dict[Launcher, list[tuple[Job, str]]] = {}
        while self._waiting:
            job, mark = self._waiting.popleft()
            if self._closing or job.pilot in self._unwanted:
                self._starting.discard(job.pilot)
                self._observer.job_ended(job.pilot, mark, "stopped before its job was submitted", JobState.CANCELLED)
                continue
            try:
                self._end([job.pilot])
                by_launcher.setdefault(self.launcher(job.description), []).append((job, mark))
            except BaseException as error:
                pass_interrupt(error)
                self._failed(job, mark, error)
        for launcher, pairs in by_launcher.items():
            self._submit(launcher, pairs)

    def _submit(self, launcher: Launcher, pairs: list[tuple[Job, str]]) -> None:
        try:
            answers: Sequence[Any] = launcher.submit_many([job for job, _ in pairs])
            if len(answers) != len(pairs):
                raise PluginError(f"{_named(launcher)}.submit_many returned {len(answers)} ids for {len(pairs)} jobs")
        except BaseException as error:
            pass_interrupt(error)
            answers = [error] * len(pairs)
        for (job, mark), answer in zip(pairs, answers, strict=True):
            if not isinstance(answer, str):
                wrong = PluginError(f"{_named(launcher)}.submit returned {answer!r}, which is no id of a job")
                self._failed(job, mark, answer if isinstance(answer, BaseException) else wrong)
                continue
            running = _Running(launcher, answer, mark, job.folder)
            self._jobs[job.pilot] = running
            self._starting.discard(job.pilot)
            if job.pilot in self._unwanted:  # stopped while it was being submitted
                running.stop_by = self._clock()
            self._observer.job_started(job.pilot, answer)

    def _failed(self, job: Job, mark: str, error: BaseException) -> None:
        self._starting.discard(job.pilot)
        known = isinstance(error, PilotError)  # its message says all
        log.error("pilot %s cannot be started: %s", job.pilot, text_of(error), exc_info=None if known else error)
        reason = f"its job cannot be started: {error_text(error)}"
        self._observer.job_ended(
            job.pilot, mark, reason, JobState.REFUSED if isinstance(error, JobRefused) else JobState.ENDED
        )

    def adopt(self, pilot: str, description: PilotDescription, native_id: str, mark: str, folder: Path) -> None:
        """Watch a job that another manager started; the mark is its pilot's."""
        if number := pilot_of(pilot)[1]:
            mark = nodes_mark(mark, number)
        self._jobs[pilot] = _Running(self.launcher(description), native_id, mark, folder)

    def find(self, pilot: str, description: PilotDescription, mark: str) -> str | None:
        """The native id of a job that another manager may have started. Blocks."""
        try:
            return self.launcher(description).find(description, pilot, mark)
        except BaseException as error:
            pass_interrupt(error)
            log.exception("it cannot be found out whether pilot %s has a job", pilot)
            return None

    def may_run(self, pilot: str, description: PilotDescription, mark: str, native_id: str | None) -> bool:
        """False when the job of a pilot that another manager started is known to be over. Blocks."""
        try:
            launcher = self.launcher(description)
            if native_id is None and (native_id := launcher.find(description, pilot, mark)) is None:
                return False
            state, _ = launcher.status({native_id: self._folder.pilot(pilot)})[native_id]
        except BaseException as error:
            pass_interrupt(error)
            log.exception("it cannot be found out whether the job of pilot %s runs", pilot)
            return True
        return state not in _OVER

    def stop(self, pilot: str, seconds: float) -> None:
        """The agent was asked to end: end the job when it does not do so within these seconds."""
        self._unwanted.update(_jobs_of(pilot, self._starting))
        for one in _jobs_of(pilot, self._jobs):
            self._jobs[one].stop_by = self._clock() + seconds
            self._next_look = 0.0

    def abandon(self, pilot: str) -> None:
        """End what is left of a pilot's job."""
        self._calls.submit(self._end, [pilot])

    def wait_ended(self, pilot: str, timeout: float) -> None:
        """Block until this pilot's job is gone, ``timeout`` seconds at most."""
        deadline = time.monotonic() + timeout
        while (pilot in self._jobs or pilot in self._starting) and time.monotonic() < deadline:
            time.sleep(0.02)

    def look(self) -> None:
        """Call this often: looks at the jobs' states when it is time to."""
        now = self._clock()
        if now < self._next_look or self._looking.is_set() or not self._jobs:
            return
        self._looking.set()
        intervals = [job.launcher.poll_interval for job in list(self._jobs.values())]
        self._next_look = now + min([LOOK_SECONDS, *intervals])
        self._calls.submit(self._look)

    def _look(self) -> None:
        try:
            by_launcher: dict[Launcher, list[tuple[str, _Running]]] = {}
            for pilot, job in list(self._jobs.items()):
                by_launcher.setdefault(job.launcher, []).append((pilot, job))
            for launcher, jobs in by_launcher.items():
                try:
                    answer = launcher.status({job.native_id: job.folder for _, job in jobs})
                    states = {id: (JobState(state), str(text)) for id, (state, text) in answer.items()}
                except BaseException as error:
                    pass_interrupt(error)
                    log.exception("the states of the jobs cannot be read; trying again")
                    states = {job.native_id: (JobState.UNKNOWN, text_of(error)) for _, job in jobs}
                self._seen(jobs, states)
        finally:
            self._looking.clear()

    def _seen(self, jobs: list[tuple[str, _Running]], states: Mapping[str, tuple[JobState, str]]) -> None:
        over, now = [], self._clock()
        for pilot, job in jobs:
            state, text = states.get(job.native_id, (JobState.UNKNOWN, "the resource manager does not know it"))
            if text != job.text:
                job.text = text
                self._observer.job_seen(pilot, text)
            is_missing = state is JobState.MISSING and not self._observer.is_heard(pilot_of(pilot)[0])
            if job.is_gone(is_missing, now):
                state = JobState.ENDED
            if state in _OVER or job.is_overdue(state, now):
                over.append((pilot, job, text, state if state in _OVER else JobState.ENDED))
        self._end([pilot for pilot, *_ in over])
        for pilot, job, text, how in over:
            self._observer.job_ended(pilot, job.mark, text, how)

    def _end(self, pilots: Sequence[str]) -> None:
        """End what is left of these pilots' jobs."""
        pilots = [one for pilot in pilots for one in _jobs_of(pilot, self._jobs)]
        marks: dict[Launcher, dict[str, str]] = {}
        for pilot in pilots:
            if (job := self._jobs.get(pilot)) is not None:
                marks.setdefault(job.launcher, {})[job.native_id] = job.mark
        for launcher, some in marks.items():
            try:
                launcher.cancel_many(some)
            except BaseException as error:
                pass_interrupt(error)
                log.exception("jobs may be left over: %s", ", ".join(some))
        for pilot in pilots:
            self._jobs.pop(pilot, None)

    def leave(self) -> None:
        """End the thread, and no job."""
        self._closing = True
        self._calls.shutdown()

    def close(self, timeout: float) -> None:
        """End every job: those that were asked to stop have ``timeout`` seconds to do so. Blocks until all are gone;
        for one that is still being submitted, `SUBMIT_SECONDS` at most, and when a launcher hangs,
        `END_SECONDS`. Does nothing the second time."""
        deadline = time.monotonic() + timeout
        self._closing = True
        if self._calls.is_over:
            self._calls.shutdown()
            return
        answers = self._comes_to_it()
        while answers and self._jobs and time.monotonic() < deadline:
            answers = self._is_made(self._look)
            if self._jobs:
                time.sleep(0.02)
        if answers and self._is_made(self._end_all):
            self._calls.shutdown()
        else:
            self._leave_starting()

    def _is_made(self, call: Callable[[], object]) -> bool:
        """Have the thread make a call, and wait for it; False when that takes longer than `END_SECONDS`."""
        made = self._calls.submit(call)
        with contextlib.suppress(TimeoutError):
            made.result(END_SECONDS)
        return made.done()

    def _comes_to_it(self) -> bool:
        """Wait for what the thread does now: a job that is being submitted is among ours then. False when that takes
        too long."""
        reached = self._calls.submit(bool)
        with contextlib.suppress(TimeoutError):
            reached.result(SUBMIT_SECONDS)
        if not self._starting:  # it ends jobs, say; if this process ended now, the others would be left over
            with contextlib.suppress(TimeoutError):
                reached.result(END_SECONDS)
        return reached.done()

    def _end_all(self) -> None:
        self._end(list(self._jobs))

    def _leave_starting(self) -> None:
        """Do not wait for jobs that are being submitted. If this process still runs when that is over, they are
        cancelled; else their agents find no settings, and end."""
        starting = sorted(self._starting)
        for pilot in starting:
            (self._folder.pilot(pilot_of(pilot)[0]) / "agent.json").unlink(missing_ok=True)
        if starting:
            words = ", ".join(starting)
            log.error("%s: not submitted within %g s; what starts later ends at once", words, SUBMIT_SECONDS)
        else:
            log.error("jobs may be left over, their launcher does not answer: %s", ", ".join(self._jobs))
        self._calls.submit(self._end_all)
        self._calls.shutdown(wait=False)
