"""Origin's API at its users' surface: plain requests to one server, as its documentation prints them."""

from __future__ import annotations

import bz2
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute

from pilot.service.active import STEPS
from pilot.service.origin import cloud, machine
from pilot.testing.polling import eventually
from pilot.testing.services import ServiceProcess

pytestmark = pytest.mark.timeout(400)

SETTINGS = """
[[pilots]]
name = "small"
cores_per_node = 2
qpus = ["fake:manila"]
[origin]
chips = { 72 = "fake:manila" }
"""
EXAMPLES = Path(__file__).parents[1] / "data" / "origin_examples.txt"
SECONDS = 120.0

BELL = "QINIT 6\nCREG 6\nH q[0]\nCNOT q[0],q[1]\nMEASURE q[0],c[0]\nMEASURE q[1],c[1]"
#: On 5 qubits in a line: 0-1-2-3-4.
APART = "QINIT 5\nCREG 2\nH q[0]\nCNOT q[0],q[2]\nMEASURE q[0],c[0]\nMEASURE q[2],c[1]"
GHZ = "QINIT 3\nCREG 3\nX q[2]\nCNOT q[2],q[0]\nMEASURE q[0],c[2]\nMEASURE q[2],c[1]"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    with ServiceProcess(tmp_path_factory.mktemp("origin"), SETTINGS) as process:
        yield process


@pytest.fixture(scope="module")
def http(service: ServiceProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=SECONDS) as http:
        yield http


@pytest.fixture(scope="module")
def stranger(service: ServiceProcess) -> str:
    return service.new_token("mallory")


class Caller:
    """A user who sends requests."""

    def __init__(self, http: httpx.Client, token: str) -> None:
        self.http, self.token = http, token

    def post(self, path: str, body: Any, **options: Any) -> dict[str, Any]:
        content = body if isinstance(body, str | bytes) else json.dumps({"token": self.token, **body})
        answer = self.http.post(path, content=content, **options)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def run(
        self, program: str | list[str], type: int = 0, *, path: str = "/task/realQuantum/run", **fields: Any
    ) -> Any:
        body = {"QMachineType": 5, "QProg": program, "ChipID": "72", "TaskType": type, "Configuration": fields}
        return self.post(path, body)

    def simulate(self, program: str, **fields: Any) -> Any:
        return self.post("/task/run", {"QMachineType": "0", "QProg": program, "Configuration": fields})

    def query(self, id: str) -> dict[str, Any]:
        return self.post("/task/realQuantum/query", {"taskId": id})

    def ended(self, accepted: dict[str, Any]) -> dict[str, Any]:
        """The reply about a task once it is over."""
        assert accepted["errCode"] == 0, accepted
        id = accepted["taskId"]
        assert len(id) == 32 and set(id) <= set("0123456789ABCDEF")

        def over() -> dict[str, Any] | None:
            reply = self.query(id)
            return reply if reply["taskState"] in ("3", "4", "35") else None

        found = eventually(over, SECONDS)
        assert found is not None
        return found

    def distribution(self, accepted: dict[str, Any], place: int = 0) -> dict[str, float]:
        reply = self.ended(accepted)
        assert (reply["taskState"], reply["errCode"], reply["errInfo"]) == ("3", 0, "")
        return table(reply["taskResult"][place])


def table(text: str) -> dict[str, float]:
    found = json.loads(text)
    return dict(zip(found["key"], found["value"], strict=True))


@pytest.fixture(scope="module")
def user(http: httpx.Client, service: ServiceProcess) -> Caller:
    """A user, once the chip has reported what it is."""
    user = Caller(http, service.token)
    question = {"ChipID": 72}
    eventually(lambda: user.post("/task/realQuantum/chip_config_query", question)["errCode"] == 0, SECONDS)
    return user


# ---- the documented examples ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def examples(user: Caller) -> list[dict[str, Any]]:
    """The replies to the documentation's four examples, sent as they are printed, but for the token."""
    texts = EXAMPLES.read_text().replace("TOKEN", user.token).split("\n---\n")
    accepted = [user.post("/task/realQuantum/run", text) for text in texts]
    return [user.ended(one) for one in accepted]


def test_example_of_a_measurement(examples: list[dict[str, Any]]) -> None:
    reply = examples[0]
    assert (reply["taskState"], reply["errInfo"]) == ("3", "")
    weights = table(reply["taskResult"][0])
    assert set(weights) == {"00", "01", "10", "11"} or set(weights) <= {"00", "01", "10", "11"}
    assert math.isclose(sum(weights.values()), 1.0, abs_tol=1e-9)
    assert weights["00"] + weights["11"] > 0.85  # a Bell state, with this chip's errors
    assert 0.4 < weights["00"] < 0.6
    counts = table(reply["probCount"][0])
    assert sum(counts.values()) == 1000 and all(isinstance(one, int) for one in counts.values())
    assert reply["backend"] == "fake:manila"
    assert reply["backendStatus"][0]["name"] == "fake:manila"
    assert reply["qProg"] == [BELL]


def test_example_of_a_tomography(examples: list[dict[str, Any]]) -> None:
    reply = examples[1]
    assert len(reply["taskResult"]) == 9 and reply["qSTSettings"][0] == "XX"
    for text in reply["taskResult"]:
        assert math.isclose(sum(table(text).values()), 1.0, abs_tol=1e-9)
    flat = [complex(one["r"], one["i"]) for one in json.loads(reply["qSTResult"])]
    matrix = [flat[row * 4 : row * 4 + 4] for row in range(4)]
    assert abs(sum(matrix[one][one] for one in range(4)) - 1) < 1e-6
    assert all(abs(matrix[a][b] - matrix[b][a].conjugate()) < 1e-9 for a in range(4) for b in range(4))
    fidelity = (matrix[0][0] + matrix[0][3] + matrix[3][0] + matrix[3][3]).real / 2  # <Bell| rho |Bell>
    assert fidelity > 0.8
    assert float(reply["qSTFidelity"]) == pytest.approx(fidelity, abs=1e-6)


def test_example_of_a_distributed_task(examples: list[dict[str, Any]]) -> None:
    weights = table(examples[2]["taskResult"][0])
    # |<x|U|0>|² of its three qubits, computed from the product of its gates' matrices
    exact = {"000": 0.650, "001": 0.189, "010": 0.072, "011": 0.043, "100": 0.024, "101": 0.015, "110": 0.006}
    distance = sum(
        abs(weights.get(f"000{bits}", 0.0) - exact.get(bits, 0.0)) for bits in map("{:03b}".format, range(8))
    )
    assert distance / 2 < 0.15
    assert examples[2]["requiredCore"] == 3


def test_example_of_an_expectation_value(examples: list[dict[str, Any]]) -> None:
    (value,) = map(float, examples[3]["taskResult"])
    assert value == pytest.approx(-0.88345677205214, abs=0.06)  # <Z0> = <Z1> = 0, <Z0 Z1> = <X0 X1> = 1; and errors
    assert float(examples[3]["standardError"][0]) > 0


def test_the_steps_of_the_flow_stand_in_their_order(examples: list[dict[str, Any]], user: Caller) -> None:
    def retired(id: str) -> dict[str, Any] | None:
        reply = user.query(id)
        return reply if reply["steps"][-1]["step"] == "retired" else None  # a moment after the result is there

    for example in examples:
        reply = eventually(lambda id=example["taskId"]: retired(id), SECONDS)  # type: ignore[misc]
        assert tuple(one["step"] for one in reply["steps"]) == STEPS
        times = [one["time"] for one in reply["steps"]]
        assert times == sorted(times)
        assert all(one["qubits"] >= 2 and one["depth"] >= 2 and one["seconds"] > 0 for one in reply["estimates"])


def test_the_coordinator_keeps_active_tasks_only(
    examples: list[dict[str, Any]], http: httpx.Client, user: Caller
) -> None:
    def coordinated() -> float:
        text = http.get("/metrics", headers={"Authorization": f"Bearer {user.token}"}).text
        return next(
            float(line.split()[1]) for line in text.splitlines() if line.startswith("pilot_service_coordinated")
        )

    assert eventually(lambda: coordinated() == 0.0, SECONDS)
    assert user.query(examples[0]["taskId"])["taskResult"] == examples[0]["taskResult"]


# ---- circuits -------------------------------------------------------------------------------------------------


def test_a_batch_has_a_result_for_each_program_with_its_own_bits(user: Caller) -> None:
    accepted = user.run([GHZ, "QINIT 1\nCREG 1\nX q[0]\nMEASURE q,c"], amendFlag=True)
    first, second = user.distribution(accepted, 0), user.distribution(accepted, 1)
    assert max(first, key=first.__getitem__) == "11"  # c[2] c[1]
    assert max(second, key=second.__getitem__) == "1"


def test_readout_errors_are_corrected_where_that_is_asked_for(user: Caller) -> None:
    ones = "QINIT 5\nCREG 5\n" + "\n".join(f"X q[{one}]\nMEASURE q[{one}],c[{one}]" for one in range(5))
    raw = user.distribution(user.run(ones, shot=20000, amendFlag=0))
    corrected = user.distribution(user.run(ones, shot=20000, amendFlag=1))
    assert corrected["11111"] > raw["11111"] + 0.05
    assert all(weight >= 0 for weight in corrected.values())


def test_simulators_give_samples_or_exact_probabilities(user: Caller) -> None:
    sampled = user.distribution(user.simulate(BELL, measure_type=1, shot=1000))
    assert set(sampled) == {"00", "11"}
    bare = "QINIT 3\nH q[2]\nX q[0]"
    exact = user.distribution(user.simulate(bare, measure_type=2, qubits=[2, 0]))
    assert exact == {"10": pytest.approx(0.5), "11": pytest.approx(0.5)}  # q[0] q[2]


def test_programs_may_be_placed_on_qubits_of_the_chip(user: Caller) -> None:
    for fields in ({"specified_block": [3, 4]}, {"mappingFlag": False}):
        weights = user.distribution(user.run(BELL, **fields))
        assert weights["00"] + weights["11"] > 0.8
    assert user.run(APART, mappingFlag=False)["errCode"] == 18
    assert user.run(APART, specified_block=[0, 4])["errCode"] == 18
    assert user.run(APART, specified_block=[1])["errCode"] == 17
    assert user.run(APART, specified_block=[0, 5])["errCode"] == 37
    assert user.distribution(user.run(APART))["00"] > 0.3


def test_wishes_that_the_chip_cannot_fulfil_are_refused(user: Caller) -> None:
    refused = user.run(BELL, use_cz_pattern=True)
    assert (refused["errCode"], "taskId" in refused) == (26, False)
    assert "fake:manila are not CZ" in refused["errInfo"]


@pytest.mark.parametrize(
    ("program", "type", "code", "said"),
    [
        ("QINIT 2\nCREG 2\nHH q[0]\nMEASURE q[0],c[0]", 0, 2, "line 3, column 1"),
        ("", 0, 16, "empty"),
        ("QINIT 2\nCREG 2", 0, 16, "no gate"),
        ("QINIT 2\nCREG 2\nH q[0]", 0, 19, "MEASURE"),
        ("QINIT 2\nCREG 2\nH q[0]", 2, 19, "MEASURE"),
        ("QINIT 2\nCREG 2\nMEASURE q[0],c[0]\nMEASURE q[0],c[1]", 0, 20, "q[0] is measured more than once"),
        ("QINIT 2\nCREG 2\nMEASURE q[0],c[0]\nMEASURE q[1],c[0]", 0, 20, "c[0] is measured more than once"),
        ("QINIT 6\nCREG 6\nH q\nMEASURE q,c", 0, 6, "6 qubits; the chip has 5"),
        ("QINIT 2\nCREG 2\nMEASURE q[0],c[0]\nQIF c[0]==1\nX q[1]\nENDQIF\nMEASURE q[1],c[1]", 0, 19, "QIF"),
        ("QINIT 1\nCREG 1\n" + "H q[0]\n" * 20_001 + "MEASURE q,c", 0, 8, "depth"),
        ("OPENQASM 2.0;\nqreg q[1];", 0, 2, "OriginIR"),
    ],
)
def test_programs_that_are_not_right_are_refused_before_they_are_tasks(
    user: Caller, program: str, type: int, code: int, said: str
) -> None:
    refused = user.run(program, type)
    assert (refused["errCode"], "taskId" in refused) == (code, False)
    assert said in refused["errInfo"]


def test_a_hamiltonian_may_not_act_beside_the_program(user: Caller) -> None:
    assert user.run("QINIT 2\nH q[0]", 5, hamiltonian='"Z2": 1')["errCode"] == 26
    idle = user.ended(user.run("QINIT 2\nX q[0]", 5, hamiltonian='"Z1": 1'))
    assert float(idle["taskResult"][0]) == pytest.approx(1.0, abs=0.15)


def test_a_distributed_task_gives_expectation_values_too(user: Caller) -> None:
    chain = "QINIT 6\nX q[0]\nCNOT q[0],q[1]\nCNOT q[1],q[2]"
    reply = user.ended(user.run(chain, 10, hamiltonian='"Z2": 1,"Z0 Z1": 0.5,"Z5": 0.25', max_supported_qubits=2))
    assert float(reply["taskResult"][0]) == pytest.approx(-1 + 0.5 + 0.25, abs=0.35)  # |111000>, and errors


# ---- requests -------------------------------------------------------------------------------------------------


def test_bodies_may_be_compressed_and_chunked(user: Caller, http: httpx.Client) -> None:
    body = json.dumps({"token": user.token, "QProg": [BELL], "TaskType": 0}).encode()
    for content, headers in (
        (bz2.compress(body), {"Content-Encoding": "bz2"}),
        (body, {"Content-Encoding": "bz2"}),  # as the vendor's client says of some that are not
        (iter([body[:50], body[50:]]), {}),
    ):
        answer = http.post("/task/realQuantum/run", content=content, headers=headers).json()
        assert answer["errCode"] == 0 and answer["taskState"] == "1", answer
    bomb = bz2.compress(b" " * (20 << 20))
    assert http.post("/task/realQuantum/run", content=bomb).json()["errCode"] == 34


def test_two_logins_give_the_same_token_and_a_wrong_key_none(user: Caller, http: httpx.Client) -> None:
    replies = [user.post("/management/pilotosmachinelogin", {"apiKey": user.token}) for _ in range(2)]
    assert replies == [{"errCode": 0, "errInfo": "", "token": user.token}] * 2
    assert http.post("/management/pilotosmachinelogin", json={"apiKey": "x"}).json()["errCode"] == 27
    assert http.post("/management/pilotosmachinelogin", json={}).json()["errCode"] == 3


def test_nothing_is_told_without_a_token_or_to_others(
    user: Caller, http: httpx.Client, stranger: str, examples: list[dict[str, Any]]
) -> None:
    id = examples[0]["taskId"]
    for body, code in (
        ({"taskId": id}, 3),
        ({"taskId": id, "token": "x"}, 27),
        ({"taskId": id, "token": stranger}, 28),
    ):
        for path in ("/task/realQuantum/query", "/management/query/taskinfo"):
            reply = http.post(path, json={**body, "taskid": id}).json()
            assert (reply["errCode"], reply["taskResult"] or []) == (code, [])
    routes = [one for one in (*machine.router.routes, *cloud.router.routes) if isinstance(one, APIRoute)]
    assert len(routes) > 15
    for route in routes:
        (method,) = route.methods
        body = {"TaskType": 0, "QProg": BELL, "taskId": id, "taskid": id, "ChipID": "72", "QMachineType": 5}
        reply = http.request(method, route.path, json=body).json()
        code = reply.get("errCode", reply.get("code"))
        assert code == 3 or (code, route.path) == (2, "/task/realQuantum/run_bin_ir"), (route.path, reply)
    assert user.query("F" * 32)["errCode"] == 28
    for strange in ("../" * 20, "\0" * 32, "A" * 31, "ä" * 32, id.lower()):
        assert user.query(strange)["errCode"] == 28


def test_task_info_has_numbers(user: Caller, examples: list[dict[str, Any]]) -> None:
    reply = user.post("/management/query/taskinfo", {"taskid": examples[0]["taskId"]})
    assert (reply["taskState"], reply["TaskType"], reply["qProgLength"]) == (3, 0, 1)
    assert json.loads(reply["taskResult"])[0]["key"][0] == "00"


def test_chip_configurations_come_from_the_calibration(user: Caller) -> None:
    for wanted in (72, "72", [72], -1):
        found = user.post("/task/realQuantum/chip_config_query", {"ChipID": wanted})["configuration"]
        data = json.loads(found[0]["data"])
        assert (data["QubitCount"], data["QPU"]) == (5, "fake:manila")
        assert [one["v"] for one in data["adjMatrix"]["1"]] == [0, 2]
        assert all(0.9 < one["SingleGateFidelity"] < 1 and one["T1"] > 10 for one in data["QubitParams"])
    assert user.post("/task/realQuantum/chip_config_query", {"ChipID": [5]})["errCode"] == 33


@pytest.mark.parametrize(
    "path", ["em_compute", "noise_learning", "run_bin_ir", "/session/apply", "/session/append_task"]
)
def test_routes_that_are_not_offered_say_so(user: Caller, path: str) -> None:
    route = path if path.startswith("/") else f"/task/realQuantum/{path}"
    reply = user.post(route, {"TaskType": 17})
    assert reply["errCode"] in (2, 9) and "here" in reply["errInfo"]


# ---- the cloud's face -----------------------------------------------------------------------------------------


def test_the_clouds_routes(user: Caller, http: httpx.Client, stranger: str) -> None:
    headers = {"Authorization": f"oqcs_auth={user.token}", "Content-Type": "application/json"}
    listed = http.get("/oqcs/task/getResourceList.json", headers=headers).json()
    assert {"machineType": 5, "onlineFlag": True, "sinanChipId": "72"} in listed

    def post(path: str, body: dict[str, Any], **changed: str) -> Any:
        return http.post(f"/oqcs/task/{path}.json", json=body, headers=headers | changed).json()

    body = {"QMachineType": "5", "QProg": [BELL], "ChipID": "72", "Configuration": {"shot": 1000, "isProbcount": False}}
    id = post("origin/submit", body)["obj"]["taskId"]
    reply = eventually(lambda: _finished(post("origin/taskDetail", {"taskId": id})), SECONDS)
    assert sum(table(reply["taskResult"][0]).values()) == pytest.approx(1.0)

    state = post("origin/submit", body | {"QMachineType": "7", "QProg": ["QINIT 2\nCREG 1\nH q[0]\nCNOT q[0],q[1]"]})
    reply = eventually(lambda: _finished(post("origin/taskDetail", state["obj"])), SECONDS)
    assert len(json.loads(reply["qstTaskResult"][0])) == 16 and float(reply["qstFidelity"]) > 0.8

    refused = post("origin/submit", body | {"Configuration": {"shot": 1}})
    assert (refused["success"], refused["code"]) == (False, 26)
    other = {"Authorization": f"oqcs_auth={stranger}"}
    assert post("origin/taskDetail", {"taskId": id}, **other)["code"] == 28
    assert post("cancelTask", {"taskId": id}, **other)["code"] == 28
    assert post("cancelTask", {"taskId": id})["code"] == 31  # it is over
    assert post("origin/chipInfo", {"ChipID": "72"})["obj"]["QubitCount"] == 5
    refused = http.get("/oqcs/task/getResourceList.json").json()
    assert refused["code"] == 3 and "the header 'Authorization: oqcs_auth=TOKEN'" in refused["message"]


def _finished(answer: dict[str, Any]) -> dict[str, Any] | None:
    assert answer["success"], answer
    reply: dict[str, Any] = answer["obj"]
    return reply if reply["taskState"] == "3" else None
