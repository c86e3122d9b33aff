"""The service's client, with answers that are made up: those of proxies, other servers, and long lists."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace

import httpx
import numpy as np
import pytest
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter

from pilot import DescriptionError, PilotError, SessionError, TaskDescription
from pilot.service.client import ServiceClient
from pilot.service.remote_results import result_of
from pilot.service.results import encoded

URL, TOKEN = "http://service.example", "pilot_0_x"


def client(answer: Callable[[httpx.Request], httpx.Response]) -> ServiceClient:
    made = ServiceClient(URL, TOKEN)
    made._http = httpx.Client(base_url=URL, transport=httpx.MockTransport(answer))
    return made


@pytest.mark.parametrize(
    "status, kind, said",
    [
        (413, DescriptionError, "too large"),
        (422, DescriptionError, "too large"),
        (404, PilotError, "404: .*too large"),
        (200, SessionError, "answers with text/html.*, not with JSON: is this the URL of a service"),
    ],
)
def test_pages_of_a_proxy_are_no_answers(status: int, kind: type[Exception], said: str) -> None:
    page = "<html>too large</html>"
    with pytest.raises(kind, match=said):
        client(lambda request: httpx.Response(status, html=page)).submit_task({"program": "x"})


@pytest.mark.parametrize(
    "url, token, said",
    [
        ("service.example:8470", TOKEN, "url: .* begins with http:// or https://"),
        ("http://[::1", TOKEN, "url: .* expected a URL"),
        (URL, "pilot_\u00e9", "token: it has characters that no token has"),
        (URL, "pilot_a\nb", "token: it has characters that no token has"),
    ],
)
def test_what_is_no_url_or_token(url: str, token: str, said: str) -> None:
    with pytest.raises(DescriptionError, match=said) as caught:
        ServiceClient(url, token)
    assert TOKEN not in str(caught.value) and "pilot_a" not in str(caught.value)


def test_a_token_of_a_file_may_end_with_a_line_break() -> None:
    with ServiceClient(URL, f"{TOKEN}\n") as made:
        assert made._http.headers["authorization"] == f"Bearer {TOKEN}"


def test_keys_and_ids_are_checked_before_they_are_sent() -> None:
    made = client(lambda request: pytest.fail("sent"))
    for call in (lambda: made.task("../../health"), lambda: made.submit_task({"program": "x"}, key="\u043a")):
        with pytest.raises(DescriptionError, match="is not valid; expected"):
            call()


def test_the_error_of_a_service_that_cannot_be_reached_has_its_cause() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    made = client(refuse)
    made._retry_seconds = 0.0
    with pytest.raises(SessionError, match="does not take the request: ConnectError: refused") as caught:
        made.task("0" * 32).info  # noqa: B018
    assert isinstance(caught.value.__cause__, httpx.ConnectError)


def test_a_key_in_a_description_counts() -> None:
    sent: list[httpx.Request] = []
    made = client(lambda request: sent.append(request) or httpx.Response(202, json={"ids": ["0" * 32]}))
    for work in (
        {"circuit": "x", "key": "mine"},
        TaskDescription(circuit="x", key="mine"),
        {"program": "x", "key": "mine"},
    ):
        made.submit_task(work)
        made.submit_task(work, key="mine")
        with pytest.raises(DescriptionError, match=r"key: .other. is not valid; expected the same"):
            made.submit_task(work, key="other")
        with pytest.raises(DescriptionError, match=r"key: .mine. is not valid; expected none in a description"):
            made.submit_tasks([work])
    assert {request.headers["idempotency-key"] for request in sent} == {"mine"}
    assert not any("key" in json.loads(request.content) for request in sent)


def test_one_text_stands_for_a_list_as_with_a_manager() -> None:
    sent: list[httpx.Request] = []
    made = client(lambda request: sent.append(request) or httpx.Response(202, json={"ids": ["0" * 32]}))
    made.submit_task({"circuit": "x", "observables": "ZZ", "mitigation": "readout", "shots": 5})
    body = json.loads(sent[0].content)
    assert (body["observables"], body["mitigation"]) == (["ZZ"], ["readout"])


def test_lists_have_all_tasks() -> None:
    ids = [f"{number:032X}" for number in range(2500)]

    def page(request: httpx.Request) -> httpx.Response:
        wanted = request.url.params
        first = ids.index(wanted["before"]) + 1 if "before" in wanted else 0
        found = ids[first : first + int(wanted["limit"])]
        more = found[-1] if first + len(found) < len(ids) else None
        return httpx.Response(200, json={"tasks": [{"id": id} for id in found], "next": more})

    assert [task.id for task in client(page).tasks(state="done")] == ids
    assert len(client(page).tasks(limit=7)) == 7


def test_fields_of_the_service_stand_beside_a_circuit() -> None:
    bodies: list[bytes] = []

    def accept(request: httpx.Request) -> httpx.Response:
        bodies.append(request.content)
        return httpx.Response(202, json={"ids": ["0" * 32]})

    angle = Parameter("angle")
    circuit = QuantumCircuit(1)
    circuit.rx(angle, 0)
    given = {"circuit": circuit, "observables": ["Z"], "parameters": {angle: np.array([0.0, 1.0])}, "project": "p"}
    client(accept).submit_task({**given, "reuse": False})
    assert b'"parameters":{"angle":[0.0,1.0]}' in bodies[0] and b'"project":"p","reuse":false' in bodies[0]


def test_counts_are_whole_numbers() -> None:
    found = result_of({"kind": "counts", "shots": 3, "counts": {"0": 1, "1": 2}})
    assert [type(count) for count in found.get_counts().values()] == [int, int]


def test_values_that_json_does_not_have_arrive() -> None:
    estimate = SimpleNamespace(values=np.array([0.5, np.nan]), standard_errors=np.array([0.0, np.inf]))
    (answer,) = json.loads(encoded([estimate]))
    found = result_of(answer)
    np.testing.assert_array_equal(found.values, estimate.values)
    np.testing.assert_array_equal(found.standard_errors, estimate.standard_errors)
