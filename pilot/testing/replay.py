"""Takes the events that a manager has written after a fault through a controller again."""

from __future__ import annotations

import os
from pathlib import Path

from pilot.manager.faults import read
from pilot.scheduling.controller import Controller
from pilot.scheduling.events import Command
from pilot.scheduling.policies import Balanced


def replay(path: str | os.PathLike[str], controller: Controller | None = None) -> list[Command]:
    """Feed ``events-1.msgpack`` of a session folder, say, to a controller, and check its state after each event.

    Args:
        path: what `PilotManager.write_events` wrote.
        controller: a new one; None: one that balances the pilots.

    Returns:
        What it wants done, in order.

    Raises:
        AssertionError: its state is inconsistent after an event.
        KeyError: an event is about a pilot whose first events are not in the file, which has the last ones only.
    """
    controller = Controller(Balanced()) if controller is None else controller
    commands: list[Command] = []
    for now, event in read(Path(path)):
        commands += controller.step(event, now)
        controller.validate()
    return commands
