"""Shows again what led to an error of the manager: the events that it wrote to a file go to a new controller."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from pilot.interfaces import Policy
from pilot.manager.faults import read
from pilot.scheduling.controller import Controller
from pilot.scheduling.events import Command, Event
from pilot.scheduling.policies import Balanced


class Step(NamedTuple):
    """What a controller made of one event."""

    #: Seconds by the clock of the session's manager.
    now: float
    event: Event
    #: What it wanted to be done.
    commands: list[Command]
    #: What it raised.
    error: Exception | None


class Replay(NamedTuple):
    """What a controller made of the events of a file."""

    controller: Controller
    steps: list[Step]


def replay(file: Path | str, policy: Policy | None = None, wait_for_pilot: float | None = 0.0) -> Replay:
    """Feed the events of a file to a new controller, and check its state after each.

    A session writes such files, ``events-N.msgpack`` in its folder, when the manager has an error of its own;
    ``pilot doctor --session DIR`` lists them. Arguments and results of tasks are not in them. A file holds the last
    1,000 events: those of a longer session name pilots and tasks that the new controller does not know, and are errors
    there.

    Args:
        file: one of these files, written by this version of the library.
        policy: that of the session; None: "balanced".
        wait_for_pilot: that of the session.

    Raises:
        OSError: the file cannot be read.
        msgspec.DecodeError: it holds something else.
    """
    controller = Controller(policy or Balanced(), wait_for_pilot)
    steps = []
    for now, event in read(Path(file)):
        commands: list[Command] = []
        error = None
        try:
            controller.handle(event, now, commands)
            controller.schedule(now, commands)
            controller.validate()
        except Exception as raised:
            error = raised
        steps.append(Step(now, event, commands, error))
    return Replay(controller, steps)
