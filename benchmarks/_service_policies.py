"""HRRN against FCFS: the same mixed queue through a service with each policy. From the event log of each run: whether
tasks were scheduled in the order of the formula, and how much longer than they run they took in all."""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import _bench
from _bench import Bar

from pilot.service.client import ServiceClient
from pilot.testing.services import ServiceProcess

TENTHS = (1, 2, 4, 8, 16)
SETTINGS = """
[[pilots]]
name = "one"
cores_per_node = 1
[functions]
"""
SETTINGS += "".join(f'nap_{tenths} = "_naps:nap_{tenths}"\n' for tenths in TENTHS)
#: Tenths of a second that tasks run: long ones first, so that the order matters.
LENGTHS = [16, 8, 1, 4, 2, 1, 8, 1, 4, 2]


class Entry(NamedTuple):
    """What the event log says of a task: when it was queued, scheduled and over."""

    place: int
    seconds: float
    queued: float
    scheduled: float
    ended: float


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--times", type=int, default=2, help="how often the lengths come in the queue")


def nap(tenths: int) -> dict[str, Any]:
    return {"function": f"nap_{tenths}"}


def run(policy: str, times: int) -> list[Entry]:
    """The event log of one policy's run."""
    with tempfile.TemporaryDirectory(prefix="pilot-bench-") as name:
        service = ServiceProcess(Path(name), SETTINGS, policy=policy)
        with service, ServiceClient(service.url, service.token) as client:
            client.wait_tasks([client.submit_task(nap(tenths)) for tenths in TENTHS])  # each is measured
            client.submit_task(nap(16))  # keeps the core busy while the others come
            lengths = LENGTHS * times
            tasks = client.submit_tasks([nap(tenths) for tenths in lengths])
            client.wait_tasks(tasks)
            entries = []
            for place, (task, tenths) in enumerate(zip(tasks, lengths, strict=True)):
                steps = {one["step"]: one["time"] for one in task.info["steps"]}
                entries.append(Entry(place, tenths / 10, steps["queued"], steps["scheduled"], steps["corrected"]))
    return entries


def ordered(policy: str, entries: list[Entry]) -> list[int]:
    """The order in which the policy's formula takes the tasks, at the moments at which tasks were scheduled."""
    waiting, order = list(entries), []
    for moment in sorted(one.scheduled for one in entries):

        def ratio(one: Entry, moment: float = moment) -> float:
            return (moment - one.queued + one.seconds) / one.seconds

        here = [one for one in waiting if one.queued <= moment]
        best = max(here, key=ratio) if policy == "hrrn" else min(here, key=lambda one: one.queued)
        waiting.remove(best)
        order.append(best.place)
    return order


def measure(options: argparse.Namespace) -> None:
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)  # where the service and its workers find the functions
    rows, equal, slowdown = [], 1, {}
    for policy in ("fcfs", "hrrn"):
        entries = run(policy, options.times)
        actual = [one.place for one in sorted(entries, key=lambda one: one.scheduled)]
        expected = ordered(policy, entries)
        equal &= int(actual == expected)
        slowdown[policy] = statistics.mean((one.ended - one.queued) / one.seconds for one in entries)
        rows.append({"policy": policy, "order": actual, "formula": expected, "slowdown": slowdown[policy]})
    figures = {
        "order_equal": (equal, Bar("==", 1)),
        "slowdown_fcfs": (slowdown["fcfs"], None),
        "slowdown_hrrn": (slowdown["hrrn"], Bar("<=", slowdown["fcfs"])),
    }
    configuration = {"lengths": LENGTHS, "times": options.times}
    _bench.report("service.policies", figures, rows=rows, configuration=configuration, file=options.json)
