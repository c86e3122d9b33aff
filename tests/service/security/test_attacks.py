"""What strangers, and users who want more than is theirs, try on a service; one server for this file."""

from __future__ import annotations

import base64
import gzip
import hmac
import json
import logging
import pickle
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from pilot.service.access import Access
from pilot.service.logs import JsonLines
from pilot.service.store import Store
from pilot.testing.services import ServiceProcess

pytestmark = pytest.mark.timeout(180)

BELL = 'OPENQASM 2.0; include "qelib1.inc"; qreg q[2]; creg c[2]; h q[0]; cx q[0],q[1]; measure q -> c;'
SETTINGS = """
[[pilots]]
name = "small"
cores_per_node = 1
[limits]
body_bytes = 100000
tasks_per_user = 50
"""
#: Routes that need no token: that the service lives, and logins (with a key of their own).
OPEN = {"/health", "/management/pilotosmachinelogin", "/management/login"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    with ServiceProcess(tmp_path_factory.mktemp("service"), SETTINGS) as process:
        yield process


@pytest.fixture(scope="module")
def alice(service: ServiceProcess) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {service.new_token('alice')}"}
    with httpx.Client(base_url=service.url, headers=headers, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def bob(service: ServiceProcess) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {service.new_token('bob')}"}
    with httpx.Client(base_url=service.url, headers=headers, timeout=60) as client:
        yield client


@pytest.fixture(autouse=True)
def service_lives(service: ServiceProcess) -> Iterator[None]:
    """After each attack it answers, and has noted no error of its own."""
    yield
    assert httpx.get(f"{service.url}/health").status_code == 200
    assert '"level": "error"' not in service.log


def raw(service: ServiceProcess, request: bytes) -> bytes:
    """What it answers to these bytes; it may also close the connection."""
    port = int(service.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(request)
        try:
            return connection.recv(65536)
        except ConnectionResetError:
            return b""


def get(path: str, client: httpx.Client) -> bytes:
    """A request for a path as it stands, by this user."""
    return f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {client.headers['Authorization']}\r\n\r\n".encode()


# ---- without a token -------------------------------------------------------------------------------------------


def test_no_route_answers_without_a_token(service: ServiceProcess, alice: httpx.Client) -> None:
    description = alice.get("/v1/openapi.json").json()
    routes = [(method, path) for path, methods in description["paths"].items() for method in methods]
    assert len(routes) > 15
    for method, path in [*routes, ("get", "/v1/openapi.json")]:
        if path in OPEN or re.match(r"/(task|oqcs|session|management)/", path):  # Origin's have a token in the body
            continue
        answer = httpx.request(method, service.url + re.sub(r"\{\w+\}", "A" * 32, path), content=b"{}")
        assert answer.status_code == 401, (method, path, answer.text)
        assert answer.headers["www-authenticate"] == "Bearer"
    for path in ("/docs", "/redoc", "/openapi.json", "/.env", "/store"):
        assert httpx.get(service.url + path).status_code == 404


def test_the_dashboard_is_for_administrators(service: ServiceProcess, alice: httpx.Client) -> None:
    refused = httpx.get(service.url, params={"token": "pilot_0000000000000000_" + "A" * 43})
    assert [httpx.get(service.url).status_code, refused.status_code, alice.get("/").status_code] == [401, 401, 403]
    assert alice.post("/").status_code == 404
    upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAA\r\n"
    for path in ("/", "/_nicegui_ws/socket.io/?EIO=4&transport=websocket&client_id=x"):
        assert b" 101 " not in raw(service, f"GET {path} HTTP/1.1\r\nHost: x\r\n{upgrade}\r\n".encode())[:20]
    page = httpx.get(service.url, params={"token": service.token})
    assert page.status_code == 200
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert httpx.get(service.url, headers={"Authorization": f"Bearer {service.token}"}).status_code == 200


@pytest.mark.parametrize(
    "value",
    [
        "Bearer",
        "Bearer pilot_0000000000000000_" + "A" * 43,
        "Bearer ' or 1=1 --",
        "Bearer " + "A" * 4000,
        "Basic YWxpY2U6YWxpY2U=",
        "Bearer null",
        "Bearer pilot_*_%",
        "Bearer \u00e9".encode(),
    ],
)
def test_what_is_no_token(service: ServiceProcess, value: str | bytes) -> None:
    answer = httpx.get(f"{service.url}/v1/tasks", headers={b"Authorization": value})
    assert answer.status_code == 401


def test_secrets_are_compared_in_the_same_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown token and a wrong secret take the same way: one comparison, of digests of one length, that does not
    end at the first difference."""
    store = Store(f"sqlite:///{tmp_path}/store.db")
    access = Access(store)
    good = access.new("alice")
    compared = []
    right = hmac.compare_digest
    monkeypatch.setattr(
        hmac, "compare_digest", lambda one, two: compared.append((len(one), len(two))) or right(one, two)
    )
    assert access.user_of(good) is not None
    assert access.user_of(good[:-1] + ("A" if good[-1] != "A" else "B")) is None
    assert access.user_of("pilot_" + "0" * 16 + good[22:]) is None
    assert compared == [(64, 64)] * 3
    store.close()


def test_tokens_are_not_on_disk_and_not_in_logs(service: ServiceProcess, alice: httpx.Client) -> None:
    alice.get("/v1/tasks")
    secrets = [service.token.rpartition("_")[2], alice.headers["Authorization"].rpartition("_")[2]]
    files = [path for path in service.folder.rglob("*") if path.is_file() and path.name != "service.out"]
    assert any(path.name.startswith("service.db") for path in files)
    for path in files:
        content = path.read_bytes()
        assert not [secret for secret in secrets if secret.encode() in content], path


def test_logs_have_no_token_of_an_address() -> None:
    path = f"/?token=pilot_{'0a' * 8}_{'A_-' * 14}B"
    record = logging.LogRecord("uvicorn.access", logging.INFO, "", 0, '"GET %s"', (path,), None)
    assert json.loads(JsonLines().format(record))["message"] == '"GET /?token=pilot_…"'


def test_a_revoked_token_is_refused(service: ServiceProcess, eventually: Callable[..., object]) -> None:
    from pilot.cli import main as cli

    token = service.new_token("carol")
    headers = {"Authorization": f"Bearer {token}"}
    assert httpx.get(f"{service.url}/v1/tasks", headers=headers).status_code == 200
    assert cli.main(["token", "revoke", token.split("_")[1], "--config", str(service.settings)]) == 0
    eventually(lambda: httpx.get(f"{service.url}/v1/tasks", headers=headers).status_code == 401, timeout=30)


# ---- other users -----------------------------------------------------------------------------------------------


def test_others_tasks_do_not_exist(alice: httpx.Client, bob: httpx.Client) -> None:
    id = alice.post("/v1/tasks", json={"program": BELL, "qpu": "aer"}).json()["ids"][0]
    session = alice.post("/v1/sessions", json={"name": "mine"}).json()["id"]
    for method, path in (
        ("GET", "/v1/tasks/{}"),
        ("GET", "/v1/tasks/{}/result"),
        ("POST", "/v1/tasks/{}/cancel"),
        ("GET", "/v1/tasks/{}/explain"),
        ("GET", "/v1/events?task={}"),
    ):
        its, nobodys = (bob.request(method, path.format(one)) for one in (id, "0" * 32))
        assert its.status_code == 404, path
        assert its.text.replace(id, "") == nobodys.text.replace("0" * 32, "")  # it does not say that there is one
    assert bob.get("/v1/tasks").json()["tasks"] == []
    assert bob.get("/v1/tasks", params={"everybody": "true"}).status_code == 422
    assert bob.get(f"/v1/sessions/{session}").status_code == 404
    assert bob.post(f"/v1/sessions/{session}/close").status_code == 404
    assert bob.post("/v1/tasks", json={"program": BELL, "session": session}).status_code == 422
    assert bob.get("/v1/counts").json()["active"] == 0


def test_ids_cannot_be_guessed(alice: httpx.Client) -> None:
    body = {"tasks": [{"program": BELL, "qpu": "aer"}] * 20}
    ids = [int(id, 16) for id in alice.post("/v1/batches", json=body).json()["ids"]]
    ones = sum(id.bit_count() for id in ids)
    assert abs(ones - 20 * 64) < 6 * (20 * 128 / 4) ** 0.5  # as of a fair coin: six standard deviations
    assert len({id >> 64 for id in ids}) == len({id & (1 << 64) - 1 for id in ids}) == 20


def test_one_user_cannot_fill_the_service(bob: httpx.Client) -> None:
    loop = "OPENQASM 3.0;\nqubit q;\nbit b;\nwhile (true) { reset q; }\nb = measure q;"
    body = {"tasks": [{"program": loop, "shots": 1, "qpu": "aer"}] * 60}
    refused = bob.post("/v1/batches", json=body)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "10")
    assert bob.get("/v1/counts").json()["active"] == 0  # all or none


# ---- paths, headers, bodies ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        *("/v1/../../etc/passwd", "/v1/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/v1/tasks/..%2f..%2fetc%2fpasswd"),
        *("/v1/qpus/../../../etc/passwd", "/v1/tasks/%00", "/v1/tasks/" + "A" * 5000, "/v1/tasks/' OR 1=1 --"),
        *("/v1/qpus/%00", "/v1/qpus/%ff", "/v1/tasks;x=1/../health"),
    ],
)
def test_paths_lead_nowhere(service: ServiceProcess, alice: httpx.Client, path: str) -> None:
    head = (
        f"GET {path.replace(' ', '%20')} HTTP/1.1\r\nHost: x\r\nAuthorization: {alice.headers['Authorization']}\r\n\r\n"
    )
    answer = raw(service, head.encode())
    assert re.match(rb"HTTP/1.1 4\d\d ", answer), answer[:300]
    assert b"root:" not in answer


@pytest.mark.parametrize(
    "head",
    [
        "POST /v1/tasks HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcde",
        "POST /v1/tasks HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /v1/tasks HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        "POST /v1/tasks HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "POST /v1/tasks HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        "GET /v1/tasks HTTP/9.9\r\nHost: x\r\n\r\n",
        "GET /v1/tasks HTTP/1.1\r\nHost: x\r\nX: \0\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        "GET /v1/tasks HTTP/1.1\r\nHost: x\r\n" + "X: " + "y" * 100_000 + "\r\n\r\n",
    ],
)
def test_requests_that_are_none(service: ServiceProcess, head: str) -> None:
    answer = raw(service, head.encode("latin-1"))
    assert answer == b"" or re.match(rb"HTTP/1.1 (4\d\d) ", answer), answer[:300]


def test_an_answer_cannot_be_split(service: ServiceProcess, alice: httpx.Client) -> None:
    answer = raw(service, get("/v1/qpus/x%0d%0aSet-Cookie:%20a=b", alice))
    assert b"set-cookie" not in answer.partition(b"\r\n\r\n")[0].lower()


def send_large_bodies(alice: httpx.Client) -> None:
    """All are refused."""
    large = alice.post("/v1/tasks", json={"program": "x" * 200_000})
    assert (large.status_code, large.headers["content-type"]) == (413, "application/problem+json")
    headers = {"Content-Type": "application/json"}
    chunks = (b"x" * 10_000 for _ in range(1000))
    assert alice.post("/v1/tasks", content=chunks, headers=headers).status_code == 413
    bomb = gzip.compress(b'{"program": "' + b"x" * (64 << 20) + b'"}')
    answer = alice.post("/v1/tasks", content=bomb, headers={**headers, "Content-Encoding": "gzip"})
    assert answer.status_code in (400, 415, 422)
    nested = b'{"program": "x", "args": ' + b"[" * 45_000 + b"]" * 45_000 + b"}"
    assert alice.post("/v1/tasks", content=nested, headers=headers).status_code in (400, 422)


def test_large_and_compressed_bodies(service: ServiceProcess, alice: httpx.Client) -> None:
    def peak() -> int:
        """Bytes of memory that the service took for them at most."""
        Path(f"/proc/{service.pid}/clear_refs").write_text("5")  # forgets the largest so far
        before = psutil.Process(service.pid).memory_info().rss
        send_large_bodies(alice)
        status = Path(f"/proc/{service.pid}/status").read_text()
        return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) * 1024 - before

    # once, it may also import what earlier tasks need
    assert min(peak(), peak()) < 32 << 20


def test_a_page_of_another_site_cannot_use_a_browser(service: ServiceProcess, alice: httpx.Client) -> None:
    origin = {"Origin": "https://evil.example"}
    body = json.dumps({"program": BELL})
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        answer = alice.post("/v1/tasks", content=body, headers={**origin, "Content-Type": kind})
        assert answer.status_code == 415, kind  # forms can send these without asking; JSON they cannot
    asked = httpx.options(f"{service.url}/v1/tasks", headers={**origin, "Access-Control-Request-Method": "POST"})
    assert asked.status_code == 405
    answer = alice.get("/v1/tasks", headers=origin)
    assert not [name for name in answer.headers if name.startswith(("access-control", "set-cookie"))]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    cookie = {"Cookie": f"token={service.token}; Authorization=Bearer {service.token}"}
    assert httpx.get(f"{service.url}/v1/tasks", headers=cookie).status_code == 401


# ---- programs --------------------------------------------------------------------------------------------------


class Harm:
    """Makes a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path(self.path),)


def test_programs_read_no_files_and_run_no_code(
    alice: httpx.Client, tmp_path: Path, eventually: Callable[..., object]
) -> None:
    secret = tmp_path / "secret.qasm"
    secret.write_text("SECRET")
    pickled = base64.b64encode(pickle.dumps(Harm(str(tmp_path / "harm")))).decode()
    programs = [
        str(secret),
        "/etc/passwd",
        f'OPENQASM 2.0; include "{secret}"; qreg q[1];',
        f'OPENQASM 3.0; include "{secret}"; qubit q;',
        f'OPENQASM 2.0; include "{tmp_path}/../../../etc/passwd"; qreg q[1];',
        pickled,
        "__import__('os').system('touch harm')",
        "OPENQASM 2.0; qreg q[4000000000];",
    ]
    ids = alice.post("/v1/batches", json={"tasks": [{"program": one} for one in programs]}).json()["ids"]
    for id, program in zip(ids, programs, strict=True):
        view = eventually(lambda id=id: over(alice, id), timeout=120)
        assert view["state"] == "invalid", (program, view)
        assert "SECRET" not in json.dumps(view)
        assert "root:" not in json.dumps(view)
    assert not (tmp_path / "harm").exists()
    for function in ("eval", "builtins:eval", "os:system", "../x"):
        assert alice.post("/v1/tasks", json={"function": function, "args": ["1"]}).status_code == 422


def over(client: httpx.Client, id: str) -> dict[str, object] | None:
    view: dict[str, object] = client.get(f"/v1/tasks/{id}").json()
    return view if view["state"] not in ("received", "queued", "running") else None


def test_the_folder_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pilot.service.settings import home

    (tmp_path / "open").mkdir(mode=0o777)
    monkeypatch.setenv("QUANTUM_PILOT_SERVICE", str(tmp_path / "open"))
    assert home().stat().st_mode & 0o777 == 0o700
