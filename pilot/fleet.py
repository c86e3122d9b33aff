"""The pilots' placeholder jobs: started, watched and ended through their launchers, in one background thread."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from pilot import registry
from pilot.descriptions import PilotDescription
from pilot.interfaces import Job, JobState, Launcher

log = logging.getLogger(__name__)

#: Seconds that an agent has to end by itself before its job is cancelled.
STOP_SECONDS = 8.0


class _Running:
    def __init__(self, launcher: Launcher, native_id: str, mark: str, folder: Path) -> None:
        self.launcher = launcher
        self.folder = folder
        self.native_id = native_id
        self.mark = mark
        self.stop_by: float | None = None


class _Calls:
    """Calls one after the other in a thread. An executor of the standard library takes nothing any more when a script
    that did not close its manager ends; this one does."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="pilot-launcher", daemon=True)
        self._thread.start()

    def submit(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        answer: Future[Any] = Future()
        self._queue.put((answer, function, args))
        return answer

    def shutdown(self) -> None:
        """Blocks until all calls are made."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (call := self._queue.get()) is not None:
            answer, function, args = call
            try:
                answer.set_result(function(*args))
            except Exception as error:
                answer.set_exception(error)


class Fleet:
    """The jobs of one manager. Its methods return at once unless they say otherwise."""

    def __init__(self, on_started: Callable[[str, str], None], on_ended: Callable[[str, str, str], None]) -> None:
        """Make an empty fleet.

        Args:
            on_started: called with pilot and native id when a job was submitted.
            on_ended: called with pilot, mark and reason when a job has ended or cannot be started.
        """
        self._on_started = on_started
        self._on_ended = on_ended
        self._launchers: dict[str, Launcher] = {}
        self._jobs: dict[str, _Running] = {}
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
        self._calls.submit(self._start, job, mark)

    def _start(self, job: Job, mark: str) -> None:
        if self._closing:
            return
        try:
            self._end(job.pilot)
            launcher = self.launcher(job.description)
            native_id = launcher.submit(job)
        except Exception as error:
            log.exception("pilot %s cannot be started", job.pilot)
            self._on_ended(job.pilot, mark, f"its job cannot be started: {type(error).__name__}: {error}")
            return
        self._jobs[job.pilot] = _Running(launcher, native_id, mark, job.folder)
        self._on_started(job.pilot, native_id)

    def adopt(self, pilot: str, description: PilotDescription, native_id: str, mark: str, folder: Path) -> None:
        """Watch a job that another manager started."""
        self._jobs[pilot] = _Running(self.launcher(description), native_id, mark, folder)

    def stop(self, pilot: str) -> None:
        """The agent was told to end: see to it that it does."""
        if (job := self._jobs.get(pilot)) is not None:
            job.stop_by = time.monotonic() + STOP_SECONDS
            self._next_look = 0.0

    def abandon(self, pilot: str) -> None:
        """End what is left of a pilot's job."""
        self._calls.submit(self._end, pilot)

    def wait_ended(self, pilot: str, timeout: float) -> None:
        """Block until this pilot's job is gone, ``timeout`` seconds at most."""
        deadline = time.monotonic() + timeout
        while pilot in self._jobs and time.monotonic() < deadline:
            time.sleep(0.02)

    def look(self) -> None:
        """Call this often: looks at the jobs' states when it is time to."""
        now = time.monotonic()
        if now < self._next_look or self._looking.is_set() or not self._jobs:
            return
        self._looking.set()
        self._next_look = now + min(job.launcher.poll_interval for job in self._jobs.values())
        self._calls.submit(self._look)

    def _look(self) -> None:
        try:
            by_launcher: dict[Launcher, list[tuple[str, _Running]]] = {}
            for pilot, job in list(self._jobs.items()):
                by_launcher.setdefault(job.launcher, []).append((pilot, job))
            for launcher, jobs in by_launcher.items():
                states = launcher.status({job.native_id: job.folder for _, job in jobs})
                for pilot, job in jobs:
                    state, words = states.get(job.native_id, (JobState.ENDED, "the resource manager forgot it"))
                    self._seen(pilot, job, state, words)
        except Exception:
            log.exception("the states of the jobs cannot be read; trying again")
        finally:
            self._looking.clear()

    def _seen(self, pilot: str, job: _Running, state: JobState, words: str) -> None:
        overdue = job.stop_by is not None and time.monotonic() > job.stop_by
        if state is JobState.ENDED or overdue:
            self._end(pilot)
            self._on_ended(pilot, job.mark, words)

    def _end(self, pilot: str) -> None:
        if (job := self._jobs.pop(pilot, None)) is not None:
            job.launcher.cancel(job.native_id, job.mark)

    def close(self, timeout: float) -> None:
        """End every job: those told to stop have ``timeout`` seconds to do so. Blocks until all are gone."""
        deadline = time.monotonic() + timeout
        self._closing = True
        self._calls.submit(bool).result()  # a job that is being submitted now is among ours then
        while self._jobs and time.monotonic() < deadline:
            self._calls.submit(self._look).result()
            if self._jobs:
                time.sleep(0.02)
        for pilot in list(self._jobs):
            self._calls.submit(self._end, pilot)
        self._calls.shutdown()
