"""The tasks of `chaos.py`: each has one right end, which its number says. They note what they do in a file that is not
the session's."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import time
from pathlib import Path
from typing import Any, NamedTuple

#: Kinds of tasks, and how many in a thousand there are.
KINDS = {
    "plain": 640,
    "sum": 120,
    "flaky": 60,
    "raises": 40,
    "wide": 40,
    "large_result": 30,
    "large_argument": 30,
    "program": 30,
    "timeout": 7,
    "deadly": 3,
}
#: A task's values above this are files of the session.
LARGE = 1_200_000


class Spec(NamedTuple):
    """One task."""

    number: int
    kind: str
    seconds: float
    #: How often it raises before it returns, and how often it is tried again.
    raises: int
    retries: int
    #: Numbers of earlier tasks whose values it sums.
    needs: tuple[int, ...]


class Note(NamedTuple):
    """What a task has noted: it began (b), was about to return (e), or raised (x)."""

    what: str
    number: int
    pid: int
    #: Seconds since the epoch.
    time: float


def spec(seed: int, number: int) -> Spec:
    """The task with this number, from 1 on."""
    dice = random.Random(f"{seed} {number}")
    kind = dice.choices(list(KINDS), list(KINDS.values()))[0]
    if kind == "sum" and number < 10:
        kind = "plain"
    needs = tuple(sorted(dice.sample(range(max(1, number - 40), number), dice.randint(1, 3)))) if kind == "sum" else ()
    raises = dice.randint(1, 2) if kind == "flaky" else 0
    retries = {"flaky": raises, "raises": dice.randint(0, 1)}.get(kind, 0)
    return Spec(number, kind, dice.choice((0.0, 0.002, 0.01, 0.04)), raises, retries, needs)


def right_end(seed: int, number: int) -> tuple[str, str]:
    """The task's right end: its state, and its value or error as a text (see `text_of_value`)."""
    wanted = spec(seed, number)
    if wanted.kind == "raises":
        return "failed", f"ValueError: {number}"
    if wanted.kind == "timeout":
        return "failed", "TaskTimeout"
    if wanted.kind == "deadly":
        return "failed", "WorkerDied"
    if wanted.kind == "large_result":
        return "done", _digest(_bytes(seed, number))
    if wanted.kind == "large_argument":
        return "done", _digest(_bytes(seed, number))
    ends = [right_end(seed, need) for need in wanted.needs]
    if any(state != "done" for state, _ in ends):
        return "failed", "DependencyFailed"
    return "done", str(_value(seed, number) + sum(_amount(text) for _, text in ends))


def text_of_value(value: Any) -> str:
    """A value as it is compared."""
    if isinstance(value, bytes):
        return _digest(value)
    return value.stdout.strip() if isinstance(value, subprocess.CompletedProcess) else str(value)


def text_of_error(error: BaseException) -> str:
    """An error as it is compared: this module's own with their message."""
    kind = type(error).__name__
    return f"{kind}: {error.args[0]}" if kind == "ValueError" else kind


def describe(seed: int, number: int, notes: str, tasks: dict[int, Any], key: str | None) -> Any:
    """The task's description.

    Args:
        seed: of the schedule.
        number: of the task.
        notes: file for what the tasks note.
        tasks: the earlier tasks by number.
        key: of the task; None: it has none.
    """
    from pilot import TaskDescription

    wanted = spec(seed, number)
    common: dict[str, Any] = {"name": f"t{number}", "key": key, "retries": wanted.retries}
    if wanted.kind == "program":
        line = f"echo b {number} $$ 0 >> {notes}; echo {_value(seed, number)}; echo e {number} $$ 0 >> {notes}"
        return TaskDescription(executable=("/bin/sh", "-c", line), **common)
    if wanted.kind == "large_argument":
        args: tuple[Any, ...] = (notes, number, _bytes(seed, number))
        return TaskDescription(function=digest, args=args, **common)
    if wanted.kind == "wide":
        common["num_cpus"] = 2
    if wanted.kind == "timeout":
        common["timeout"] = 0.3
    needs = [tasks[need] for need in wanted.needs]
    return TaskDescription(function=work, args=(seed, notes, wanted, needs), **common)


def work(seed: int, notes: str, wanted: Spec, needs: list[Any]) -> Any:
    """What most of the tasks do."""
    note(notes, "b", wanted.number)
    time.sleep(60.0 if wanted.kind == "timeout" else wanted.seconds)
    if wanted.kind == "deadly":
        os._exit(7)
    if wanted.kind == "raises" or (wanted.kind == "flaky" and _raised(notes, wanted.number) < wanted.raises):
        note(notes, "x", wanted.number)
        raise ValueError(wanted.number)
    value = _bytes(seed, wanted.number) if wanted.kind == "large_result" else _value(seed, wanted.number)
    if needs:
        value += sum(_amount(text_of_value(need)) for need in needs)
    note(notes, "e", wanted.number)
    return value


def digest(notes: str, number: int, argument: bytes) -> str:
    """The value of a task with a large argument."""
    note(notes, "b", number)
    value = _digest(argument)
    note(notes, "e", number)
    return value


def note(notes: str, what: str, number: int) -> None:
    """One line in the file, in one write."""
    descriptor = os.open(notes, os.O_WRONLY | os.O_APPEND)
    os.write(descriptor, f"{what} {number} {os.getpid()} {time.time()}\n".encode())
    os.close(descriptor)


def read_notes(notes: Path) -> list[Note]:
    """All that the tasks have noted, in that order."""
    lines = [line.split() for line in notes.read_text().splitlines()]
    return [Note(what, int(number), int(pid), float(when)) for what, number, pid, when in lines]


def _raised(notes: str, number: int) -> int:
    return sum(one.what == "x" and one.number == number for one in read_notes(Path(notes)))


def _value(seed: int, number: int) -> int:
    return (seed * 1_000_003 + number * 7919) % 1_000_000_007


def _bytes(seed: int, number: int) -> bytes:
    dice = random.Random(f"bytes {seed} {number}")
    return dice.randbytes(LARGE + dice.randrange(LARGE))


def _amount(text: str) -> int:
    """What a value adds to a sum."""
    return int(text) if text.isdecimal() else int(text[1:9], 16)


def _digest(value: bytes) -> str:
    return "x" + hashlib.sha256(value).hexdigest()
