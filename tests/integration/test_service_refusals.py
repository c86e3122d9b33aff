"""What a service without pilots refuses, and how it says so."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import httpx
import pytest
from sqlalchemy import create_engine, text

from pilot.testing.services import ServiceProcess

SETTINGS = """
[limits]
tasks_per_user = 3
program_bytes = 1024
[[autoscale]]
maximum = 1
delay = "1:00:00"
[autoscale.pilot]
"""
BELL = 'OPENQASM 2.0; include "qelib1.inc"; qreg q[2]; creg c[2]; h q[0]; cx q[0],q[1]; measure q -> c;'
ID = "0" * 32


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    with ServiceProcess(tmp_path_factory.mktemp("service"), SETTINGS, dashboard=False) as service:
        yield service


@pytest.fixture
def http(service: ServiceProcess) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {service.token}"}
    with httpx.Client(base_url=service.url, headers=headers, timeout=30) as http:
        yield http


def test_a_refused_batch_names_the_task_and_what_was_given(http: httpx.Client) -> None:
    tasks = [{"program": BELL, "shots": 5}, {"program": BELL, "shots": 1_000_001}]
    (error,) = http.post("/v1/batches", json={"tasks": tasks}).json()["errors"]
    assert (error["field"], error["given"]) == ("tasks.1.shots", "1000001")
    assert http.post("/v1/tasks", json={"program": "//" + "é" * 600}).status_code == 413  # 1,202 bytes


@pytest.mark.parametrize("demand", [{"deadline": 60}, {"max_cost": 5}, {"fallback": "wait"}])
def test_what_the_policy_cannot_see_to_is_refused_at_once(http: httpx.Client, demand: dict[str, object]) -> None:
    answer = http.post("/v1/tasks", json={"program": BELL, "shots": 5, "qpu": "*", **demand})
    (field,) = demand
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field)
    assert "the policy 'balanced' of this service chooses no QPUs" in answer.text


def test_fields_of_programs_are_refused_with_a_function(http: httpx.Client) -> None:
    answer = http.post("/v1/tasks", json={"function": "pow", "shots": 5, "qpu": "aer"})
    assert answer.status_code == 422 and "shots, qpu: only with a program" in answer.text


def test_a_path_with_a_slash_too_many_leads_nowhere(http: httpx.Client) -> None:
    answer = http.get("/v1/tasks/")
    assert (answer.status_code, answer.json()["detail"]) == (404, "there is no GET /v1/tasks/")
    assert http.get("/v1/tasks", params={"stat": "done"}).json()["errors"][0]["field"] == "stat"


def test_a_submission_that_is_repeated_at_the_limit_gets_its_tasks(http: httpx.Client) -> None:
    body = {"tasks": [{"program": BELL, "shots": 5}] * 2}
    first = http.post("/v1/batches", json=body, headers={"Idempotency-Key": "k"})
    assert http.post("/v1/batches", json=body).status_code == 429
    again = http.post("/v1/batches", json=body, headers={"Idempotency-Key": "k"})
    assert first.status_code == again.status_code == 202 and again.json() == first.json()


def test_a_client_that_vanishes_is_no_error_of_the_service(service: ServiceProcess, http: httpx.Client) -> None:
    head = f"Host: x\r\nAuthorization: Bearer {service.token}\r\nContent-Type: application/json\r\nContent-Length: 99"
    for path in ("/v1/tasks", "/v1/batches", "/task/realQuantum/run"):
        with socket.create_connection(("127.0.0.1", httpx.URL(service.url).port or 0)) as connection:
            connection.sendall(f"POST {path} HTTP/1.1\r\n{head}\r\n\r\n{{".encode())
        assert http.get("/health").status_code == 200
    assert "ClientDisconnect" not in service.log


def test_a_store_that_is_away_is_no_fault_of_the_request(service: ServiceProcess, http: httpx.Client) -> None:
    engine = create_engine(service.store)
    with engine.begin() as connection:
        for table in ("tasks", "sessions", "counters"):
            connection.execute(text(f"alter table {table} rename to away_{table}"))
    try:
        paths = (f"/v1/tasks/{ID}", "/v1/tasks", "/v1/counts", "/v1/sessions", f"/v1/events?task={ID}", "/metrics")
        answers = [
            *map(http.get, paths),
            *(http.post(path, json={}) for path in ("/v1/sessions", f"{paths[0]}/cancel")),
        ]
        for answer in answers:
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "10"), answer.text
            assert "no such table" in answer.json()["detail"] and "SELECT" not in answer.text
        query = http.post("/task/realQuantum/query", json={"token": service.token, "taskId": ID})
        assert (query.status_code, query.json()["errCode"], query.json()["taskState"]) == (200, 1, "1")
    finally:
        with engine.begin() as connection:
            for table in ("tasks", "sessions", "counters"):
                connection.execute(text(f"alter table away_{table} rename to {table}"))
        engine.dispose()
