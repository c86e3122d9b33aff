"""Backends, providers and samplers for the ``qiskit:`` plugin: what vendors' packages offer, in their shapes."""

from __future__ import annotations

import threading
import uuid
from types import SimpleNamespace
from typing import Any

from qiskit.providers import BackendV2, JobStatus, JobV1, Options
from qiskit.providers.fake_provider import GenericBackendV2
from qiskit.transpiler import Target


def generic() -> BackendV2:
    return GenericBackendV2(5, seed=11)


def sampler() -> Any:
    from qiskit_aer.primitives import SamplerV2

    return SamplerV2(seed=3)


class Job(JobV1):  # type: ignore[misc]
    """A job that runs until it is cancelled, or fails in the vendor's words."""

    def __init__(self, backend: BackendV2, words: str) -> None:
        super().__init__(backend, f"vendor-{uuid.uuid4().hex[:8]}")
        self.words = words
        self.asked_to_end = threading.Event()

    def submit(self) -> None:
        pass

    def status(self) -> JobStatus:
        return JobStatus.CANCELLED if self.asked_to_end.is_set() else JobStatus.RUNNING

    def cancel(self) -> None:
        self.asked_to_end.set()

    def result(self) -> Any:
        if self.words:
            raise RuntimeError(self.words)
        self.asked_to_end.wait(60)
        raise RuntimeError("cancelled")


class Vendor(BackendV2):  # type: ignore[misc]
    """A device whose jobs take for ever, or fail."""

    def __init__(self, name: str, words: str = "") -> None:
        super().__init__(name=name)
        self.words = words
        self.jobs: dict[str, Job] = {}
        self._target = GenericBackendV2(3, seed=1).target

    @property
    def target(self) -> Target:
        return self._target

    @property
    def max_circuits(self) -> int:
        return 2

    @classmethod
    def _default_options(cls) -> Options:
        options = Options(shots=100)
        options.set_validator("shots", (1, 1000))
        return options

    def run(self, run_input: Any, **options: Any) -> Job:
        job = Job(self, self.words)
        self.jobs[job.job_id()] = job
        return job

    def status(self) -> Any:
        return SimpleNamespace(operational=True, pending_jobs=7, status_msg="active")

    def retrieve_job(self, job_id: str) -> Job:
        return self.jobs[job_id]


class Provider:
    """As vendors write them: backends by name."""

    def __init__(self) -> None:
        self._backends = {"slow": Vendor("slow"), "broken": Vendor("broken", "the laser is off")}

    def backends(self) -> list[BackendV2]:
        return list(self._backends.values())

    def get_backend(self, name: str) -> BackendV2:
        return self._backends[name]


def lost() -> BackendV2:
    raise ConnectionError("no route to the vendor")


number = 42
