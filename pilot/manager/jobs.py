"""The pilots' placeholder jobs: started, watched and ended through their launchers, in one background thread."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from pilot import registry
from pilot.descriptions import PilotDescription
from pilot.errors import JobRefused, PilotError
from pilot.interfaces import Job, JobState, Launcher

log = logging.getLogger(__name__)

#: Seconds that an agent has to end by itself before its job is cancelled.
STOP_SECONDS = 8.0
#: Seconds between two looks at the jobs' states, at most: launchers have files to read that say more than their
#: resource manager, which they ask less often.
LOOK_SECONDS = 0.25
#: Seconds for which a job has to be missing, and its agent not heard, until it counts as ended.
MISSING_SECONDS = 60.0
#: Seconds in which jobs for a resource manager count as asked for together.
GATHER_SECONDS = 0.05

_OVER = (JobState.ENDED, JobState.EXPIRED, JobState.TAKEN, JobState.CANCELLED)


class _Running:
    def __init__(self, launcher: Launcher, native_id: str, mark: str, folder: Path) -> None:
        self.launcher = launcher
        self.folder = folder
        self.native_id = native_id
        self.mark = mark
        self.stop_by: float | None = None
        self.missing_since: float | None = None
        self.words = ""

    def is_overdue(self, state: JobState) -> bool:
        """True when it was told to end, and did not, or has no agent yet that could."""
        return self.stop_by is not None and (state is JobState.QUEUED or time.monotonic() > self.stop_by)

    def is_gone(self, is_missing: bool) -> bool:
        """True when it has been missing for long enough; call this at each look."""
        if not is_missing:
            self.missing_since = None
        elif self.missing_since is None:
            self.missing_since = time.monotonic()
        return self.missing_since is not None and time.monotonic() - self.missing_since >= MISSING_SECONDS


class _Calls:
    """Calls one after the other in a thread. An executor of the standard library takes nothing any more when a script
    that did not close its manager ends; this one does."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]] | None] = SimpleQueue()
        self.is_over = False
        self._thread = threading.Thread(target=self._run, name="pilot-launcher", daemon=True)
        self._thread.start()

    def submit(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        answer: Future[Any] = Future()
        self._queue.put((answer, function, args))
        return answer

    def shutdown(self) -> None:
        """Blocks until all calls are made. May be called again, as after a Ctrl-C in it."""
        self.is_over = True
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (call := self._queue.get()) is not None:
            answer, function, args = call
            try:
                answer.set_result(function(*args))
            except Exception as error:
                answer.set_exception(error)


def _jobs_of(pilot: str, known: Iterable[str]) -> list[str]:
    """A pilot's own job, and those of nodes that were added to it (``PILOT+1``)."""
    return [one for one in list(known) if one == pilot or one.startswith(f"{pilot}+")]


class Fleet:
    """The jobs of one manager. Its methods return at once unless they say otherwise."""

    def __init__(
        self,
        on_started: Callable[[str, str], None],
        on_ended: Callable[[str, str, str, JobState], None],
        on_seen: Callable[[str, str], None] = lambda pilot, words: None,
        is_heard: Callable[[str], bool] = lambda pilot: False,
    ) -> None:
        """Make an empty fleet.

        Args:
            on_started: called with pilot and native id when a job was submitted.
            on_ended: called with pilot, mark, reason, and how (ENDED, EXPIRED, TAKEN or CANCELLED; or REFUSED) when a
                job has ended or cannot be started.
            on_seen: called with pilot and the resource manager's words for its job when these have changed.
            is_heard: asked whether the agent of a pilot is connected and sends its beats: then its job runs, whatever
                the resource manager fails to say.
        """
        self._on_started = on_started
        self._on_ended = on_ended
        self._on_seen = on_seen
        self._is_heard = is_heard
        self._launchers: dict[str, Launcher] = {}
        self._jobs: dict[str, _Running] = {}
        self._waiting: deque[tuple[Job, str]] = deque()
        self._starting: set[str] = set()
        self._unwanted: set[str] = set()
        self._calls = _Calls()
        self._closing = False
        self._next_look = 0.0
        self._looking = threading.Event()

    def launcher(self, description: PilotDescription) -> Launcher:
        """The launcher that serves a description's ``resource``.

        Raises:
            PluginError: there is none for its scheme.
        """
        scheme = description.resource.partition("://")[0]
        if scheme not in self._launchers:
            self._launchers[scheme] = registry.load("pilot.launchers", scheme)()
        return self._launchers[scheme]

    def start(self, job: Job, mark: str) -> None:
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
                self._on_ended(job.pilot, mark, "stopped before its job was submitted", JobState.CANCELLED)
                continue
            try:
                self._end([job.pilot])
                by_launcher.setdefault(self.launcher(job.description), []).append((job, mark))
            except Exception as error:
                self._failed(job, mark, error)
        for launcher, pairs in by_launcher.items():
            self._submit(launcher, pairs)

    def _submit(self, launcher: Launcher, pairs: list[tuple[Job, str]]) -> None:
        try:
            answers = launcher.submit_many([job for job, _ in pairs])
        except Exception as error:
            answers = [error] * len(pairs)
        for (job, mark), answer in zip(pairs, answers, strict=True):
            if isinstance(answer, Exception):
                self._failed(job, mark, answer)
                continue
            running = _Running(launcher, answer, mark, job.folder)
            self._jobs[job.pilot] = running
            self._starting.discard(job.pilot)
            if job.pilot in self._unwanted:  # stopped while it was being submitted
                running.stop_by = time.monotonic() + STOP_SECONDS
            self._on_started(job.pilot, answer)

    def _failed(self, job: Job, mark: str, error: Exception) -> None:
        self._starting.discard(job.pilot)
        known = isinstance(error, PilotError)  # its words say all
        log.error("pilot %s cannot be started: %s", job.pilot, error, exc_info=None if known else error)
        reason = f"its job cannot be started: {error if known else f'{type(error).__name__}: {error}'}"
        self._on_ended(job.pilot, mark, reason, JobState.REFUSED if isinstance(error, JobRefused) else JobState.ENDED)

    def adopt(self, pilot: str, description: PilotDescription, native_id: str, mark: str, folder: Path) -> None:
        """Watch a job that another manager started."""
        self._jobs[pilot] = _Running(self.launcher(description), native_id, mark, folder)

    def find(self, pilot: str, description: PilotDescription, mark: str) -> str | None:
        """The native id of a job that another manager may have started. Blocks."""
        try:
            return self.launcher(description).find(description, pilot, mark)
        except Exception:
            log.exception("it cannot be found out whether pilot %s has a job", pilot)
            return None

    def stop(self, pilot: str) -> None:
        """The agent was told to end: see to it that it does."""
        self._unwanted.update(_jobs_of(pilot, self._starting))
        for one in _jobs_of(pilot, self._jobs):
            self._jobs[one].stop_by = time.monotonic() + STOP_SECONDS
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
        now = time.monotonic()
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
                    states = launcher.status({job.native_id: job.folder for _, job in jobs})
                except Exception as error:
                    log.exception("the states of the jobs cannot be read; trying again")
                    states = {job.native_id: (JobState.UNKNOWN, str(error)) for _, job in jobs}
                self._seen(jobs, states)
        finally:
            self._looking.clear()

    def _seen(self, jobs: list[tuple[str, _Running]], states: Mapping[str, tuple[JobState, str]]) -> None:
        over = []
        for pilot, job in jobs:
            state, words = states.get(job.native_id, (JobState.UNKNOWN, "the resource manager does not know it"))
            if words != job.words:
                job.words = words
                self._on_seen(pilot, words)
            is_missing = state is JobState.MISSING and not self._is_heard(pilot.partition("+")[0])
            if job.is_gone(is_missing):
                state = JobState.ENDED
            if state in _OVER or job.is_overdue(state):
                over.append((pilot, job, words, state if state in _OVER else JobState.ENDED))
        self._end([pilot for pilot, *_ in over])
        for pilot, job, words, how in over:
            self._on_ended(pilot, job.mark, words, how)

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
            except Exception:
                log.exception("jobs may be left over: %s", ", ".join(some))
        for pilot in pilots:
            self._jobs.pop(pilot, None)

    def leave(self) -> None:
        """End the thread, and no job."""
        self._closing = True
        self._calls.shutdown()

    def close(self, timeout: float) -> None:
        """End every job: those told to stop have ``timeout`` seconds to do so. Blocks until all are gone; does nothing
        the second time."""
        deadline = time.monotonic() + timeout
        self._closing = True
        if self._calls.is_over:
            self._calls.shutdown()
            return
        self._calls.submit(bool).result()  # a job that is being submitted now is among ours then
        while self._jobs and time.monotonic() < deadline:
            self._calls.submit(self._look).result()
            if self._jobs:
                time.sleep(0.02)
        self._calls.submit(self._end, list(self._jobs))
        self._calls.shutdown()
