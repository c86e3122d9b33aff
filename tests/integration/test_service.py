"""The service at its users' surface: HTTP, the client, the command line; one server for this file."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from pilot import DescriptionError, ProgramError, TaskDescription
from pilot.service.access import Access
from pilot.service.client import ServiceClient
from pilot.service.store import Store
from pilot.testing.services import ServiceProcess

pytestmark = pytest.mark.timeout(180)

BELL = 'OPENQASM 2.0; include "qelib1.inc"; qreg q[2]; creg c[2]; h q[0]; cx q[0],q[1]; measure q -> c;'
LOOP = "OPENQASM 3.0;\nqubit q;\nbit b;\nwhile (true) { reset q; }\nb = measure q;"
SETTINGS = """
[[pilots]]
name = "small"
cores_per_node = 2
qpus = ["fake:manila"]
[functions]
power = "builtins:pow"
sleep = "time:sleep"
[limits]
estimates_per_minute = 3
window = 50
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    with ServiceProcess(tmp_path_factory.mktemp("service"), SETTINGS) as process:
        yield process


@pytest.fixture(scope="module")
def client(service: ServiceProcess) -> Iterator[ServiceClient]:
    with ServiceClient(service.url, service.token) as client:
        yield client


@pytest.fixture(scope="module")
def http(service: ServiceProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, headers={"Authorization": f"Bearer {service.token}"}, timeout=60) as http:
        yield http


def test_circuits_have_the_results_that_physics_says(client: ServiceClient) -> None:
    counts = client.submit_task({"program": BELL, "shots": 4000, "seed": 7, "qpu": "aer"})
    exact = client.submit_task({"program": BELL, "qpu": "aer"})
    values = client.submit_task({"program": BELL.split(" measure")[0], "observables": ["ZZ", "XX", "ZI"], "qpu": "aer"})
    state = client.submit_task({"program": BELL.split(" measure")[0], "tomography": True, "qpu": "aer"})
    noisy = client.submit_task({"program": BELL, "shots": 1000, "qpu": "fake:manila"})
    found = counts.result(60).get_counts()
    assert set(found) == {"00", "11"}
    assert found["00"] == pytest.approx(2000, abs=5 * math.sqrt(4000 / 4))
    assert exact.result(60).get_counts() == pytest.approx({"00": 0.5, "11": 0.5})
    assert values.result(60).values == pytest.approx([1, 1, 0], abs=1e-9)
    assert state.result(60).density_matrix[0][3] == pytest.approx(0.5, abs=1e-6)
    assert sum(noisy.result(60).get_counts().values()) == 1000
    assert noisy.info["qpu"] == "fake:manila"


def test_objects_and_functions_travel(client: ServiceClient) -> None:
    from qiskit import QuantumCircuit

    circuit = QuantumCircuit(1, 1)
    circuit.x(0)
    circuit.measure(0, 0)
    sent = client.submit_task(TaskDescription(circuit=circuit, shots=10, qpu="aer"))
    assert sent.result(60).get_counts() == {"1": 10}
    assert client.submit_task({"function": "power", "args": [2, 10]}).result(60) == 1024
    with pytest.raises(DescriptionError, match=r"function: 'nonesuch' is not registered; there are: power"):
        client.submit_task({"function": "nonesuch"})
    with pytest.raises(DescriptionError, match=r"num_gpus.*a service takes"):
        client.submit_task(TaskDescription(circuit=BELL, num_gpus=1))


def test_each_step_is_taken_once_and_in_order(client: ServiceClient, http: httpx.Client) -> None:
    task = client.submit_task({"program": BELL, "shots": 10, "qpu": "aer"})
    with http.stream("GET", "/v1/events", params={"task": task.id}) as stream:
        steps = [json.loads(line[6:])["step"] for line in stream.iter_lines() if line.startswith("data: ")]
    assert steps == [
        *("received", "validated", "persisted", "preprocessed", "estimated", "queued"),
        *("scheduled", "compiled", "dispatched", "corrected", "stored", "retired"),
    ]
    view = task.info["steps"]
    assert [one["step"] for one in view] == steps
    assert [one["time"] for one in view] == sorted(one["time"] for one in view)
    assert "done" in client.explain(task)


def steps_of(answer: httpx.Response) -> Iterator[dict[str, str]]:
    """The steps of a connection for events, as they come."""
    lines = (line.removeprefix("data: ") for line in answer.iter_lines() if line.startswith("data: "))
    return (json.loads(line) for line in lines)


def test_events_tell_how_a_task_ended_to_its_user_and_to_administrators(
    service: ServiceProcess, http: httpx.Client
) -> None:
    with ServiceClient(service.url, service.new_token("erin")) as erin:
        task = erin.submit_task({"function": "power", "args": [2, "x"]})
        with http.stream("GET", f"/v1/events?task={task.id}", timeout=60) as answer:  # an administrator's
            states = {one["step"]: one["state"] for one in steps_of(answer)}
        assert (states["received"], states["stored"], states["retired"]) == ("received", "failed", "failed")
        again = erin._http.get(f"/v1/events?task={task.id}")
        assert {one["step"]: one["state"] for one in steps_of(again)} == states


def test_nobody_waits_for_all_tasks_of_another_user(service: ServiceProcess, client: ServiceClient) -> None:
    session = client.request("POST", "/v1/sessions", json={})["id"]
    client.submit_tasks([{"function": "sleep", "args": [0.05], "session": session}] * 400)
    with ServiceClient(service.url, service.new_token("heidi")) as heidi:
        assert heidi.submit_task({"function": "power", "args": [2, 3]}).result(60) == 8
    assert client.request("GET", "/v1/counts")["active"] > 200
    client.request("POST", f"/v1/sessions/{session}/close")


def test_events_end_when_the_token_is_revoked(service: ServiceProcess) -> None:
    token = service.new_token("frank")
    with ServiceClient(service.url, token) as frank, frank._http.stream("GET", "/v1/events") as answer:
        steps = steps_of(answer)
        frank.submit_task({"function": "power", "args": [2, 3]})
        assert next(steps)["state"] == "received"
        task = frank.submit_task({"function": "sleep", "args": [2.5]})
        with contextlib.closing(Store(service.store)) as store:
            Access(store).revoke(token.split("_")[1])
        seen = [one["step"] for one in steps if one["task"] == task.id]  # to the end of the answer
    assert "retired" not in seen


def test_a_user_has_so_many_connections_for_events(service: ServiceProcess) -> None:
    headers = {"Authorization": f"Bearer {service.new_token('grace')}"}
    ended = threading.Event()

    def connect(_: int) -> int:
        with httpx.stream("GET", f"{service.url}/v1/events", headers=headers, timeout=60) as answer:
            if answer.status_code == 200:
                ended.wait(60)
            elif next(places) == 9:
                ended.set()
            return answer.status_code

    places = itertools.count()
    with ThreadPoolExecutor(20) as pool:
        assert sorted(pool.map(connect, range(20))) == [200] * 10 + [429] * 10


def test_bad_programs_end_as_invalid_with_their_place(client: ServiceClient) -> None:
    bad = client.submit_task({"program": f"{BELL}\nfoo q[0];", "shots": 5})
    wrong = client.submit_task({"program": BELL, "format": "originir", "shots": 5})
    good = client.submit_task({"program": BELL, "shots": 5, "qpu": "aer"})
    with pytest.raises(ProgramError, match="foo") as caught:
        bad.result(60)
    assert (caught.value.line, caught.value.column) == (2, 1)
    assert bad.state == "invalid"
    with pytest.raises(ProgramError, match="OriginIR"):
        wrong.result(60)
    assert sum(good.result(60).get_counts().values()) == 5
    with pytest.raises(DescriptionError, match="no QPU"):
        client.submit_task({"program": BELL, "shots": 5, "qpu": "nonesuch:x"}).result(60)


@pytest.mark.parametrize(
    "body, field, said",
    [
        ({"program": BELL, "shots": 0}, "shots", "greater than or equal to 1"),
        ({"program": BELL, "shots": True}, "shots", "valid integer"),
        ({"program": BELL, "shots": 2_000_000}, "shots", "at most 1000000"),
        ({"program": BELL, "shots": "5"}, "shots", "valid integer"),
        ({"program": ""}, "program", "at least 1 character"),
        ({"program": "\0"}, "program", "NUL"),
        ({"program": BELL, "shoots": 5}, "shoots", "there is no such field (did you mean 'shots'?)"),
        ({"program": BELL, "qpu": 5}, "qpu", "valid string; or: Input should be a valid array"),
        (
            {"program": BELL, "parameters": {"a": "x"}},
            "parameters.a",
            "valid number; or: Input should be a valid array",
        ),
        ({"program": BELL, "optimization_level": 4}, "optimization_level", "less than or equal to 3"),
        ({"program": BELL, "session": "A" * 32}, "session", "no session"),
        ({}, "body", "exactly one of program and function"),
    ],
)
def test_refusals_name_field_and_range(http: httpx.Client, body: dict[str, object], field: str, said: str) -> None:
    answer = http.post("/v1/tasks", json=body)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    errors = answer.json()["errors"]
    assert any(one["field"] == field and said in one["message"] for one in errors), errors


def test_keys_and_batches(http: httpx.Client, client: ServiceClient) -> None:
    body = {"tasks": [{"program": BELL, "shots": shots, "qpu": "aer"} for shots in (11, 12, 13)]}
    first, again = (http.post("/v1/batches", json=body, headers={"Idempotency-Key": "abc"}) for _ in range(2))
    assert first.json() == again.json()
    assert len(set(first.json()["ids"])) == 3
    other = http.post("/v1/batches", json={"tasks": body["tasks"][:1]}, headers={"Idempotency-Key": "abc"})
    assert other.status_code == 422
    assert other.json()["errors"][0]["field"] == "Idempotency-Key"
    shots = [sum(client.task(id).result(60).get_counts().values()) for id in first.json()["ids"]]
    assert shots == [11, 12, 13]
    with ThreadPoolExecutor(8) as pool:  # one of them comes first
        same = {
            task.id for task in pool.map(lambda _: client.submit_task({"program": BELL, "shots": 3}, key="k"), range(8))
        }
    assert len(same) == 1


def test_lists_are_filtered_and_paged(client: ServiceClient, http: httpx.Client) -> None:
    session = http.post("/v1/sessions", json={"name": "lists"}).json()["id"]
    made = client.submit_tasks([{"program": BELL, "shots": 5, "qpu": "aer", "session": session}] * 5)
    assert client.wait_tasks(made, 60)[1] == []
    pages, before = [], None
    while True:
        wanted = {"session": session, "limit": 2, **({"before": before} if before else {})}
        answer = http.get("/v1/tasks", params=wanted).json()
        pages.append([one["id"] for one in answer["tasks"]])
        if (before := answer["next"]) is None:
            break
    assert [id for page in pages for id in page] == [task.id for task in reversed(made)]
    assert [len(page) for page in pages] == [2, 2, 1]
    times = [client.task(id).info["submitted"] for id in pages[0]]
    found = http.get("/v1/tasks", params={"session": session, "since": times[1], "state": "done"}).json()["tasks"]
    assert pages[0][0] in [one["id"] for one in found]
    assert http.get("/v1/tasks", params={"session": session, "until": 1}).json()["tasks"] == []
    assert http.post(f"/v1/sessions/{session}/close").json()["closed"]
    late = http.post("/v1/tasks", json={"program": BELL, "session": session})
    assert (late.status_code, late.json()["errors"][0]["field"]) == (422, "session")


def test_tasks_are_cancelled(client: ServiceClient) -> None:
    endless = client.submit_task({"program": LOOP, "shots": 10, "qpu": "aer"})
    assert endless.cancel()
    with pytest.raises(CancelledError):
        endless.result(60)
    done = client.submit_task({"program": BELL, "shots": 10, "qpu": "aer"})
    done.result(60)
    assert not done.cancel()


def test_equal_deterministic_tasks_run_once(client: ServiceClient, http: httpx.Client) -> None:
    def hits() -> float:
        lines = http.get("/metrics").text.splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith("pilot_service_cache_hits_total "))

    work = {"program": BELL, "shots": 1234, "seed": 99, "qpu": "aer"}
    first = client.submit_task(work).result(60)
    before = hits()
    assert client.submit_task(work).result(60) == first
    assert hits() == before + 1
    client.submit_task({**work, "reuse": False}).result(60)
    client.submit_task({**work, "seed": None}).result(60)
    assert hits() == before + 1


def test_the_site_is_shown(client: ServiceClient, http: httpx.Client) -> None:
    assert [one["name"] for one in client.pilots] == ["small"]
    assert client.qpus["fake:manila"]["qubits"] == 5
    one = http.get("/v1/qpus/fake:manila").json()
    assert {gate["name"] for gate in one["calibration"]["gates"]} >= {"cx", "sx"}
    assert http.get("/v1/qpus/fake:nonesuch").status_code == 404
    (estimate,) = client.estimate(BELL)
    assert 0.5 < estimate["fidelity"] < 1
    answers = [http.post("/v1/estimates", json={"program": "foo"}) for _ in range(3)]
    assert [one.status_code for one in answers] == [422, 422, 429]
    assert http.get("/health").json()["status"] == "ok"


def test_the_command_line_speaks_to_a_service(service: ServiceProcess, tmp_path: Path) -> None:
    (tmp_path / "bell.qasm").write_text(BELL)
    (tmp_path / "token").write_text(service.token)

    def pilot(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pilot.cli", *words, "--server", service.url]
        environment = {name: value for name, value in os.environ.items() if name != "QUANTUM_PILOT_TOKEN"}
        return subprocess.run(
            [*command, "--token-file", "token"], cwd=tmp_path, capture_output=True, text=True, env=environment
        )

    sent = pilot("submit", "bell.qasm", "--shots", "20", "--qpu", "aer")
    assert sent.returncode == 0, sent.stderr
    id = sent.stdout.split()[0]
    found = pilot("task", "result", id)
    assert sum(json.loads(found.stdout)[0]["results"][0]["counts"].values()) == 20
    assert "received → validated → persisted" in pilot("task", "status", id).stdout
    assert pilot("task", "cancel", id).stdout.split() == [id, "done"]
    refused = pilot("submit", "bell.qasm", "--shots", "0")
    assert (refused.returncode, "shots" in refused.stderr) == (2, True)
