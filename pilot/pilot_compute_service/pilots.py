"""`PilotCompute`: one pilot of a service."""

from __future__ import annotations

from typing import Any

from pilot.errors import PilotError
from pilot.manager.pilots import Pilot
from pilot.pilot_compute_service.clients import client_of
from pilot.pilot_compute_service.submission import Core, PilotComputeBase
from pilot.states import PilotState, is_final

#: Pilot-Quantum's words for the state of a pilot's job, and two that it has no word for.
STATES = {
    PilotState.NEW: "Queue",
    PilotState.QUEUED: "Queue",
    PilotState.STARTING: "Running",
    PilotState.ACTIVE: "Running",
    PilotState.DRAINING: "Running",
    PilotState.DONE: "Done",
    PilotState.FAILED: "Failed",
    PilotState.CANCELLED: "Cancelled",
}


class PilotCompute(PilotComputeBase):
    """One pilot. Its tasks run there and nowhere else."""

    def __init__(self, core: Core, pilot: Pilot, id: str, name: str) -> None:
        super().__init__(core)
        self._pilot_itself = pilot
        self._id = id
        #: What its description called it, or its id.
        self.name = name

    def _own(self) -> Pilot:
        return self._pilot_itself

    def get_state(self) -> str:
        """The state of its job: "Queue", "Running", "Done", "Failed" or "Cancelled"."""
        return STATES[self._own().state]

    def get_id(self) -> str:
        """Its id, which no other pilot has."""
        return self._id

    def get_details(self) -> dict[str, Any]:
        """What is known of it: id, name, state, resource, engine, nodes, its job, why it is in its state, its log, and
        the address of its cluster (``master_url``; None: this process is not connected). No dashboard runs
        (``web_ui_url``)."""
        pilot = self._own()
        return {
            "id": self._id,
            "name": self.name,
            "state": self.get_state(),
            "resource": pilot.description.resource,
            "type": self.execution_engine.value,
            "nodes": list(pilot.nodes),
            "job": pilot.job,
            "reason": pilot.reason,
            "log": str(pilot.log_path),
            "master_url": self._homes.address(pilot),
            "web_ui_url": None,
        }

    def wait(self) -> None:
        """Block until it takes tasks.

        Raises:
            PilotFailed: it failed; the message says why and names the log.
            PilotError: it has ended.
        """
        pilot = self._own()
        if is_final(state := pilot.wait()):
            raise PilotError(f"pilot {self.name} is {state.value}: {pilot.reason or 'it has ended'}")

    def get_client(self) -> Any:
        """The client of this pilot's own cluster: a `distributed.Client`, or the module ``ray`` as a context. Blocks
        until it is active.

        Raises:
            PilotError: it has ended; or this process is connected to another Ray cluster.
        """
        return client_of(self._homes.at(self._own()).client)

    def get_context(self, configuration: Any = None) -> Any:
        """As `get_client`; there is no configuration."""
        return self.get_client()

    def cancel(self) -> None:
        """End this pilot, and no other. Blocks until its processes are gone. Nothing happens the second time."""
        pilot = self._own()
        self._homes.close(pilot)
        if not is_final(pilot.state):
            pilot.cancel()
