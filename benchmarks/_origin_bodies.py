"""Made-up bodies of Origin's API, each with the code that its documentation demands, stated here by hand."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any, NamedTuple

#: Qubits of the chip that the bodies are for, a line.
CHIP_QUBITS = 5
ONE, ANGLE, TWO = ("H", "X", "Y", "Z", "S", "T"), ("RX", "RY", "RZ", "U1"), ("CNOT", "CZ", "SWAP", "ISWAP")


class Case(NamedTuple):
    """A body, what was done to it, and the code that it must get; None: any, but no crash."""

    what: str
    body: bytes
    code: int | None
    is_packed: bool


def measurement(token: str, angle: float, **fields: Any) -> dict[str, Any]:
    """A body that is right; its program has this angle."""
    program = f"QINIT 2\nCREG 2\nRY q[0],({angle!r})\nCNOT q[0],q[1]\n"
    program += "MEASURE q[0],c[0]\nMEASURE q[1],c[1]"
    configuration = {"shot": 1000, **fields}
    return {"token": token, "QMachineType": 5, "QProg": [program], "TaskType": 0, "Configuration": configuration}


def cases(number: int, token: str, rng: random.Random) -> Iterator[Case]:
    """So many, in turn of all kinds."""
    makers = (_right, _wrong_field, _wrong_program, _cut_short, _flipped, _wrong_token)
    weights = (1, 5, 4, 2, 3, 1)
    for maker in rng.choices(makers, weights, k=number):
        what, body, code = maker(token, rng)
        data = body if isinstance(body, bytes) else _text(body, rng)
        yield Case(what, data, code, rng.random() < 0.2)


def _text(body: dict[str, Any], rng: random.Random) -> bytes:
    """JSON with its members in any order, now and then with Python's words for truth values."""
    members = list(body.items())
    rng.shuffle(members)
    text = json.dumps(dict(members), ensure_ascii=rng.random() < 0.5, indent=rng.choice((None, 2)))
    if rng.random() < 0.3:
        text = text.replace(": true", ": True").replace(": false", ": False").replace(": null", ": None")
    return text.encode()


# ---- bodies that are right ------------------------------------------------------------------------------------


def _lines(rng: random.Random, qubits: int) -> list[str]:
    lines = []
    for _ in range(rng.randint(1, 12)):
        kind = rng.choice((ONE, ANGLE, TWO)) if qubits > 1 else rng.choice((ONE, ANGLE))
        gate, first = rng.choice(kind), rng.randrange(qubits)
        if kind is TWO:
            second = rng.choice([one for one in range(qubits) if one != first])
            lines.append(rng.choice((f"{gate} q[{first}],q[{second}]", f"{gate}(q[{first}], q[{second}])")))
        elif kind is ANGLE:
            angle = rng.uniform(-4, 4)
            lines.append(rng.choice((f"{gate} q[{first}],({angle!r})", f"{gate}(q[{first}], {angle!r})")))
        else:
            lines.append(f"{gate} q[{first}]")
    return lines


def _program(rng: random.Random, measured: bool = True, qubits: int | None = None) -> list[str]:
    width = qubits or rng.randint(1, CHIP_QUBITS)
    head = [f"QINIT {width + rng.choice((0, 0, 3))}", f"CREG {width}"]
    ends = [f"MEASURE q[{one}],c[{one}]" for one in range(rng.randint(1, width))] if measured else []
    return [*head, *_lines(rng, width), *ends]


def _body(token: str, rng: random.Random, lines: list[str] | None = None, type: int = 0) -> dict[str, Any]:
    if lines is None:
        lines = _program(rng, measured=type in (0, 2), qubits=2 if type in (2, 10) else None)
    text = rng.choice(("\n", "\r\n", "\n\n")).join(lines)
    configuration: dict[str, Any] = {"shot": rng.randint(10, 20_000)}
    if type == 5:
        configuration["hamiltonian"] = rng.choice(('"Z0": 0.5', '"": 1,"X0": -2.5', '{"Y0": 1e-3}'))
    elif type == 10:
        configuration["max_supported_qubits"] = rng.randint(1, 3)
    for field, values in (
        ("circuitOptimization", (True, False)),
        ("amendFlag", (0, False) if type == 10 else (0, 1, True, False)),
        ("mappingFlag", (True,)),
        ("specified_block", ([],)),
        ("PointLabel", (0, 1)),
        ("use_cz_pattern", (False,)),
        ("IsProbCount", (True, False)),
    ):
        if rng.random() < 0.5:
            configuration[field] = rng.choice(values)
    body: dict[str, Any] = {"token": token, "TaskType": type, "Configuration": configuration}
    body["QProg"] = rng.choice((text, [text])) if type else rng.choice((text, [text], [text, text]))
    for field, values in (
        ("QMachineType", (5, "5")),
        ("ChipID", ("72", 72, "any_quantum_chip", "fake:manila")),
        ("Priority", (0, 10, 999)),
        ("taskDescribe", ("", "größer", "a" * 4096)),
        ("PilotOSMachineFlag", (True,)),
        ("somethingElse", ({"a": [1]}, None)),
    ):
        if rng.random() < 0.5:
            body[field] = rng.choice(values)
    return body


def _right(token: str, rng: random.Random) -> tuple[str, dict[str, Any], int]:
    type = rng.choice((0, 0, 0, 2, 5, 10))
    return f"right, type {type}", _body(token, rng, type=type), 0


# ---- bodies with one fault ------------------------------------------------------------------------------------

#: Field → values and the code of each; of `Configuration` behind a dot.
FAULTS: dict[str, tuple[tuple[Any, int], ...]] = {
    "TaskType": ((1, 9), (3, 9), (4, 9), (17, 9), (-5, 9), ("0", 3), (0.0, 3), (None, 3), (True, 3), ([], 3)),
    "QMachineType": ((0, 7), ("0", 7), (1, 7), (4, 7), (7, 7), (77, 7), ("x", 3), (5.0, 3), (True, 3), (None, 3)),
    "QProg": (([], 16), ("", 16), ("\n ", 16), ([""], 16), (None, 3), (1, 3), ([1], 3), ({}, 3), ([["H q[0]"]], 3)),
    "ChipID": (("nonesuch", 33), (73, 33), ("aer", 33), (None, 3), (1.5, 3), ({}, 3), (True, 3)),
    "Priority": ((-1, 33), (10**9, 33), (10**30, 33), ("1", 3), (1.0, 3), (False, 3), (None, 3)),
    "taskDescribe": ((1, 3), (None, 3), ([], 3), ("a" * 4097, 33)),
    "Configuration": ((None, 3), ([], 3), ("", 3), (1, 3)),
    ".shot": ((9, 26), (20_001, 26), (0, 26), (-1, 26), (10**30, 26), ("1000", 3), (1e3, 3), (True, 3), (None, 3)),
    ".circuitOptimization": ((1, 3), ("true", 3), (None, 3)),
    ".mappingFlag": ((0, 3), ([], 3), (None, 3)),
    ".amendFlag": ((2, 3), (-1, 3), ("1", 3), (None, 3), (0.0, 3)),
    ".use_cz_pattern": ((True, 26), (1, 3), ("no", 3)),
    ".specified_block": (
        ([0, 0], 26),
        ([-1], 26),
        ([99, 98, 97, 96, 95], 37),
        ("0", 3),
        ([None], 3),
        ([0.0], 3),
        (1, 3),
    ),
    ".PointLabel": ((2, 26), (-1, 26), ("0", 3), (True, 3)),
    ".construction_type": ((1, 26), ("0", 3), (None, 3)),
    ".max_supported_qubits": ((0, 26), (-1, 26), ("2", 3), (2.0, 3)),
    ".compileOnly": ((True, 26), (1, 26), ("x", 3)),
    ".hamiltonian": (('"Z0": 1', 26), ("Z0", 26), (5, 26), ('"Z0": 1,"Z0": 2', 26), ('"Q0": 1', 26)),
    ".qubits": (([1, 1], 26), ("01", 3), ([True], 3)),
    ".IsProbCount": ((1, 3), ("yes", 3)),
}


def _wrong_field(token: str, rng: random.Random) -> tuple[str, dict[str, Any], int]:
    body = _body(token, rng)
    if rng.random() < 0.1:
        field = rng.choice(("TaskType", "QProg"))
        del body[field]
        return f"without {field}", body, 3
    field = rng.choice(list(FAULTS))
    given, code = rng.choice(FAULTS[field])
    if field.startswith("."):
        body["Configuration"][field[1:]] = given
    else:
        body[field] = given
    return f"{field} = {json.dumps(given)[:30]}", body, code


def _wrong_program(token: str, rng: random.Random) -> tuple[str, dict[str, Any], int]:
    lines = _program(rng)
    last = len(lines) - sum(line.startswith("MEASURE") for line in lines)
    what, changed, code = rng.choice(
        (
            ("no measurement", lines[:last], 19),
            ("measured twice", [*lines, lines[last]], 20),
            ("bit twice", ["QINIT 2", "CREG 2", "H q[0]", "MEASURE q[0],c[1]", "MEASURE q[1],c[1]"], 20),
            ("unknown gate", [*lines[:2], "HADAMARD q[0]", *lines[2:]], 2),
            ("qubit out of range", [*lines[:2], "H q[99]", *lines[2:]], 2),
            ("bit out of range", [*lines, "MEASURE q[0],c[99]"], 2),
            ("one qubit twice", [*lines[:2], "CNOT q[0],q[0]", *lines[2:]], 2),
            ("angle is a word", [*lines[:2], "RX q[0],(half)", *lines[2:]], 2),
            ("without QINIT", lines[2:], 2),
            ("two QINIT", [*lines, "QINIT 3"], 2),
            ("an open block", [*lines[:2], "DAGGER", *lines[2:]], 2),
            ("deep brackets", [*lines[:2], f"RX q[0],({'(' * 500}1{')' * 500})", *lines[2:]], 2),
            ("another language", ['OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[1];\nh q[0];'], 2),
            ("too many qubits", ["QINIT 9", "CREG 9", "H q", "MEASURE q,c"], 6),
            ("no gates", lines[:2], 16),
            ("control flow", ["QINIT 1", "CREG 1", "MEASURE q[0],c[0]", "QIF c[0]==1", "X q[0]", "ENDQIF"], 19),
        )
    )
    return what, _body(token, rng, changed), code


def _wrong_token(token: str, rng: random.Random) -> tuple[str, dict[str, Any], int]:
    body = _body(token, rng)
    given, code = rng.choice(
        ((None, 3), ("", 3), (1, 3), ([token], 3), (token[:-1] + "!", 27), (token.upper(), 27), ("x", 27))
    )
    return "token", body | {"token": given}, code


# ---- bodies that are damaged ----------------------------------------------------------------------------------


def _cut_short(token: str, rng: random.Random) -> tuple[str, bytes, int]:
    data = _text(_body(token, rng), rng)
    return "cut short", data[: rng.randrange(len(data))], 3


def _flipped(token: str, rng: random.Random) -> tuple[str, bytes, int | None]:
    """Bytes that are changed, left out or put in, anywhere."""
    data = bytearray(_text(_body(token, rng), rng))
    for _ in range(rng.randint(1, 8)):
        place = rng.randrange(len(data))
        what = rng.randrange(3)
        if what == 0:
            data[place] = rng.randrange(256)
        elif what == 1:
            del data[place]
        else:
            data[place:place] = bytes(rng.randrange(256) for _ in range(rng.randint(1, 4)))
    return "bytes changed", bytes(data), None
