"""Bodies of Origin's API: how they are read, every field's range and default, and the code of each error."""

from __future__ import annotations

import bz2
import gzip
import json
import re
import time
import zlib
from typing import Any

import pytest

from pilot.service.origin.bodies import mapping_of, unpacked
from pilot.service.origin.codes import ErrorCode, Machine, OriginError, TaskState, TaskType
from pilot.service.origin.hamiltonians import pauli_sum, terms_of
from pilot.service.origin.submissions import chip_submission, cloud_submission, simulator_submission

BELL = "QINIT 6\nCREG 6\nH q[0]\nCNOT q[0],q[1]\nMEASURE q[0],c[0]\nMEASURE q[1],c[1]"
HAMILTONIAN = '"": -1.05,"Z0": 0.39,"Z0 Z1": -0.01,"X0 X1": 0.18'


def body(type: int = 0, **fields: Any) -> dict[str, Any]:
    """A body that is right, with these fields of `Configuration` in place of the usual ones."""
    configuration = {"shot": 1000, **({"hamiltonian": HAMILTONIAN} if type == 5 else {}), **fields}
    return {"QMachineType": 5, "QProg": [BELL], "ChipID": "72", "TaskType": type, "Configuration": configuration}


def code_of(call: Any, *args: Any) -> ErrorCode:
    with pytest.raises(OriginError) as caught:
        call(*args)
    assert str(caught.value)
    code: ErrorCode = caught.value.code
    return code


# ---- bytes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pack", [bytes, bz2.compress, gzip.compress])
def test_a_body_is_read_however_it_is_packed(pack: Any) -> None:
    data = json.dumps({"a": [1, True, None, "True"]}).encode()
    assert mapping_of(unpacked(pack(data), 1000)) == {"a": [1, True, None, "True"]}


def test_a_small_body_that_becomes_large_is_refused_before_it_is_large() -> None:
    bomb = bz2.compress(b" " * 50_000_000)
    assert len(bomb) < 1000
    assert code_of(unpacked, bomb, 1_000_000) == ErrorCode.PROGRAM_LENGTH


@pytest.mark.parametrize(
    "data", [b"BZh9junk", b"BZh", bz2.compress(b"{}" * 9)[:-4], b"\x1f\x8b\x08junk", zlib.compress(b"{}")]
)
def test_damaged_bodies_are_refused(data: bytes) -> None:
    assert code_of(lambda: mapping_of(unpacked(data, 1000))) == ErrorCode.JSON_FIELD


def test_words_of_python_are_read_outside_texts_only() -> None:
    text = rb'{"a": True, "b": False, "c": None, "d": "True \" False", "Truex": "a\\", "e":[True]}'
    expected = {"a": True, "b": False, "c": None, "d": 'True " False', "Truex": "a\\", "e": [True]}
    assert mapping_of(text) == expected


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"null",
        b"1",
        b'"a"',
        b"{",
        b'{"a": Truex}',
        b'{"a": NaN}',
        rb'{"a": "\ud800"}',
        b"[" * 100_000,
        b'{"a":"\xff"}',
        b'"' * 99_999,
    ],
)
def test_what_is_no_json_object_is_refused(data: bytes) -> None:
    assert code_of(mapping_of, data) == ErrorCode.JSON_FIELD


# ---- fields ---------------------------------------------------------------------------------------------------


def test_defaults_are_those_of_the_page() -> None:
    found = chip_submission({"QProg": BELL, "TaskType": 0})
    assert (found.machine, found.chip, found.priority, found.programs) == (Machine.CHIP, "72", 0, (BELL,))
    configuration = found.configuration
    assert (configuration.shots, configuration.optimized, configuration.mapped) == (1000, True, True)
    assert (configuration.corrected, configuration.block, configuration.counts) == (False, (), False)


@pytest.mark.parametrize(
    ("shot", "code"), [(9, 26), (10, 0), (20_000, 0), (20_001, 26), (True, 3), ("10", 3), (10.0, 3)]
)
def test_shots_have_a_range(shot: Any, code: int) -> None:
    if code:
        assert code_of(chip_submission, body(shot=shot)) == code
    else:
        assert chip_submission(body(shot=shot)).configuration.shots == shot


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"TaskType": None}, 3),
        ({"TaskType": "0"}, 3),
        ({"TaskType": True}, 3),
        *(({"TaskType": type}, 9) for type in (-1, 1, 3, 4, 6, 17, 1 << 70)),
        ({"QMachineType": 0}, 7),
        ({"QMachineType": "4"}, 7),
        ({"QMachineType": 99}, 7),
        ({"QMachineType": "five"}, 3),
        ({"QMachineType": False}, 3),
        ({"QProg": None}, 3),
        ({"QProg": 5}, 3),
        ({"QProg": [BELL, 5]}, 3),
        ({"QProg": {"a": 1}}, 3),
        ({"QProg": []}, 16),
        ({"QProg": ""}, 16),
        ({"QProg": [BELL, " \n"]}, 16),
        ({"QProg": [BELL] * 201}, 34),
        ({"QProg": "H" * ((1 << 20) + 1)}, 34),
        ({"ChipID": 1.5}, 3),
        ({"ChipID": []}, 3),
        ({"Priority": -1}, 33),
        ({"Priority": 1 << 70}, 33),
        ({"Priority": "1"}, 3),
        ({"taskDescribe": 5}, 3),
        ({"taskDescribe": "a" * 5000}, 33),
        ({"taskDescribe": "a\0b"}, 33),
        ({"Configuration": []}, 3),
        ({"Configuration": "shot"}, 3),
    ],
)
def test_each_wrong_field_at_the_top_has_its_code(change: dict[str, Any], code: int) -> None:
    assert code_of(chip_submission, body() | change) == code


@pytest.mark.parametrize("field", ["TaskType", "QProg"])
def test_required_fields(field: str) -> None:
    given = {name: value for name, value in body().items() if name != field}
    assert code_of(chip_submission, given) == ErrorCode.JSON_FIELD


@pytest.mark.parametrize(
    ("field", "given", "code"),
    [
        ("circuitOptimization", 1, 3),
        ("mappingFlag", "true", 3),
        ("amendFlag", 2, 3),
        ("amendFlag", 1.0, 3),
        ("use_cz_pattern", 0, 3),
        ("specified_block", 5, 3),
        ("specified_block", ["1"], 3),
        ("specified_block", [True], 3),
        ("specified_block", [1, 1], 26),
        ("specified_block", [-1], 26),
        ("PointLabel", 2, 26),
        ("PointLabel", None, 3),
        ("construction_type", 1, 26),
        ("max_supported_qubits", 0, 26),
        ("compileOnly", True, 26),
        ("IsProbCount", "no", 3),
        ("hamiltonian", HAMILTONIAN, 26),
    ],
)
def test_each_wrong_field_of_the_configuration_has_its_code(field: str, given: Any, code: int) -> None:
    assert code_of(chip_submission, body(**{field: given})) == code


@pytest.mark.parametrize(("given", "wanted"), [(0, False), (1, True), (False, False), (True, True)])
def test_amend_flag_is_a_number_or_a_truth_value(given: Any, wanted: bool) -> None:
    assert chip_submission(body(amendFlag=given)).configuration.corrected is wanted


def test_what_the_clients_send_beside_it_does_not_fail_and_what_is_not_known_is_named() -> None:
    given = body(shots=500) | {"PilotOSMachineFlag": True, "callbackAddr": "TCP_CB", "token": "t", "Chipid": "1"}
    ignored = chip_submission(given).ignored
    assert ignored == (
        "'Chipid' is not known (did you mean 'ChipID'?)",
        "Configuration.'shots' is not known (did you mean 'shot'?)",
    )


def test_the_priority_stands_at_the_top_or_in_the_configuration() -> None:
    assert chip_submission(body() | {"Priority": 7}).priority == 7
    assert chip_submission(body(Priority=3)).priority == 3


def test_only_measurements_come_in_batches() -> None:
    assert chip_submission(body(0) | {"QProg": [BELL, BELL]}).programs == (BELL, BELL)
    for type in (2, 5, 10):
        assert code_of(chip_submission, body(type) | {"QProg": [BELL, BELL]}) == ErrorCode.PROGRAM_LENGTH


@pytest.mark.parametrize(("type", "must"), [(0, True), (2, True), (5, False), (10, False)])
def test_measurements_are_needed_by_the_types_that_read_them(type: int, must: bool) -> None:
    assert chip_submission(body(type)).must_measure is must


@pytest.mark.parametrize(("field", "given"), [("amendFlag", 1), ("mappingFlag", False), ("specified_block", [1])])
def test_pieces_of_a_distributed_task_are_not_placed_or_corrected(field: str, given: Any) -> None:
    assert code_of(chip_submission, body(10, **{field: given})) == ErrorCode.TASK_CONFIGURATION


def test_tasks_of_simulators() -> None:
    sampled = simulator_submission(
        {"QMachineType": "0", "QProg": BELL, "Configuration": {"measure_type": 1, "shot": 5}}
    )
    assert (sampled.configuration.shots, sampled.must_measure) == (5, True)
    exact = simulator_submission(
        {"QMachineType": 0, "QProg": BELL, "Configuration": {"measure_type": 2, "qubits": [1, 0]}}
    )
    assert (exact.configuration.shots, exact.configuration.qubits) == (None, (1, 0))
    for wrong, code in (({"measure_type": 3}, 26), ({"measure_type": 2}, 3), ({"measure_type": 2, "qubits": []}, 26)):
        assert code_of(simulator_submission, {"QMachineType": 0, "QProg": BELL, "Configuration": wrong}) == code
    for machine in (1, 2, 3, 4, 5):
        assert code_of(simulator_submission, {"QMachineType": machine, "QProg": BELL}) == ErrorCode.BACKEND_TYPE


def test_tasks_of_the_cloud() -> None:
    given = {"QMachineType": "5", "QProg": [BELL], "ChipID": "72", "Configuration": {"shot": 10, "isProbcount": True}}
    chip = cloud_submission(given)
    assert (chip.type, chip.configuration.counts, chip.must_measure, chip.ignored) == (
        TaskType.MEASUREMENT,
        True,
        True,
        (),
    )
    state = cloud_submission(given | {"QMachineType": "7"})
    assert (state.type, state.must_measure) == (TaskType.TOMOGRAPHY, False)
    assert code_of(cloud_submission, given | {"QProgBytes": [1]}) == ErrorCode.ORIGINIR


# ---- Hamiltonians ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [HAMILTONIAN, "{" + HAMILTONIAN + "}", json.loads("{" + HAMILTONIAN + "}")])
def test_a_hamiltonian_has_one_meaning_in_each_form(given: Any) -> None:
    assert pauli_sum(terms_of(given), (), 3) == {"III": -1.05, "IIZ": 0.39, "IZZ": -0.01, "IXX": 0.18}


def test_its_numbers_stand_for_the_qubits_that_are_given() -> None:
    assert pauli_sum(terms_of('"Z0 X1": 2'), (2, 0), 3) == {"ZIX": 2.0}


@pytest.mark.parametrize(
    "given",
    [
        *("", "{}", "Z0", '"Z0"', '"Z0": "a"', '"Z0": true', '"Z0": NaN', '"Z0": 1e999', '"A0": 1', '"0Z": 1'),
        f'"Z0": 1{"0" * 400}',
        *('"Z": 1', '"Z0Z1": 1', '"Z0 Z0": 1', '"Z0": 1, "Z0": 2', 5, ["Z0"], "[" * 50_000),
    ],
)
def test_wrong_hamiltonians_are_refused(given: Any) -> None:
    assert code_of(terms_of, given) == ErrorCode.TASK_CONFIGURATION


def test_a_hamiltonian_with_as_many_terms_as_a_body_has_room_for_is_refused_at_once() -> None:
    """The event loop reads it: with a time in proportion to the square of the terms this took two minutes."""
    terms = ",".join(f'"Z{number}": 1' for number in range(100_000))
    begun = time.process_time()
    assert code_of(terms_of, terms) == ErrorCode.TASK_CONFIGURATION
    assert time.process_time() - begun < 10


def test_a_term_acts_on_qubits_of_the_program() -> None:
    assert code_of(pauli_sum, terms_of('"Z3": 1'), (), 3) == ErrorCode.TASK_CONFIGURATION


# ---- numbers --------------------------------------------------------------------------------------------------


def test_states_and_errors_are_the_vendors() -> None:
    assert [state.value for state in TaskState] == [1, 2, 3, 4, 5, 6, 7, 8, 9, 35]
    assert [code.value for code in ErrorCode] == list(range(40))


def test_messages_name_the_field_what_was_given_and_what_is_valid() -> None:
    with pytest.raises(OriginError, match=re.escape("Configuration.shot: 5 is not valid; expected 10 to 20000")):
        chip_submission(body(shot=5))
    with pytest.raises(OriginError, match=r"^TaskType: 4 is not valid; expected 0 \(measurement\), 2"):
        chip_submission(body() | {"TaskType": 4})
