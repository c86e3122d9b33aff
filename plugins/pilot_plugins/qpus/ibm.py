"""``ibm``: IBM's QPUs in the cloud, through qiskit-ibm-runtime."""

from __future__ import annotations

import contextlib
import logging
import time
import warnings
from typing import TYPE_CHECKING, Any

from pilot.errors import QPUCancelled, QPUError
from pilot.resources import QPUInfo
from pilot_plugins.qpus._addresses import Options, at_least_one, one_of, parse, refuse
from pilot_plugins.qpus._jobs import JobQPU, kept
from pilot_plugins.qpus._qiskit import info_of
from pilot_plugins.qpus._results import from_sampler

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qiskit import QuantumCircuit
    from qiskit.transpiler import Target

    from pilot.interfaces import Run
    from pilot.quantum.outcomes import Outcomes

_log = logging.getLogger(__name__)

OPTIONS: Options = {
    "mode": one_of("batch", "session", "job"),
    "instance": (str, "a CRN or a service's name"),
    "channel": one_of("ibm_quantum_platform", "ibm_cloud"),
    "account": (str, "the name of a saved account"),
    "max_time": (at_least_one, "seconds that a session or batch may last, at least 1"),
}
_CREDENTIALS = (
    "set QISKIT_IBM_TOKEN and QISKIT_IBM_INSTANCE where the pilot runs, or save an account there once with "
    "QiskitRuntimeService.save_account(token=…, instance=…)"
)
#: Seconds after which the calibration is asked for again.
_FRESH = 600.0


class IbmQPU(JobQPU):
    """``ibm:ibm_fez``, ``ibm:ibm_fez?mode=session&instance=my-instance``.

    Jobs go through one batch (or session, which IBM's open plan has not; or each by itself, ``mode=job``), opened with
    the first job, opened again when the service closed it in between, and closed by `close`. Credentials are those
    of qiskit-ibm-runtime: the environment (QISKIT_IBM_TOKEN, QISKIT_IBM_INSTANCE, QISKIT_IBM_URL) or a saved account.
    """

    def __init__(self, name: str, address: str) -> None:
        super().__init__(name, address)
        self.backend_name, options = parse(name, address, OPTIONS)
        if not self.backend_name:
            refuse(name, "which backend? Write ibm:ibm_fez, or another one of your instance's")
        self.mode: str = options.pop("mode", "batch")
        self.max_time: int | None = options.pop("max_time", None)
        if "account" in options:
            options["name"] = options.pop("account")
        self._account = options
        self._service: Any = None
        self._backend: Any = None
        self._session: Any = None
        self._asked = 0.0

    def open(self) -> None:
        try:
            from qiskit_ibm_runtime import QiskitRuntimeService
            from qiskit_ibm_runtime.accounts import AccountManager, AccountNotFoundError
        except ImportError as error:
            raise QPUError(
                f"{self.name}: qiskit-ibm-runtime is not installed: pip install 'quantum-pilot[ibm]'", qpu=self.name
            ) from error
        from qiskit.providers.exceptions import QiskitBackendNotFoundError

        try:
            account = AccountManager.get(name=self._account.get("name"), channel=self._account.get("channel"))
            # The service hides why it has no token, and waits a minute before it asks again: ask here first.
            account.get_iam_authentificator().token_manager.get_token()
            self._service = QiskitRuntimeService(**self._account)
            self._backend = self._service.backend(self.backend_name)
        except AccountNotFoundError as error:
            raise QPUError(f"{self.name}: there are no credentials: {_CREDENTIALS}; {error}", qpu=self.name) from error
        except QiskitBackendNotFoundError as error:
            raise self._not_found() from error
        except Exception as error:
            found = kept(self.name, error, "connecting")
            if not found.transient:
                found = QPUError(f"{found}; if the credentials are wrong: {_CREDENTIALS}", qpu=self.name)
            raise found from error
        self._asked = time.time()

    def info(self) -> QPUInfo:
        backend = self._opened()
        try:
            if time.time() - self._asked > _FRESH:
                backend.refresh()
                self._asked = time.time()
            status = backend.status()
            properties = backend.properties()
        except Exception as error:
            raise kept(self.name, error, "asking for its status") from error
        return info_of(
            self.name,
            backend.target,
            calibrated=properties.last_update_date.timestamp() if properties is not None else None,
            accepts_jobs=bool(status.operational and status.status_msg == "active"),
            expected_wait=0.0 if status.pending_jobs == 0 else None,
            pending_jobs=status.pending_jobs,
            asked=time.time(),
            max_shots=getattr(backend.configuration(), "max_shots", None),
            max_circuits=backend.max_circuits,
            rep_delay=getattr(backend.configuration(), "default_rep_delay", None),
        )

    def target(self) -> Target | None:
        target: Target = self._opened().target
        return target

    def _limits(self) -> QPUInfo:
        backend = self._opened()
        return info_of(self.name, backend.target, max_shots=getattr(backend.configuration(), "max_shots", None))

    def cancel_job(self, job: str) -> None:
        self._opened()
        try:
            self._stop(self._service.job(job))
        except Exception as error:
            raise kept(self.name, error, f"cancelling the job {job}", job) from error

    def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            try:
                session.close()
            except Exception as error:
                _log.warning("%s: the %s could not be closed, it ends by itself: %s", self.name, self.mode, error)

    def _opened(self) -> Any:
        if self._backend is None:
            self.open()
        return self._backend

    def _not_found(self) -> QPUError:
        """Why the backend is not there: the service answers the same for an unknown name and for an outage."""
        try:
            self._service.usage()
            listed = ", ".join(sorted(backend.name for backend in self._service.backends())) or "none"
        except Exception as error:
            found = kept(self.name, error, "asking for its backends")
            return found if isinstance(found, QPUError) else QPUError(str(found), qpu=self.name)
        return QPUError(
            f"{self.name}: this account has no backend {self.backend_name!r}; it has: {listed}", qpu=self.name
        )

    def _submit(self, circuits: Sequence[QuantumCircuit], run: Run) -> tuple[Any, str]:
        """Submit in the session; once more in a new one when the service has closed it. Not given up when it is
        cancelled: the job could not be named any more."""
        try:
            job = self._sampler().run(circuits, shots=run.shots)
        except Exception as error:
            if self._session is None or "closed" not in str(error).lower():
                raise
            _log.info("%s: the %s was closed, a new one is opened: %s", self.name, self.mode, error)
            self._session = None
            job = self._sampler().run(circuits, shots=run.shots)
        return job, job.job_id()

    def _sampler(self) -> Any:
        from qiskit_ibm_runtime import Batch, Session

        if self._session is None and self.mode != "job":
            kind = Session if self.mode == "session" else Batch
            self._session = kind(backend=self._backend, max_time=self.max_time)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            try:
                from qiskit_ibm_runtime import SamplerV2 as Sampler  # deprecated from 0.50 on
            except ImportError:
                from qiskit_ibm_runtime.executor_sampler import Sampler  # its successor
            return Sampler(mode=self._session or self._backend)

    def _results(self, job: Any, native: str, circuits: Sequence[QuantumCircuit], run: Run) -> list[Outcomes]:
        status = self._waiting.until(("DONE", "CANCELLED", "ERROR"), job.status, native)
        if status == "CANCELLED":
            raise QPUCancelled(f"{self.name}: the job {native} was cancelled at IBM's", qpu=self.name, job=native)
        if status == "ERROR":
            raise QPUError(f"{self.name}: the job {native} failed: {job.error_message()}", qpu=self.name, job=native)
        return from_sampler(circuits, self._waiting.call(job.result, native))

    def _stop(self, job: Any) -> None:
        """Request it; a job that is over already is not an error."""
        from qiskit_ibm_runtime.exceptions import RuntimeInvalidStateError

        with contextlib.suppress(RuntimeInvalidStateError):
            job.cancel()
