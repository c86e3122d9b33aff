"""Requests that schemathesis makes from the service's OpenAPI description, against a running service: no error of the
server, and no answer that the description does not have."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import _bench
import httpx
from _bench import Bar

from pilot.testing.services import ServiceProcess

SETTINGS = """
[limits]
estimates_per_minute = 100000
event_streams = 1000
timeout = 5
[[pilots]]
name = "small"
cores_per_node = 1
qpus = ["fake:manila"]
"""
#: Streams of events have no end, so a client that waits for one would wait for ever.
LEFT_OUT = "/v1/events"
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--minutes", type=float, default=10.0, help="how long")


def measure(options: argparse.Namespace) -> None:
    begun = time.monotonic()
    rounds: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="pilot-bench-") as name, ServiceProcess(Path(name), SETTINGS) as service:
        headers = {"Authorization": f"Bearer {service.token}"}
        description = httpx.get(f"{service.url}/v1/openapi.json", headers=headers).json()
        schema = Path(name, "openapi.json")
        schema.write_text(json.dumps(description))
        while (left := 60 * options.minutes - (time.monotonic() - begun)) > 0:
            rounds.append(fuzz(service, schema, seed=len(rounds) + 1, seconds=left))
            sys.stderr.write(f"  {rounds[-1]}\n")
        errors = service.log.count('"level": "error"')
        answers = httpx.get(f"{service.url}/health").status_code == 200
    figures: dict[str, tuple[Any, Bar | None]] = {
        "server_errors": (sum(row["server errors"] for row in rounds) + errors + (not answers), Bar("==", 0)),
        "schema_violations": (sum(row["violations"] for row in rounds), Bar("==", 0)),
        "cases": (sum(row["cases"] for row in rounds), None),
        "minutes": ((time.monotonic() - begun) / 60, None),
    }
    configuration = {"minutes": options.minutes, "checks": CHECKS}
    _bench.report("service.fuzz", figures, rows=rounds, configuration=configuration, file=options.json)


def fuzz(service: ServiceProcess, schema: Path, *, seed: int, seconds: float) -> dict[str, Any]:
    """One run of schemathesis, ended when the time is over."""
    command = [sys.executable, "-m", "schemathesis.cli", "run", str(schema), "--url", service.url]
    command += ["--header", f"Authorization: Bearer {service.token}", "--checks", CHECKS, "--seed", str(seed)]
    command += ["--exclude-path", LEFT_OUT, "--max-examples", "300", "--max-time", f"{seconds:.0f}"]
    command += ["--phases", "examples,coverage,fuzzing", "--generation-database", "none", "--request-timeout", "60"]
    command += ["--continue-on-failure", "--no-color"]
    output = subprocess.run(command, capture_output=True, text=True, cwd=schema.parent).stdout
    cases = re.search(r"(\d+) generated", output)
    failures = re.findall(r"^- (.*)$", output, re.MULTILINE)
    if failures:
        sys.stderr.write("".join(f"{line[:300]}\n" for line in output.splitlines()[-200:]))
    server = sum("server error" in failure.lower() for failure in failures)
    return {
        "seed": seed,
        "cases": int(cases[1]) if cases else 0,
        "server errors": server,
        "violations": len(failures) - server,
    }
