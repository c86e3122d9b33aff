"""`ServiceClient`: the manager's methods, for a service at a URL. Needs httpx, and Qiskit only for its objects."""

from __future__ import annotations

import os
import re
import ssl
import time
import uuid
from collections.abc import Iterable, Mapping
from concurrent.futures import CancelledError
from types import TracebackType
from typing import Any

import httpx
import msgspec

from pilot.descriptions import TaskDescription
from pilot.errors import DescriptionError, PilotError, ProgramError, SessionError, TaskError, invalid
from pilot.service.remote_results import CircuitResult, result_of

#: Where the token is when none is given.
TOKEN = "QUANTUM_PILOT_TOKEN"
#: Seconds between two looks at a task: first, and at most.
_FIRST_LOOK, _LOOK = 0.02, 1.0
#: Answers after which the same request may succeed a moment later.
_AGAIN = (429, 502, 503, 504)
_ENDS = ("done", "failed", "cancelled", "invalid")
_ID = re.compile("[0-9A-F]{32}")
#: What can stand in a header: a text with other characters is refused before it is sent.
_PRINTABLE = re.compile("[!-~]+")
#: Rows that a list of tasks has at most.
_PAGE = 1000
#: What a service takes beside the fields of a description.
_OF_SERVICE = ("project", "session", "reuse")
#: Fields of a description that a service takes, beside the circuit.
_FIELDS = (
    *("shots", "observables", "tomography", "parameters", "qpu", "min_fidelity", "deadline", "max_cost", "fallback"),
    *(
        "mitigation",
        "share_qpu",
        "optimization_level",
        "seed",
        "priority",
        "timeout",
        "expected_duration",
        "retries",
        "pilot",
        "labels",
        "name",
    ),
)
#: Those in which a text stands for a list of one.
_LISTS = ("observables", "mitigation")
#: Of all fields that can be given beside a circuit.
_DEFAULTS = {
    one.name: one.default if one.default_factory is msgspec.NODEFAULT else one.default_factory()
    for one in msgspec.structs.fields(TaskDescription)
    if one.name not in ("circuit", "key")
}


class ServiceClient:
    """A service, spoken to like a `PilotManager`. May be used in several threads."""

    def __init__(
        self, url: str, token: str | None = None, *, verify: str | bool = True, retry_seconds: float = 0.0
    ) -> None:
        """Make it; nothing is sent yet.

        Args:
            url: such as "http://127.0.0.1:8470".
            token: of ``pilot token new``; None: the environment variable ``QUANTUM_PILOT_TOKEN``.
            verify: a file with the certificates to trust; False: any certificate.
            retry_seconds: for so long requests are sent again while the service cannot be reached or takes none, as
                while it is started again. What was accepted is not accepted twice.

        Raises:
            DescriptionError: there is no token, or it cannot be one; or the URL is none.
            OSError: the file with certificates cannot be read.
        """
        token = (token or os.environ.get(TOKEN) or "").strip()
        if not token:
            raise DescriptionError(f"token: none is given; expected one, or the variable {TOKEN}", field="token")
        if _PRINTABLE.fullmatch(token) is None:
            raise DescriptionError("token: it has characters that no token has; copy it again", field="token")
        if not url.startswith(("http://", "https://")):
            raise invalid("url", url, "one that begins with http:// or https://, such as http://127.0.0.1:8470")
        self._retry_seconds = retry_seconds
        headers = {"Authorization": f"Bearer {token}"}
        context = ssl.create_default_context(cafile=verify) if isinstance(verify, str) else verify
        try:
            self._http = httpx.Client(base_url=url, headers=headers, timeout=120.0, verify=context)
        except httpx.InvalidURL as error:
            raise invalid("url", url, f"a URL: {error}") from None

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> ServiceClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- tasks ------------------------------------------------------------------------------------------------

    def submit_task(self, work: TaskDescription | Mapping[str, Any], *, key: str | None = None) -> RemoteTask:
        """Send a task. Returns when it is on the service's disk.

        Args:
            work: as `PilotManager.submit_task` takes it, with a circuit: an object, or a text, which is sent as it is.
                ``project``, ``session`` and ``reuse`` may stand beside its fields. Or a mapping with the fields of the
                service's ``TaskBody``, such as ``function`` and ``args``.
            key: what you call it: the same key gets the same task. It may stand in the description instead.

        Raises:
            DescriptionError: a field has a value that is not valid, or that does not travel.
            SessionError: the service cannot be reached, or takes no tasks now.
        """
        own = _key(work)
        if own is not None and key not in (None, own):
            raise invalid("key", key, f"the same as that of the description, {own!r}")
        return self._submit("/v1/tasks", _body(work), own or key)[0]

    def submit_tasks(
        self, descriptions: Iterable[TaskDescription | Mapping[str, Any]], *, key: str | None = None
    ) -> list[RemoteTask]:
        """Send several tasks: all are accepted, or none. As `submit_task`, but with one key for all of them."""
        works = list(descriptions)
        if own := [found for found in map(_key, works) if found is not None]:
            raise invalid(
                "key", own[0], "none in a description: the tasks of one call have one, submit_tasks(…, key=…)"
            )
        return self._submit("/v1/batches", {"tasks": [_body(one) for one in works]}, key)

    def _submit(self, path: str, body: dict[str, Any], key: str | None) -> list[RemoteTask]:
        if key and _PRINTABLE.fullmatch(key) is None:
            raise invalid("key", key, "printable ASCII characters without spaces")
        headers = {"Idempotency-Key": key or uuid.uuid4().hex}  # a second attempt gets the tasks of the first one
        answer = self.request("POST", path, json=body, headers=headers)
        return [RemoteTask(self, id) for id in answer["ids"]]

    def task(self, id: str) -> RemoteTask:
        """A task by its id.

        Raises:
            DescriptionError: no task has such an id.
        """
        if _ID.fullmatch(id) is None:
            raise invalid("id", id, "32 hexadecimal digits, in capitals")
        return RemoteTask(self, id)

    def tasks(self, **wanted: Any) -> list[RemoteTask]:
        """Your tasks, the newest first: all, or ``limit``; ``wanted`` as in ``GET /v1/tasks``, such as
        ``state="done"``."""
        if "limit" in wanted:
            return [RemoteTask(self, one["id"]) for one in self.request("GET", "/v1/tasks", params=wanted)["tasks"]]
        found: list[RemoteTask] = []
        while True:
            page = self.request("GET", "/v1/tasks", params={**wanted, "limit": _PAGE})
            found += [RemoteTask(self, one["id"]) for one in page["tasks"]]
            if page["next"] is None:
                return found
            wanted["before"] = page["next"]

    def wait_tasks(
        self, tasks: Iterable[RemoteTask], timeout: float | None = None
    ) -> tuple[list[RemoteTask], list[RemoteTask]]:
        """Block until the tasks are over, so many seconds at most; those that are, and those that are not."""
        given = list(tasks)
        deadline = None if timeout is None else time.monotonic() + timeout
        over = [task._wait(deadline) for task in given]
        done = [task for task, is_over in zip(given, over, strict=True) if is_over]
        return done, [task for task, is_over in zip(given, over, strict=True) if not is_over]

    def cancel(self, tasks: Iterable[RemoteTask]) -> None:
        """End tasks; those that are over stay as they are."""
        for task in tasks:
            task.cancel()

    def explain(self, task: RemoteTask | str) -> str:
        """Why a task went where it went, or why it waits."""
        id = task if isinstance(task, str) else task.id
        text: str = self.request("GET", f"/v1/tasks/{id}/explain")["text"]
        return text

    # ---- the site ---------------------------------------------------------------------------------------------

    @property
    def pilots(self) -> list[dict[str, Any]]:
        """The service's pilots."""
        found: list[dict[str, Any]] = self.request("GET", "/v1/pilots")
        return found

    @property
    def qpus(self) -> dict[str, dict[str, Any]]:
        """The QPUs that it has now, by name."""
        return {one["name"]: one for one in self.request("GET", "/v1/qpus")}

    def estimate(self, circuit: Any, **wanted: Any) -> list[dict[str, Any]]:
        """What is expected of a circuit on each QPU; ``wanted`` are ``shots``, ``optimization_level`` and ``qpus``."""
        found: list[dict[str, Any]] = self.request("POST", "/v1/estimates", json={**_program(circuit), **wanted})
        return found

    # ---- requests ---------------------------------------------------------------------------------------------

    def request(self, method: str, path: str, **given: Any) -> Any:
        """One request, and its answer's JSON.

        Raises:
            DescriptionError: the service says that a value is not valid.
            SessionError: it cannot be reached, takes no requests, or does not know the token.
            PilotError: it refuses the request for another reason.
        """
        deadline = time.monotonic() + self._retry_seconds
        pause = _FIRST_LOOK
        while True:
            cause: httpx.TransportError | None = None
            try:
                answer = self._http.request(method, path, **given)
                if answer.status_code not in _AGAIN:
                    break
                problem = f"{answer.status_code}: {_detail(answer)}"
            except httpx.TransportError as error:
                problem, cause = f"{type(error).__name__}: {error}", error
            if time.monotonic() > deadline:
                where = f"the service at {self._http.base_url}"
                raise SessionError(f"{where} does not take the request: {problem}") from cause
            time.sleep(pause)
            pause = min(2 * pause, _LOOK)
        if not answer.is_success:
            raise _error(answer)
        try:
            return answer.json()
        except ValueError:
            where = f"{self._http.base_url} answers with {answer.headers.get('content-type') or 'no type'}"
            raise SessionError(f"{where}, not with JSON: is this the URL of a service?") from None


class RemoteTask:
    """A task of a service."""

    def __init__(self, client: ServiceClient, id: str) -> None:
        self._client = client
        #: 32 hexadecimal digits.
        self.id = id
        #: What the service said of it when it was over.
        self._last: dict[str, Any] | None = None

    @property
    def info(self) -> dict[str, Any]:
        """What the service says of it: state, steps, QPU, times, error."""
        if self._last is None:
            found: dict[str, Any] = self._client.request("GET", f"/v1/tasks/{self.id}")
            if found["state"] not in _ENDS:
                return found
            self._last = found
        return self._last

    @property
    def state(self) -> str:
        """ "received", "queued", "running", "done", "failed", "cancelled" or "invalid"."""
        state: str = self.info["state"]
        return state

    def done(self) -> bool:
        """True when it is over, however it ended."""
        return self.state in _ENDS

    def cancel(self) -> bool:
        """End it; True when it is cancelled."""
        state: str = self._client.request("POST", f"/v1/tasks/{self.id}/cancel")["state"]
        return state == "cancelled"

    def result(self, timeout: float | None = None) -> Any:
        """Its result; blocks until there is one: a `CircuitResult`, or what the function returned.

        A task with several programs has a list of results.

        Raises:
            TimeoutError: it is not over within so many seconds.
            CancelledError: it was cancelled.
            ProgramError: its text is no program; ``line`` and ``column`` say where.
            DescriptionError: another value of it is not valid.
            TaskError: it failed.
        """
        error = self.exception(timeout)
        if error is not None:
            raise error
        results = [result_of(one) for one in self.service_results()]
        return results[0] if len(results) == 1 else results

    def service_results(self) -> list[Any]:
        """The results of a task that is done as the service gives them, one for each program."""
        found: list[Any] = self._client.request("GET", f"/v1/tasks/{self.id}/result")
        return found

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What `result` would raise; None: it has a result. Blocks as `result` does."""
        if not self._wait(None if timeout is None else time.monotonic() + timeout):
            raise TimeoutError(f"task {self.id} is {self.state} after {timeout:g} s")
        info = self.info
        if info["state"] == "done":
            return None
        if info["state"] == "cancelled":
            return CancelledError(f"task {self.id} was cancelled")
        why = info["error"] or {"kind": "", "message": "no reason is known"}
        data = {name: why.get(name) for name in ("field", "line", "column", "expected")}
        if info["state"] == "invalid":
            return (ProgramError if why["kind"] == "ProgramError" else DescriptionError)(why["message"], **data)
        return TaskError(f"task {self.id}: {why['kind']}: {why['message']}", task=self.id)

    def _wait(self, deadline: float | None) -> bool:
        pause = _FIRST_LOOK
        while not self.done():
            if deadline is not None and time.monotonic() > deadline:
                return False
            time.sleep(pause)
            pause = min(1.5 * pause, _LOOK)
        return True

    def __repr__(self) -> str:
        return f"<RemoteTask {self.id}>"


def _key(work: TaskDescription | Mapping[str, Any]) -> str | None:
    """The key that stands in a description."""
    return work.get("key") if isinstance(work, Mapping) else work.key


def _body(work: TaskDescription | Mapping[str, Any]) -> dict[str, Any]:
    """A task as the service takes it."""
    own: dict[str, Any] = {}
    if isinstance(work, Mapping):
        if "circuit" not in work:
            return {name: value for name, value in work.items() if name != "key"}
        own = {name: work[name] for name in _OF_SERVICE if name in work}
        work = {name: value for name, value in work.items() if name not in own}
    wanted = TaskDescription.build(work)
    body = {**_program(wanted.circuit), **own}
    for field, default in _DEFAULTS.items():
        value = getattr(wanted, field)
        if type(value) is type(default) and value == default:
            continue
        if field not in _FIELDS:
            raise wanted.wrong(field, f"nothing: a service takes circuit, {', '.join(_FIELDS)}")
        if field in _LISTS and isinstance(value, str):
            value = [value]
        body[field] = _plain(wanted, field, value)
    return body


def _program(circuit: Any) -> dict[str, Any]:
    if circuit is None:
        raise DescriptionError("circuit: a service takes circuits, and functions that its site has registered")
    if isinstance(circuit, str):
        return {"program": circuit}
    from pilot.quantum.programs import load

    return {"program": load(circuit).dumps("openqasm3"), "format": "openqasm3"}


def _plain(wanted: TaskDescription, field: str, value: Any) -> Any:
    """As JSON has it; arrays as lists."""
    if isinstance(value, Mapping):  # by a parameter, or its name
        value = {getattr(name, "name", name): one for name, one in value.items()}
    try:
        return msgspec.json.decode(msgspec.json.encode(value, enc_hook=lambda one: one.tolist()))
    except (TypeError, ValueError, AttributeError):
        raise wanted.wrong(field, "texts, numbers and lists of them: objects do not travel") from None


def _detail(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return answer.text[:200] or answer.reason_phrase


def _first_error(answer: httpx.Response) -> dict[str, Any]:
    """The first value that is not valid; nothing where the answer does not come from a service, but from a proxy."""
    try:
        first: dict[str, Any] = answer.json()["errors"][0]
    except (ValueError, KeyError, TypeError, IndexError):
        return {}
    return first


def _error(answer: httpx.Response) -> PilotError:
    detail = _detail(answer)
    if answer.status_code in (400, 413, 422):
        first = _first_error(answer)
        return DescriptionError(detail, field=first.get("field"), given=first.get("given"))
    if answer.status_code in (401, 403):
        return SessionError(f"the service does not take the token: {detail}")
    return PilotError(f"{answer.status_code}: {detail}", status=answer.status_code)


__all__ = ["CircuitResult", "RemoteTask", "ServiceClient"]
