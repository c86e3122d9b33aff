"""``qrmi``: QPUs that a job of Slurm's was given, through the Quantum Resource Management Interface.

Slurm's plugin for QPUs (``--qpu=``) puts into the environment which resources a job has and how to reach them. See
https://github.com/qiskit-community/spank-plugins for the variables, and https://github.com/qiskit-community/qrmi.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pilot.errors import QPUCancelled, QPUError, QPUUnavailable
from pilot.resources import QPUInfo
from pilot_plugins.qpus._addresses import parse, refuse
from pilot_plugins.qpus._jobs import JobQPU, kept
from pilot_plugins.qpus._qiskit import info_of
from pilot_plugins.qpus._results import from_sampler

if TYPE_CHECKING:
    from qiskit import QuantumCircuit
    from qiskit.transpiler import Target

    from pilot.interfaces import Run
    from pilot.quantum.outcomes import Outcomes

_log = logging.getLogger(__name__)

#: The environment's lists of what a job was given: new name, and the one before it.
RESOURCES = ("QRMI_JOB_QPU_RESOURCES", "SLURM_JOB_QPU_RESOURCES")
TYPES = ("QRMI_JOB_QPU_TYPES", "SLURM_JOB_QPU_TYPES")
#: Type of a resource → its name in QRMI's Python package, and the part of its variables' names that says it. The
#: service was renamed: variables of either family serve both types.
FAMILIES = {
    "ibm-quantum-compute-service": ("IBMQuantumComputeService", "IBM_QCS"),
    "qiskit-runtime-service": ("IBMQiskitRuntimeService", "IBM_QRS"),
    "ibm-quantum-system": ("IBMQuantumSystem", "IBM_QS"),
}
_RENAMED = {"IBM_QCS": "IBM_QRS", "IBM_QRS": "IBM_QCS"}
_NEEDED = ("ENDPOINT", "IAM_ENDPOINT", "IAM_APIKEY", "SERVICE_CRN")


class QrmiQPU(JobQPU):
    """``qrmi:ibm_fez``: a resource by the name that Slurm's plugin gives it.

    `open` acquires it and `close` releases it, unless the job holds it already (``<name>_QRMI_JOB_ACQUISITION_TOKEN``):
    then it is the job's to release. Resources of IBM's kinds run circuits; others have their own formats, and are
    refused with what to use instead.
    """

    def __init__(self, name: str, address: str) -> None:
        super().__init__(name, address)
        self.resource, _ = parse(name, address, {})
        if not self.resource:
            refuse(name, "which resource? Write qrmi:ibm_fez, or another name that the job was given with --qpu")
        self._device: Any = None
        self._token: str | None = None
        self._target: Target | None = None
        self._described: dict[str, Any] = {}
        self._lock = threading.Lock()  # QRMI's object refuses a second call while one is under way

    def open(self) -> None:
        try:
            qrmi = _package()
        except ImportError as error:
            raise QPUError(
                f"{self.name}: qrmi is not installed: pip install 'quantum-pilot[qrmi]'", qpu=self.name
            ) from error
        kind = self._kind(os.environ)
        known, family = FAMILIES[kind]
        config = self._config(os.environ, family)
        held = config.get("QRMI_JOB_ACQUISITION_TOKEN")
        try:
            device = qrmi.QuantumResource.from_config(self.resource, getattr(qrmi.ResourceType, known), config)
            status = device.status()
            if status.status != qrmi.ResourceStatusCode.Online:
                raise QPUUnavailable(f"{self.name} takes no jobs now: {_words_of(status)}", qpu=self.name)
            self._describe(json.loads(device.target().value))
            self._token = None if held else device.acquire()
        except Exception as error:
            raise kept(self.name, error, "acquiring the resource") from error
        self._device = device

    def info(self) -> QPUInfo:
        device = self._opened()
        assert self._target is not None
        try:
            status = self._ask(device.status)
        except Exception as error:
            raise kept(self.name, error, "asking for its status") from error
        return info_of(
            self.name,
            self._target,
            **self._described,
            accepts_jobs=status.status == _package().ResourceStatusCode.Online,
            expected_wait=0.0 if status.pending_job_count == 0 else None,
            pending_jobs=status.pending_job_count,
            asked=time.time(),
        )

    def target(self) -> Target | None:
        self._opened()
        return self._target

    def _limits(self) -> QPUInfo:
        self._opened()
        assert self._target is not None
        return info_of(self.name, self._target, **self._described)

    def _submit(self, circuits: Sequence[QuantumCircuit], run: Run) -> tuple[Any, str]:
        payload = _package().Payload.QiskitPrimitive(input=_sampler_input(circuits, run.shots), program_id="sampler")
        task: str = self._ask(self._opened().task_start, payload)
        return task, task

    def cancel_job(self, job: str) -> None:
        try:
            self._ask(self._opened().task_stop, job)
        except _package().TaskNotFoundError:
            return
        except Exception as error:
            raise kept(self.name, error, f"stopping the task {job}", job) from error

    def close(self) -> None:
        device, self._device = self._device, None
        token, self._token = self._token, None
        if device is not None and token is not None:
            try:
                self._ask(device.release, token)
            except Exception as error:
                _log.warning("%s was not released, its session ends by itself: %s", self.name, error)

    def _opened(self) -> Any:
        if self._device is None:
            self.open()
        return self._device

    def _ask(self, method: Callable[..., Any], *args: Any) -> Any:
        with self._lock:
            return method(*args)

    def _kind(self, environment: Mapping[str, str]) -> str:
        """The type of the resource, from the job's environment.

        Raises:
            QPUError: the job was not given it; what was looked for is in the message.
        """
        names, types = (self._listed(environment, variables) for variables in (RESOURCES, TYPES))
        if len(names) != len(types):
            raise QPUError(
                f"{self.name}: {RESOURCES[0]} names {len(names)} resources and {TYPES[0]} {len(types)} types",
                qpu=self.name,
            )
        if self.resource not in names:
            raise QPUError(
                f"{self.name}: this job was not given {self.resource!r}, but {', '.join(names) or 'none'}; ask for it "
                f"with sbatch --qpu={self.resource} (custom_attributes of the pilot)",
                qpu=self.name,
            )
        kind = types[names.index(self.resource)]
        if kind not in FAMILIES:
            raise QPUError(
                f"{self.name} is a resource of the type {kind!r}, which runs no Qiskit circuits through QRMI; known "
                f"are {', '.join(FAMILIES)}. For others give a Qiskit backend: qiskit:module:function()",
                qpu=self.name,
            )
        return kind

    def _listed(self, environment: Mapping[str, str], variables: tuple[str, str]) -> list[str]:
        value = next((environment[name] for name in variables if name in environment), None)
        if value is None:
            raise QPUError(
                f"{self.name}: neither {variables[0]} nor {variables[1]} is set: Slurm's plugin for QPUs (--qpu) sets "
                "them in jobs that were given one",
                qpu=self.name,
            )
        return [entry.strip() for entry in value.split(environment.get("QRMI_LIST_DELIMITER", ",")) if entry.strip()]

    def _config(self, environment: Mapping[str, str], family: str) -> dict[str, str]:
        """What QRMI has to know, from ``<name>_QRMI_…``; variables of the renamed family are taken where new ones miss.

        Raises:
            QPUError: a variable is missing; all names that were looked for are in the message.
        """
        prefix = f"{self.resource}_"
        config = {
            key.removeprefix(prefix): value for key, value in environment.items() if key.startswith(f"{prefix}QRMI_")
        }
        other = _RENAMED.get(family)
        if other is not None:
            for key, value in list(config.items()):
                if key.startswith(f"QRMI_{other}_"):
                    config.setdefault(key.replace(f"QRMI_{other}_", f"QRMI_{family}_"), value)
        missing = [f"{prefix}QRMI_{family}_{what}" for what in _NEEDED if f"QRMI_{family}_{what}" not in config]
        if missing:
            renamed = f" (or their other names, with {other})" if other else ""
            raise QPUError(
                f"{self.name}: not in the environment: {', '.join(missing)}{renamed}: Slurm's plugin for QPUs sets "
                "them from its qrmi_config.json",
                qpu=self.name,
            )
        return config

    def _describe(self, described: Mapping[str, Any]) -> None:
        """Target and calibration from what QRMI gives: IBM's configuration and properties."""
        from qiskit_ibm_runtime.utils.backend_converter import convert_to_target
        from qiskit_ibm_runtime.utils.backend_decoder import configuration_from_server_data, properties_from_server_data

        configuration = configuration_from_server_data(described["configuration"])
        properties = properties_from_server_data(described["properties"]) if described.get("properties") else None
        self._target = convert_to_target(configuration=configuration, properties=properties)
        self._described = {
            "max_shots": getattr(configuration, "max_shots", None),
            "calibrated": properties.last_update_date.timestamp() if properties is not None else None,
        }

    def _results(self, job: Any, native: str, circuits: Sequence[QuantumCircuit], run: Run) -> list[Outcomes]:
        device = self._opened()
        known = _package().TaskStatus
        over = (known.Completed, known.Cancelled, known.Failed)
        status = self._waiting.until(over, lambda: self._ask(device.task_status, job), native)
        if status == known.Cancelled:
            raise QPUCancelled(f"{self.name}: the task {native} was cancelled", qpu=self.name, job=native)
        if status == known.Failed:
            words = "no reason is known"
            with contextlib.suppress(Exception):
                words = self._ask(device.task_logs, job).strip() or words
            raise QPUError(f"{self.name}: the task {native} failed: {words}", qpu=self.name, job=native)
        text = self._waiting.call(lambda: self._ask(device.task_result, job).value, native)
        return from_sampler(circuits, _decode(text))

    def _stop(self, job: Any) -> None:
        self.cancel_job(job)


def _package() -> Any:
    """The package, whose classes are compiled and known to no type checker."""
    return importlib.import_module("qrmi")


def _words_of(status: Any) -> str:
    reason = status.status_reason or "no reason is given"
    return f"{str(status.status).rpartition('.')[2].lower()}, {reason}"


def _sampler_input(circuits: Sequence[QuantumCircuit], shots: int | None) -> str:
    """The input of IBM's sampler, with circuits as OpenQASM 3 (schema sampler_v2 of ibm-quantum-schemas)."""
    from qiskit import qasm3

    switch = qasm3.ExperimentalFeatures.SWITCH_CASE_V1
    texts = [
        qasm3.dumps(circuit, disable_constants=True, allow_aliasing=True, experimental=switch) for circuit in circuits
    ]
    pubs = [(text, None, shots) for text in texts]
    return json.dumps({"pubs": pubs, "shots": shots, "options": {}, "version": 2, "support_qiskit": True})


def _decode(text: str) -> Any:
    from qiskit_ibm_runtime.decoders.result_decoder import ResultDecoder

    return ResultDecoder.decode(text)
