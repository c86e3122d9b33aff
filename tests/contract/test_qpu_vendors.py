"""What the vendors' clients add to the suite of all QPUs: ibm, qrmi and qiskit."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from qpu_cases import environment
from qpu_server import BACKEND, QuantumService

from pilot.errors import QPUError
from pilot.registry import make
from pilot.testing.qpus import asymmetric, bell, run, share


@pytest.mark.parametrize(("mode", "kind"), [("batch", "batch"), ("session", "dedicated"), ("job", None)])
def test_ibm_runs_its_jobs_in_one_session_and_closes_it(mode: str, kind: str | None, service: QuantumService) -> None:
    service.sessions.clear()
    qpu = make(f"ibm:ibm_manila?mode={mode}")
    qpu.open()
    for _ in range(2):
        assert run(qpu, bell(), shots=20)[0].shots == 20
    assert [session["mode"] for session in service.sessions.values()] == ([kind] if kind else [])
    qpu.close()
    assert all(not session["accepting_jobs"] for session in service.sessions.values())


def test_ibm_opens_a_new_session_when_the_service_has_closed_it(service: QuantumService) -> None:
    service.sessions.clear()
    qpu = make("ibm:ibm_manila")
    run(qpu, bell(), shots=20)
    next(iter(service.sessions.values()))["accepting_jobs"] = False
    assert run(qpu, bell(), shots=20)[0].shots == 20
    assert len(service.sessions) == 2
    qpu.close()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_ibm_works_with_the_newer_sampler_alone(service: QuantumService, monkeypatch: pytest.MonkeyPatch) -> None:
    """The deprecated one will go: what is sent then is a quantum program, whose results are put together here."""
    import qiskit_ibm_runtime

    qpu = make("ibm:ibm_manila")
    qpu.open()
    monkeypatch.delattr(qiskit_ibm_runtime, "SamplerV2")
    first, second = run(qpu, bell(), asymmetric(), shots=200)
    assert share(first, "00", "11") == 1 and first.shots == 200
    assert share(second, "110 01") == 1
    assert list(service.jobs.values())[-1]["body"]["program_id"] == "executor"
    qpu.close()


def test_ibm_says_when_the_device_takes_no_jobs(service: QuantumService) -> None:
    qpu = make("ibm:ibm_manila")
    qpu.open()
    service.operational = False
    try:
        info = qpu.info()
    finally:
        service.operational = True
    assert info.accepts_jobs is False
    info = qpu.info()
    assert info.pending_jobs == 3 and info.expected_wait is None  # three jobs wait: nobody says how long


def test_ibm_without_credentials_says_where_they_go(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for key in list(os.environ):
        if key.startswith("QISKIT_IBM"):
            monkeypatch.delenv(key)
    monkeypatch.setattr(
        "qiskit_ibm_runtime.accounts.management._DEFAULT_ACCOUNT_CONFIG_JSON_FILE", str(tmp_path / "none.json")
    )
    with pytest.raises(QPUError, match="QISKIT_IBM_TOKEN and QISKIT_IBM_INSTANCE"):
        make("ibm:ibm_fez").open()


def names(service: QuantumService, family: str, lists: tuple[str, str], kind: str) -> dict[str, str]:
    found = {}
    for key, value in environment(service.address).items():
        if "QRMI" in key and not key.startswith("QRMI_JOB"):
            found[key.replace("IBM_QRS", family)] = value
    return found | {lists[0]: BACKEND, lists[1]: kind}


@pytest.mark.parametrize("family", ["IBM_QRS", "IBM_QCS"])
@pytest.mark.parametrize("kind", ["qiskit-runtime-service", "ibm-quantum-compute-service"])
@pytest.mark.parametrize("prefix", ["QRMI", "SLURM"])
def test_qrmi_reads_old_and_new_names(
    family: str, kind: str, prefix: str, service: QuantumService, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in environment(""):
        monkeypatch.delenv(key)
    lists = (f"{prefix}_JOB_QPU_RESOURCES", f"{prefix}_JOB_QPU_TYPES")
    for key, value in names(service, family, lists, kind).items():
        monkeypatch.setenv(key, value)
    qpu = make("qrmi:ibm_manila")
    qpu.open()
    info = qpu.info()
    assert (info.qubits, info.pending_jobs) == (5, 3 if kind == "ibm-quantum-compute-service" else None)
    qpu.close()


def test_qrmi_says_what_it_looked_for(service: QuantumService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(f"{BACKEND}_QRMI_IBM_QRS_IAM_APIKEY")
    with pytest.raises(QPUError, match=f"{BACKEND}_QRMI_IBM_QRS_IAM_APIKEY .*IBM_QCS"):
        make("qrmi:ibm_manila").open()
    monkeypatch.setenv("QRMI_JOB_QPU_TYPES", "pasqal-cloud")
    with pytest.raises(QPUError, match="type 'pasqal-cloud', which runs no Qiskit circuits"):
        make("qrmi:ibm_manila").open()
    monkeypatch.delenv("QRMI_JOB_QPU_TYPES")
    with pytest.raises(QPUError, match="neither QRMI_JOB_QPU_TYPES nor SLURM_JOB_QPU_TYPES"):
        make("qrmi:ibm_manila").open()


def test_qrmi_releases_what_it_acquired_and_leaves_what_the_job_holds(
    service: QuantumService, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.sessions.clear()
    qpu = make("qrmi:ibm_manila")
    qpu.open()
    (session,) = service.sessions.values()
    assert session["accepting_jobs"]
    qpu.close()
    assert not session["accepting_jobs"]
    monkeypatch.setenv(f"{BACKEND}_QRMI_JOB_ACQUISITION_TOKEN", session["id"])
    qpu.open()
    qpu.close()
    assert list(service.sessions) == [session["id"]]


def test_qiskit_tells_the_limits_of_a_backend() -> None:
    info = make("qiskit:qpu_objects:Provider():broken").info()
    assert (info.max_circuits, info.max_shots, info.qubits) == (2, 1000, 3)
    assert info.accepts_jobs and info.pending_jobs == 7
