"""Origin's API: made-up bodies with the code that each must get, and tasks accepted in a second, each with a program of
its own that is parsed and checked before the answer."""

from __future__ import annotations

import argparse
import bz2
import json
import os
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import _bench
import _http_load
import _origin_bodies
import httpx
import psutil
from _bench import Bar

from pilot.testing.polling import eventually
from pilot.testing.services import ServiceProcess

RUN = "/task/realQuantum/run"
CLIENTS = 16
SETTINGS = """
[limits]
tasks_per_user = 10000000
[[pilots]]
name = "small"
cores_per_node = 2
qpus = ["fake:manila"]
[origin]
chips = { 72 = "fake:manila" }
"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bodies", type=int, default=5000, help="made-up bodies")
    parser.add_argument("--requests", type=int, default=1000, help="that are right, in each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)


def measure(options: argparse.Namespace) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="pilot-bench-") as name,
        ServiceProcess(Path(name) / "service", SETTINGS) as service,
        httpx.Client(base_url=service.url, timeout=120) as http,
    ):
        _wait_for_chip(http, service.token)
        accepted(service, Path(name), 50, options.rounds)  # starts what checks programs
        _wait_until_idle(http, service.token)
        rates = []
        for turn in range(options.rounds):
            rates.append(accepted(service, Path(name), options.requests, turn))
            _wait_until_idle(http, service.token)
        rows = fuzzed(http, options.bodies, service.token, random.Random(options.seed))
    crashes = sum(row["crashed"] for row in rows)
    wrong = [row for row in rows if row["wrong"]]
    for row in wrong[:10]:
        sys.stderr.write(f"  {row}\n")
    figures: dict[str, tuple[Any, Bar | None]] = {
        "bodies": (len(rows), None),
        "crashes": (crashes, Bar("==", 0)),
        "wrong_codes": (len(wrong), Bar("==", 0)),
        "origin_per_s": ([rate for rate, _ in rates], Bar(">=", 200, "1/s")),
        "origin_cpu_ms": ([milliseconds for _, milliseconds in rates], None),
    }
    counted = Counter((row["what"], row["code"]) for row in rows)
    table = [{"what": what, "code": code, "bodies": count} for (what, code), count in sorted(counted.items(), key=str)]
    configuration = {
        "seed": options.seed,
        "clients": CLIENTS,
        "requests": options.requests,
        "cpus": len(os.sched_getaffinity(0)),
    }
    _bench.report("service.origin", figures, rows=[*table, *wrong], configuration=configuration, file=options.json)


def fuzzed(http: httpx.Client, number: int, token: str, rng: random.Random) -> list[dict[str, Any]]:
    """What became of each made-up body."""
    rows = []
    for case in _origin_bodies.cases(number, token, rng):
        content = bz2.compress(case.body) if case.is_packed else case.body
        row: dict[str, Any] = {"what": case.what, "expected": case.code, "crashed": False, "code": None}
        try:
            answer = http.post(RUN, content=content)
            row["crashed"] = answer.status_code >= 500
            row["code"] = answer.json().get("errCode")
        except (httpx.TransportError, json.JSONDecodeError) as error:
            row |= {"crashed": True, "error": repr(error)}
        known = isinstance(row["code"], int) and 0 <= row["code"] <= 39
        row["wrong"] = not known if case.code is None else row["code"] != case.code
        if row["crashed"] or row["wrong"]:
            row["body"] = case.body[:2000].decode(errors="replace").replace(token, "TOKEN")
        rows.append(row)
    return rows


def _wait_for_chip(http: httpx.Client, token: str) -> None:
    """Until the chip has reported what it is: before, nobody knows what does not fit on it."""
    question = {"ChipID": 72, "token": token}
    eventually(lambda: http.post("/task/realQuantum/chip_config_query", json=question).json()["errCode"] == 0, 120)


def _wait_until_idle(http: httpx.Client, token: str) -> None:
    def is_idle() -> bool:
        return not http.get("/v1/counts", headers={"Authorization": f"Bearer {token}"}).json()["active"]

    eventually(is_idle, 600)


def accepted(service: ServiceProcess, folder: Path, requests: int, turn: int) -> tuple[float, float]:
    """Tasks that were accepted in a second; and milliseconds of processor time of each until then, of the service with
    the processes that check programs, without its pilots."""
    bodies = folder / "bodies.jsonl"
    lines = [
        json.dumps(_origin_bodies.measurement(service.token, turn + number / requests, shot=10))
        for number in range(requests)
    ]
    bodies.write_text("\n".join(lines))
    before = _processor_seconds(service.pid)
    found = _http_load.run(service.url, service.token, RUN, bodies, clients=CLIENTS, requests=requests)
    refused = [answer for answer in found["answers"] if answer.get("errCode") != 0]
    if refused or found["refused"]:
        sys.exit(f"service.origin: {len(refused) + found['refused']} tasks were not accepted: {refused[:1]}")
    rate = float(len(found["answers"]) / found["seconds"])
    milliseconds = 1e3 * (_processor_seconds(service.pid) - before) / requests
    sys.stderr.write(f"  {rate:.0f} tasks a second, {milliseconds:.1f} ms of a processor each\n")
    return rate, milliseconds


def _processor_seconds(pid: int) -> float:
    service = psutil.Process(pid)
    checking = [one for one in service.children() if "spawn_main" in " ".join(one.cmdline())]
    every = [service, *checking, *(below for one in checking for below in one.children())]
    return sum(sum(one.cpu_times()[:2]) for one in every)
