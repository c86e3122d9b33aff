"""Pilots and autoscalers that a user asks for: checked, recorded, and left for the manager's thread."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pilot import registry
from pilot.descriptions import PilotDescription
from pilot.manager.pilots import Pilot, Scaler, pilot_asked
from pilot.manager.state import SessionState
from pilot.registry import devices
from pilot.scheduling import events
from pilot.scheduling.policies import Scaling
from pilot.wire.addresses import listen_also
from pilot.wire.server import Server
from pilot.wire.session import Connection, memory_of


class PilotRequests:
    """Takes requests for pilots, and knows where the manager listens for their agents. Any thread may call it."""

    def __init__(self, state: SessionState, server: Server, connection: Connection) -> None:
        self._state = state
        self._server = server
        self._connection = connection
        #: Held while the manager begins to listen at more addresses; not the state's lock, since this waits for the
        #: loop.
        self._listening = threading.Lock()
        self._scaler_ids = itertools.count(1)

    def submit(self, description: PilotDescription | Mapping[str, Any]) -> Pilot:
        """As `PilotManager.submit_pilot`."""
        self._state.check_open()
        pilot = self._state.new_pilot(self._check(description), by_user=True)
        self._state.mailbox.put(pilot_asked(pilot))
        return pilot

    def autoscale(self, description: PilotDescription | Mapping[str, Any], **settings: Any) -> Scaler:
        """As `PilotManager.autoscale`; ``settings`` are the other fields of `Scaling`."""
        self._state.check_open()
        wanted = self._check(description)
        scaling = Scaling(description=wanted, **settings)
        scaler = Scaler(self._state, f"scaler-{next(self._scaler_ids)}", scaling)
        self._state.scalers[scaler.id] = scaler
        self._state.mailbox.put(events.ScalingAsked(scaler.id, scaling, memory_of(wanted), devices(wanted)))
        return scaler

    def _check(self, description: PilotDescription | Mapping[str, Any]) -> PilotDescription:
        """The description, after its launcher and its engine were found."""
        wanted = PilotDescription.build(description)
        launcher = self._state.jobs.launcher(wanted)
        registry.check_pilot(wanted, launcher)
        launcher.check_folder(self._state.folder.path)
        devices(wanted)
        if wanted.working_directory is None:  # its workers start where this process is
            try:
                Path.cwd()
            except OSError:
                reason = "a folder: the current one, the default, was removed"
                raise wanted.wrong("working_directory", reason) from None
        if launcher.remote or wanted.tunnel:
            self._listen(outwards=not wanted.tunnel)
        return wanted

    def _listen(self, *, outwards: bool) -> None:
        """From now on agents on other hosts may connect, directly (``outwards``) or through a tunnel; they read in
        connection.json where."""
        with self._listening:
            before, ask = self._connection, self._state.mailbox.ask
            self._connection = ask(lambda: listen_also(self._server, before, outwards=outwards))
            if self._connection != before:
                self._state.folder.write_connection(self._connection)
