"""``qiskit``: any backend, provider or sampler that speaks Qiskit's interfaces: Braket, IonQ, IQM, Aer and others."""

from __future__ import annotations

import importlib
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pilot.errors import QPUError, QPUUnavailable, did_you_mean
from pilot.resources import QPUInfo
from pilot_plugins.qpus._addresses import parse, refuse
from pilot_plugins.qpus._jobs import JobQPU, kept
from pilot_plugins.qpus._qiskit import info_of
from pilot_plugins.qpus._results import from_result, from_sampler

if TYPE_CHECKING:
    from qiskit import QuantumCircuit
    from qiskit.transpiler import Target

    from pilot.interfaces import Run
    from pilot.quantum.outcomes import Outcomes

_ALLOWED = "qiskit:module:object, qiskit:module:function(), or qiskit:module:provider:backend"
#: Qubits of a sampler that does not describe its device.
_UNKNOWN = 10_000


class QiskitQPU(JobQPU):
    """``qiskit:module:object``: an object of a module that can be imported where the pilot runs.

    The object is a `BackendV2`; or a provider, whose ``get_backend(name)`` gives one, with the backend's name behind a
    further colon (``qiskit:qiskit_ionq:IonQProvider():ionq_simulator``); or a `BaseSamplerV2`, for vendors whose
    backends have no ``run`` any more. A function or a class is called without arguments where ``()`` follows, so a
    module of one's own with a function that reads the credentials covers every provider. Results are counts: exact
    probabilities there are none.
    """

    def __init__(self, name: str, address: str) -> None:
        super().__init__(name, address)
        path, _ = parse(name, address, {})
        parts = path.split(":", 2)
        if len(parts) < 2 or not all(parts):
            refuse(name, "no module and object", f"write {_ALLOWED}")
        self.module, self.object = parts[:2]
        self.backend_name = parts[2] if len(parts) > 2 else ""
        self._device: Any = None

    def open(self) -> None:
        from qiskit.primitives import BaseSamplerV2
        from qiskit.providers import BackendV2

        found = self._named()
        try:
            if self.backend_name or not isinstance(found, BackendV2 | BaseSamplerV2):
                found = self._of_provider(found)
        except Exception as error:
            raise kept(self.name, error, f"asking for the backend {self.backend_name!r}") from error
        if not isinstance(found, BackendV2 | BaseSamplerV2):
            raise QPUError(
                f"{self.name}: {self.module}:{self.object} is a {type(found).__name__}, not a BackendV2, a provider "
                f"with get_backend, or a BaseSamplerV2; if it makes one, write {self.module}:{self.object}()",
                qpu=self.name,
            )
        self._device = found

    def info(self) -> QPUInfo:
        target = self.target()
        more: dict[str, Any] = {"asked": time.time()}
        device = self._opened()
        limit = getattr(device, "max_circuits", None)
        if isinstance(limit, int):
            more["max_circuits"] = limit
        validator = getattr(getattr(device, "options", None), "validator", {}).get("shots")
        if isinstance(validator, tuple) and len(validator) == 2:
            more["max_shots"] = validator[1]
        status = getattr(device, "status", None)
        if callable(status):
            try:
                more |= _of_status(status())
            except Exception as error:
                raise kept(self.name, error, "asking for its status") from error
        if target is None or target.num_qubits is None:
            return QPUInfo(name=self.name, qubits=getattr(device, "num_qubits", None) or _UNKNOWN, **more)
        return info_of(self.name, target, **more)

    def target(self) -> Target | None:
        device = self._opened()
        if not hasattr(device, "target"):
            backend = getattr(device, "backend", None)
            device = backend() if callable(backend) else backend
        target: Target | None = getattr(device, "target", None)
        return target

    def cancel_job(self, job: str) -> None:
        retrieve = getattr(self._opened(), "retrieve_job", None)
        if retrieve is None:
            raise QPUError(f"{self.name} cannot find a job again: cancel {job} at the vendor's", qpu=self.name, job=job)
        try:
            _cancel(retrieve(job))
        except Exception as error:
            raise kept(self.name, error, f"cancelling the job {job}", job) from error

    def close(self) -> None:
        device, self._device = self._device, None
        close = getattr(device, "close", None)
        if callable(close):
            close()

    def _opened(self) -> Any:
        if self._device is None:
            self.open()
        return self._device

    def _submit(self, circuits: Sequence[QuantumCircuit], run: Run) -> tuple[Any, str]:
        device = self._opened()
        options: dict[str, Any] = {"shots": run.shots}
        if hasattr(device, "target") and hasattr(device.options, "seed_simulator"):
            options["seed_simulator"] = run.seeds[0]
        job = device.run(circuits, **options)
        return job, _id_of(job)

    def _results(self, job: Any, native: str, circuits: Sequence[QuantumCircuit], run: Run) -> list[Outcomes]:
        result = self._waiting.call(job.result, native)
        if not hasattr(self._opened(), "target"):
            return from_sampler(circuits, result)
        if not getattr(result, "success", True):
            raise QPUError(f"{self.name}: {_failure(result)}", qpu=self.name, job=native)
        assert run.shots is not None  # checked
        return [from_result(each, result, at, run.shots) for at, each in enumerate(circuits)]

    def _stop(self, job: Any) -> None:
        _cancel(job)

    def _named(self) -> Any:
        """The module's object, made where parentheses follow its name."""
        try:
            found: Any = importlib.import_module(self.module)
        except ImportError as error:
            raise QPUError(
                f"{self.name}: the module {self.module} cannot be imported where the pilot runs: {error}", qpu=self.name
            ) from error
        made = self.object.endswith("()")
        for part in self.object.removesuffix("()").split("."):
            if not hasattr(found, part):
                refuse(self.name, f"{self.module} has no {part!r}{did_you_mean(part, dir(found))}")
            found = getattr(found, part)
        if not made:
            return found
        if not callable(found):
            refuse(self.name, f"{self.object.removesuffix('()')} cannot be called: leave the parentheses out")
        try:
            return found()
        except Exception as error:
            raise kept(self.name, error, f"calling {self.object}") from error

    def _of_provider(self, provider: Any) -> Any:
        """A provider's backend of this name; other objects are returned unchanged."""
        get = getattr(provider, "get_backend", None) or getattr(provider, "backend", None)
        if not callable(get):
            return provider
        listed = getattr(provider, "backends", None)
        names = [_name(backend) for backend in listed()] if callable(listed) else []
        if not self.backend_name:
            refuse(self.name, "which backend? Write its name behind a colon", "there are " + (", ".join(names) or "?"))
        if names and self.backend_name not in names:
            refuse(
                self.name,
                f"no backend {self.backend_name!r}{did_you_mean(self.backend_name, names)}",
                "there are " + ", ".join(names),
            )
        return get(self.backend_name)


def _of_status(status: Any) -> dict[str, Any]:
    """Fields of `QPUInfo` from what a backend's ``status()`` gives: Qiskit's BackendStatus, or a bool."""
    if isinstance(status, bool):
        return {"accepts_jobs": status}
    operational = getattr(status, "operational", None)
    if not isinstance(operational, bool):
        return {}
    message = str(getattr(status, "status_msg", "active")).lower()
    found: dict[str, Any] = {"accepts_jobs": operational and message in ("active", "", "available", "online")}
    pending = getattr(status, "pending_jobs", None)
    if isinstance(pending, int) and pending >= 0:
        found["pending_jobs"] = pending
    return found


def _name(backend: Any) -> str:
    name = backend.name
    return str(name() if callable(name) else name)


def _id_of(job: Any) -> str:
    identity = getattr(job, "job_id", "")
    return str(identity() if callable(identity) else identity)


def _cancel(job: Any) -> None:
    """Request it; a job that is over, or that cannot be cancelled, is not an error."""
    try:
        job.cancel()
    except NotImplementedError:
        return
    except Exception as error:
        if "cancel" in str(error).lower() or "final" in str(error).lower():
            return
        raise QPUUnavailable(f"the job {_id_of(job)} could not be cancelled: {error}", job=_id_of(job)) from error


def _failure(result: Any) -> str:
    words = [str(result.status), *(str(each.status) for each in result.results if not each.success)]
    return "; ".join(word for word in words if word)
