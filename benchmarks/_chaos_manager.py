"""The manager of a schedule of `chaos.py`, in a process of its own: it does what it reads from its standard input, and
writes what happens to its standard output, both as lines of JSON."""

from __future__ import annotations

import json
import logging
import os
import select
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import _chaos_tasks

from pilot import NoPilotError, Pilot, PilotDescription, PilotManager, SessionError, Task
from pilot.interfaces import TaskEnded
from pilot.states import PilotState, is_final

#: Seconds within which all tasks must be over after the last deed, and a close must be done.
END_SECONDS = 150.0
#: Unfinished tasks that are explained at a deadlock.
EXPLAINED = 3


class Life:
    """One manager of the session, from its start to its end."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.seed: int = settings["seed"]
        self.engine: str = settings["engine"]
        self.site: str = settings["site"]
        self.notes: str = settings["notes"]
        self.first: int = settings["first"]
        self.tasks: dict[int, Task] = {}
        #: How often each task's callback was called, and each task's end was reported.
        self.called: Counter[int] = Counter()
        self.reported: Counter[int] = Counter()
        self.wanted: int = settings["wanted"]
        #: Pilots that were told to end.
        self.draining: list[Pilot] = []
        self._committed: set[int] = set()
        self._buffer = ""
        self.finishing = False
        open_session = PilotManager.attach if settings["attach"] else PilotManager
        self.manager = open_session(settings["session"])
        self.manager.subscribe(self._take_events, kinds=[TaskEnded])
        self.draining += [pilot for pilot in self.manager.pilots if pilot.state is PilotState.DRAINING]
        for task in self.manager.tasks.values():
            self._keep(task)
        restored = {number: end_of(task) for number, task in self.tasks.items() if task.done()}
        if not settings["attach"]:
            for cores in settings["pilots"]:
                self.add_pilot(cores)
            while len(self.tasks) < self.first:
                self._submit(None)
            self.manager.flush(60)
        say("ready", known=sorted(self.tasks), restored=restored, agents=len(self.manager.pilots))

    def _take_events(self, events: list[Any]) -> None:
        self.reported.update(int(event.name[1:]) for event in events)

    def _keep(self, task: Task) -> None:
        number = int(task.name[1:])
        if number in self.tasks:
            say("violation", invariant="one_end", text=f"task {number} is there twice: {task}, {self.tasks[number]}")
        self.tasks[number] = task
        task.add_done_callback(lambda _: self.called.update([number]))

    def _submit(self, key: str | None) -> None:
        number = len(self.tasks) + 1
        described = _chaos_tasks.describe(self.seed, number, self.notes, self.tasks, key)
        self._keep(self.manager.submit_task(described))

    def run(self) -> None:
        """Until the session is closed."""
        while True:
            if select.select([sys.stdin], [], [], 0.1)[0]:
                for line in self._lines():
                    self.do(**json.loads(line))
            try:
                if all(is_final(pilot.state) or pilot in self.draining for pilot in self.manager.pilots):
                    self.add_pilot(2)
                while len(self.tasks) < self.wanted:
                    self._submit(f"key {len(self.tasks) + 1}")
            except (SessionError, NoPilotError) as error:  # the disk is full; the last pilot has failed meanwhile
                say("refused", text=str(error))
            self._report_committed()
            if self.finishing and all(task.done() for task in self.tasks.values()):
                self.end("over")

    def _lines(self) -> list[str]:
        """What has arrived; `sys.stdin` itself would keep lines that select does not see."""
        received = os.read(sys.stdin.fileno(), 65536)
        if not received:
            os._exit(1)  # the driver is gone
        *lines, self._buffer = (self._buffer + received.decode()).split("\n")
        return lines

    def do(self, deed: str, pick: float = 0.0, count: int = 0) -> None:
        """Carry out one request of the driver."""
        pilots = [pilot for pilot in self.manager.pilots if not is_final(pilot.state)]
        if deed == "add pilot":
            self.add_pilot(2 + round(pick))
        elif deed == "submit tasks":
            self.wanted = max(self.wanted, count)
        elif deed == "cancel tasks":
            open_tasks = [number for number, task in self.tasks.items() if not task.done()]
            begin = int(pick * len(open_tasks))
            chosen = open_tasks[begin : begin + count]
            say("cancelled", numbers=chosen)
            for number in chosen:  # `cancel` waits until a task that runs has ended
                threading.Thread(target=self.tasks[number].cancel, daemon=True).start()
        elif deed in ("drain pilot", "cancel pilot") and pilots:
            pilot = pilots[int(pick * len(pilots))]
            self.draining.append(pilot)
            end = pilot.drain if deed == "drain pilot" else pilot.cancel
            threading.Thread(target=end, daemon=True).start()
        elif deed == "finish":
            self.finishing = True
            threading.Thread(target=self._give_up, daemon=True).start()
        elif deed == "close":
            self.end("closed early")

    def add_pilot(self, cores: int) -> None:
        """Ask for a pilot; on Slurm one of two nodes."""
        place: dict[str, Any] = {"resource": "local://"}
        if self.site == "slurm":
            place = {"resource": "slurm://", "queue": "low", "number_of_nodes": 2, "walltime": 900}
        wanted = {"engine": self.engine, "cores_per_node": cores, "orphan_timeout": 120.0, **place}
        self.manager.submit_pilot(PilotDescription(**wanted))

    def _report_committed(self) -> None:
        """Which tasks are over, for ever: what was done before a flush began is on disk after it."""
        done = {number: task for number, task in self.tasks.items() if task.done() and number not in self._committed}
        if not done:
            return
        try:
            self.manager.flush(0.05)
        except (TimeoutError, SessionError):  # as long as the disk is full
            return
        self._committed |= done.keys()
        say("committed", ends={number: end_of(task) for number, task in done.items()})

    def _give_up(self) -> None:
        time.sleep(END_SECONDS)
        left = [task for task in self.tasks.values() if not task.done()]
        if left:
            say("deadlock", unfinished=len(left), why=[self.manager.explain(task) for task in left[:EXPLAINED]])
            self.end("deadlock")

    def end(self, how: str) -> None:
        """Close the session, say how each task ended, and exit."""
        began = time.monotonic()
        self.manager.close()
        took = time.monotonic() - began
        ends = {number: end_of(task) for number, task in self.tasks.items()}
        twice = [number for number in self.tasks if self.called[number] != 1 or self.reported[number] > 1]
        attempts = {
            number: [(one.reason, one.ended) for one in task.info.attempts]
            for number, task in self.tasks.items()
            if task.done() and task.info.attempts
        }
        states = [pilot.state.value for pilot in self.manager.pilots]
        open_pilots = [state for state in states if not is_final(PilotState(state))]
        say("end", how=how, ends=ends, twice=twice, attempts=attempts, close_s=took, open_pilots=open_pilots)
        os._exit(0)


def end_of(task: Task) -> tuple[str, str]:
    """A task's state, and its value or error as a text."""
    if not task.done():
        return "open", task.state.value
    if task.cancelled():
        return "cancelled", ""
    if (error := task.exception()) is not None:
        return "failed", _chaos_tasks.text_of_error(error)
    return "done", _chaos_tasks.text_of_value(task.result())


_saying = threading.Lock()


def say(event: str, **facts: Any) -> None:
    """One line to the driver."""
    with _saying:
        sys.stdout.write(json.dumps({"event": event, **facts}) + "\n")
        sys.stdout.flush()


def main() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    settings = json.loads(Path(sys.argv[1]).read_text())
    try:
        life = Life(settings)
    except SessionError as error:
        sys.exit(str(error))  # to its log
    life.run()


if __name__ == "__main__":
    main()
