"""QPUs by name: which of a pilot's are devices, and the one that this worker process has.

A worker of a device opens it when it starts, and has it until it ends. What runs circuits there asks for `held`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from pilot.errors import QPUCancelled, QPUError, QPUUnavailable, error_text
from pilot.interfaces import QPU
from pilot.registry import make
from pilot.resources import QPUInfo

log = logging.getLogger(__name__)


class Held:
    """The device of a worker process: opened when it is needed, again after it has failed."""

    def __init__(self, name: str, folder: Path) -> None:
        """Make it; nothing is opened yet.

        Args:
            name: as in ``PilotDescription.qpus``.
            folder: where the id of the job that is under way is kept, for the worker after this one.
        """
        self.name = name
        self._note = folder / f"{name.replace('/', '_')}.job"
        self._qpu: QPU | None = None
        self._info = QPUInfo(name=name, qubits=0)
        self._opening = threading.Lock()
        self._over = False

    def open(self) -> QPU:
        """The device, open. Blocks.

        Raises:
            QPUError: it cannot be opened, or this worker ends.
        """
        with self._opening:
            if self._over:
                raise QPUCancelled(f"{self.name}: its worker ends", qpu=self.name)
            if self._qpu is None:
                qpu = make(self.name)
                qpu.open()
                self._end_job_of_before(qpu)
                self._qpu = qpu
            return self._qpu

    def look(self) -> QPUInfo:
        """What it says of itself; where it cannot be asked, what it said last, and the problem. Blocks."""
        try:
            self._info = self.open().info()
        except Exception as error:  # a plugin's own, and whatever its vendor's packages raise
            return unusable(self._info, error_text(error))
        return self._info

    def job_began(self, job: str) -> None:
        """Keep the native id of the job that is under way."""
        self._note.write_text(job)

    def job_ended(self) -> None:
        """No job is under way any more."""
        self._note.unlink(missing_ok=True)

    def end(self) -> None:
        """End the job that is under way and the session, for good. From any thread."""
        self._over = True
        qpu, self._qpu = self._qpu, None
        if qpu is not None:
            qpu.cancel()
            self.job_ended()
            qpu.close()

    def _end_job_of_before(self, qpu: QPU) -> None:
        """End the job that a worker left under way when it died; where the QPU cannot, that is in the log."""
        try:
            qpu.cancel_job(self._note.read_text())
        except FileNotFoundError:
            return
        except QPUUnavailable:
            qpu.close()
            raise
        except QPUError as error:
            log.warning("a job of the worker before this one may go on: %s", error)
        self.job_ended()


def unusable(info: QPUInfo, problem: str) -> QPUInfo:
    """The same device when it cannot be used."""
    return msgspec.structs.replace(info, accepts_jobs=False, asked=time.time(), problem=problem)


#: The device that this worker process has.
held: Held | None = None

#: Simulators of this process, opened when they are first asked for.
_simulators: dict[str, QPU] = {}


def simulator(name: str) -> QPU:
    """This process's own simulator of that name, open.

    Raises:
        QPUError, DescriptionError, PluginError: as `Held.open` and `make`.
    """
    if name not in _simulators:
        qpu = make(name)
        qpu.open()
        _simulators[name] = qpu
    return _simulators[name]


def within(seconds: float, what: Callable[[], None]) -> None:
    """Call this in a thread of its own and wait so long for it at most."""
    thread = threading.Thread(target=what, daemon=True)
    thread.start()
    thread.join(seconds)
