"""Qernels through a manager with two small QPUs, and estimates on the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qiskit import QuantumCircuit, qasm2
from qiskit.circuit import Parameter

from pilot import DescriptionError, PilotDescription, PilotManager, QosOptions, TaskDescription
from pilot.cli.main import main
from pilot.errors import NoPilotError, QPUError
from pilot.manager import history
from pilot.qos.families import circuit
from pilot.qos.qernel import Stage
from pilot.qos.simulation import scenarios
from pilot.qos.simulation.log import DONE
from pilot.qos.system import QOS

pytestmark = pytest.mark.timeout(180)
QPUS = ["fake:belem", "fake:manila"]


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PilotManager, Path]]:
    folder = tmp_path_factory.mktemp("session") / "s"
    with PilotManager(folder, policy="least-wait") as manager:
        manager.submit_pilot(PilotDescription(engine="process", cores_per_node=1, qpus=QPUS, name="qpus"))
        yield manager, folder


@pytest.fixture(scope="module")
def qos(session: tuple[PilotManager, Path]) -> QOS:
    return QOS(session[0])


def test_the_five_calls(qos: QOS) -> None:
    """Jobs that are submitted before any QPU has reported wait for their estimates."""
    job = qos.run(circuit("ghz", 4), 500, min_fidelity=0.2)
    other = qos.run(circuit("w", 3), 500, parents=[job], key="once")  # it waits for the journal, too
    hopeless = qos.run(circuit("w", 4), 500, min_fidelity=0.999)
    assert qos.status(job).stage is Stage.SUBMITTED
    counts = qos.results(job, timeout=120).get_counts()
    assert sum(counts.values()) == 500 and counts["0000"] + counts["1111"] > 300
    status = qos.status(job)
    assert status.stage is Stage.DONE
    assert {one.qpu for one in status.estimates} == set(QPUS) and status.qpu in QPUS
    assert list(status.seconds)[:3] == [Stage.SUBMITTED, Stage.ESTIMATED, Stage.SCHEDULED]
    assert all((one.fidelity or 0) > 0.5 and one.seconds is not None for one in status.estimates)
    assert qos.results(other).shots == 500
    assert qos.children(job) == (other,) and qos.qernel(other).parents == (job,)
    assert qos.qernel(job).circuit == circuit("ghz", 4)
    with pytest.raises(QPUError, match="the best offer is 0"):
        qos.results(hopeless)
    assert qos.status(hopeless).stage is Stage.FAILED
    qos.forget(hopeless)
    with pytest.raises(DescriptionError, match="job: 3 is not valid"):
        qos.status(hopeless)
    assert qos.backends() == QPUS
    assert qos.backend_props("fake:belem").qubits == 5


def test_the_session_simulated_with_another_policy(
    session: tuple[PilotManager, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Everything that ran comes again: with its run times, after what it needed, on the pilots that were there."""
    manager, folder = session
    manager.submit_task(abs, manager.submit_task(sum, [1, -2])).result()
    manager.flush()
    tasks = history.read(folder).tasks
    at = {task.id: number for number, task in enumerate(tasks)}
    log = scenarios.simulate(scenarios.Settings(journal=str(folder)), None, scenarios.named("least-wait"))
    assert (log.state == DONE).all() and len(log.state) == len(tasks)
    places = [log.places[place] for place in log.place]
    assert {place for place, task in zip(places, tasks, strict=True) if task.qpu} <= set(QPUS)
    for number, task in enumerate(tasks):
        if places[number] == (task.qpu or places[number]):
            assert log.ended_at[number] - log.began_at[number] == pytest.approx(task.seconds, abs=1e-6)
        for needed in task.needs:
            assert log.began_at[number] >= log.ended_at[at[needed]]
    assert sum(bool(task.estimates) for task in tasks) == 2  # the circuits that were run
    words = ["--journal", str(folder), "--nodes", "1", "--cores", "2", "--autoscale", "0,2"]
    assert main(["simulate", *words]) == 0
    assert "capacity_hours" in capsys.readouterr().out


def test_a_circuit_waits_for_a_better_calibration(
    session: tuple[PilotManager, Path], eventually: Callable[..., Any]
) -> None:
    manager, folder = session
    drift = folder / "drift.csv"
    drift.write_text("0,20\n")  # twenty times the errors of the snapshot, from the beginning
    name = f"fake:lima?clock=0&calibration={drift}"
    manager.submit_pilot(PilotDescription(engine="process", cores_per_node=1, qpus=[name]))
    wanted: dict[str, Any] = {"circuit": circuit("ghz", 3), "shots": 500, "qpu": name}
    waiting = manager.submit_task(TaskDescription(**wanted, min_fidelity=0.7, fallback="wait"))
    eventually(lambda: waiting.estimates, timeout=120)
    before = waiting.estimates[0]
    assert manager.submit_task(TaskDescription(**wanted)).result(timeout=120) and not waiting.done()
    with pytest.raises(QPUError, match=r"fidelity of 0\.7: the best offer is 0"):
        manager.submit_task(TaskDescription(**wanted, min_fidelity=0.7)).result(timeout=120)
    drift.write_text("0,20\n0,1\n")
    manager.submit_task(TaskDescription(**wanted)).result(timeout=120)  # then the QPU reports again
    counts = waiting.result(timeout=120).get_counts()
    after = waiting.estimates[0]
    assert (before.fidelity or 0) < 0.7 < (after.fidelity or 0) and (after.calibrated or 0) > (before.calibrated or 0)
    assert counts["000"] + counts["111"] > 0.7 * 500


def test_a_circuit_goes_elsewhere_when_its_qpu_has_become_too_bad(session: tuple[PilotManager, Path]) -> None:
    """The QPU is idle, so what it has reported is old; its worker sees the new calibration first."""
    manager, folder = session
    drift = folder / "worse.csv"
    drift.write_text("0,1\n")
    name = f"fake:lima?clock=0&calibration={drift}"
    manager.submit_pilot(PilotDescription(engine="process", cores_per_node=1, qpus=[name]))
    bare: dict[str, Any] = {"circuit": circuit("ghz", 3), "shots": 500}
    assert manager.submit_task(TaskDescription(**bare, qpu=name)).result(timeout=120).shots == 500
    task = manager.submit_task(TaskDescription(**bare, qpu=name, min_fidelity=0.7))
    assert task.result(timeout=120).shots == 500
    drift.write_text("0,20\n")
    moved = manager.submit_task(TaskDescription(**bare, qpu=[name, "fake:belem"], min_fidelity=0.7))
    assert moved.result(timeout=120).shots == 500 and moved.info.qpu == "fake:belem"
    assert "has a fidelity of about 0." in moved.info.attempts[0].reason


def test_a_circuit_that_is_too_wide_for_all_qpus_is_simulated_where_it_says_so(
    session: tuple[PilotManager, Path],
) -> None:
    manager, _ = session
    wide: dict[str, Any] = {"circuit": circuit("ghz", 8), "shots": 500, "fallback": "simulator"}
    task = manager.submit_task(TaskDescription(**wide, qpu="*"))
    assert set(task.result(timeout=120).get_counts()) == {"0" * 8, "1" * 8} and task.info.qpu is None
    whole = TaskDescription(**wide, qpu="*", qos=QosOptions(stages=[]))
    result = manager.submit_task(whole).result(timeout=120)
    assert set(result.distribution.get_counts()) == {"0" * 8, "1" * 8} and "cut it" in result.reason
    with pytest.raises(NoPilotError, match="has no device 'fake:kolkata'"):
        manager.submit_task(TaskDescription(**wide, qpu="fake:kolkata"))


def test_what_is_refused(qos: QOS) -> None:
    with pytest.raises(DescriptionError, match="job: 99 is not valid"):
        qos.status(99)
    with pytest.raises(DescriptionError, match="job: 99 is not valid"):
        qos.run(circuit("w", 3), parents=[99])
    with pytest.raises(DescriptionError, match=r"'fake:beleem' is not valid \(did you mean 'fake:belem'\?\)"):
        qos.backend_props("fake:beleem")
    with pytest.raises(DescriptionError, match="min_fidelity"):
        qos.run(circuit("w", 3), min_fidelity=2)


def test_estimates_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program, prices = tmp_path / "ghz.qasm", tmp_path / "prices.toml"
    program.write_text(qasm2.dumps(circuit("ghz", 3)))
    prices.write_text('currency = "EUR"\n[qpus."fake:*"]\ntask = 0.3\nshot = 0.001\n')
    names = ["fake:manila", "aer", "fake:nix"]
    flags = ["--estimate", str(program), "--shots", "1000", "--prices", str(prices)]
    assert main(["qpus", *names, *flags, "--json"]) == 1
    shown = json.loads(capsys.readouterr().out)
    manila, aer = shown["estimates"]
    assert manila["cost"] == pytest.approx(1.3) and shown["currency"] == "EUR" and aer["fidelity"] == 1.0
    assert 0.8 < manila["fidelity"] < 1 and manila["seconds_spread"] > 0 and manila["wait"] == 0
    assert "no snapshot 'nix'" in shown["problems"]["fake:nix"]
    assert main(["qpus", "fake:manila", *flags]) == 0
    table = capsys.readouterr().out
    assert f"{manila['fidelity']:.3f} ±" in table and "1.30 ± 0.00 EUR" in table
    assert main(["qpus", "fake:manila", "--estimate", str(program), "--shots", "1000000"]) == 1
    assert "fake:manila takes at most 100000 shots, not 1000000" in capsys.readouterr().err
    program.write_text('OPENQASM 3; include "stdgates.inc"; input float a; qubit q; bit c; rx(a) q; c = measure q;')
    assert main(["qpus", "fake:manila", "--estimate", str(program)]) == 2
    assert "parameters without a value (a) cannot be estimated" in capsys.readouterr().err


def test_a_sweep_costs_what_all_its_circuits_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (prices := tmp_path / "prices.toml").write_text('currency = "EUR"\n[qpus."fake:*"]\nshot = 0.01\n')
    monkeypatch.setenv("QUANTUM_PILOT_PRICES", str(prices))
    angle = Parameter("a")
    free = QuantumCircuit(1, 1)
    free.rx(angle, 0)
    free.measure(0, 0)
    sweep: dict[str, Any] = {"circuit": free, "parameters": np.zeros((30, 1)), "shots": 10, "qpu": "*"}
    with PilotManager(policy="least-wait") as manager:
        manager.submit_pilot(PilotDescription(engine="process", cores_per_node=1, qpus=["fake:belem"]))
        with pytest.raises(NoPilotError, match=r"meet max_cost=2\.9; the best offer: .*cost 3"):
            manager.submit_task(TaskDescription(**sweep, max_cost=2.9)).result(timeout=120)
        task = manager.submit_task(TaskDescription(**sweep, max_cost=3.0))
        assert len(task.result(timeout=120)) == 30
        assert task.estimates[0].cost == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--estimate", "none.qasm"], "--estimate needs the names of QPUs"),
        (["aer", "--estimate", "none.qasm"], "none.qasm cannot be read"),
        (["aer", "--estimate", "none.qasm", "--shots", "0"], "--shots 0 is not valid"),
        (["aer", "--estimate", __file__], "qpus: "),
    ],
)
def test_arguments_of_estimates_that_are_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["qpus", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_manager_that_closes_says_nothing_of_estimates_that_were_not_made(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        with PilotManager(policy="least-wait") as manager:
            manager.submit_pilot(PilotDescription(engine="process", cores_per_node=1, qpus=QPUS))
            manager.submit_task(TaskDescription(circuit=circuit("ghz", 3), shots=10, qpu="*")).result(120)
            manager.submit_tasks([TaskDescription(circuit=circuit("ghz", 3), shots=10, qpu="*", min_fidelity=0)] * 3)
            manager.close()
    assert "Traceback" not in capfd.readouterr().err + caplog.text


KILLED = """
import os, signal, sys
from pilot import PilotDescription, PilotManager, TaskDescription
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
circuit = QuantumCircuit(1, 1)
circuit.rx(Parameter("a"), 0)
circuit.measure(0, 0)
manager = PilotManager(sys.argv[1], policy="least-wait")
manager.submit_pilot(PilotDescription(engine="process", cores_per_node=1, qpus=["fake:belem"]))
for cost in (1.0, 0.9):
    manager.submit_task(TaskDescription(circuit=circuit, parameters=[0.1], shots=100, qpu="*", max_cost=cost))
manager.flush()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_was_not_estimated_when_the_manager_was_killed_is_estimated_after_an_attach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (prices := tmp_path / "prices.toml").write_text('currency = "EUR"\n[qpus."fake:*"]\nshot = 0.01\n')
    monkeypatch.setenv("QUANTUM_PILOT_PRICES", str(prices))
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "session")], check=False, timeout=120)
    with PilotManager.attach(tmp_path / "session", policy="least-wait") as manager:
        cheap, dear = (task for task in manager.tasks.values() if not task.name.startswith("estimate"))
        assert sum(cheap.result(timeout=120).get_counts().values()) == 100
        assert cheap.estimates[0].cost == pytest.approx(1.0)
        with pytest.raises(NoPilotError, match=r"meet max_cost=0\.9; the best offer: .*cost 1\)"):
            dear.result(timeout=120)
