"""Untrusted programs, parsed in another process: faults of a parser stay there.

A process is kept warm between calls, since starting Qiskit takes over a second; a second one is started when the
first is busy. One that crashes, takes too long or too much memory is killed and replaced. All end with this
process, also when it is killed: their input closes. What comes back is QPY, of this version alone.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import psutil
from qiskit import qpy

from pilot.errors import DescriptionError, PluginError, ProgramError
from pilot.quantum.packing import unpack
from pilot.quantum.programs.child import ANSWER, MAX_ANSWER, READY, REQUEST
from pilot.quantum.programs.problems import program_error

if TYPE_CHECKING:
    from qiskit.circuit import QuantumCircuit

#: Seconds of processor time that parsing one program may take, and seconds by the clock, for one that does nothing.
SECONDS, CLOCK_SECONDS = 4.0, 60.0
#: Bytes that parsing may take on top of what the idle process has.
MEMORY = 1 << 30
#: Processes at once.
MAX_CHILDREN = 2
#: Seconds that a process may take to start.
_START = 120.0

#: What the process sees of the environment: an untrusted program shall find no secrets there.
_ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "PILOT_AGENT")


def parse_apart(text: str, format: str, *, seconds: float = SECONDS) -> QuantumCircuit:
    """The circuit of an untrusted text. Blocks for as long as ``seconds`` of processor time take, at most
    `CLOCK_SECONDS` seconds, and while all processes are busy.

    Raises:
        ProgramError: the text is wrong; or parsing it takes too long, too much memory, or crashes the parser.
        PluginError: the process does not start, or lacks a package.
    """
    child = _pool.take()
    try:
        answer = child.ask(text, format, seconds)
    except BaseException:
        _pool.drop(child)
        raise
    _pool.give_back(child)
    return answer()


class _Child:
    """One process, which answers one request at a time."""

    def __init__(self) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # closed by kill
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        environment |= {"RAYON_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "QISKIT_PARALLEL": "FALSE"}
        environment["PYTHONPATH"] = os.pathsep.join(str(Path(each).absolute()) for each in sys.path)
        self.process = subprocess.Popen(
            [sys.executable, "-c", f"from pilot.quantum.programs.child import main; main({MEMORY})"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            cwd="/",
            env=environment,
        )
        try:
            ready = self._read(1, _Allowance(self.process.pid, _START, _START)) == READY
        except (_TooLong, EOFError):
            ready = False
        if not ready:
            self.process.kill()
            self.process.wait()
            self._log.seek(0)
            end = self._log.read().decode(errors="replace")[-2000:]
            self.kill()
            raise PluginError(f"the process that parses untrusted programs does not start: {end}")

    def ask(self, text: str, format: str, seconds: float) -> Any:
        """A function that gives the circuit, or raises what is wrong with the text."""
        body = json.dumps({"text": text, "format": format, "seconds": seconds}).encode()
        allowance = _Allowance(self.process.pid, seconds, CLOCK_SECONDS)
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(REQUEST.pack(len(body)) + body)
            self.process.stdin.flush()
            kind, length = ANSWER.unpack(self._read(ANSWER.size, allowance))
            if length > MAX_ANSWER:
                raise program_error(format, f"the parsed program has {length} bytes; at most {MAX_ANSWER} are taken")
            answer = self._read(length, allowance)
        except _TooLong as error:
            raise program_error(format, f"parsing takes longer than {error} and was stopped") from None
        except (EOFError, BrokenPipeError):
            raise self._crashed(format) from None
        if kind == b"M":
            raise program_error(format, f"parsing takes more than {MEMORY >> 20} MiB of memory")
        if kind == b"E":
            return lambda: _raise(json.loads(answer))
        return lambda: _unpacked(answer)

    def _crashed(self, format: str) -> ProgramError:
        self.kill()
        code = self.process.returncode
        if code == -signal.SIGXCPU:
            return program_error(format, "parsing takes too long and was stopped")
        what = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return program_error(format, f"the parser crashed ({what})")

    def _read(self, length: int, allowance: _Allowance) -> bytes:
        assert self.process.stdout is not None
        descriptor = self.process.stdout.fileno()
        poll = select.poll()  # select(2) takes no descriptor above 1023
        poll.register(descriptor, select.POLLIN)
        parts = bytearray()
        while len(parts) < length:
            if not poll.poll(1000 * allowance.left()):
                continue
            part = os.read(descriptor, min(length - len(parts), 1 << 20))
            if not part:
                raise EOFError
            parts += part
        return bytes(parts)

    def alive(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self._log):
            if stream is not None:
                with suppress(BrokenPipeError):  # something was still to be written
                    stream.close()


class _TooLong(Exception):
    """The time is over; the argument is the limit."""


class _Allowance:
    """What is left of the time that a process may take. It counts its processor time, so that one is not stopped since
    others keep the machine busy; and the clock, since one that waits for ever uses no processor."""

    def __init__(self, pid: int, seconds: float, clock_seconds: float) -> None:
        self._process = psutil.Process(pid)
        self._seconds, self._clock_seconds = seconds, clock_seconds
        self._used = self._processor_seconds()
        self._end = monotonic() + clock_seconds

    def left(self) -> float:
        """Seconds by the clock before which it cannot be used up.

        Raises:
            _TooLong: it is.
        """
        if (seconds := self._seconds - self._processor_seconds() + self._used) <= 0:
            raise _TooLong(f"{self._seconds:g} s")
        if (clock_seconds := self._end - monotonic()) <= 0:
            raise _TooLong(f"{self._clock_seconds:g} s by the clock")
        return max(0.01, min(seconds, clock_seconds))

    def _processor_seconds(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)


class _Pool:
    """The processes: idle ones, and how many more may be started."""

    def __init__(self) -> None:
        self._places = threading.Semaphore(MAX_CHILDREN)
        self._lock = threading.Lock()
        self._idle: list[_Child] = []

    def take(self) -> _Child:
        self._places.acquire()
        try:
            with self._lock:
                child = self._idle.pop() if self._idle else None
            if child is not None and child.alive():
                return child
            if child is not None:
                child.kill()
            return _Child()
        except BaseException:
            self._places.release()
            raise

    def give_back(self, child: _Child) -> None:
        with self._lock:
            self._idle.append(child)
        self._places.release()

    def drop(self, child: _Child) -> None:
        child.kill()
        self._places.release()

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for child in idle:
            child.kill()


_pool = _Pool()


def _forget() -> None:
    """A forked process has no part in its parent's children."""
    global _pool
    _pool = _Pool()


def close() -> None:
    """End the idle processes; the next call starts a new one."""
    _pool.close()


atexit.register(close)
os.register_at_fork(after_in_child=_forget)


def _raise(answer: dict[str, Any]) -> None:
    kinds = {"DescriptionError": DescriptionError, "PluginError": PluginError}
    raise kinds.get(answer["kind"], ProgramError)(answer["message"], **answer["data"])


def _unpacked(answer: bytes) -> QuantumCircuit:
    if answer[:6] != b"QISKIT" or answer[6] != qpy.QPY_VERSION:
        raise PluginError("the process that parses untrusted programs answered with something else than QPY")
    circuits = unpack(answer)  # the process has read it, within limits
    return circuits[0]
