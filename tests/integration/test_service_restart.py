"""A service that is killed loses nothing: every accepted task ends once, with the same id and the right result."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from sqlalchemy import create_engine, text

from pilot.service.client import RemoteTask, ServiceClient
from pilot.service.database import checked_url
from pilot.testing.postgres import PostgresServer, programs
from pilot.testing.services import ServiceProcess

pytestmark = pytest.mark.timeout(180)

SETTINGS = """
[[pilots]]
name = "small"
cores_per_node = 2
[limits]
window = 20
"""
COUNT = 40


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


def number(value: int) -> str:
    """A circuit that prepares a number of seven bits."""
    flips = " ".join(f"x q[{bit}];" for bit in range(7) if value >> bit & 1)
    return f'OPENQASM 2.0; include "qelib1.inc"; qreg q[7]; creg c[7]; {flips} measure q -> c;'


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
    halfway = threading.Event()
    with (
        ServiceProcess(tmp_path, SETTINGS, store=store, tls=tls) as service,
        ServiceClient(service.url, service.token, verify=str(tls[0]) if tls else True, retry_seconds=60) as client,
    ):

        def submit() -> None:
            for value in range(COUNT):
                accepted.append(client.submit_task({"program": number(value), "shots": 3, "qpu": "aer"}))
                if value == COUNT // 2:
                    halfway.set()

        client.submit_task({"program": number(0)}).result(60)  # the pilot is there
        thread = threading.Thread(target=submit)
        thread.start()
        assert halfway.wait(60)  # there are tasks of each kind: over, with the pilot, in the store, not yet sent
        service.kill()
        service.start()
        thread.join(60)
        assert len(accepted) == COUNT
        if kind == "sqlite":
            assert service.stop() == 0  # SIGTERM: what has not run by then runs after the next start
            service.start()
        found = [task.result(60).get_counts() for task in accepted]
        assert found == [{f"{value:07b}": 3} for value in range(COUNT)]
        assert {task.id for task in client.tasks(limit=1000)} > {task.id for task in accepted}
        counts = client.request("GET", "/v1/counts")
        assert counts == {"active": 0, "done": COUNT + 1, "failed": 0, "cancelled": 0, "invalid": 0}
    engine = create_engine(checked_url(store))
    with contextlib.closing(engine.connect()) as connection:
        assert connection.execute(text("select count(*) from results")).scalar() == COUNT + 1
    engine.dispose()
