"""SIGKILL of the service, several times, while tasks are submitted and run: every accepted task ends once, with its own
id and result. Requests fail clearly meanwhile."""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import _bench
from _bench import Bar
from sqlalchemy import create_engine, text

from pilot.errors import SessionError
from pilot.service.client import ServiceClient
from pilot.service.database import checked_url
from pilot.testing.polling import eventually
from pilot.testing.postgres import PostgresServer
from pilot.testing.services import ServiceProcess

BITS = 14
#: A quarter of the tasks is accepted in this time.
SUBMIT_SECONDS = 600.0
SETTINGS = """
[[pilots]]
name = "small"
"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--store", choices=("sqlite", "postgresql"), default="sqlite", help="where tasks are kept")
    parser.add_argument("--tasks", type=int, default=10_000, help="in all")
    parser.add_argument("--kills", type=int, default=3, help="while they are submitted and run")
    parser.add_argument("--clients", type=int, default=8, help="threads that submit one task after the other")


def program(number: int) -> str:
    """A circuit that prepares this number: its result is known."""
    flips = " ".join(f"x q[{bit}];" for bit in range(BITS) if number >> bit & 1)
    return f'OPENQASM 2.0; include "qelib1.inc"; qreg q[{BITS}]; creg c[{BITS}]; {flips} measure q -> c;'


class Submitter:
    """Submits tasks from several threads. What is not accepted is sent again, as another submission."""

    def __init__(self, url: str, token: str, count: int) -> None:
        self._client = ServiceClient(url, token)
        self._count = count
        #: By number: the ids that were accepted; and how often a request failed, by the kind of the error.
        self.ids: dict[int, str] = {}
        self.failures: dict[str, int] = {}

    def submit(self, number: int) -> None:
        while number not in self.ids:
            try:
                work = {"program": program(number), "shots": 1, "qpu": "aer"}
                self.ids[number] = self._client.submit_task(work, key=f"number-{number}").id
            except SessionError as error:
                kind = str(error).rpartition(": ")[0].rpartition(" ")[2]
                self.failures[kind] = self.failures.get(kind, 0) + 1
                time.sleep(0.1)

    def run(self, clients: int) -> None:
        with ThreadPoolExecutor(clients) as pool:
            list(pool.map(self.submit, range(self._count)))


def measure(options: argparse.Namespace) -> None:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pilot-bench-")))
        store = None
        if options.store == "postgresql":
            store = stack.enter_context(PostgresServer()).url
        service = stack.enter_context(ServiceProcess(folder, SETTINGS, store=store))
        submitter = Submitter(service.url, service.token, options.tasks)
        thread = threading.Thread(target=submitter.run, args=(options.clients,))
        thread.start()
        accepted = []
        for kill in range(options.kills):
            if kill == 0:  # while tasks are submitted; the others while they run
                eventually(lambda: len(submitter.ids) >= options.tasks // 4, SUBMIT_SECONDS)
            else:
                wait_for(service, options.tasks * kill // options.kills)
            service.kill()
            accepted.append(len(submitter.ids))
            sys.stderr.write(f"  killed with {accepted[-1]} tasks accepted\n")
            service.start()
        thread.join()
        done = wait_for(service, options.tasks)
        figures = audit(service.store, submitter.ids)
    figures |= {
        "accepted": (len(submitter.ids), Bar("==", options.tasks)),
        "accepted_at_first_kill": (accepted[0], Bar("<", options.tasks)),
        "done": (done, None),
    }
    rows = [{"failed requests": kind, "times": count} for kind, count in submitter.failures.items()]
    sys.stderr.write(f"  failed requests: {submitter.failures}\n")
    configuration = {"store": options.store, "tasks": options.tasks, "kills": options.kills}
    _bench.report(f"service.kill.{options.store}", figures, rows=rows, configuration=configuration, file=options.json)


def wait_for(service: ServiceProcess, count: int) -> int:
    """Until so many tasks are done."""
    with ServiceClient(service.url, service.token, retry_seconds=60) as client:
        while True:
            done: int = client.request("GET", "/v1/counts")["done"]
            if done >= count:
                return done
            time.sleep(0.05)


def audit(store: str, ids: dict[int, str]) -> dict[str, tuple[Any, Bar | None]]:
    """What stands in the store of the tasks that were accepted."""
    import json

    engine = create_engine(checked_url(store))
    with engine.connect() as connection:
        states = {row.id: row.state for row in connection.execute(text("select id, state from tasks"))}
        query = text("select id, value from tasks join results on tasks.number = results.number")
        results: dict[str, list[Any]] = {}
        for id, value in connection.execute(query):
            results.setdefault(id, []).append(json.loads(bytes(value)))
    engine.dispose()
    expected = {
        id: [[{"kind": "counts", "shots": 1, "counts": {f"{number:0{BITS}b}": 1}}]] for number, id in ids.items()
    }
    once = sum(states.get(id) == "done" and len(results.get(id, [])) == 1 for id in ids.values())
    right = sum(results.get(id) == its for id, its in expected.items())
    return {
        "finished_once": (once, Bar("==", len(ids))),
        "results_right": (right, Bar("==", len(ids))),
        "ids_equal": (int(set(states) == set(ids.values()) and len(set(ids.values())) == len(ids)), Bar("==", 1)),
    }
