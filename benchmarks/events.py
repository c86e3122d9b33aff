"""What an observer costs: processor time of a task with one subscriber over none; and what a bad one does to tasks.

The observer gets every event of every task. Batches of no-ops with and without it alternate in one session. Then the
same tasks run with an observer that blocks and one that raises: every result must be there.
"""

from __future__ import annotations

import logging
import threading
from time import process_time
from typing import Any

import _bench
import _processes
import psutil

#: Tasks of one batch.
BATCH = 25_000


def seconds_of(processes: list[psutil.Process]) -> float:
    """Processor time of this process and these."""
    return process_time() + sum(sum(process.cpu_times()[:2]) for process in processes)


def measure(contestant: Any, tasks: int, bad: bool = False) -> _bench.Figures:
    with contestant as engine:
        engine.gather([engine.submit(_bench.noop, number) for number in range(2000)])  # both workers are warm
        processes = _processes.marked()
        if bad:
            return {"lost": lost_by_bad_observers(engine, tasks)}
        spent = {False: 0.0, True: 0.0}
        seen = [0]
        for number in range(2 * tasks // BATCH):
            observed = number % 4 in (1, 2)  # with and without in turn, and neither of them always first
            spent[observed] += cost(engine, processes, seen if observed else None)
        assert seen[0] >= 3 * tasks, seen
        return {"with us": 1e6 * spent[True] / tasks, "without us": 1e6 * spent[False] / tasks}


def cost(engine: Any, processes: list[psutil.Process], seen: list[int] | None) -> float:
    """Processor time of one batch, all that its observer does included."""

    def observe(events: list[object]) -> None:
        assert seen is not None
        seen[0] += len(events)

    began = seconds_of(processes)
    subscription = engine.manager.subscribe(observe) if seen is not None else None
    tasks = [engine.submit(_bench.noop, number) for number in range(BATCH)]
    engine.gather(tasks)
    if subscription is not None:
        engine.manager.unsubscribe(subscription)
        assert not subscription.dropped
    spent = seconds_of(processes) - began
    engine.manager.forget(tasks)
    return spent


def lost_by_bad_observers(engine: Any, count: int) -> float:
    """How many of the tasks have no result, or a wrong one, while one observer blocks and another one raises."""
    logging.getLogger("pilot").setLevel(logging.CRITICAL)
    gate = threading.Event()

    def fail(events: list[object]) -> None:
        raise ValueError(len(events))

    engine.manager.subscribe(fail)
    engine.manager.subscribe(lambda events: gate.wait())
    tasks = [engine.submit(_bench.noop, number) for number in range(count)]
    engine.manager.wait_tasks(tasks, timeout=600)
    gate.set()
    right = sum(not task.exception() and task.result() == number for number, task in enumerate(tasks) if task.done())
    return count - right


def main() -> None:
    parser = _bench.arguments(__doc__, engines=(), repeat=5)
    parser.add_argument("--tasks", type=int, default=100_000, help="how many no-ops of each kind")
    options = parser.parse_args()

    rows = [_bench.measured("our process", tasks=options.tasks) for _ in range(options.repeat)]
    lost = _bench.measured("our process", tasks=options.tasks, bad=True)["lost"]
    figures: dict[str, Any] = {
        "cpu_ratio_subscribed": ([row["with us"] / row["without us"] for row in rows], _bench.Bar("<=", 1.05, "ratio")),
        "tasks_lost_by_bad_callback": (lost, _bench.Bar("==", 0, "tasks")),
    }
    configuration = {"tasks": options.tasks, "repeat": options.repeat}
    _bench.report("events", figures, rows=rows, configuration=configuration, file=options.json)


if __name__ == "__main__":
    _bench.run(main, measure)
