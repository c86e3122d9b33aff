"""The process that parses untrusted programs: one after another, each with limits.

Its first byte on standard output says that it is ready. A request on standard input is a length (4 bytes) and
JSON with ``text``, ``format`` and ``seconds``; the answer a byte ("Q": QPY, "E": an error as JSON, "M": out of
memory, after which it ends), a length (8 bytes) and that many bytes. It ends when its input is closed.
"""

from __future__ import annotations

import ctypes
import gc
import io
import json
import os
import resource
import select
import signal
import struct
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from qiskit import QuantumCircuit

REQUEST = struct.Struct("<I")
ANSWER = struct.Struct("<cQ")
#: What a parsed program may take from the process that reads it: bytes of QPY, seconds of a processor, and bytes of
#: memory. They are found out here, by reading it.
MAX_ANSWER, READ_SECONDS, READ_MEMORY = 64 << 20, 1.0, 256 << 20
READY = b"R"


def main(memory: int) -> None:
    """Serve until standard input is closed.

    Args:
        memory: bytes that parsing may take on top of what the idle process has.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # output of a parser is not an answer
    _warm_up()
    gc.collect()
    gc.freeze()  # what is loaded stays, and need not be looked through after each program
    threading.Thread(target=_end_with_parent, args=(requests.fileno(),), daemon=True).start()
    _limit(memory)
    answers.write(READY)
    answers.flush()
    while header := requests.read(REQUEST.size):
        body = requests.read(REQUEST.unpack(header)[0])
        kind, answer = _answer(**json.loads(body))
        _send(answers, kind, answer)
        if kind == b"M":
            os._exit(1)


def _warm_up() -> None:
    from pilot.quantum.programs.parsing import parse

    for format, text in (
        ("openqasm2", 'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[1];\nh q[0];\n'),
        ("openqasm3", 'OPENQASM 3.0;\ninclude "stdgates.inc";\nqubit[1] q;\nh q[0];\n'),
        ("originir", "QINIT 1\nH q[0]\n"),
    ):
        _pack(parse(text, format))


def _limit(memory: int) -> None:
    """Address space, no files, no core dumps; the time is limited with each request."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) if sys.platform == "linux" else 0
    if pages:
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + memory,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))


def _end_with_parent(descriptor: int) -> None:
    """Wait for the other end to be closed, also while a parser runs."""
    poll = select.poll()
    poll.register(descriptor, 0)
    poll.poll()
    os._exit(0)


def _answer(text: str, format: str, seconds: float) -> tuple[bytes, bytes]:
    from pilot.errors import DescriptionError, PilotError
    from pilot.quantum.programs.parsing import parse
    from pilot.quantum.programs.problems import program_error

    used = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime + seconds) + 2, hard))
    try:
        circuit = parse(text, format)
        answer = _pack(circuit)
        del circuit
        _check_reading(answer, format)
        return b"Q", answer
    except MemoryError:
        return b"M", b""
    except DescriptionError as error:
        return b"E", _described(error)
    except PilotError as error:
        return b"E", json.dumps({"message": str(error), "data": {}, "kind": type(error).__name__}).encode()
    except BaseException as error:  # a panic of Rust's is no Exception
        if "memory" in str(error).lower() or "alloc" in str(error).lower():
            return b"M", b""
        return b"E", _described(program_error(format, f"the parser failed: {type(error).__name__}: {error}"[:500]))


def _check_reading(answer: bytes, format: str) -> None:
    """Read the program as the other process will.

    Raises:
        ProgramError: it cannot be read, or that takes too much.
    """
    from qiskit import qpy
    from qiskit.qpy.exceptions import QpyError

    from pilot.quantum.programs.problems import program_error

    if len(answer) > MAX_ANSWER:
        raise program_error(format, f"the parsed program has {len(answer)} bytes; at most {MAX_ANSWER} are taken")
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what parsing has freed is not to be used again without being counted
    resident, began = _resident(), time.process_time()
    try:
        circuits = qpy.load(io.BytesIO(answer))
    except QpyError as error:
        raise program_error(format, f"the parsed program cannot be written as QPY and read again: {error}") from None
    seconds, memory = time.process_time() - began, _resident() - resident
    del circuits
    if seconds > READ_SECONDS:
        problem = f"the parsed program takes {seconds:.1f} s to read; at most {READ_SECONDS:g} s are allowed"
        raise program_error(format, problem)
    if memory > READ_MEMORY:
        problem = f"the parsed program takes {memory >> 20} MiB of memory; at most {READ_MEMORY >> 20} are allowed"
        raise program_error(format, problem)


def _resident() -> int:
    """Bytes of this process that are in memory (proc_pid_statm(5), field 2)."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()


def _described(error: Exception) -> bytes:
    data = {name: getattr(error, "data", {}).get(name) for name in ("format", "line", "column", "expected")}
    return json.dumps({"message": str(error), "data": data, "kind": type(error).__name__}).encode()


def _pack(circuit: QuantumCircuit) -> bytes:
    from pilot.quantum.packing import pack

    return pack(circuit)


def _send(answers: BinaryIO, kind: bytes, body: bytes) -> None:
    answers.write(ANSWER.pack(kind, len(body)))
    answers.write(body)
    answers.flush()
