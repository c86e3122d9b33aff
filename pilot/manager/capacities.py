"""What the pilots of a session have: whether one of them can run a task, and what there is for it."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from pilot.errors import NoPilotError
from pilot.interfaces import Offer
from pilot.manager.pilots import Pilot, Scaler
from pilot.manager.state import SessionState
from pilot.registry import devices
from pilot.resources import PLAIN, Capacity, QPUInfo, Terms
from pilot.scheduling.fitting import described, is_meant, unservable
from pilot.states import PilotState, is_final
from pilot.wire.session import memory_of

#: Different terms that are known to be servable, at most.
MOST_TERMS = 10_000


class Capacities:
    """What the pilots that are there have, and those that autoscalers may request. Any thread may call it."""

    def __init__(self, state: SessionState, estimated: bool) -> None:
        """Make it.

        Args:
            state: the session.
            estimated: all tasks for devices are estimated, since the policy wants that.
        """
        self._state = state
        self._estimated = estimated
        #: What each pilot has, as it was described.
        self._described: dict[str, Capacity] = {}

    def check(self, terms: Terms, note: str = "") -> None:
        """Raise NoPilotError, with the ``note``, when no pilot, present or requested, can ever run such a task.

        Raises:
            SessionError: the manager is closed, or this process was forked from the manager's.
        """
        state = self._state
        state.check_open()
        wanted = terms
        if terms.fallback:  # what QPUs can do is looked at later, but one of these has to be there
            wanted = msgspec.structs.replace(terms, facts=None, min_fidelity=0.0)
        reason = unservable(wanted, self._capacities())
        if reason is not None:
            state.check_open()  # closed meanwhile: its pilots are over for that reason
            raise NoPilotError(f"no pilot can run this task: {reason}" + (f"; {note}" if note else ""))
        if len(state.servable) >= MOST_TERMS:
            state.servable.clear()
        state.servable[terms] = terms

    def _capacities(self) -> Iterator[Capacity]:
        """What the pilots have, and what those have that autoscalers may request."""
        for pilot in list(self._state.pilots.values()):
            if (known := self._described.get(pilot.id)) is None:
                wanted = pilot.description
                known = described(wanted, memory_of(wanted), pilot.names, pilot.name, devices(wanted))
                self._described[pilot.id] = known
            yield _now(known, pilot)
        for scaler in self._scalers():
            wanted = scaler.scaling.description
            names = (wanted.name,) if wanted.name else ()
            title = f"another {wanted.name or 'pilot'}"
            yield described(wanted, memory_of(wanted), names, title, devices(wanted))

    def cores(self) -> int:
        """Cores of all pilots that are not over, and of those that autoscalers may request next."""
        return self.offer(PLAIN).cores

    def _scalers(self) -> list[Scaler]:
        return [scaler for scaler in list(self._state.scalers.values()) if scaler.over is None]

    def offer(self, terms: Terms) -> Offer:
        """What the pilots that are not over and may run such a task have, as far as it is known."""
        pilots = [pilot for pilot in list(self._state.pilots.values()) if not is_final(pilot.state)]
        wanted = [one.description for one in pilots if is_meant(terms, one.names, one.description.labels)]
        scaled = [scaler.scaling.description for scaler in self._scalers()]
        wanted += [one for one in scaled if is_meant(terms, (one.name,) if one.name else (), one.labels)]
        known: dict[str, QPUInfo | None] = {name: None for one in wanted for name in devices(one)}
        active = (pilot for pilot in pilots if pilot.state is PilotState.ACTIVE)
        known.update({info.name: info for pilot in active for info in pilot.qpus if info.name in known})
        return Offer(
            devices=known,
            cores=sum(one.cores * one.number_of_nodes for one in wanted),
            cores_per_node=max((one.cores for one in wanted), default=1),
            gpus=sum(one.gpus_per_node * one.number_of_nodes for one in wanted),
            estimated=self._estimated,
        )


def _now(capacity: Capacity, pilot: Pilot) -> Capacity:
    """What was requested, as far as a user's thread can know it."""
    state = pilot.state
    over = state.value if is_final(state) or state is PilotState.DRAINING else None
    if is_final(state) and pilot.reason not in ("", state.value):
        over = f"{over} ({pilot.reason})"
    return capacity._replace(over=over, qpus={**capacity.qpus, **{info.name: info for info in pilot.qpus}})
