"""``fake``: the snapshots of IBM's devices that come with qiskit-ibm-runtime, simulated with their noise."""

from __future__ import annotations

import importlib.util
import re
import threading
import time
import uuid
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilot.errors import PilotError, QPUCancelled, QPUError, QPUUnavailable, did_you_mean
from pilot.interfaces import QPU, Run
from pilot.resources import QPUInfo
from pilot_plugins.qpus._addresses import Options, at_least_one, not_negative, parse, refuse
from pilot_plugins.qpus._qiskit import info_of
from pilot_plugins.qpus.clocks import Clock, Drift, Periods, scaled

if TYPE_CHECKING:
    from qiskit.transpiler import Target

    from pilot.quantum.outcomes import Outcomes
    from pilot_plugins.qpus._qiskit import Readout
    from pilot_plugins.qpus.noise import NoisyDevice

OPTIONS: Options = {
    "queue": (not_negative, "seconds that each job waits, from 0 on"),
    "shot_time": (not_negative, "seconds that each shot takes, from 0 on"),
    "clock": (not_negative, "real seconds of one second of the device, from 0 on: it is held as long as a real one"),
    "setup": (not_negative, "with clock: seconds of the device that each job takes besides its shots (default: 2)"),
    "rep_delay": (not_negative, "with clock: seconds of the device between two shots (default: the snapshot's)"),
    "max_circuits": (at_least_one, "circuits in a job at most"),
    "calibration": (str, "with clock: a CSV file with begin,factor: factors of all errors from a time on"),
    "outages": (str, "with clock: a CSV file with begin,end: times at which it takes no jobs, and its job fails"),
}
#: Seconds of the device for each job, and between two shots, where nothing is said.
SETUP, REP_DELAY = 2.0, 250e-6
#: Real seconds after which a device with outages looks whether it is down.
OUTAGE_CHECK = 0.05


class FakeQPU(QPU):
    """``fake:kolkata``, ``fake:manila?queue=2&shot_time=1e-6``: a snapshot by name, and the time that it takes.

    Circuits are scheduled as late as possible when they run, so that idle times count; see `NoisyDevice` for the
    noise. With ``queue`` and ``shot_time`` a job takes at least ``queue + circuits × shots × shot_time`` seconds: it
    waits, as for a device, and `cancel` ends the waiting at once. Without these, `cancel` ends a job between two
    circuits, or two parts of a circuit of about half a second, since Aer holds the interpreter's lock.

    ``fake:kolkata?clock=0.01`` holds its device as long as a real one would, times 0.01: ``setup + shots × (duration +
    rep_delay)`` seconds, `Clock`. With files its errors drift, and it is down at times, while it is used.
    """

    def __init__(self, name: str, address: str) -> None:
        super().__init__(name, address)
        device, options = parse(name, address, OPTIONS)
        self.snapshot = _short(device)
        self.queue: float = options.get("queue", 0.0)
        self.shot_time: float = options.get("shot_time", 0.0)
        self._options = options
        alone = {"setup", "rep_delay", "calibration", "outages"} & options.keys()
        if alone and "clock" not in options:
            refuse(name, f"the option {min(alone)} needs clock, such as clock=0.01")
        if not device:
            refuse(name, "which device? Write fake:kolkata, or another one of qiskit-ibm-runtime's snapshots")
        if known := _folders():
            self._check_snapshot(known)
        self._cancelled = threading.Event()
        self._backend: Any = None
        self._device: NoisyDevice | None = None
        self._info: QPUInfo | None = None
        self._clock: Clock | None = None
        self._outages = Periods(options["outages"]) if "outages" in options else None
        self._drift = Drift(options["calibration"]) if "calibration" in options else None
        self._began = 0.0
        #: The number of its calibration, and the factor of the errors; 0: the snapshot's own.
        self._calibration = 0, 1.0

    def open(self) -> None:
        known = _snapshots()
        self._check_snapshot(known)
        from qiskit_ibm_runtime import fake_provider

        self._backend = getattr(fake_provider, known[self.snapshot])()
        delay = self._options.get("rep_delay", getattr(self._backend.configuration(), "default_rep_delay", None))
        if (speed := self._options.get("clock")) is not None:
            self._clock = Clock(speed, self._options.get("setup", SETUP), REP_DELAY if delay is None else delay)
        self._began = time.monotonic()
        self._calibrate(1.0, delay)

    def _check_snapshot(self, known: Collection[str]) -> None:
        if self.snapshot not in known:
            what = f"there is no snapshot {self.snapshot!r}{did_you_mean(self.snapshot, known)}"
            refuse(self.name, what, "there are " + ", ".join(sorted(known)))

    def _calibrate(self, factor: float, delay: float | None) -> None:
        """What it is with so many times the errors of the snapshot."""
        from pilot_plugins.qpus.noise import NoisyDevice

        properties = self._backend.properties()  # also read by the target
        configuration = self._backend.configuration()
        target = _with_reset(self._backend.target)
        readout: Readout = [_readout(properties, qubit) for qubit in range(target.num_qubits)]
        if factor != 1.0:
            target, readout = scaled(target, readout, factor)
        taken = properties.last_update_date.timestamp() if properties is not None else None
        if self._calibration[0] and self._clock is not None:
            taken = time.time()
        self._device = NoisyDevice(target, readout)
        self._info = info_of(
            self.name,
            target,
            readout,
            calibrated=taken,
            max_shots=getattr(configuration, "max_shots", None),
            max_circuits=self._options.get("max_circuits", getattr(configuration, "max_experiments", None)),
            rep_delay=delay,
            accepts_jobs=True,
            expected_wait=self.queue,
        )

    def info(self) -> QPUInfo:
        import msgspec

        return msgspec.structs.replace(self._opened()[1], asked=time.time(), accepts_jobs=not self._is_down)

    def target(self) -> Target | None:
        return self._opened()[0].target

    def run(self, run: Run) -> list[Outcomes]:
        device, info = self._opened()
        self._cancelled.clear()
        run.check(info)
        assert run.shots is not None  # checked
        begin = time.monotonic()
        job = f"fake-{uuid.uuid4().hex[:12]}"
        run.on_job(job)
        found = []
        for circuit, seed in zip(run.circuits, run.seeds, strict=True):
            try:
                found.append(device.run(circuit, run.shots, seed, lambda: self._going_on(job)))
            except PilotError as error:
                error.data = {"qpu": self.name, "job": job, **error.data}
                raise
            except Exception as error:
                raise QPUError(f"{self.name}: circuit {circuit.name!r}: {error}", qpu=self.name, job=job) from error
        takes = self.queue + len(run.circuits) * run.shots * self.shot_time
        if self._clock is not None:
            takes += self._clock.seconds([_duration(device, circuit) for circuit in run.circuits], run.shots)
        self._hold(begin + takes, job)
        return found

    def _hold(self, until: float, job: str) -> None:
        """The job runs until this time."""
        while (left := until - time.monotonic()) > 0:
            self._cancelled.wait(left if self._outages is None else min(left, OUTAGE_CHECK))
            self._going_on(job)
        self._going_on(job)

    @property
    def _now(self) -> float:
        """The device's seconds since it was opened."""
        speed = self._clock.speed if self._clock is not None else 0.0
        return (time.monotonic() - self._began) / speed if speed else 0.0

    @property
    def _is_down(self) -> bool:
        return self._outages is not None and self._outages.are_now(self._now)

    def cancel(self) -> None:
        self._cancelled.set()

    def close(self) -> None:
        self.cancel()

    def _going_on(self, job: str) -> None:
        time.sleep(0)  # lets `cancel` in: Aer holds the interpreter's lock
        if self._cancelled.is_set():
            raise QPUCancelled(f"{self.name}: the job {job} was cancelled", qpu=self.name, job=job)
        if self._is_down:
            raise QPUUnavailable(f"{self.name} is down: the job {job} is lost", qpu=self.name, job=job)

    def _opened(self) -> tuple[NoisyDevice, QPUInfo]:
        if self._device is None or self._info is None:
            self.open()
        assert self._device is not None and self._info is not None
        if self._drift is not None and (calibration := self._drift.calibration(self._now)) != self._calibration:
            self._calibration = calibration
            self._calibrate(calibration[1], self._info.rep_delay)
        return self._device, self._info


@cache
def _folders() -> frozenset[str]:
    """Short names of the snapshots, found without an import of qiskit-ibm-runtime, which takes a second; none where it
    is not installed, or arranged in another way."""
    spec = importlib.util.find_spec("qiskit_ibm_runtime")
    places = spec.submodule_search_locations if spec is not None else None
    folder = Path(next(iter(places or ()), "")) / "fake_provider" / "backends"
    if not places or not folder.is_dir():
        return frozenset()
    return frozenset(one.name for one in folder.iterdir() if (one / f"fake_{one.name}.py").is_file())


@cache
def _snapshots() -> dict[str, str]:
    """Short names of the snapshots, and the names of their classes.

    Raises:
        QPUError: qiskit-ibm-runtime is not installed.
    """
    try:
        from qiskit_ibm_runtime import fake_provider
    except ImportError as error:
        raise QPUError(
            "the snapshots of fake: come with qiskit-ibm-runtime, which is not installed: "
            "pip install 'quantum-pilot[ibm]'"
        ) from error
    found = (name for name in dir(fake_provider) if name.startswith("Fake") and "Provider" not in name)
    return dict(sorted((_short(name), name) for name in found))


def _duration(device: NoisyDevice, circuit: Any) -> float:
    """Seconds of one shot of a compiled circuit."""
    return device.scheduler.duration(*device.reduce(circuit))


def _short(name: str) -> str:
    """``FakeKolkataV2``, ``fake_kolkata`` and ``ibm_kolkata`` are ``kolkata``."""
    return re.sub(r"^(fake|ibmq?)_?|(backend)?(_?v2)?$", "", name.strip().lower())


def _with_reset(target: Target) -> Target:
    """Some old snapshots leave out resets, which devices and Aer can do: they take no time and have no error then."""
    from qiskit.circuit import Reset

    if "reset" not in target.operation_names:
        target.add_instruction(Reset(), {(qubit,): None for qubit in range(target.num_qubits)})
    return target


def _readout(properties: Any, qubit: int) -> tuple[float, float] | None:
    """Probabilities of reading 1 in state 0, and 0 in state 1; None where they were not calibrated."""
    if properties is None:
        return None
    known = properties.qubit_property(qubit)
    if "prob_meas1_prep0" not in known or "prob_meas0_prep1" not in known:
        return None
    return float(known["prob_meas1_prep0"][0]), float(known["prob_meas0_prep1"][0])
