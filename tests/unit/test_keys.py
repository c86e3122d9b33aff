"""What is submitted under a key is compared by digests, which are the same in every run of a script."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from pilot.wire.digests import digest_of_value

#: Prints digests of what a script gives a task with a key.
SCRIPT = """
import dataclasses, enum
from pilot import TaskDescription
from pilot.scheduling.records import FunctionRecord
from pilot.manager.keys import key_of
from pilot.wire import payload

class Colour(enum.Enum):
    RED = 1

@dataclasses.dataclass
class Point:
    x: int
    colour: Colour = Colour.RED

def moved(point):
    return Point(point.x + 1)

def register(function):
    return FunctionRecord(1, "ab", "moved", payload.dump_function(function))

description = TaskDescription(function=moved, args=[Point(3)], kwargs={"more": [Colour.RED]}, key="k")
digests = key_of(description, register).digests
assert key_of(description, register).digests == digests
print({name: digest.hex() for name, digest in digests.items()})
"""


def test_classes_of_a_script_are_the_same_in_its_next_run() -> None:
    first, second = (
        subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    )
    assert first == second and "args" in first and "kwargs" in first


#: Prints digests of functions and arguments that have sets.
SETS = """
import collections, functools, sys
from pilot.wire import payload
from pilot.wire.digests import digest_of_code, digest_of_value

NAMES = set("abcdefgh")

class Tagged:
    tags = frozenset("klmnopq")

    def __init__(self, names, first=None):
        self.names, self.first = names, first

class Words(list): pass
class Table(dict): pass

def in_code(name): return name in {"a", "b", "c", "d", LAST}
def in_code_too(name): return name in {"a", "b", "c", "d", "e"}
def in_globals(name): return name in NAMES
def in_default(name, names=frozenset("uvwxyz")): return name in names
def in_class(name): return Tagged([]).tags
def in_closure(names): return lambda name: name in names
def calls_itself(n): return n in NAMES or calls_itself(n - 1)

LAST = sys.argv[1]
loop = Tagged(set("abc"))
loop.first = loop
values = [
    Tagged(set("abcdef")), Tagged({("a", 1), ("b", 2), ("c", 3)}), collections.deque([set("abcd")]),
    Words([set("abc")]), Table(a=frozenset("abcd")), loop, [{"a": Tagged({1, "1", None})}], Tagged({Tagged}),
    bytearray((0x8F, 0x91)), object,
]
functions = [
    in_code, in_code_too, in_globals, in_default, in_class, in_closure(set("abcd")), calls_itself,
    Tagged(set("ab")).__init__, functools.partial(in_globals, payload.dump_function(in_globals)),
]
print([digest_of_value(value).hex() for value in values])
print([digest_of_code(payload.dump_function(function)).hex() for function in functions])
"""


def test_the_order_of_sets_does_not_count() -> None:
    def run(seed: int, last: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", SETS, last],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
        )
        return done.stdout.replace("\n", " ").translate(str.maketrans("", "", "[],'")).split()

    first = run(1, "e")
    assert first == run(2, "e") == run(3, "e") and len(set(first)) == 19
    assert [at for at, (one, other) in enumerate(zip(first, run(4, "f"), strict=True)) if one != other] == [10]


def test_what_is_in_a_set_counts() -> None:
    def digest(value: object) -> bytes:
        return digest_of_value(SimpleNamespace(value=value))

    values: list[object] = [
        *(set(), {1}, {1, 2}, {1, 3}, {"1"}, {1.0}, {True}, frozenset({1}), [{1}], ({1},), {"a": {1}}, {"b": {1}}),
        *({frozenset({1})}, {frozenset({1}), 1}, {(1, 2)}, {(2, 1)}, {b"1"}, {SimpleNamespace}, {Counter}, {None}),
        *(
            Counter(a=1),
            [{1}, Counter(a=1)],
            [{1}, Counter(a=2)],
            [{1}, SimpleNamespace(a=1)],
            [{1}, SimpleNamespace(b=1)],
        ),
        *([{1}, np.zeros(3)], [{1}, np.zeros(4)], [{1}, np.ones(3)], [{1}, 1j], [{1}, 2j]),
    ]
    digests = [digest(value) for value in values]
    assert len(set(digests)) == len(values) and digests == [digest(copy.deepcopy(value)) for value in values]


def test_an_int_may_be_long() -> None:
    """Python writes no int of more than 4300 digits as a text."""
    long = 10**5000
    values: list[object] = [
        long,
        -long,
        long + 1,
        [long],
        {long},
        SimpleNamespace(a={long}),
        SimpleNamespace(a={-long}),
    ]
    digests = [digest_of_value(value) for value in values]
    assert len(set(digests)) == len(values) and digests == [digest_of_value(copy.deepcopy(value)) for value in values]


def test_where_a_function_stands_does_not_count(tmp_path: Path) -> None:
    script = """
class Shift:
    def by(self): return 1

def shifted(x): return x + Shift().by()

def within(n):
    return lambda x: x + n

from pilot.wire import payload
from pilot.wire.digests import digest_of_code, digest_of_value
for function in (shifted, within(3)):
    print(digest_of_code(payload.dump_function(function)).hex())
print(digest_of_value(Shift()).hex())
"""

    def run(path: Path, text: str) -> list[str]:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return subprocess.run([sys.executable, path], capture_output=True, text=True, check=True).stdout.split()

    first = run(tmp_path / "script.py", script)
    moved = script.replace("\n    return", "\n    # as lambda\n    return")
    assert first == run(tmp_path / "elsewhere/other.py", "# a comment\n" + moved)
    edited = run(tmp_path / "script.py", script.replace("return 1", "return 2"))
    assert [one == other for one, other in zip(first, edited, strict=True)] == [False, True, False]
