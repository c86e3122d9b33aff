"""The autoscalers: what each sees of tasks and pilots, and how its decisions are carried out."""

from __future__ import annotations

from pilot.resources import Capacity
from pilot.scheduling import events
from pilot.scheduling.events import Command
from pilot.scheduling.fitting import described, misfit
from pilot.scheduling.index import Index
from pilot.scheduling.pilot_records import PilotRecord
from pilot.scheduling.pilots import Pilots
from pilot.scheduling.policies import FAILED_STARTS, Autoscaler, Demand, Member
from pilot.scheduling.queue import TaskQueue
from pilot.states import PilotState

#: Seconds between two decisions of an autoscaler, and how many tasks of each lane it samples.
SCALING_SECONDS = 1.0
SCALING_SAMPLE = 32


class _Scaler:
    """An autoscaler, and what a pilot of its template has."""

    def __init__(self, event: events.ScalingAsked) -> None:
        self.id = event.scaler
        self.decider = Autoscaler(event.scaling)
        name = event.scaling.description.name
        self.names = (name,) if name else ()
        self.template = described(
            event.scaling.description, event.memory, self.names, f"another {name or 'pilot'}", event.devices
        )


class Scalers:
    """All autoscalers."""

    def __init__(self, queue: TaskQueue, pilots: Pilots, index: Index) -> None:
        self._queue = queue
        self._index = index
        self._pilots = pilots
        self._by_id: dict[str, _Scaler] = {}
        self._next_look = float("-inf")

    def capacities(self) -> list[Capacity]:
        """What the pilots have that they may request."""
        return [scaler.template for scaler in self._by_id.values() if not scaler.decider.paused]

    def is_over(self, scaler: str | None) -> bool:
        """True when this autoscaler was stopped."""
        return scaler is not None and scaler not in self._by_id

    def asked(self, event: events.ScalingAsked, now: float, commands: list[Command]) -> None:
        """An autoscaler was requested."""
        self._by_id[event.scaler] = _Scaler(event)
        self._index.pilots_changed()
        self._next_look = now
        self.tick(now, commands)

    def stop(self, event: events.ScalingStopAsked, now: float, commands: list[Command]) -> None:
        """The user ends an autoscaler."""
        self._index.pilots_changed()
        if self._by_id.pop(event.scaler, None) is not None and event.drain:
            for pilot in list(self._pilots.by_id.values()):
                if pilot.scaler == event.scaler:
                    self._pilots.stop(events.PilotStopAsked(pilot.id, drain=True), now, commands)

    def close(self) -> None:
        """End all of them."""
        self._by_id.clear()

    def pilot_started(self, pilot: PilotRecord) -> None:
        """A pilot is active."""
        if pilot.scaler in self._by_id:
            self._by_id[pilot.scaler].decider.started()
            self._index.pilots_changed()

    def start_failed(self, scaler: str | None, reason: str, commands: list[Command]) -> None:
        """A pilot failed before it was active."""
        if scaler not in self._by_id:
            return
        decider = self._by_id[scaler].decider
        decider.failed()
        self._index.pilots_changed()
        if decider.paused:
            reason = f"{FAILED_STARTS} of its pilots in a row did not start, the last one because {reason}"
            commands.append(events.PauseScaling(scaler, reason))

    def tick(self, now: float, commands: list[Command]) -> None:
        """Request pilots and give them back."""
        if not self._by_id or now < self._next_look:
            return
        self._next_look = now + SCALING_SECONDS
        for scaler in self._by_id.values():
            members = [
                Member(pilot.id, pilot.state is PilotState.ACTIVE, bool(pilot.sent), pilot.finished)
                for pilot in self._pilots.by_id.values()
                if pilot.scaler == scaler.id and pilot.over is None
            ]
            asked = sum(command.scaler == scaler.id for command, _ in self._pilots.coming)
            decision = scaler.decider.decide(now, self._demand(scaler, asked, now), members, asked)
            wanted = scaler.decider.scaling.description
            for _ in range(decision.ask):
                self._pilots.ask(wanted, wanted.name, scaler.names, scaler.template, commands, scaler=scaler.id)
            for id in decision.drain:
                reason = "it was idle: the autoscaler gives it back"
                self._pilots.drain(self._pilots.by_id[id], reason, commands)

    def _demand(self, scaler: _Scaler, asked: int, now: float) -> Demand:
        """The queued tasks that a pilot of the template could run, by a sample of each lane."""
        wanted, cores = scaler.decider.scaling.description, scaler.decider.scaling.cores
        gpus = wanted.gpus_per_node * wanted.number_of_nodes
        tasks, known, work, unknown = 0, 0.0, 0.0, 0.0
        fitting: dict[str, PilotRecord] = {}
        for terms, lane in self._queue.lanes.items():
            if misfit(terms, scaler.template) is not None:
                continue
            sample = lane.sample(SCALING_SAMPLE)
            fit = [record for record in sample if misfit(record.terms, scaler.template) is None]
            if not fit:
                continue
            needs, count = terms.resources, len(lane) * len(fit) / len(sample)
            weight = max(needs.cores, cores * needs.all_gpus / gpus if gpus else 0.0)
            times = [record.seconds for record in fit if record.seconds is not None]
            tasks += int(count)
            known += weight * count * len(times) / len(fit)
            work += weight * count * sum(times) / len(fit)
            unknown += weight * count * (1 - len(times) / len(fit))
            first = fit[0]
            for pilot in self._pilots.by_id.values():
                fits = misfit(first.terms, pilot.capacity_to_come(now)) is None
                if fits and pilot.has_time(first.terms, first.seconds, now):
                    fitting[pilot.id] = pilot
        there = sum(pilot.cores for pilot in fitting.values() if pilot.state is PilotState.ACTIVE)
        way = sum(pilot.cores for pilot in fitting.values() if pilot.state is not PilotState.ACTIVE)
        way += cores * asked
        return Demand(tasks, known, work, unknown, there + way, way)
