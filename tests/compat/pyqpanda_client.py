"""Calls the vendor's client package, which its own interpreter has, and prints what it gives as JSON.

    PYTHON pyqpanda_client.py URL TOKEN

The client waits inside its binary and holds the interpreter there, so it needs a process of its own.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from typing import Any

from pyqpanda3 import qcloud
from pyqpanda3.core import CNOT, H, QProg, measure
from pyqpanda3.hamiltonian import PauliOperator
from pyqpanda3.pilot_service import QPilotService

HAMILTONIAN = '"": -1.05,"Z0": 0.39,"Z1": -0.39,"Z0 Z1": -0.01,"X0 X1": 0.18'
OVER = (qcloud.JobStatus.FINISHED, qcloud.JobStatus.FAILED)


def bell(measured: bool = True, repeats: int = 1) -> QProg:
    program = QProg()
    for _ in range(repeats):
        program << H(0) << CNOT(0, 1)
    if measured:
        program << measure(0, 0) << measure(1, 1)
    return program


def of_machine(url: str, token: str) -> dict[str, Any]:
    """Of `pilot_service`."""
    service = QPilotService(url, False, token)
    batch = service.async_run([bell(), bell()], 1000, "72")
    state = service.async_real_chip_qst(bell(), 1000, "72")
    long = service.async_run(bell(repeats=201), 1000, "72")  # its body is compressed
    return {
        "id": batch,
        "batch": service.get_measure_result(batch)[0],
        "queried": service.query_result(batch),
        "waited": service.run(bell(), 1000, "72"),
        "expectation": service.real_chip_expectation(bell(False), HAMILTONIAN, [0, 1], 1000, "72"),
        "settings": service.get_qst_result(state)[0],
        "long": service.get_measure_result(long)[0],
        "sampled": service.run_simulator(bell(), 1000),
        "exact": service.run_simulator(bell(False), [0, 1]),
        "no measurement": service.async_run(bell(False), 1000, "72"),
        "binary": service.async_real_chip_measure_proto(bell(), 1000, "72"),
        "unknown": str(service.get_measure_result("F" * 32)[1:]),
        "chips": service.quantum_chip_config_query({"ChipID": [72], "token": token}),
    }


def of_cloud(url: str, token: str) -> dict[str, Any]:
    """Of `qcloud`."""
    service = qcloud.QCloudService(token, url)
    backends = service.backends()
    chip, full = service.backend("72"), service.backend("full_amplitude")
    options = qcloud.QCloudOptions()
    info = chip.chip_info()
    pairs = _over(chip.run([bell(), bell()], 1000, options))
    state = _over(chip.run_quantum_state_tomography(bell(False), 1000, options))
    found = {
        "backends": backends,
        "topology": info.get_chip_topology(),
        "qubits": info.qubits_num(),
        "probabilities": pairs.get_probs_list(),
        "counts": pairs.get_counts_list(),
        "trace": sum(row[place].real for place, row in enumerate(state.get_state_tomography_density())),
        "fidelity": state.get_state_fidelity(),
        "sampled": _over(full.run(bell(), 1000)).get_counts(),
        "exact": _over(full.run(bell(False), [0, 1])).get_probs(),
        "expectation": full.expval_pauli_operator(bell(False), PauliOperator({"Z0 Z1": 1.0, "X0 X1": 0.5})),
        "cancelled": chip.run(bell(repeats=300), 1000, options).cancel(),
    }
    try:
        chip.run(bell(), 5, options)
    except RuntimeError as error:
        found["shots"] = str(error)
    return found


def _over(job: qcloud.QCloudJob) -> qcloud.QCloudResult:
    deadline = time.monotonic() + 60
    while job.status() not in OVER and time.monotonic() < deadline:
        time.sleep(0.05)
    return job.result()


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):
        found = {"machine": of_machine(*sys.argv[1:]), "cloud": of_cloud(*sys.argv[1:])}
    print("\n" + json.dumps(found))
