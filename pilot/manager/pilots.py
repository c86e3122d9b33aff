"""What a user holds of a pilot and of an autoscaler, and what the manager's thread does with a `Pilot`."""

from __future__ import annotations

import time
from pathlib import Path
from threading import Condition
from typing import Any

from pilot import html, registry
from pilot.descriptions import PilotDescription
from pilot.errors import PilotError, PilotFailed, error_text
from pilot.fields import whole
from pilot.manager.clients import Clients
from pilot.manager.keeper import Keeper
from pilot.manager.waiting import wait_for
from pilot.publishing import publish
from pilot.resources import QPUInfo
from pilot.scheduling import events
from pilot.scheduling.policies import Scaling
from pilot.states import PilotState, is_final
from pilot.wire.session import memory_of

#: Seconds that `Pilot.cancel` waits until the pilot is over.
CANCEL_SECONDS = 10.0
#: States in which a pilot has a cluster.
_WITH_CLUSTER = (PilotState.ACTIVE, PilotState.DRAINING)


class Pilot:
    """One pilot that was requested."""

    def __init__(
        self, keeper: Keeper, id: str, description: PilotDescription, log_path: Path, ancestors: tuple[str, ...] = ()
    ) -> None:
        self._keeper = keeper
        self._changed = Condition()
        self._state = PilotState.NEW
        self.id = id
        #: As requested.
        self.description = description
        #: Ids and names of the pilots that it takes over from, oldest first.
        self.ancestors = ancestors
        #: The agent's log.
        self.log_path = log_path
        #: Why it is in its state.
        self.reason = ""
        #: Names of the nodes where its workers run, as they come and go.
        self.nodes: tuple[str, ...] = ()
        #: The properties of its devices, as far as they have reported.
        self.qpus: tuple[QPUInfo, ...] = ()
        #: How many of them there were at most since it was started; and what clients need to connect.
        self._most_nodes = 0
        self._client: dict[str, str] = {}
        self._clients = Clients()
        #: The resource manager's text about its job, such as "Slurm job 17: pending: Priority"; "" until there is one.
        #: For a job that can never start it says so, and what to change; the job stays in the queue until the pilot is
        #: cancelled. `PilotManager.explain` of a task and the progress display have the same text.
        self.job = ""
        #: Wall clock of each state it was in first, seconds since the epoch.
        self.times: dict[PilotState, float] = {}

    @property
    def name(self) -> str:
        """What the description called it, or its id."""
        return self.description.name or self.id

    @property
    def names(self) -> tuple[str, ...]:
        """All by which tasks can ask for it: its id, its name, and those of the pilots that it takes over from."""
        return (self.id, self.name, *self.ancestors)

    @property
    def state(self) -> PilotState:
        """Where it is now."""
        return self._state

    def wait(self, timeout: float | None = None) -> PilotState:
        """Block until it takes tasks and each of its devices has reported its properties or why it cannot be used, or
        until it is over.

        Args:
            timeout: seconds to wait at most; None: for ever.

        Returns:
            The state then; after a timeout the one it is in.

        Raises:
            PilotFailed: it failed; the message says why and names the log.
        """
        self._keeper.check_process()
        devices = set(registry.devices(self.description))
        with self._changed:
            wait_for(self._changed, lambda: not self._is_starting(devices), timeout)
        if self._state is PilotState.FAILED:
            raise PilotFailed(
                f"pilot {self.name} failed: {self.reason}; see {self.log_path}",
                pilot=self.id,
                log_path=str(self.log_path),
            )
        return self._state

    def _is_starting(self, devices: set[str]) -> bool:
        if self._state in (PilotState.NEW, PilotState.QUEUED, PilotState.STARTING):
            return True
        return self._state is PilotState.ACTIVE and not devices <= {info.name for info in self.qpus}

    def drain(self) -> None:
        """Let it finish what runs, then end it; what was not begun goes to other pilots. Does not block."""
        self._keeper.post(events.PilotStopAsked(self.id, drain=True))

    def add_nodes(self, count: int) -> None:
        """Ask for a further job of so many nodes, which join this pilot as they come. Does not wait for them.

        They end with the pilot; its walltime is the agent's job's.

        Raises:
            DescriptionError: ``count`` is no whole number of at least 1; or its launcher has no further nodes (local://
                is one machine).
            PilotError: it has ended, or drains.
            SessionError: the manager is closed.
        """
        if is_final(state := self._state) or state is PilotState.DRAINING:
            raise PilotError(f"pilot {self.name} is {state.value}: no nodes join it any more; submit another pilot")
        self._keeper.add_nodes(self.id, count)

    def remove_nodes(self, count: int) -> None:
        """Give back so many nodes, those that came last first, each when it has finished what it runs. Does not block.

        The agent's node always stays. A job ends, and costs nothing any more, when all of its nodes are given back.

        Raises:
            DescriptionError: ``count`` is no whole number of at least 1.
            SessionError: the manager is closed.
        """
        self._keeper.check_open()
        count = whole("remove_nodes: count", count)
        self._keeper.post(events.RemoveNodes(self.id, count))

    def cancel(self) -> None:
        """End it now; its tasks go to other pilots. Blocks until its processes are gone."""
        self._clients.close()
        self._keeper.post(events.PilotStopAsked(self.id, drain=False))
        if not self._keeper.is_own_thread():
            with self._changed:
                wait_for(self._changed, lambda: is_final(self._state), CANCEL_SECONDS)
            self._keeper.wait_job_ended(self.id)

    def get_client(self) -> Any:
        """The engine's native client: a ``distributed.Client``, or the module ``ray``, connected. Blocks until active.

        A Dask client is Dask's default until it is closed: collections, ``dask.delayed`` and joblib's backend "dask"
        compute on the pilot. Of several the last one is; ``with client.as_current()`` takes another one. A process is
        connected to one Ray cluster at a time.

        This process is disconnected when the pilot ends, at the latest when its manager is closed.

        Raises:
            PilotFailed: the pilot failed.
            PilotError: it has ended, ends just now or is started again; or this process is connected to another Ray
                cluster.
            SessionError: the manager is closed.
            NotImplementedError: the engine has no native client.
        """
        self.wait()
        self._check_has_client()
        engine = registry.load("pilot.engines", self.description.engine)
        try:
            return self._clients.open(engine, self._address(), self._check_has_client)
        except NotImplementedError as error:
            text = f"pilot {self.name}: {error}; describe it with engine='dask' or 'ray', or use the manager"
            raise NotImplementedError(text) from error
        except OSError as error:  # it ends just now
            text = f"the client of pilot {self.name}, which is {self._state.value}, cannot connect: {error_text(error)}"
            raise PilotError(text) from error

    def _address(self) -> dict[str, str]:
        """What `Engine.connect` needs. Until the nodes that it was requested with were all there, they are expected."""
        with self._changed:
            wanted = self.description.number_of_nodes
            nodes = wanted if self._most_nodes < wanted else len(self.nodes)
            return {**self._client, "nodes": str(nodes)}

    def _check_has_client(self) -> None:
        """Raise PilotError when its cluster has ended, or SessionError when its manager was closed."""
        self._keeper.check_open()
        if (state := self._state) not in _WITH_CLUSTER:
            raise PilotError(f"pilot {self.name} is {state.value}: it has no client any more; submit another pilot")

    def __reduce__(self) -> Any:
        raise TypeError("a Pilot cannot be pickled: a task can take its name along")

    def _repr_html_(self) -> str:
        return html.table(HTML_HEAD, [html_row(self)])

    def __repr__(self) -> str:
        return f"<Pilot {self.name!r} {self.description.engine} {self.state.value}>"


publish(Pilot)


class Scaler:
    """An autoscaler: asks for pilots when much is queued, and gives them back when they are idle."""

    def __init__(self, keeper: Keeper, id: str, scaling: Scaling) -> None:
        self._keeper = keeper
        self.id = id
        #: As requested.
        self.scaling = scaling
        #: Why it asks for no more pilots: it was stopped, or its pilots do not start. None while it works.
        self.over: str | None = None

    def stop(self, drain: bool = False) -> None:
        """Ask for no more pilots; those that are there go on, or are drained. Does not block."""
        self._keeper.check_process()
        self.over = "it was stopped"
        self._keeper.post(events.ScalingStopAsked(self.id, drain))

    def __repr__(self) -> str:
        return f"<Scaler {self.id} {self.scaling.minimum} to {self.scaling.maximum} pilots>"


publish(Scaler)

#: The columns of a table of pilots in a notebook.
HTML_HEAD = ("pilot", "engine", "state", "nodes", "cores", "QPUs", "")


def html_row(pilot: Pilot) -> tuple[object, ...]:
    """The row of a pilot in such a table."""
    wanted = pilot.description
    qpus = ", ".join(wanted.qpus)
    return pilot.name, wanted.engine, pilot.state.value, wanted.number_of_nodes, wanted.cores, qpus, pilot.reason


# ---- what the manager does with a pilot -----------------------------------------------------------------------


def pilot_asked(pilot: Pilot) -> events.PilotAsked:
    """The event with which the controller takes in a new pilot."""
    wanted = pilot.description
    return events.PilotAsked(
        pilot.id, wanted, memory_of(wanted), devices=registry.devices(wanted), ancestors=pilot.ancestors
    )


def change_pilot(pilot: Pilot, state: PilotState, reason: str) -> None:
    """A pilot is in a new state: who waits for it goes on, and where its cluster has ended its clients are closed."""
    with pilot._changed:
        pilot._state, pilot.reason = state, reason
        pilot.times.setdefault(state, time.time())
        pilot._changed.notify_all()
    if state not in _WITH_CLUSTER:
        pilot._most_nodes = 0
        pilot._clients.close_soon()


def update_pilot(pilot: Pilot, client: dict[str, str], nodes: tuple[str, ...], qpus: tuple[QPUInfo, ...]) -> None:
    """Take in what a pilot's agent reports: what clients need to connect, its nodes and its devices."""
    with pilot._changed:
        pilot._client, pilot.nodes, pilot.qpus = client, nodes, qpus
        pilot._most_nodes = max(pilot._most_nodes, len(nodes))
        pilot._changed.notify_all()


def close_clients(pilot: Pilot) -> None:
    """Close the native clients of a pilot. Blocks."""
    pilot._clients.close()
