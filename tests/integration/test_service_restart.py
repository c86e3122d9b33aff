"""A service that is killed loses nothing: every accepted task ends once, with the same id and the right result, or as
cancelled if that was asked for. A store has one service."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import json
import platform
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from sqlalchemy import create_engine, text

from pilot import SessionError
from pilot.service import store_lock
from pilot.service.client import RemoteTask, ServiceClient
from pilot.service.database import checked_url
from pilot.service.store import Store
from pilot.service.store_lock import StoreLock
from pilot.testing.polling import eventually
from pilot.testing.postgres import PostgresServer, programs
from pilot.testing.services import ServiceProcess

pytestmark = pytest.mark.timeout(400)

SETTINGS = """
[[pilots]]
name = "small"
cores_per_node = 2
[limits]
window = 20
[functions]
sleep = "time:sleep"
"""
COUNT = 40
BITS = 7


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


def flips(value: int, gate: str) -> str:
    """Gates that prepare a number."""
    return "".join(gate.format(bit) for bit in range(BITS) if value >> bit & 1)


def openqasm(value: int) -> str:
    register = f'OPENQASM 2.0; include "qelib1.inc"; qreg q[{BITS}]; creg c[{BITS}];'
    return f"{register} {flips(value, 'x q[{}];')} measure q -> c;"


def originir(value: int) -> str:
    return f"QINIT {BITS}\nCREG {BITS}\n{flips(value, 'X q[{}]' + chr(10))}MEASURE q,c"


class OriginUser:
    """Sends tasks to a simulator by Origin's API."""

    def __init__(self, client: ServiceClient, token: str) -> None:
        self._client, self._token = client, token

    def post(self, path: str, **body: Any) -> dict[str, Any]:
        reply: dict[str, Any] = self._client.request("POST", path, json={"token": self._token, **body})
        assert reply["errCode"] == 0, reply
        return reply

    def submit(self, value: int) -> str:
        reply = self.post("/task/run", QMachineType="0", QProg=originir(value), Configuration={"shot": 10})
        id: str = reply["taskId"]
        return id

    def result(self, id: str) -> dict[str, float]:
        """Probabilities, once it is finished."""
        reply = eventually(
            lambda: (found := self.post("/task/realQuantum/query", taskId=id))["taskState"] == "3" and found, 60
        )
        table = json.loads(reply["taskResult"][0])
        return dict(zip(table["key"], table["value"], strict=True))


def certificate(folder: Path) -> tuple[Path, Path]:
    """Files with a certificate for 127.0.0.1 and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "service")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "cert.pem").write_bytes(made.public_bytes(pem))
    plain = serialization.NoEncryption()
    (folder / "key.pem").write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    return folder / "cert.pem", folder / "key.pem"


def agent(service: ServiceProcess) -> list[psutil.Process]:
    """The processes of its pilot's agent."""
    session = f"{service.folder}/session"
    found = [(one, one.info["cmdline"] or ()) for one in psutil.process_iter(["cmdline"])]
    return [process for process, words in found if "pilot.agent" in words and session in words]


def stop_while_tasks_wait(service: ServiceProcess, client: ServiceClient) -> None:
    """SIGTERM while both cores are busy: a task that the manager has runs after the next start."""
    sleeping = [client.submit_task({"function": "sleep", "args": [3600]}) for _ in range(2)]
    eventually(lambda: all(task.state == "running" for task in sleeping), 60)
    waiting = client.submit_task({"program": openqasm(0), "shots": 5, "qpu": "aer"})  # it was parsed before
    eventually(lambda: waiting.state == "queued", 60)
    assert service.stop() == 0
    service.start()
    assert all(task.cancel() for task in sleeping)
    assert waiting.result(60).get_counts() == {"0" * BITS: 5}


@pytest.mark.parametrize(
    "kind",
    [
        "sqlite",
        pytest.param("postgresql", marks=pytest.mark.skipif(programs() is None, reason="PostgreSQL is not installed")),
    ],
)
def test_nothing_is_lost_or_run_twice(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    tls = certificate(tmp_path) if kind == "postgresql" else None
    store = request.getfixturevalue("postgres").url if kind == "postgresql" else f"sqlite:///{tmp_path}/service.db"
    accepted: list[RemoteTask] = []
    halfway, go_on = threading.Event(), threading.Event()
    with (
        ServiceProcess(tmp_path, SETTINGS, store=store, tls=tls, dashboard=False) as service,
        ServiceClient(service.url, service.token, verify=str(tls[0]) if tls else True, retry_seconds=60) as client,
        ThreadPoolExecutor(1) as pool,
    ):

        def submit() -> None:
            for value in range(COUNT):
                if value == COUNT // 2:
                    halfway.set()
                    go_on.wait()
                accepted.append(client.submit_task({"program": openqasm(value), "shots": 3, "qpu": "aer"}))

        first = client.submit_task({"program": openqasm(0)})
        first.result(60)  # the pilot is there
        if kind == "sqlite":
            stop_while_tasks_wait(service, client)
        second = pool.submit(ServiceProcess(tmp_path / "second", store=store).start)
        session = client.request("POST", "/v1/sessions", json={"name": "mine"})["id"]
        endless = client.submit_task({"function": "sleep", "args": [3600], "session": session})
        eventually(lambda: endless.state == "running", 60)
        origin = OriginUser(client, service.token)
        by_origin = [origin.submit(value) for value in range(5)]
        thread = threading.Thread(target=submit, daemon=True)
        thread.start()
        assert halfway.wait(60)
        processes = agent(service)
        for process in processes:
            process.suspend()  # it confirms nothing
        if kind == "sqlite":
            assert client.request("POST", f"/v1/tasks/{endless.id}/cancel")["state"] == "running"
        else:
            client.request("POST", f"/v1/sessions/{session}/close")
        with pytest.raises(AssertionError, match=f"process {service.pid} on host {platform.node()}, since "):
            second.result()
        go_on.set()
        service.kill()  # there are tasks of each kind: over, with the pilot, in the store, not yet sent
        for process in processes:
            process.resume()
        service.start()
        thread.join(60)
        assert len(accepted) == COUNT
        found = [task.result(60).get_counts() for task in accepted]
        assert found == [{f"{value:0{BITS}b}": 3} for value in range(COUNT)]
        assert [origin.result(id) for id in by_origin] == [{f"{value:0{BITS}b}": 1.0} for value in range(5)]
        eventually(lambda: endless.state == "cancelled", 60)
        ids = {task.id for task in client.tasks(state="done", limit=1000)}
        assert ids >= {first.id, *(task.id for task in accepted), *by_origin}
        assert client.request("GET", "/v1/counts")["done"] == len(ids) == COUNT + (7 if kind == "sqlite" else 6)
    engine = create_engine(checked_url(store))
    with contextlib.closing(engine.connect()) as connection:
        assert connection.execute(text("select count(*) from results")).scalar() == len(ids)
    engine.dispose()


@pytest.mark.skipif(programs() is None, reason="PostgreSQL is not installed")
def test_a_lock_whose_connection_breaks_is_taken_again(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_lock, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(store_lock, "WAIT_SECONDS", 1)
    lost = threading.Event()
    with contextlib.closing(Store(postgres.url)) as first, contextlib.closing(Store(postgres.url)) as second:

        def holders() -> set[int]:
            with first.engine.connect() as connection:
                query = text("select pid from pg_locks where locktype = 'advisory' and granted")
                return set(connection.execute(query).scalars())

        def cut(pid: int) -> None:
            with first.engine.connect() as connection:
                connection.execute(text(f"select pg_terminate_backend({pid})"))

        with StoreLock(first.engine) as lock:
            lock.watch(lost.set)
            (pid,) = holders()
            cut(pid)
            eventually(lambda: holders() - {pid}, 30)
            with pytest.raises(SessionError, match="is used by another service"), StoreLock(second.engine):
                pass
            assert not lost.is_set()
        with StoreLock(first.engine) as lock:
            (pid,) = holders()
            cut(pid)
            with StoreLock(second.engine):
                lock.watch(lost.set)
                assert lost.wait(30)
            assert lock.is_lost
        broken = first.writer.put(
            lambda connection, _: [connection.execute(text("select pg_terminate_backend(pg_backend_pid())"))], None
        )
        with pytest.raises(SessionError, match=r"cannot be written: .*terminating connection"):
            broken.result(30)
