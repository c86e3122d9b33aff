"""Every gate of Qiskit's library, in every form, through every entry, beside Qiskit's own `Statevector`.

    python benchmarks/gates.py [--json FILE]                # about ten minutes
    python benchmarks/gates.py --random 1000 [--json FILE]  # circuits with own gates of taken names

`cases` is how many circuits went through how many doors, `wrong` those whose numbers differ, `refused` those that a
`PilotError` refused where the user calls, `refused_late` those without exact values, which the worker finds out,
`bare_errors` all other errors, `killed` the processes that a circuit killed.
Each gate has a process of its own. Read next: `_gate_cases`, `_random_gates`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import _bench
import _gate_cases
import _random_gates

from pilot.errors import PilotError

#: Random circuits of one process.
CHUNK = 25
#: A process that takes longer hangs.
LIMIT_SECONDS = 300

Row = dict[str, Any]


def verdict(door: Callable[[Any], float | None], case: Any, tolerance: float) -> tuple[str, str] | None:
    """The result of a case at an entry, and its details; None: it is not for this entry."""
    try:
        error = door(case)
    except PilotError as problem:
        return "refused", str(problem)[:200]
    except _gate_cases.InWorker as problem:
        late = _gate_cases.NO_EXACT in str(problem) or str(problem).startswith("DescriptionError")
        return "refused late" if late else "bare error", str(problem)[:200]
    except BaseException as problem:  # Rust's panics are no `Exception`
        return "bare error", f"{type(problem).__name__}: {problem}"[:200]
    if error is None:
        return None
    return ("right", "") if error <= tolerance else ("wrong", f"{error:.3g}")


def of_gate(name: str) -> Iterator[Row]:
    """What becomes of one gate of the library."""
    for case in _gate_cases.cases(name):
        for door, through in _gate_cases.DOORS.items():
            found = verdict(through, case, _gate_cases.TOLERANCE[door])
            if found:
                yield {"gate": name, "form": case.form, "door": door, "what": found[0], "more": found[1]}


def of_seeds(first: int) -> Iterator[Row]:
    """What becomes of random circuits."""
    for seed in range(first, first + CHUNK):
        case = _random_gates.random_case(seed)
        for door, through in _random_gates.DOORS.items():
            found = verdict(through, case, _random_gates.TOLERANCE[door])
            if found:
                yield {"seed": seed, "door": door, "what": found[0], "more": found[1]}


def _answer(function: Callable[[Any], Iterator[Row]], argument: Any, answers: Any) -> None:
    warnings.simplefilter("ignore")
    for row in function(argument):
        answers.send(row)
    answers.send(None)


def apart(function: Callable[[Any], Iterator[Row]], argument: Any) -> list[Row]:
    """What the function gives in a process of its own, and how that was killed if it was."""
    context = multiprocessing.get_context("forkserver")  # this process has threads, which a fork would wait for
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(function, argument, sender))
    process.start()
    sender.close()
    rows: list[Row] = []
    try:
        while receiver.poll(LIMIT_SECONDS):
            row = receiver.recv()
            if row is None:
                process.join()
                return rows
            rows.append(row)
        process.kill()
    except EOFError:
        pass
    process.join()
    last = {key: value for key, value in rows[-1].items() if key != "what"} if rows else {}
    return [*rows, {"of": argument, **last, "what": "killed", "more": f"after this one; {process.exitcode}"}]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--random", type=int, metavar="N", help="so many random circuits in place of the library")
    parser.add_argument("--only", nargs="*", help="names of gates")
    parser.add_argument("--json", type=Path, metavar="FILE")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    work: list[tuple[Any, Any]] = (
        [(of_seeds, first) for first in range(0, asked.random, CHUNK)]
        if asked.random
        else [(of_gate, name) for name in asked.only or _gate_cases.library()]
    )
    multiprocessing.set_forkserver_preload(["_gate_cases", "_random_gates"])
    with ThreadPoolExecutor(2) as pool:
        rows = [row for found in pool.map(lambda one: apart(*one), work) for row in found]
    number = Counter(row["what"] for row in rows)
    kinds = Counter((row.get("door"), row["what"], row["more"][:70]) for row in rows if row["what"] != "right")
    for (door, what, more), times in sorted(kinds.items(), key=str):
        sys.stdout.write(f"{times:5} {door}: {what}: {more}\n")
    at_least = None if asked.random or asked.only else _bench.Bar(">=", 5000, "circuits and doors")
    none = _bench.Bar("<=", 0, "circuits and doors")
    _bench.report(
        "gates",
        {
            "cases": (len(rows), at_least),
            "wrong": (number["wrong"], none),
            "refused": (number["refused"], None),
            "refused_late": (number["refused late"], None),
            "bare_errors": (number["bare error"], none),
            "killed": (number["killed"], none),
        },
        rows=[row for row in rows if row["what"] != "right"],
        configuration={"random": asked.random, "only": asked.only},
        file=asked.json,
    )


if __name__ == "__main__":
    main()
