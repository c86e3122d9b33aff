"""Circuits that several files run, and a QPU that does what its address says, wrong or right."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter

from pilot import PilotManager, Task, TaskDescription

Eventually = Callable[..., Any]
Leftovers = Callable[[], list[psutil.Process]]

#: Seconds for what takes a moment; a test that gets here has found something that hangs.
SOON = 120.0


def bell(measured: bool = True) -> QuantumCircuit:
    circuit = QuantumCircuit(2, name="bell")
    circuit.h(0)
    circuit.cx(0, 1)
    if measured:
        circuit.measure_all()
    return circuit


def describe(circuit: Any, **fields: Any) -> TaskDescription:
    return TaskDescription(circuit=circuit, **fields)


def total(task: Task) -> float:
    """Samples of the task's result."""
    return float(sum(task.result(timeout=SOON).get_counts().values()))


def with_angle(angle: Any, **more: Any) -> QuantumCircuit:
    circuit = QuantumCircuit(1, **more)
    circuit.rx(angle, 0)
    circuit.measure_all()
    return circuit


def named(name: str) -> QuantumCircuit:
    circuit = bell()
    circuit.name = name
    return circuit


def random_midway() -> QuantumCircuit:
    """Something of which there are no exact values."""
    circuit = QuantumCircuit(1, 1)
    circuit.h(0)
    circuit.measure(0, 0)
    with circuit.if_test((circuit.clbits[0], 1)):
        circuit.x(0)
    return circuit


#: Without measurements; with a free parameter.
state = bell(measured=False)
free = with_angle(Parameter("t"))


def eventual_worker(manager: PilotManager, task: Task) -> psutil.Process:
    """The process that runs this task, once it does: by the file that takes its output."""
    until = time.monotonic() + SOON
    while time.monotonic() < until:
        name = task.info.worker if task.running() else None
        for process in psutil.Process().children(recursive=True) if name else ():
            try:
                if any(Path(file.path).name.startswith(f"{name}.") for file in process.open_files()):
                    return process
            except psutil.Error:
                continue
        time.sleep(0.01)
    raise AssertionError(f"no process runs {task}: {manager.explain(task)}")


PLUGIN = '''
import os, threading, time
from pilot.errors import QPUCancelled, QPUUnavailable
from pilot.interfaces import QPU
from pilot.quantum.aer import run_circuit
from pilot.resources import QPUInfo


class Moody(QPU):
    """moody:KIND[/FILE]: what is wrong with it, and where it counts what it did."""

    def __init__(self, name, address):
        super().__init__(name, address)
        self.kind, _, self.notes = address.partition("/")
        self.ended = threading.Event()

    def _count(self):
        with open("/" + self.notes, "a") as file:
            file.write("x")
        return os.path.getsize("/" + self.notes)

    def open(self):
        if self.kind == "raises":
            raise RuntimeError("the crystals are empty")
        if self.kind == "exits":
            os._exit(3)
        if self.kind == "hangs":
            time.sleep(300)

    def info(self):
        if self.kind == "info":
            raise KeyError("qubits")
        is_down = self.kind == "down" and os.path.exists("/" + self.notes)
        return QPUInfo(name=self.name, qubits=5, accepts_jobs=not is_down)

    def target(self):
        return None

    def run(self, run):
        circuits = run.circuits
        if self.kind == "run":
            raise ZeroDivisionError("half a qubit")
        if self.kind == "few":
            circuits = circuits[:-1]
        if self.kind == "away" and self._count() % 2:
            raise QPUUnavailable("it is being calibrated", qpu=self.name)
        if self.kind == "down" and self._count():
            raise QPUUnavailable("it went down", qpu=self.name)
        if self.kind == "order":
            with open("/" + self.notes, "a") as file:
                file.write("".join(circuit.name + "\\n" for circuit in circuits))
        run.on_job("job")
        if self.ended.wait({"slow": 1, "waits": 60}.get(self.kind, 0)):
            raise QPUCancelled("it was cancelled", qpu=self.name)
        return [run_circuit(circuit, run.shots, seed) for circuit, seed in zip(circuits, run.seeds)]

    def cancel(self):
        self.ended.set()
'''
