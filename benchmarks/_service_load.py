"""Submissions over HTTP, durable before the answer, one by one and in batches, while the pilots run them; a bare
framework with the same body and one commit beside it, in turn."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import _bench
import _http_load
import httpx
import psutil
from _bench import Bar

from pilot.service.client import ServiceClient
from pilot.testing.services import ServiceProcess

CLIENTS = 64
PROGRAMS = 50
SETTINGS = """
[limits]
tasks_per_user = 10000000
tasks_per_request = 1000
[[pilots]]
name = "small"
"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--requests", type=int, default=6000, help="one by one, in each round")
    parser.add_argument("--batches", type=int, default=300, help="of 100, in each round")
    parser.add_argument("--rounds", type=int, default=3, help="in turn with the bare framework")


def program(number: int) -> str:
    """A small circuit, one of several."""
    return (
        'OPENQASM 2.0; include "qelib1.inc"; qreg q[3]; creg c[3]; '
        f"ry({number / 10}) q[0]; cx q[0],q[1]; cx q[1],q[2]; measure q -> c;"
    )


def write_bodies(folder: Path) -> tuple[Path, Path]:
    """Files with bodies: single tasks, and batches of 100."""
    single, batched = folder / "single.jsonl", folder / "batched.jsonl"
    tasks = [{"program": program(number), "shots": 100, "qpu": "aer", "reuse": False} for number in range(PROGRAMS)]
    single.write_text("\n".join(map(json.dumps, tasks)))
    batched.write_text(json.dumps({"tasks": tasks * (100 // PROGRAMS)}))
    return single, batched


@contextlib.contextmanager
def bare(folder: Path) -> Iterator[tuple[str, int]]:
    """The URL of the bare framework, and its process."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    script = Path(__file__).with_name("_bare_service.py")
    process = subprocess.Popen([sys.executable, script, str(folder / "bare.db"), str(port)])
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            with contextlib.suppress(httpx.TransportError):
                httpx.get(url)
                break
            time.sleep(0.1)
        yield url, process.pid
    finally:
        process.terminate()
        process.wait()


def measure(options: argparse.Namespace) -> None:
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="pilot-bench-") as name:
        folder = Path(name)
        single, batched = write_bodies(folder)
        with bare(folder) as (beside, bare_pid), ServiceProcess(folder / "service", SETTINGS) as service:
            with ServiceClient(service.url, service.token) as client:
                client.submit_task({"program": program(0), "shots": 10}).result(120)
                ids: list[str] = []
                latencies: list[float] = []
                for _ in range(options.rounds):
                    row: dict[str, Any] = {}
                    for key, url, path, bodies, requests, each in (
                        ("bare_per_s", beside, "/v1/tasks", single, options.requests, 1),
                        ("single_per_s", service.url, "/v1/tasks", single, options.requests, 1),
                        ("batched_per_s", service.url, "/v1/batches", batched, options.batches, 100),
                    ):
                        pid = service.pid if url == service.url else bare_pid
                        before = cpu_seconds(pid)
                        found = _http_load.run(url, service.token, path, bodies, clients=CLIENTS, requests=requests)
                        row[key] = each * len(found["answers"]) / found["seconds"]
                        row[f"{key}_cpu_ms"] = 1e3 * (cpu_seconds(pid) - before) / (each * requests)
                        row[f"{key}_refused"] = found["refused"]
                        if url == service.url:
                            ids += [id for answer in found["answers"] for id in answer["ids"]]
                        if key == "single_per_s":
                            latencies += found["latencies"]
                    rows.append(row)
                    sys.stderr.write(f"  {row}\n")
                    wait_idle(client)
                counts = client.request("GET", "/v1/counts")
            lost, doubled = audit(folder / "service/service.db", ids)
    figures: dict[str, tuple[Any, Bar | None]] = {
        "single_per_s": ([row["single_per_s"] for row in rows], Bar(">=", 1500, "1/s")),
        "batched_per_s": ([row["batched_per_s"] for row in rows], Bar(">=", 15_000, "1/s")),
        "p99_ms": (1e3 * statistics.quantiles(latencies, n=100)[98], Bar("<=", 250, "ms")),
        "bare_per_s": ([row["bare_per_s"] for row in rows], None),
        "ratio_bare": ([row["single_per_s"] / row["bare_per_s"] for row in rows], Bar(">=", 0.7)),
        "ratio_bare_cpu": ([row["bare_per_s_cpu_ms"] / row["single_per_s_cpu_ms"] for row in rows], None),
        "lost": (lost, Bar("==", 0)),
        "doubled": (doubled, Bar("==", 0)),
        "finished": (counts["done"], None),
    }
    configuration = {"clients": CLIENTS, "rounds": options.rounds, "cpus": len(os.sched_getaffinity(0))}
    _bench.report("service.load", figures, rows=rows, configuration=configuration, file=options.json)


def cpu_seconds(pid: int) -> float:
    """Of a process and all its threads; of the service that is also what it does for tasks that run meanwhile."""
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def wait_idle(client: ServiceClient) -> None:
    """Until everything that was accepted is over."""
    while client.request("GET", "/v1/counts")["active"]:
        time.sleep(0.2)


def audit(database: Path, ids: list[str]) -> tuple[int, int]:
    """How many of the accepted ids are not done with a result, and how many ids or results are there twice."""
    import sqlite3

    with contextlib.closing(sqlite3.connect(database)) as connection:
        query = "select id, count(r.number) from tasks t left join results r using (number) "
        query += "where state = 'done' group by t.number"
        results: dict[str, list[int]] = {}
        for id, count in connection.execute(query):
            results.setdefault(id, []).append(count)
    lost = sum(results.get(id) is None or 0 in results[id] for id in ids)
    doubled = len(ids) - len(set(ids)) + sum(len(counts) > 1 or counts[0] > 1 for counts in results.values())
    return lost, doubled
