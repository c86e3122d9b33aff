"""IBM's quantum service as far as its clients need it, on a loopback port: qiskit-ibm-runtime and QRMI speak to it.

It knows IAM's tokens, backends (configuration, properties and status of a snapshot), sessions and batches, jobs and
their results. Circuits are run by Aer on the qubits that they use, without noise. What was asked for is in `requests`.
"""

from __future__ import annotations

import base64
import json
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CRN = "crn:v1:bluemix:public:quantum-computing:us-east:a/0123456789abcdef:11111111-2222-3333-4444-555555555555::"
API_KEY = "test-key"
BACKEND = "ibm_manila"


class QuantumService:
    """The service's state; `address` is where it listens."""

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.sessions: dict[str, dict[str, Any]] = {}
        self.requests: list[tuple[str, str]] = []
        #: Jobs stay queued while this is set.
        self.held = threading.Event()
        #: The next jobs fail with these words.
        self.failure: str | None = None
        self.operational = True
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self.held.clear()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def submit(self, body: dict[str, Any]) -> dict[str, Any]:
        identity = f"job{uuid.uuid4().hex[:16]}"
        state = "Failed" if self.failure else "Queued" if self.held.is_set() else "Completed"
        job = {"id": identity, "status": state, "reason": self.failure or "", "body": body, "result": None}
        if state == "Completed":
            job["result"] = (_execute if body["program_id"] == "executor" else _sample)(body["params"])
        self.jobs[identity] = job
        return {"id": identity, "backend": body.get("backend", BACKEND)}

    def describe(self, identity: str) -> dict[str, Any]:
        job = self.jobs[identity]
        return {
            "id": identity,
            "backend": job["body"].get("backend", BACKEND),
            "status": job["status"],
            "state": {"status": job["status"], "reason": job["reason"]},
            "program": {"id": job["body"].get("program_id", "sampler")},
            "params": {} if job["body"].get("program_id") == "executor" else {"version": 2},
            "created": "2026-01-01T00:00:00.000Z",
            "session_id": job["body"].get("session_id"),
            "user_id": "tester",
            "cost": 600,
            "private": False,
        }

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        """Status code, and what is sent: a text as it is, else as JSON."""
        parts = [part for part in path.split("/") if part and part not in ("experimental", "v1")]
        match (method, *parts):
            case ("POST", "identity", "token"):
                return 200, _token()
            case ("GET", "backends"):
                return 200, {"devices": [{"name": BACKEND, "queue_length": 3, "status": {"name": "online"}}]}
            case ("GET", "backends", name, what) if name == BACKEND:
                return 200, self.backend(what)
            case ("GET", "instances", "usage"):
                return 200, {"usage_limit_reached": False, "usage_consumed_seconds": 0, "instance_id": CRN}
            case ("POST", "sessions"):
                identity = f"session{uuid.uuid4().hex[:12]}"
                self.sessions[identity] = {"id": identity, "state": "open", "accepting_jobs": True, **(body or {})}
                return 200, self.sessions[identity]
            case ("GET", "sessions", identity) if identity in self.sessions:
                return 200, self.sessions[identity]
            case ("PATCH", "sessions", identity) if identity in self.sessions:
                self.sessions[identity].update(body or {}, state="closed")
                return 204, ""
            case ("DELETE", "sessions", identity, "close") if identity in self.sessions:
                self.sessions[identity].update(accepting_jobs=False, state="closed")
                return 204, ""
            case ("POST", "jobs"):
                session = self.sessions.get(body.get("session_id") or "")
                if session is not None and not session["accepting_jobs"]:
                    return 400, _error(1217, "Session has been closed.")
                return 200, self.submit(body)
            case ("GET", "jobs"):
                return 200, {
                    "jobs": [self.describe(job) for job in self.jobs],
                    "count": len(self.jobs),
                    "limit": 200,
                    "offset": 0,
                }
            case ("GET", "jobs", identity) if identity in self.jobs:
                return 200, self.describe(identity)
            case ("GET", "jobs", identity, "results") if identity in self.jobs:
                return 200, self.jobs[identity]["result"]
            case ("GET", "jobs", identity, "logs") if identity in self.jobs:
                return 200, self.jobs[identity]["reason"]
            case ("POST", "jobs", identity, "cancel") if identity in self.jobs:
                if self.jobs[identity]["status"] != "Queued":
                    return 409, _error(1404, "Job is already in a final state.")
                self.jobs[identity]["status"] = "Cancelled"
                return 204, ""
            case ("DELETE", "jobs", identity) if identity in self.jobs:
                return 204, ""
        return 404, _error(1291, f"{method} {path} was not found.")

    def backend(self, what: str) -> Any:
        from qiskit_ibm_runtime.fake_provider import FakeManilaV2

        snapshot = FakeManilaV2()
        if what == "status":
            return {
                "state": self.operational,
                "status": "active" if self.operational else "internal",
                "backend_version": "1.0.0",
                "length_queue": 3,
            }
        name = {"configuration": snapshot.conf_filename, "properties": snapshot.props_filename}[what]
        described = json.loads((_folder(snapshot) / name).read_text())
        described["backend_name"] = BACKEND
        return described


def _folder(snapshot: Any) -> Any:
    from pathlib import Path

    return Path(snapshot.dirname)


def _handler(service: QuantumService) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            raw = self.rfile.read(length)
            path = self.path.partition("?")[0]
            body = json.loads(raw) if raw[:1] == b"{" else None
            service.requests.append((self.command, path))
            if "identity" in path and API_KEY not in raw.decode():
                code, answer = 400, {"errorCode": "BXNIM0415E", "errorMessage": "Provided API key could not be found."}
            elif "identity" not in path and not self.headers.get("Authorization", "").startswith("Bearer"):
                code, answer = 401, _error(1200, "Unauthorized")
            else:
                code, answer = service.answer(self.command, path, body)
            payload = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("Content-Type", "text/plain" if isinstance(answer, str) else "application/json")
            self.send_header("Content-Length", str(0 if code == 204 else len(payload)))
            self.end_headers()
            if code != 204:
                self.wfile.write(payload)

        do_GET = do_POST = do_PATCH = do_DELETE = do_PUT = _serve  # noqa: N815 - the names http.server wants

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler


def _error(code: int, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message}, "errors": [{"code": str(code), "message": message}]}


def _token() -> dict[str, Any]:
    """As IAM gives it: a JSON web token, whose signature no client checks."""

    def part(value: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    now = int(time.time())
    token = ".".join((part({"alg": "HS256", "typ": "JWT"}), part({"iat": now, "exp": now + 3600}), "c2lnbmF0dXJl"))
    return {
        "access_token": token,
        "refresh_token": "not_supported",
        "token_type": "Bearer",
        "expires_in": 3600,
        "expiration": now + 3600,
        "scope": "ibm openid",
    }


def _sample(params: dict[str, Any]) -> str:
    """The sampler's answer, as the service encodes it."""
    from qiskit.primitives import DataBin, PrimitiveResult, SamplerPubResult
    from qiskit_ibm_runtime.json import RuntimeEncoder

    results = []
    for pub in params["pubs"]:
        circuit, shots = _circuit(pub[0]), pub[2] if len(pub) > 2 and pub[2] else params.get("shots") or 4096
        results.append(SamplerPubResult(DataBin(**_registers(circuit, shots), shape=())))
    return json.dumps(PrimitiveResult(results, metadata={"version": 2}), cls=RuntimeEncoder)


def _execute(params: dict[str, Any]) -> str:
    """The executor's answer: what qiskit-ibm-runtime's newer sampler asks for."""
    from ibm_quantum_schemas.common import CompressedTensorModel
    from ibm_quantum_schemas.executor import version_2_0 as schema
    from qiskit_ibm_runtime.quantum_program.converters import quantum_program_from_2_0

    program, _ = quantum_program_from_2_0(schema.ParamsModel(**params))
    items = []
    for item in program.items:
        arrays = {
            name: CompressedTensorModel.from_numpy(bits.to_bool_array(order="little"))
            for name, bits in _registers(item.circuit, program.shots).items()
        }
        items.append({"results": arrays, "metadata": {"scheduler_timing": None, "stretch_values": None}})
    return schema.QuantumProgramResultModel(
        data=items,
        metadata={"chunk_timing": []},
        passthrough_data=_tensors(program.passthrough_data),
        semantic_role=program._semantic_role,
    ).model_dump_json()


def _tensors(data: Any) -> Any:
    from qiskit_ibm_runtime.quantum_program.converters.converters_2_0 import passthrough_data_to_2_0

    return passthrough_data_to_2_0(data)


def _circuit(encoded: Any) -> Any:
    """From OpenQASM 3, or from QPY as qiskit-ibm-runtime encodes it."""
    from qiskit import qasm3
    from qiskit_ibm_runtime.json import RuntimeDecoder

    if isinstance(encoded, str):
        return qasm3.loads(encoded)
    return json.loads(json.dumps(encoded), cls=RuntimeDecoder)


def _registers(circuit: Any, shots: int) -> dict[str, Any]:
    import numpy as np
    from qiskit.primitives import BitArray
    from qiskit_aer import AerSimulator

    memory = AerSimulator().run(circuit, shots=shots, seed_simulator=7, memory=True).result().get_memory(0)
    arrays = {}
    for at, register in enumerate(reversed(circuit.cregs)):
        texts = [shot.split(" ")[at] for shot in memory]
        bits = np.array([[digit == "1" for digit in text[::-1]] for text in texts], dtype=bool)
        arrays[register.name] = BitArray.from_bool_array(bits, order="little")
    return arrays
