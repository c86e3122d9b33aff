"""On the path of a traced run (`latency.py --trace`): each process writes down when a message leaves and comes.

A line of the file that PILOT_BENCHMARK_TRACE names: the time (seconds, CLOCK_MONOTONIC, which all processes of a host
share), the process, "sends" or "takes", and the kind of message. A line costs about 3 us.
"""

import os
import sys
import time

if file := os.environ.get("PILOT_BENCHMARK_TRACE"):
    from pilot.wire import sockets

    _log = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    _NAMES = {"RunBatch": b"RunBatch", "OutcomesReport": b"OutcomesReport"}

    def _note(verb, frames):
        head = bytes(b"".join(frames[:2])[:200])
        for name in _NAMES.values():
            if name in head:
                role = "agent" if "pilot.agent" in " ".join(sys.orig_argv) else _role()
                os.write(_log, f"{time.perf_counter():.7f} {role} {verb} {name.decode()}\n".encode())

    def _role():
        return "manager" if "PILOT_AGENT" not in os.environ else "worker"

    _send, _read = sockets.Stream.send, sockets.Stream.read

    def send(self, frames):
        _note("sends", frames)
        return _send(self, frames)

    def read(self):
        received = _read(self)
        for frames in received:
            _note("takes", frames)
        return received

    sockets.Stream.send, sockets.Stream.read = send, read
