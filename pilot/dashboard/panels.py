"""The parts of the page but for its tasks: counts, throughput, pilots, QPUs."""

from __future__ import annotations

import time

from nicegui import ui

from pilot.dashboard.elements import Rows, Text, heading
from pilot.dashboard.index import STATES
from pilot.dashboard.sources import PilotView, QPUView, Source
from pilot.dashboard.wording import NOTHING, ago, clock, count, rate, span
from pilot.states import PilotState, TaskState, is_final

#: Seconds of throughput that a live session shows, in so many bars.
WINDOW, BARS = 300, 60
#: Pilots and QPUs that are listed, at most.
ROWS = 50
_RUNS = (PilotState.STARTING, PilotState.ACTIVE, PilotState.DRAINING)


class Counts:
    """How many tasks are in each state."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._numbers: dict[TaskState, Text] = {}
        heading(2, "Tasks by state")
        with Text("dl", classes="counts"):
            for state in STATES:
                with Text("div", data_state=state.value):
                    Text("dt", state.value)
                    self._numbers[state] = Text("dd")
        self.refresh()

    def refresh(self) -> None:
        for state, number in self._source.index.counts().items():
            self._numbers[state].show(count(number))


class Throughput:
    """How many tasks ended, over time."""

    def __init__(self, source: Source) -> None:
        self._source = source
        heading(2, "Throughput")
        self._text = Text("p")
        self._drawing = ui.html("", sanitize=False, tag="div").classes("chart")
        self.refresh()

    def refresh(self) -> None:
        index = self._source.index
        now = time.time()
        first, last = now - WINDOW, now
        if self._source.is_over or not self._source.is_live:
            first, last = index.span() or (first, last)
            last = max(last, first + 1.0)
        ended = index.ended_in(first, last, BARS)
        seconds = (last - first) / BARS
        highest = max(*ended, 1) / seconds
        text = f"{count(sum(ended))} tasks ended in {span(last - first)}; at most {highest:.3g} in a second"
        if self._source.is_live and not self._source.is_over:
            recent = index.ended_in(now - 10.0, now, 1)[0] / 10.0
            text = f"{recent:.3g} tasks in a second now; {text}"
        self._text.show(f"{text}.")
        self._drawing.set_content(_bars(ended, f"Tasks that ended, from {clock(first)} to {clock(last)}"))


def _bars(values: list[int], title: str) -> str:
    """A drawing of bars, one unit wide and up to 20 high."""
    highest = max(*values, 1)
    path = "".join(f"M{x} 20v-{20 * value / highest:.1f}h.8V20z" for x, value in enumerate(values) if value)
    size = f'viewBox="0 0 {len(values)} 20" preserveAspectRatio="none"'
    return f'<svg {size} role="img" aria-label="{title}"><path d="M0 20h{len(values)}"/><path d="{path}"/></svg>'


class Pilots:
    """All pilots."""

    columns = ("Pilot", "State", "Where", "Engine", "Nodes", "Slots", "Tasks there", "Ended", "Walltime left", "Why")

    def __init__(self, source: Source) -> None:
        self._source = source
        heading(2, "Pilots")
        self._rows = Rows("Pilots of the session", self.columns, "No pilot was submitted.")
        self._more = Text("p")
        self.refresh()

    def refresh(self) -> None:
        pilots = self._source.pilots()
        pilots.sort(key=lambda pilot: is_final(pilot.line.state))
        self._more.show(f"And {count(len(pilots) - ROWS)} more pilots." if len(pilots) > ROWS else "")
        del pilots[ROWS:]
        tasks = self._source.index.by_pilot()
        rows = [_pilot(pilot, tasks.get(pilot.line.id, {})) for pilot in pilots]
        self._rows.show(rows, [pilot.line.state.value for pilot in pilots])


def _pilot(pilot: PilotView, tasks: dict[TaskState, int]) -> list[str]:
    line = pilot.line
    wanted = line.description
    nodes = len(pilot.nodes) or wanted.number_of_nodes
    slots = "all cores" if wanted.cores_per_node is None else count(nodes * wanted.cores_per_node)
    there = sum(tasks.get(state, 0) for state in (TaskState.BOUND, TaskState.RUNNING))
    ended = sum(tasks.get(state, 0) for state in (TaskState.DONE, TaskState.FAILED, TaskState.CANCELLED))
    remark = line.reason or (pilot.job if not is_final(line.state) else "")
    where = (pilot.name, line.state.value, wanted.resource, wanted.engine, count(nodes), slots)
    return [*where, count(there), count(ended), _walltime_left(pilot), remark or NOTHING]


def _walltime_left(pilot: PilotView) -> str:
    """Until its end; it is counted from when it was ready, as its agent reported it."""
    line = pilot.line
    walltime = line.description.seconds
    if walltime is None or is_final(line.state):
        return NOTHING
    began = line.times.get(PilotState.ACTIVE)
    if line.state not in _RUNS or began is None:
        return f"{span(walltime)}, not begun"
    return span(began + walltime - time.time())


class QPUs:
    """The QPUs of the pilots."""

    columns = (
        *("QPU", "State", "Pilot", "Qubits", "Queue", "Calibrated", "Error 1q", "Error 2q", "Readout", "T1", "T2"),
        "Asked",
    )

    def __init__(self, source: Source) -> None:
        self._source = source
        heading(2, "QPUs")
        self._rows = Rows("QPUs of the pilots", self.columns, "The pilots have no QPU.")
        self._more = Text("p")
        self.refresh()

    def refresh(self) -> None:
        qpus = self._source.qpus()
        self._more.show(f"And {count(len(qpus) - ROWS)} more." if len(qpus) > ROWS else "")
        del qpus[ROWS:]
        names = {pilot.line.id: pilot.name for pilot in self._source.pilots()}
        states = [_qpu_state(qpu, self._source.is_live) for qpu in qpus]
        rows = [_qpu(qpu, state, names[qpu.pilot]) for qpu, state in zip(qpus, states, strict=True)]
        self._rows.show(rows, ["failed" if qpu.info and qpu.info.problem else "" for qpu in qpus])


def _qpu_state(qpu: QPUView, is_live: bool) -> str:
    info = qpu.info
    if info is None:
        return "not reported yet" if is_live else "not in the journal"
    if info.problem:
        return info.problem
    return {True: "takes jobs", False: "takes no jobs", None: "simulator" if info.simulator else "ready"}[
        info.accepts_jobs
    ]


def _qpu(qpu: QPUView, state: str, pilot: str) -> list[str]:
    info = qpu.info
    if info is None:
        return [qpu.name, state, pilot, *[NOTHING] * (len(QPUs.columns) - 3)]
    queue = [] if info.pending_jobs is None else [f"{count(info.pending_jobs)} jobs"]
    queue += [] if info.expected_wait is None else [f"{span(info.expected_wait)} to wait"]
    errors = [rate(error) for error in (info.error_1q, info.error_2q, info.error_readout)]
    times = [NOTHING if seconds is None else f"{seconds * 1e6:.0f} µs" for seconds in (info.t1, info.t2)]
    calibrated = NOTHING if info.calibrated is None else f"{clock(info.calibrated)} ({ago(info.calibrated)})"
    queued = ", ".join(queue) or NOTHING
    return [qpu.name, state, pilot, count(info.qubits), queued, calibrated, *errors, *times, ago(info.asked)]
