"""Tasks that are estimated before they are placed: the estimates are tasks, too, and are renewed with calibrations."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from pilot import registry
from pilot.errors import PluginError, SessionError, text_of
from pilot.interfaces import TaskEstimator
from pilot.manager.asked import Alike, Asked, Reported, calibrations
from pilot.manager.handles import Task, entry_of
from pilot.manager.journal import EstimateRow, pack_estimates
from pilot.manager.samples import not_estimated, sampled_of
from pilot.manager.submitting import Submitter
from pilot.resources import QPUInfo
from pilot.results import OK, RAISED, Outcome
from pilot.scheduling import events
from pilot.wire import payload

if TYPE_CHECKING:
    from pilot.descriptions import TaskDescription
    from pilot.manager.state import SessionState
    from pilot.manager.submissions import Submissions
    from pilot.resources import QPUEstimate
    from pilot.scheduling.records import TaskRecord

log = logging.getLogger(__name__)


class Estimating:
    """Has tasks estimated. For the manager's thread, but for `estimator` and `begin`."""

    def __init__(self, state: SessionState, submissions: Submissions, feed: Callable[[events.Event], None]) -> None:
        self._state, self._submissions, self._feed = state, submissions, feed
        self._submitter = Submitter(state)
        #: By the id of a part, and of a task that estimates.
        self._by_part: dict[int, Asked] = {}
        self._by_estimate: dict[int, Asked] = {}
        self._estimators: dict[str, TaskEstimator] = {}
        #: By `Alike.key`.
        self._alike: dict[tuple[Any, ...], Alike] = {}

    def estimator(self, kind: str) -> TaskEstimator:
        """Any thread: what estimates tasks of this kind.

        Raises:
            PluginError: there is none, or a package that it needs is missing.
        """
        if (found := self._estimators.get(kind)) is None:
            found = self._estimators.setdefault(kind, registry.load("pilot.estimators", kind)())
        return found

    def begin(
        self, estimator: TaskEstimator, sample: Any, wanted: TaskDescription, gate: Task, parts: Sequence[Task]
    ) -> None:
        """Any thread: estimate what was submitted. The gate was submitted as held, and the parts depend on it."""
        asked = Asked(estimator, sample, wanted, gate, parts)
        put = self._state.mailbox.put
        put(partial(self._begin, asked))
        for part in parts:
            part.estimate = gate
            part.add_done_callback(lambda done: put(partial(self._ended, done.id)))  # type: ignore[attr-defined]

    def _begin(self, asked: Asked) -> None:
        if not asked.parts:
            return
        self._by_part.update(dict.fromkeys(asked.parts, asked))
        alike = self._alike.get(asked.key) or self._alike.setdefault(asked.key, Alike(asked.terms))
        alike.members[asked] = None
        infos, how = alike.reported(self._state)
        for one in list(alike.members) if alike.is_new(infos, how) else [asked]:
            self._try(one, infos, how)

    def take_over(self, tasks: Sequence[TaskRecord]) -> None:
        """Have estimated what the manager before had not; of its unfinished tasks. Before the manager's thread runs."""
        function = self._submitter.functions.record(not_estimated)
        gates = {one.id: one for one in tasks if one.function is function and one.payload is not None}
        parts: dict[int, list[Task]] = {}
        for one in tasks:
            for gate in gates.keys() & (one.needs or {}):
                parts.setdefault(gate, []).append(self._state.tasks[one.id])
        for gate, its in parts.items():
            entry = gates[gate]
            try:
                kind, sample, wanted = sampled_of(entry.payload)
                estimator = self.estimator(kind)
            except Exception:  # a package that the manager before had is not installed here
                log.exception("%s (task %d) is not made again", entry.title, gate)
                continue
            entry.held = True
            self.begin(estimator, sample, wanted, self._state.tasks[gate], its)

    def look(self) -> None:
        """QPUs have reported, or pilots have changed: estimate what was not estimated for that yet."""
        for alike in list(self._alike.values()):
            infos, how = alike.reported(self._state)
            if alike.is_new(infos, how):
                for asked in list(alike.members):
                    self._try(asked, infos, how)

    def feed(self, event: events.Event) -> None:
        """Hand on what an agent reported, estimates before the tasks that wait for them are free."""
        if self._by_part and isinstance(event, events.OutcomesArrived):
            event = self._take(event)
        self._feed(event)
        if isinstance(event, events.PilotReady):
            self.look()

    def _take(self, event: events.OutcomesArrived) -> events.OutcomesArrived:
        """Take in estimates, and how long parts took. An estimate that the plugin cannot read has failed."""
        found: dict[int, Any] = {}
        outcomes = list(event.outcomes)
        for at, outcome in enumerate(outcomes):
            if (asked := self._by_estimate.pop(outcome.task, None)) is not None and outcome.status == OK:
                try:
                    asked.result = payload.load(outcome.value, spool=self._state.spool)
                    estimates = asked.estimator.estimates(asked.result, asked.wanted, asked.infos or ())
                except BaseException as error:
                    log.exception("what is expected of %s cannot be read", asked.gate.name)
                    value = payload.dump_exception(_failed(asked, "estimates", error))
                    outcomes[at] = msgspec.structs.replace(outcome, status=RAISED, value=value)
                    continue
                found.update(asked.of_parts(estimates))
            elif (asked := self._by_part.get(outcome.task)) is not None and outcome.status == OK:
                self._learn(asked, outcome, event.worker)
        if found:
            self._record(found)
            self._feed(events.CircuitsEstimated(found))
        return msgspec.structs.replace(event, outcomes=outcomes)

    def _record(self, found: Mapping[int, tuple[QPUEstimate, ...]]) -> None:
        """A manager that attaches needs them."""
        packed = {id(estimates): pack_estimates(estimates) for estimates in found.values()}
        self._state.journal.extend([EstimateRow(task, packed[id(estimates)]) for task, estimates in found.items()])

    def _learn(self, asked: Asked, outcome: Outcome, worker: str) -> None:
        row = self._state.workers.get(worker)
        if row is not None and row.qpu and asked.result is not None:
            weight = asked.parts[outcome.task].weight / asked.weight if outcome.task in asked.parts else 1.0
            args = (asked.result, asked.wanted, asked.infos or (), row.qpu, weight, outcome.seconds)
            try:
                asked.estimator.learn(*args)
            except BaseException:
                log.exception("nothing is learnt from task %d", outcome.task)

    def _try(self, asked: Asked, infos: tuple[QPUInfo, ...], how: Reported) -> None:
        """Estimate for what the QPUs report now, when that is something new."""
        if not asked.parts:
            return
        if asked.infos is None and (how is Reported.SOON or (how is Reported.LATER and not infos)):
            return
        if asked.infos is not None and calibrations(infos) == calibrations(asked.infos):
            return
        try:
            final = how is Reported.ALL and asked.infos is None
            work, args = asked.estimator.work(asked.sample, asked.wanted, infos, final=final)
            self._send(asked, work, args)
        except SessionError:  # the manager is closing: what waits for it is cancelled
            return
        except BaseException as error:  # its circuits fail with it; those that were estimated before keep what is known
            log.exception("%s (task %d) cannot be made", asked.gate.name, asked.gate.id)
            if asked.infos is None:
                self._send(asked, fail_estimate, (_failed(asked, "work", error),))
        asked.infos = infos

    def _send(self, asked: Asked, work: Callable[..., Any], args: tuple[Any, ...]) -> None:
        if asked.infos is None:
            value = payload.dump((args, {}), self._state.files, f"an argument of {asked.gate.name}")
            self._by_estimate[asked.gate.id] = asked
            self._submissions.release(asked.gate.id, self._submitter.functions.record(work), value)
            return
        task = self._submitter.submit(work, args, {}, entry_of(asked.gate).terms, asked.gate.name)
        self._by_estimate[task.id] = asked

    def _ended(self, part: int) -> None:
        """A part is over, with or without a result."""
        if (asked := self._by_part.pop(part, None)) is None:
            return
        asked.parts.pop(part)
        if asked.parts:
            return
        if (alike := self._alike.get(asked.key)) is not None:
            alike.members.pop(asked, None)
            if not alike.members:
                del self._alike[asked.key]
        if not asked.gate.done():
            self._submissions.release(asked.gate.id)
            self._feed(events.CancelAsked([asked.gate.id]))


def fail_estimate(error: PluginError) -> None:
    """What a task that estimates does when its plugin has failed: its circuits end with the same error."""
    raise error


def _failed(asked: Asked, method: str, error: BaseException) -> PluginError:
    name = type(asked.estimator).__name__
    return PluginError(f"the estimator {name}: {method} raised {type(error).__name__}: {text_of(error)}")
