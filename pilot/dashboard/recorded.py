"""`RecordedSource`: a session in a folder, whose manager is in another process, or gone."""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import Any

from pilot.dashboard.index import TaskIndex
from pilot.dashboard.sources import PilotView, QPUView, Source, TaskDetails, attempt_steps, in_order
from pilot.errors import SessionError
from pilot.manager.following import JournalFollower
from pilot.states import TaskState, is_final

log = logging.getLogger(__name__)

#: Seconds between two looks into the journal; more when a look takes long.
LOOK_SECONDS = 1.0
#: Of its time the thread reads at most one part in so many.
SHARE = 10
AT_ONCE = 10_000


class RecordedSource(Source):
    """Reads the journal, and reads on while it grows. A task that is not over is queued here: the journal does not say
    how far it is."""

    is_live = False

    def __init__(self, session_dir: str | os.PathLike[str]) -> None:
        """Read it. Blocks: 100,000 tasks take about a second.

        Raises:
            SessionError: there is no session in this folder; it is damaged, or other users can write to it.
        """
        self._journal = JournalFollower(session_dir)
        self.name = self._journal.folder.path.name
        self.index = TaskIndex()
        self._problem = ""
        self._closed = threading.Event()
        self._mark = self._journal.mark()
        self._in_use = self._journal.is_in_use
        self._read()
        if self._in_use:
            threading.Thread(target=self._follow, name="pilot-dashboard-journal", daemon=True).start()

    @property
    def status(self) -> str:
        if self._problem:
            return self._problem
        return "as recorded; its manager runs" if self._in_use else "as recorded; its manager is gone"

    @property
    def is_over(self) -> bool:
        return not self._in_use

    def close(self) -> None:
        self._closed.set()
        self._journal.close()

    # ---- the journal ----------------------------------------------------------------------------------------------

    def _read(self) -> None:
        self.index.add(self._journal.submitted(self.index.last))
        self._pilots = self._journal.pilots()
        self.index.lose((one.task, one.number, one.started, one.ended) for one in self._journal.attempts())
        if left := self.index.unfinished():
            for first in range(left[0], left[-1] + 1, AT_ONCE):
                self.index.end(self._journal.ended(first, min(first + AT_ONCE - 1, left[-1])))

    def _follow(self) -> None:
        pause = LOOK_SECONDS
        while self._in_use and not self._closed.wait(pause):
            self._in_use = self._journal.is_in_use  # before the last look
            mark = self._journal.mark()
            if mark == self._mark and self._in_use:
                continue
            began = time.monotonic()
            try:
                self._read()
                self._problem, self._mark = "", mark
            except SessionError as error:  # removed, say
                self._problem = str(error)
            pause = max(LOOK_SECONDS, SHARE * (time.monotonic() - began))

    # ---- what is shown --------------------------------------------------------------------------------------------

    def pilots(self) -> list[PilotView]:
        return [PilotView(line) for line in self._pilots]

    def qpus(self) -> list[QPUView]:
        alive = [line for line in self._pilots if not is_final(line.state)] or self._pilots
        return [QPUView(line.id, name, None) for line in alive for name in line.description.qpus]

    def task(self, id: int) -> TaskDetails:
        rows = self._journal.rows(id)
        if rows is None:
            if id not in self.index.unfinished():
                raise KeyError(id)
            return TaskDetails([("State", "not over")], "The journal does not say how far it is.", "", "", [], False)
        result = rows.result
        facts = [("State", result.state), ("Pilot", result.pilot), ("Worker", result.worker), ("Key", rows.key)]
        facts += [(f"Attempt {one.number}", f"on {one.pilot} did not count: {one.reason}") for one in rows.attempts]
        steps: list[tuple[str, float | None]] = [
            ("submitted", rows.task.submitted),
            ("sent to the pilot", result.bound),
        ]
        if result.started and result.seconds is not None:
            steps += [("began", result.started), ("ended", result.started + result.seconds)]
        steps += attempt_steps(rows.attempts)
        return TaskDetails(
            facts=[(what, value) for what, value in facts if value],
            reason=self._journal.error(rows),
            stdout=self._journal.output(id)[0],
            stderr=self._journal.output(id)[1],
            steps=in_order(steps),
            has_result=result.state == TaskState.DONE.value,
        )

    def result(self, id: int) -> Any:
        return self._journal.value(id)
