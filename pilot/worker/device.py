"""The QPU of this worker process.

A worker of a device opens it when it starts, and has it until it ends. Functions that run circuits there use `held`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from pilot.errors import PluginError, QPUCancelled, QPUError, QPUUnavailable, error_text
from pilot.interfaces import QPU
from pilot.registry import make
from pilot.resources import QPUInfo

log = logging.getLogger(__name__)


class Held:
    """The device of a worker process: opened when it is needed, and again after a failure."""

    def __init__(self, name: str, folder: Path) -> None:
        """Make it; nothing is opened yet.

        Args:
            name: as in ``PilotDescription.qpus``.
            folder: where the id of the running job is kept, for the next worker of this device.
        """
        self.name = name
        self._note = folder / f"{name.replace('/', '_')}.job"
        self._qpu: QPU | None = None
        self._info = QPUInfo(name=name, qubits=0)
        self._opening = threading.Lock()
        self._over = False
        #: The last error that `is_down_after` was asked about, and its answer.
        self._error: tuple[BaseException | None, bool] = None, False

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
                self._end_previous_job(qpu)
                self._qpu = qpu
            return self._qpu

    def look(self) -> QPUInfo:
        """Its properties now; when they cannot be read, the last known ones with the problem. Blocks."""
        try:
            info = self.open().info()
            if not isinstance(info, QPUInfo) or info.name != self.name:  # nothing would be sent to it
                raise PluginError(f"{self.name}: info gave {info!r:.80}; expected a QPUInfo with the name of the QPU")
            self._info = info
        except Exception as error:  # of a plugin or of its vendor's packages
            return unusable(self._info, error_text(error))
        return self._info

    def is_down_after(self, error: BaseException) -> bool:
        """True when a job failed since the device takes none now, as it reports itself: an outage, say. Blocks."""
        if isinstance(error, QPUCancelled) or not isinstance(error, QPUError):
            return False
        if not isinstance(error, QPUUnavailable) and not error.data.get("job"):
            return False  # it failed before it was a job
        if error is not self._error[0]:  # the tasks of one job fail with one error
            self._error = error, is_down(self.look())
        return self._error[1]

    def job_began(self, job: str) -> None:
        """Write down the native id of the running job."""
        self._note.write_text(job)

    def job_ended(self) -> None:
        """No job runs any more."""
        self._note.unlink(missing_ok=True)

    def end(self) -> None:
        """End the running job and the session; the device stays closed. From any thread."""
        self._over = True
        qpu, self._qpu = self._qpu, None
        if qpu is not None:
            qpu.cancel()
            self.job_ended()
            qpu.close()

    def _end_previous_job(self, qpu: QPU) -> None:
        """End the job of the previous worker, if it died while the job ran; a failure is logged."""
        try:
            qpu.cancel_job(self._note.read_text())
        except FileNotFoundError:
            return
        except QPUUnavailable:
            qpu.close()
            raise
        except QPUError as error:
            log.warning("a job of the previous worker may still run: %s", error)
        self.job_ended()


def unusable(info: QPUInfo, problem: str) -> QPUInfo:
    """The same device when it cannot be used."""
    return msgspec.structs.replace(info, accepts_jobs=False, asked=time.time(), problem=problem)


def is_down(info: QPUInfo) -> bool:
    """True for a device that reports that it takes no jobs now."""
    return info.accepts_jobs is False and not info.problem


#: The device that this worker process has.
held: Held | None = None

#: Simulators of this process, opened on first use.
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


def call_with_timeout(seconds: float, what: Callable[[], None]) -> None:
    """Call this in a thread of its own, and wait at most so many seconds for it."""
    thread = threading.Thread(target=what, daemon=True)
    thread.start()
    thread.join(seconds)
