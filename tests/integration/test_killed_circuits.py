"""Agents, workers and managers that are killed while circuits run: the results come all the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from circuit_cases import SOON, Eventually, Leftovers, bell, describe, eventual_worker, state, total

from pilot import PilotDescription, PilotManager

pytestmark = [pytest.mark.timeout(120), pytest.mark.usefixtures("plugin")]


def test_the_agent_and_the_devices_worker_are_killed(tmp_path: Path, eventually: Eventually) -> None:
    with PilotManager(tmp_path / "s") as manager:
        manager.submit_pilot(PilotDescription(cores_per_node=1, qpus=["moody:slow"]))
        task = manager.submit_task(describe(bell(), shots=10))
        for _ in range(2):
            worker = eventual_worker(manager, task)
            worker.kill()
            eventually(lambda number=worker.pid: not psutil.pid_exists(number), timeout=SOON)
        assert total(task) == 10
        assert [one.number for one in task.info.attempts] == [1, 2]
        task = manager.submit_task(describe(bell(), shots=10))
        agent = eventual_worker(manager, task)
        while "pilot.agent" not in " ".join(agent.cmdline()):
            agent = agent.parent() or pytest.fail("no agent")
        while "pilot.agent" in " ".join((agent.parent() or agent).cmdline()):
            agent = agent.parent() or agent
        agent.kill()
        assert total(task) == 10
        assert len(task.info.attempts) == 1
        assert not list(manager.session_dir.glob("pilots/*/*.job"))


SCRIPT = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from qiskit import QuantumCircuit
from pilot import PilotManager, TaskDescription

bell = QuantumCircuit(2)
bell.h(0)
bell.cx(0, 1)
with PilotManager(sys.argv[1]) as manager:
    manager.submit_pilot({"cores_per_node": 1, "qpus": [sys.argv[2]]})
    whole = manager.submit_task(TaskDescription(circuit=bell, tomography=True, shots=2000, qpu=sys.argv[2], seed=1))
    while not any(task.running() or task.done() for task in whole.parts):
        time.sleep(0.01)
    print("ready", flush=True)
    manager.wait_tasks()
"""


@pytest.fixture
def script(tmp_path: Path, plugin: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Runs the script until it says that it is ready."""
    started: list[subprocess.Popen[str]] = []

    def run(*words: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
            env={**os.environ, "PYTHONPATH": os.pathsep.join((str(plugin), *sys.path))},
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def test_the_manager_is_killed_during_a_tomography(
    tmp_path: Path, script: Callable[..., subprocess.Popen[str]], leftovers: Leftovers
) -> None:
    session = tmp_path / "s"
    process = script(str(session), "moody:slow")
    process.kill()
    process.wait()
    with PilotManager.attach(session) as manager:
        whole = list(manager.tasks.values())[-1]
        assert len(manager.tasks) == 10
        result = whole.result(timeout=SOON)
        assert result.fidelity(state) > 0.99
        assert np.trace(result.density_matrix).real == pytest.approx(1.0)
        for task in list(manager.tasks.values())[:-1]:
            assert task.done() and task.exception() is None


def test_ctrl_c_while_jobs_of_a_device_wait(
    tmp_path: Path, script: Callable[..., subprocess.Popen[str]], leftovers: Leftovers, eventually: Eventually
) -> None:
    before = {process.pid for process in leftovers()}
    process = script(str(tmp_path / "s"), "moody:waits")
    began = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=SOON)
    assert process.returncode == -signal.SIGINT and "KeyboardInterrupt" in err
    eventually(lambda: {one.pid for one in leftovers()} <= before, timeout=60)
    assert time.monotonic() - began < 60
    assert not list((tmp_path / "s").glob("pilots/*/*.job"))
