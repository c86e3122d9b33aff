"""What is submitted under a key is compared by digests, which are the same in every run of a script."""

from __future__ import annotations

import subprocess
import sys

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
