"""A store with a million finished tasks of several users: how long each look takes, and whether memory grows."""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _bench
import psutil
from _bench import Bar

from pilot.service.store import End, Filter, NewTask, Store, Submission
from pilot.testing.postgres import PostgresServer

USERS = [f"user{number}" for number in range(10)]
PROJECTS = [f"project{number}" for number in range(20)]
QPUS = ["fake:kolkata", "fake:manila", "aer"]
ROUNDS = 200
#: Tasks of one submission while the store is filled.
CHUNK = 1000
LIMIT_MS = 50


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rows", type=int, default=1_000_000, help="finished tasks")
    parser.add_argument("--store", choices=("sqlite", "postgresql"), default="sqlite", help="where tasks are kept")


def fill(store: Store, rows: int) -> list[str]:
    """Tasks that have run, through the methods that the service uses; every hundredth id."""
    generator = random.Random(1)
    kept: list[str] = []
    result = b'[{"kind":"counts","shots":100,"counts":{"00":50,"11":50}}]'
    for first in range(0, rows, CHUNK):
        user = generator.choice(USERS)
        tasks = tuple(
            NewTask(
                user=user,
                programs=(f"program {generator.randrange(1000)}",),
                options={"shots": 100, "qpu": generator.choice(QPUS)},
                project=generator.choice(PROJECTS),
            )
            for _ in range(min(CHUNK, rows - first))
        )
        kept += store.add(Submission(tasks=tasks)).result()[::100]
        ends = []
        for row in store.active(user, 0, CHUNK):
            state = generator.choices(("done", "failed", "cancelled"), (96, 3, 1))[0]
            value = result if state == "done" else None
            ends.append(End(number=row.number, state=state, result=value, qpu=row.qpu, steps=[("received", 0.0)]))
        for written in [store.end(end) for end in ends]:
            written.result()
        if first % 100_000 == 0:
            sys.stderr.write(f"  {first:,} rows\n")
    return kept


def timed(look: Callable[[], Any]) -> float:
    """Median milliseconds of a look."""
    times = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        look()
        times.append(1e3 * (time.perf_counter() - begun))
    return statistics.median(times)


def measure(options: argparse.Namespace) -> None:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pilot-bench-")))
        url = f"sqlite:///{folder}/service.db"
        if options.store == "postgresql":
            url = stack.enter_context(PostgresServer()).url
        store = stack.enter_context(contextlib.closing(Store(url)))
        ids = fill(store, options.rows)
        generator = random.Random(2)
        rows = [store.find(id) for id in ids]
        times = sorted(row.submitted for row in rows if row is not None)

        def page(**wanted: Any) -> float:
            return timed(
                lambda: store.page(Filter(user=generator.choice(USERS), **{k: v() for k, v in wanted.items()}), 50)
            )

        looks = {
            "ms_id": timed(lambda: store.find(generator.choice(ids))),
            "ms_list": page(),
            "ms_page": page(before=lambda: generator.choice(ids)),
            "ms_filter_state": page(state=lambda: "cancelled"),
            "ms_filter_project": page(project=lambda: generator.choice(PROJECTS)),
            "ms_filter_qpu": page(qpu=lambda: generator.choice(QPUS)),
            "ms_filter_time": page(since=lambda: times[len(times) // 2], until=lambda: times[len(times) // 2 + 20]),
            "ms_filter_all": page(
                state=lambda: "failed",
                project=lambda: generator.choice(PROJECTS),
                qpu=lambda: "aer",
                since=lambda: times[len(times) // 4],
            ),
            "ms_counts": timed(lambda: store.counts(generator.choice(USERS))),
        }
        counted = sum(store.counts().values())
        growth = memory_growth(store, ids, generator)
    figures: dict[str, tuple[Any, Bar | None]] = {name: (ms, Bar("<=", LIMIT_MS, "ms")) for name, ms in looks.items()}
    figures |= {"rows": (counted, Bar("==", options.rows)), "rss_growth_mib": (growth, Bar("<=", 10))}
    configuration = {"rows": options.rows, "store": options.store, "rounds": ROUNDS}
    _bench.report(f"service.store.{options.store}", figures, rows=[], configuration=configuration, file=options.json)


def memory_growth(store: Store, ids: list[str], generator: random.Random) -> float:
    """MiB by which this process grows over some thousand looks."""
    process = psutil.Process(os.getpid())

    def looks(count: int) -> None:
        for _ in range(count):
            store.find(generator.choice(ids))
            store.page(Filter(user=generator.choice(USERS), before=generator.choice(ids)), 50)
        gc.collect()

    looks(500)
    before = process.memory_info().rss
    looks(3000)
    return (process.memory_info().rss - before) / (1 << 20)
