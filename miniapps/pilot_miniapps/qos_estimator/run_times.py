"""The seconds that tasks take beside those that were predicted: CPU time on a simulator, and devices with a clock."""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from pilot import Task, TaskDescription
from pilot.qos.estimator import simulation_of
from pilot.qos.families import FAMILIES, circuit
from pilot.qos.predictor import Predictor
from pilot.qos.run_times import RunTimes, device_prior, device_row, simulator_prior
from pilot.quantum.aer import run_circuit
from pilot.quantum.packing import pack, unpack
from pilot_miniapps.qos_estimator.settings import ON_DEVICES, SIMULATED, SIMULATOR

if TYPE_CHECKING:
    from pilot.resources import QPUInfo
    from pilot_miniapps.frame import Run

#: Tasks that are predicted after the others were learned from, as a share of those.
TESTED = 0.2
#: Qiskit's optimization level for devices.
LEVEL = 2


class Timed(msgspec.Struct, frozen=True):
    """One task.

    Attributes:
        place: where it ran, as for `RunTimes`.
        row: what its time follows from.
        seconds: that it took.
    """

    place: str
    row: tuple[float, ...]
    seconds: float


class Errors(msgspec.Struct, frozen=True):
    """Relative errors of predictions."""

    cold: list[float]
    learned: list[float]


def cpu_seconds(program: bytes, shots: int, seed: int) -> float:
    """CPU time of a simulation, which others on the machine disturb less than its duration. A worker runs it."""
    (made,) = unpack(program)
    begun = time.process_time()
    run_circuit(made, shots, seed)
    return time.process_time() - begun


def tasks_on(run: Run, qpu: str, count: int, seed: int) -> list[tuple[Task, TaskDescription]]:
    """Submit so many circuits of random families, widths and shots to a QPU."""
    random = np.random.default_rng([seed, *qpu.encode()])
    low, high = SIMULATED if qpu == SIMULATOR else ON_DEVICES
    found = []
    for number in range(count):
        family = list(FAMILIES)[random.integers(len(FAMILIES))]
        made = circuit(family, int(random.integers(low, high + 1)), int(random.integers(8)))
        wanted = TaskDescription(
            circuit=made,
            shots=int(random.integers(500, 8001)),
            qpu=qpu,
            optimization_level=LEVEL,
            seed=number,
            name=f"{qpu}/{number}",
        )
        if qpu == SIMULATOR:
            task = run.submit(f"{qpu}/{number}", cpu_seconds, pack(made), wanted.shots, number)
        else:
            task = run.submit_task(f"{qpu}/{number}", wanted)
        found.append((task, wanted))
    return found


def timed(done: Sequence[tuple[Task, TaskDescription]], info: QPUInfo | None) -> list[Timed]:
    """What the tasks took, in the order in which they began; ``info``: of a device."""
    predictor, found = Predictor(), []
    for task, wanted in done:
        result, record = task.result(), task.info
        assert record.seconds is not None and record.started is not None and wanted.shots is not None
        if info is None:
            simulated = simulation_of(wanted.circuit, wanted.shots)
            one = Timed(simulated.method, simulated.row, result)
        else:
            duration = predictor.predict(wanted.circuit, info, LEVEL).duration
            assert duration is not None
            one = Timed(info.name, device_row(wanted.shots, duration), record.seconds)
        found.append((record.started, one))
    return [one for _, one in sorted(found, key=lambda pair: pair[0])]


def errors(found: Sequence[Timed], info: QPUInfo | None) -> Errors:
    """How far predictions are off: of all tasks with nothing learned, and of the last ones with the others learned."""
    cold, times = RunTimes(), RunTimes()
    for one in found:
        for each in (cold, times):
            each.expect(one.place, simulator_prior() if info is None else device_prior(info.rep_delay))
    last = found[round(len(found) / (1 + TESTED)) :]
    for its in found[: -len(last)]:
        times.learn(its.place, its.row, its.seconds)
    return Errors([_error(cold, one) for one in found], [_error(times, one) for one in last])


def _error(times: RunTimes, one: Timed) -> float:
    return abs(times.estimate(one.place, one.row).seconds / one.seconds - 1)


def report(run: Run, found: Sequence[tuple[str, Errors]]) -> None:
    """The figures over all QPUs, and of each."""
    cold = [error for qpu, its in found if qpu == SIMULATOR for error in its.cold]
    learned = [error for _, its in found for error in its.learned]
    run.figure("error_median_cold", median(cold), "ratio", "<= 0.15", n=len(cold), timed=True)
    run.figure("error_median_after_500", median(learned), "ratio", "<= 0.03", n=len(learned), timed=True)
    share = sum(error <= 0.2 for error in learned) / len(learned)
    run.figure("share_within_20", share, "ratio", ">= 0.9", n=len(learned), timed=True)
    short = [qpu.partition("?")[0] for qpu, _ in found]
    for qpu, its in found:
        name = qpu.partition("?")[0]
        key = (name if short.count(name) == 1 else qpu).replace(":", "_")
        run.figure(f"{key}.error_median_cold", median(its.cold), "ratio", n=len(its.cold), timed=True)
        run.figure(f"{key}.error_median_learned", median(its.learned), "ratio", n=len(its.learned), timed=True)
