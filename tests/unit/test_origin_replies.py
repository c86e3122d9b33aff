"""Replies of Origin's API: results in its forms, states, codes, times, and what is told of chips."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import pytest

from pilot.errors import DescriptionError
from pilot.resources import ANY_QPU, Calibration, GateFacts, QPUInfo, QubitFacts
from pilot.service.models import Step, TaskError, TaskView
from pilot.service.origin import replies
from pilot.service.origin.checking import Chip, Facts, Fault, Question
from pilot.service.origin.chips import Chips
from pilot.service.origin.codes import ErrorCode, OriginError
from pilot.service.origin.results import forms_of
from pilot.service.origin.tasks import Kept
from pilot.service.problems import Problem

LINE = QPUInfo(
    name="fake:line",
    qubits=3,
    gates=("cx", "rz", "sx", "x"),
    coupling=((0, 1), (1, 0), (1, 2)),
    calibrated=5.0,
    accepts_jobs=True,
    calibration=Calibration(
        gates=(
            GateFacts("sx", (0,), 0.001, 35e-9),
            GateFacts("cx", (0, 1), 0.01, 300e-9),
            GateFacts("cx", (1, 2), 0.02, 500e-9),
            GateFacts("measure", (0,), 0.03, 700e-9),
        ),
        qubits=(QubitFacts(1e-4, 5e-5, 5.1e9, 0.01, 0.03), QubitFacts(), QubitFacts()),
    ),
)


def forms(stored: list[dict[str, Any]], **kept: Any) -> Any:
    return forms_of(json.dumps(stored).encode(), Kept(machine=5, **kept))


def table(text: str) -> dict[str, Any]:
    found = json.loads(text)
    assert " " not in text  # the vendor's client reads no blanks
    return dict(zip(found["key"], found["value"], strict=True))


# ---- results --------------------------------------------------------------------------------------------------


def test_keys_have_the_bits_that_the_program_measures_into() -> None:
    counts = {"kind": "counts", "shots": 100, "counts": {"00101": 60, "01101": 30, "00001": 10}}
    found = forms([counts, counts], type=0, bits=((0, 2), (3,)))
    assert table(found.results[0]) == {"01": 0.1, "11": 0.9}
    assert table(found.results[1]) == {"0": 0.7, "1": 0.3}
    assert table(found.counts[0]) == {"01": 10, "11": 90}


def test_negative_shares_of_a_correction_become_the_nearest_probabilities() -> None:
    corrected = {"kind": "counts", "shots": 1000, "counts": {"0": 1040.0, "1": -40.0}}
    found = forms([corrected], type=0, bits=((0,),))
    assert table(found.results[0]) == {"0": 1.0, "1": 0.0}
    assert table(found.counts[0]) == {"0": 1000, "1": 0}


def test_counts_are_whole_and_add_up_to_the_shots() -> None:
    corrected = {"kind": "counts", "shots": 10, "counts": {"00": 3.4, "01": 3.3, "10": 3.3}}
    assert table(forms([corrected], type=0, bits=((0, 1),)).counts[0]) == {"00": 4, "01": 3, "10": 3}


def test_a_program_without_measurement_has_a_distribution_of_all_its_qubits() -> None:
    found = forms([{"kind": "probabilities", "probabilities": {"000": 0.25, "011": 0.75}}], type=10, bits=((),))
    assert table(found.results[0]) == {"000": 0.25, "011": 0.75}
    assert found.counts == []


def test_values_keep_all_their_digits() -> None:
    found = forms([{"kind": "expectation", "values": [-1 / 3], "standard_errors": [0.1]}], type=5, bits=((),))
    assert [float(one) for one in found.results] == [-1 / 3]
    assert found.more == {"standardError": ["0.1"]}


def test_a_state_has_its_settings_matrix_and_fidelity() -> None:
    # rho = 0.9 |+><+| + 0.1 |-><-|, so <+|rho|+> = 0.9
    stored = {"kind": "tomography", "real": [[0.5, 0.4], [0.4, 0.5]], "imaginary": [[0, 0], [0, 0]], "purity": 0.82}
    stored["settings"] = {"X": {"0": 0.9, "1": 0.1}, "Y": {"0": 0.5, "1": 0.5}, "Z": {"0": 1.01, "1": -0.01}}
    found = forms([stored], type=2, bits=((),), ideal=((0.5, 0.0),) * 4)
    assert [table(text) for text in found.results] == [{"0": 0.9, "1": 0.1}, {"0": 0.5, "1": 0.5}, {"0": 1.0, "1": 0.0}]
    assert found.more["qSTSettings"] == ["X", "Y", "Z"]
    assert [one["r"] for one in json.loads(found.more["qSTResult"])] == [0.5, 0.4, 0.4, 0.5]
    assert float(found.more["qSTFidelity"]) == pytest.approx(0.9)


# ---- replies --------------------------------------------------------------------------------------------------


def view(state: str, **fields: Any) -> TaskView:
    usual = {"id": "A" * 32, "user": "u", "route": "origin", "name": "", "project": "", "session": "", "qpu": ""}
    return TaskView(state=state, submitted=100.0, **{**usual, **fields})


@pytest.mark.parametrize(
    ("state", "number"),
    [
        *(("received", "1"), ("queued", "5"), ("running", "2"), ("done", "3")),
        *(("failed", "4"), ("invalid", "4"), ("cancelled", "35")),
    ],
)
def test_states_are_texts_with_the_vendors_numbers(state: str, number: str) -> None:
    reply = replies.task_reply(view(state), Kept(machine=5, type=0), ["QINIT 1"], None, [])
    assert (reply["taskState"], reply["taskType"], reply["qProg"]) == (number, "0", ["QINIT 1"])
    assert reply["errCode"] == (31 if state == "cancelled" else 0)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("ProgramError", 2),
        ("NoPilotError", 35),
        ("QPUUnavailable", 35),
        ("QPUError", 4),
        ("TaskTimeout", 30),
        ("ValueError", 4),
    ],
)
def test_errors_of_tasks_have_codes(kind: str, code: int) -> None:
    failed = view("failed", error=TaskError(kind=kind, message="why"))
    reply = replies.task_reply(failed, Kept(machine=5, type=0), [], None, [])
    assert (reply["errCode"], reply["errInfo"]) == (code, "why")


def test_times_are_spans_between_steps_in_milliseconds() -> None:
    times = {"received": 1.0, "queued": 1.5, "scheduled": 2.0, "dispatched": 2.25, "corrected": 4.0, "stored": 5.0}
    steps = [Step(step=name, time=when) for name, when in times.items()]
    reply = replies.task_reply(view("done", ended=5.0, steps=steps), Kept(machine=5, type=0), [], None, [])
    assert (reply["startTime"], reply["endTime"], reply["totalTime"]) == (1000, 5000, 4000)
    assert (reply["queueTime"], reply["aioPendingTime"], reply["cirExecuteTime"]) == (500, 250, 1750)


def test_every_reply_to_a_query_has_all_members() -> None:
    refused = replies.query_refusal(OriginError("no", code=ErrorCode.TASK_NOT_FOUND))
    whole = replies.task_reply(view("done"), Kept(machine=5, type=0), [], None, [])
    assert set(refused) <= set(whole) and (refused["taskState"], refused["errCode"]) == ("4", 28)


@pytest.mark.parametrize(("status", "code"), [(404, 28), (413, 34), (422, 33), (429, 5), (503, 1), (418, 36)])
def test_refusals_of_the_service_have_codes(status: int, code: int) -> None:
    assert replies.refusal(Problem(status, "no")) == {"errCode": code, "errInfo": "no"}


# ---- chips ----------------------------------------------------------------------------------------------------


def test_which_qpu_a_chip_is() -> None:
    chips = Chips({"fake:line": LINE}, ["fake:line", "fake:later", "aer"], {"7": "fake:line", "8": "fake:gone"})
    assert chips.ids() == ["7", "fake:line", "fake:later"]
    assert [chips.is_online(one) for one in chips.ids()] == [True, True, False]
    assert chips.find("7") == ("fake:line", LINE)
    assert chips.find("fake:later") == ("fake:later", None)
    for any_chip in ("72", "102", "any_quantum_chip"):
        assert chips.find(any_chip) == (ANY_QPU, LINE)
        assert chips.find(any_chip, is_placed=True) == ("fake:line", LINE)
    for chip, code in (("8", 35), ("nonesuch", 33), ("aer", 33)):
        with pytest.raises(OriginError) as caught:
            chips.find(chip)
        assert caught.value.code == code and "fake:line" in str(caught.value)


def test_a_configuration_has_the_calibration_in_the_vendors_units() -> None:
    chips = Chips({"fake:line": LINE}, [], {"7": "fake:line"})
    (found,) = chips.configurations("7")
    data = json.loads(found["data"])
    assert data == chips.information(7)
    first = data["QubitParams"][0]
    assert (first["T1"], first["T2"], first["Frequency"]) == pytest.approx((100, 50, 5100))
    assert (first["ReadoutFidelity"], first["SingleGateFidelity"]) == pytest.approx((0.98, 0.999))
    assert data["adjMatrix"] == {
        "0": [{"v": 1, "w": 0.99}],
        "1": [{"v": 0, "w": 0.99}, {"v": 2, "w": 0.98}],
        "2": [{"v": 1, "w": 0.98}],
    }
    assert data["QGateClock"] == [{"gateType": "RPhi", "IntValue": 35}, {"gateType": "CZ", "IntValue": 400}]
    assert len(chips.configurations(-1)) == 2 and len(chips.configurations([7, 7])) == 1
    for wrong in ([], None, [1.5], [[7]], True):
        with pytest.raises(OriginError):
            chips.configurations(wrong)


@pytest.mark.parametrize(("error", "fidelity"), [(0.03, 0.97), (None, 0.0)])
def test_the_readout_may_have_one_error_for_both_states_or_none_that_is_known(
    error: float | None, fidelity: float
) -> None:
    measure = GateFacts(name="measure", qubits=(0,), error=error)
    info = msgspec.structs.replace(LINE, calibration=Calibration(qubits=(QubitFacts(),), gates=(measure,)))
    found = Chips({"fake:line": info}, [], {}).information("fake:line")
    assert found["QubitParams"][0]["ReadoutFidelity"] == pytest.approx(fidelity)


def test_what_travels_to_the_checking_process_survives_it() -> None:
    import pickle

    asked = Question(text="QINIT 1", type=0, chip=Chip(3, LINE.coupling), block=(1, 2))
    known = Facts(qubits=1, depth=1, seconds=0.1, width=1, places=(0,), ideal=((math.pi, 0.0),))
    for value in (asked, known, Fault(2, "no")):
        assert pickle.loads(pickle.dumps(value)) == value


def test_an_error_of_origins_survives_pickling() -> None:
    import pickle

    error = pickle.loads(pickle.dumps(OriginError("no", code=ErrorCode.ORIGINIR)))
    assert (str(error), error.code) == ("no", 2)
    assert not isinstance(error, DescriptionError)
