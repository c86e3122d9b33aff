"""What QPUs say of wrong addresses, of devices that are not there, and of jobs that fail."""

from __future__ import annotations

import pytest
from qpu_cases import environment
from qpu_server import QuantumService

from pilot.errors import DescriptionError, QPUError, QPUUnavailable
from pilot.registry import make
from pilot.testing.qpus import bell, compiled, run_job


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("aer:state_vector", "did you mean 'statevector'"),
        ("aer:statevector?device=TPU", "one of CPU, GPU"),
        ("aer:?threads=0", "at least 1"),
        ("aer:?threds=2", "did you mean 'threads'"),
        ("aer:?threads", "option=value"),
        ("aer:?threads=1&threads=2", "twice"),
        ("aer:stabilizer?device=GPU", "does not run on a GPU"),
        ("fake:kolkatta", "did you mean 'kolkata'"),
        ("fake:", "which device"),
        ("fake:manila?queue=-1", "seconds that each job waits"),
        ("fake:manila?speed=2", "options: queue"),
        ("ibm:", "which backend"),
        ("ibm:ibm_fez?mode=turbo", "batch, session, job"),
        ("qrmi:", "which resource"),
        ("qrmi:ibm_fez?mode=batch", "options: none"),
        ("qiskit:qiskit_aer", "qiskit:module:object"),
        ("qiskit:qiskit_aer:AerSimulater()", "did you mean 'AerSimulator'"),
        ("qiskit:qpu_objects:number()", "cannot be called"),
        ("qiskit:qpu_objects:Provider()", "there are slow, broken"),
        ("qiskit:qpu_objects:Provider():slw", "did you mean 'slow'"),
        ("pennylane:", "which device"),
        ("pennylane:default.qubit?wires=none", "whole number"),
        ("pennylane:default.qubit?colour=red", "colour"),
    ],
)
def test_addresses_that_cannot_be(name: str, said: str) -> None:
    with pytest.raises(DescriptionError, match=said) as caught:
        make(name).open()
    assert caught.value.field == "qpus" and caught.value.given == name


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ibm:ibm_atlantis", "it has: ibm_manila"),
        ("qrmi:ibm_atlantis", "was not given 'ibm_atlantis', but ibm_manila"),
        ("qiskit:no_such_vendor:Provider()", "no_such_vendor cannot be imported"),
        ("qiskit:qpu_objects:number", "is a int, not a BackendV2"),
        ("qiskit:qpu_objects:generic", r"write qpu_objects:generic\(\)"),
        ("pennylane:default.qbit", "default.qbit does not exist"),
        ("aer:statevector?device=GPU", "sees no GPU here"),
        ("aer:tensor_network", "no method 'tensor_network'"),
    ],
)
def test_qpus_that_are_not_there(name: str, said: str, service: QuantumService) -> None:
    if name.startswith("aer"):
        from qiskit_aer import AerSimulator

        if "GPU" in AerSimulator().available_devices():
            pytest.skip("this machine has a GPU")
    with pytest.raises(QPUError, match=said) as caught:
        make(name).open()
    assert not caught.value.transient


@pytest.mark.filterwarnings("ignore:Unable to retrieve IBM Cloud access token")
@pytest.mark.parametrize("name", ["ibm:ibm_manila", "qrmi:ibm_manila", "qiskit:qpu_objects:lost()"])
def test_qpus_that_cannot_be_reached(name: str, service: QuantumService, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in environment("http://127.0.0.1:9").items():  # the discard port: nothing listens
        monkeypatch.setenv(key, value)
    with pytest.raises(QPUUnavailable):
        make(name).open()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ibm:ibm_manila", "Out of helium"),
        ("qrmi:ibm_manila", "Out of helium"),
        ("qiskit:qpu_objects:Provider():broken", "the laser is off"),
    ],
)
def test_a_failed_job_says_so_in_the_vendors_words(name: str, words: str, service: QuantumService) -> None:
    qpu = make(name)
    qpu.open()
    jobs: list[str] = []
    service.failure = "Out of helium"
    try:
        with pytest.raises(QPUError, match=words) as caught:
            run_job(qpu, [compiled(qpu, bell())], 10, [1], jobs.append)
    finally:
        service.failure = None
        qpu.close()
    assert caught.value.job == jobs[0] and caught.value.qpu == name
    assert not caught.value.transient
