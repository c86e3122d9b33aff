"""`Cluster`: the pilots of nodes of a simulation: how many there are, how long they wait in a queue, and how long they
last."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from pilot.descriptions import PilotDescription
from pilot.errors import DescriptionError
from pilot.interfaces import Policy
from pilot.qos.simulation.jobs import Job
from pilot.qos.simulation.log import REASONS
from pilot.qos.simulation.simulator import Simulator
from pilot.qos.simulation.sites import SimulatedNodes
from pilot.resources import Terms
from pilot.scheduling import events
from pilot.scheduling.events import AskPilot
from pilot.scheduling.fitting import described, misfit
from pilot.scheduling.policies import Scaling

#: Where pilots have an end, or are asked for by need: seconds between two looks of the controller, as of a manager's.
TICK = 1.0


class Cluster(NamedTuple):
    """One pilot and its successors, or the pilots of an autoscaler."""

    #: Of each pilot, with its walltime and its renewals.
    description: PilotDescription
    #: Seconds that the job of each waits before it begins.
    queue_wait: float = 0.0
    #: The autoscaler, whose pilots have the description; None: one pilot is there from the beginning.
    scaling: Scaling | None = None

    def simulator(self, policy: Policy | None, qpu_policy: Policy | None = None) -> Simulator:
        """A simulator in which these pilots are asked for at the beginning."""
        has_changes = self.scaling is not None or self.description.seconds is not None
        simulator = Simulator(
            policy,
            qpu_policy,
            tick=TICK if has_changes else None,
            wait_for_pilot=0.0,
            new_site=self._site,
        )
        if self.scaling is None:
            simulator.add(SimulatedNodes("nodes", self.description, self.queue_wait))
        else:
            memory = SimulatedNodes("any", self.description).memory
            simulator.feed(events.ScalingAsked("scaler", self.scaling, memory))
        return simulator

    def _site(self, command: AskPilot) -> SimulatedNodes:
        name = command.description.name
        assert name is not None  # they are numbered by their name
        return SimulatedNodes(name, command.description, self.queue_wait)

    def check(self, jobs: Sequence[Job]) -> None:
        """Raise DescriptionError where a job runs longer than every pilot lasts: it would be begun again for ever."""
        walltime = self.description.seconds
        longest = max((job.seconds or 0.0 for job in jobs), default=0.0)
        if walltime is not None and longest > walltime:
            raise DescriptionError(
                f"walltime: {walltime:g} s given, but a job runs for {longest:g} s: no pilot lasts long enough; give a "
                "longer walltime",
                field="walltime",
                given=walltime,
            )

    def warnings(self, jobs: Sequence[Job]) -> list[str]:
        """Sentences about jobs that will be refused, since no pilot can ever run them."""
        memory, name = SimulatedNodes("any", self.description).memory, self.description.name or "nodes"
        pilot = described(self.description, memory, (name,), name)
        known: dict[Terms, str | None] = {}
        reasons = Counter[str]()
        for job in jobs:
            terms = job.kind.terms
            if terms not in known:
                known[terms] = None if terms.resources.qpu else misfit(terms, pilot)
            if (reason := known[terms]) is not None:
                reasons[reason] += 1
        return [
            f"{count:,} of {len(jobs):,} jobs will be refused: {reason}; give more nodes or cores"
            for reason, count in reasons.most_common(REASONS)
        ]
