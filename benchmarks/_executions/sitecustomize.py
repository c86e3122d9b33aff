"""Workers' own count: with this folder on PYTHONPATH, each worker adds a line to the file $PILOT_EXECUTIONS for each
task that has run to its end in it, whatever becomes of the outcome afterwards.

Python imports a module of this name when it starts. The worker's code is changed as it is imported.
"""

import os
import sys
import threading
from importlib.machinery import PathFinder
from types import SimpleNamespace

FILE = os.environ.get("PILOT_EXECUTIONS")
WORKER = "pilot.worker.batch"


class Finder:
    """Finds the worker's module as usual, and counts in it from then on."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name != WORKER:
            return None
        spec = PathFinder.find_spec(name, path, target)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            module.threading = SimpleNamespace(Lock=threading.RLock)
            count_in(module.HeldBatch)

        spec.loader.exec_module = exec_module
        return spec


def count_in(held_batch):
    from pilot.results import OK, RAISED

    step = held_batch.step

    def counted(self, outcome):
        with self.lock:  # in one with the note of the outcome, which the other thread may hand over at any moment
            if outcome.status in (OK, RAISED):
                work = self.works[self.at]
                line = f"{outcome.task} {self.functions[work.function]} {digest(work.payload)}\n"
                file = os.open(FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
                os.write(file, line.encode())
                os.close(file)
            return step(self, outcome)

    held_batch.step = counted


def digest(payload):
    import hashlib

    return hashlib.blake2b(
        payload if isinstance(payload, bytes) else repr(payload).encode(), digest_size=16
    ).hexdigest()


if FILE:
    sys.meta_path.insert(0, Finder)
