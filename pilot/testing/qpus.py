"""The contract suite of QPUs. It needs Qiskit: ``pip install 'quantum-pilot[quantum,testing]'``."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence

import pytest
from qiskit import ClassicalRegister, QuantumCircuit, QuantumRegister, generate_preset_pass_manager
from qiskit.circuit import Parameter

from pilot import registry
from pilot.errors import QPUCancelled, QPUError
from pilot.interfaces import QPU, Run
from pilot.quantum.answers import run_on
from pilot.quantum.outcomes import Outcomes


class QPUContract:
    """What every QPU promises, as tests. It has five qubits or more.

    A plugin's author subclasses it::

        class TestMyQPU(QPUContract):
            name = "mine:device"

    It is opened once for the class.
    """

    #: As in ``PilotDescription.qpus``.
    name: str
    #: Its results have errors, as those of a device have; else they must be ideal.
    noisy = False
    #: The same seed gives the same counts.
    seeded = False
    #: Its jobs have an id, which `Run.on_job` is called with.
    jobs_have_ids = False

    @pytest.fixture(scope="class")
    @classmethod
    def qpu(cls) -> Iterator[QPU]:
        """The QPU, open."""
        qpu = registry.make(cls.name)
        qpu.open()
        yield qpu
        qpu.close()

    def long_job(self) -> tuple[Sequence[QuantumCircuit], int] | None:
        """Circuits and shots of a job that takes a minute or more, if there can be one."""
        return None

    def test_a_bell_state_is_correlated(self, qpu: QPU) -> None:
        (outcomes,) = run(qpu, bell())
        assert outcomes.shots == 400 and outcomes.weights.sum() == 400
        assert share(outcomes, "00", "11") > (0.85 if self.noisy else 0.999)
        assert 0.35 < share(outcomes, "00") < 0.65
        assert set(outcomes.get_counts("meas")) <= {"00", "01", "10", "11"}

    def test_registers_and_bits_are_in_qiskits_order(self, qpu: QPU) -> None:
        """Also a qubit that is measured twice, into two bits."""
        (outcomes,) = run(qpu, asymmetric())
        least = 0.6 if self.noisy else 1.0
        assert share(outcomes, "110 01") >= least
        assert share(outcomes, "01", register="low") >= least
        assert share(outcomes, "110", register="high") >= least
        assert [register.name for register in outcomes.registers] == ["low", "high"]
        assert outcomes.num_bits == 5

    def test_circuits_of_one_job_keep_their_order(self, qpu: QPU) -> None:
        circuits = []
        for number in range(3):
            circuit = QuantumCircuit(2, 2)
            for qubit in range(2):
                if number >> qubit & 1:
                    circuit.x(qubit)
            circuit.measure([0, 1], [0, 1])
            circuits.append(circuit)
        for number, outcomes in enumerate(run(qpu, *circuits)):
            assert share(outcomes, f"{number:02b}") > 0.8

    def test_measurements_in_the_middle(self, qpu: QPU) -> None:
        """Measure a 1, reset it, measure a 0, and again a 1 that follows another qubit."""
        circuit = QuantumCircuit(2, 3)
        circuit.x([0, 1])
        circuit.measure(0, 0)
        circuit.reset(0)
        circuit.measure(0, 1)
        circuit.cx(1, 0)
        circuit.measure(0, 2)
        (outcomes,) = run(qpu, circuit)
        assert share(outcomes, "101") > (0.7 if self.noisy else 0.999)

    def test_exact_probabilities_or_an_error(self, qpu: QPU) -> None:
        circuit = QuantumCircuit(1)
        circuit.ry(1.0, 0)  # sin²(1/2) = 0.229849
        circuit.measure_all()
        if qpu.info().simulator:
            (outcomes,) = run(qpu, circuit, shots=None)
            assert outcomes.shots is None
            assert outcomes.get_counts()["1"] == pytest.approx(0.22984884706593, abs=1e-12)
        else:
            with pytest.raises(QPUError):
                run(qpu, circuit, shots=None)

    def test_the_same_seed_gives_the_same_counts(self, qpu: QPU) -> None:
        if not self.seeded:
            pytest.skip("its results do not depend on a seed")
        first, again, other = (run(qpu, bell(), seed=seed)[0].get_counts() for seed in (7, 7, 8))
        assert first == again != other

    def test_ids_of_jobs(self, qpu: QPU) -> None:
        jobs: list[str] = []
        run_job(qpu, [compiled(qpu, bell())], 10, [1], jobs.append)
        assert len(jobs) == (1 if self.jobs_have_ids else 0)
        assert all(jobs)

    def test_its_properties(self, qpu: QPU) -> None:
        info, target = qpu.info(), qpu.target()
        assert info.name == qpu.name == self.name
        assert info.qubits >= 5
        assert info.asked is not None and abs(info.asked - time.time()) < 60
        if target is not None and target.num_qubits is not None:
            assert info.qubits == target.num_qubits
            assert set(info.gates) == set(target.operation_names)

    def test_jobs_that_it_does_not_take(self, qpu: QPU) -> None:
        """`Run.check` raises the errors that are tested here."""
        info, good = qpu.info(), compiled(qpu, bell())
        wide = QuantumCircuit(info.qubits + 1, 1)
        wide.measure(0, 0)
        free = QuantumCircuit(1)
        free.rx(Parameter("theta"), 0)
        free.measure_all()
        jobs = [([wide], 10), ([QuantumCircuit(1)], 10), ([free], 10), ([good], 0)]
        if info.max_shots is not None:
            jobs.append(([good], info.max_shots + 1))
        if info.max_circuits is not None:
            jobs.append(([good] * (info.max_circuits + 1), 10))
        for circuits, shots in jobs:
            with pytest.raises(QPUError):
                run_job(qpu, circuits, shots, [1] * len(circuits))

    def test_closing_twice_and_opening_again(self, qpu: QPU) -> None:
        qpu.close()
        qpu.close()
        qpu.open()
        assert share(run(qpu, bell())[0], "00", "11") > 0.85

    def test_cancel_from_another_thread_ends_the_job(self) -> None:
        if (job := self.long_job()) is None:
            pytest.skip("no job of it takes long")
        qpu = registry.make(self.name)
        qpu.open()
        try:
            cancel_ends(qpu, *job)
        finally:
            qpu.close()


def cancel_ends(qpu: QPU, circuits: Sequence[QuantumCircuit], shots: int) -> None:
    """Cancel a job that takes long."""
    first = compiled(qpu, circuits[0])
    started, ended, found = threading.Event(), threading.Event(), []

    def job() -> None:
        try:
            run_job(qpu, [first] * len(circuits), shots, list(range(len(circuits))), lambda job: started.set())
        except BaseException as error:
            found.append(error)
        ended.set()

    threading.Thread(target=job, daemon=True).start()
    started.wait(0.5)  # not each has jobs with an id
    assert not ended.wait(0.1), found
    qpu.cancel()
    assert ended.wait(60)
    assert isinstance(found[0], QPUCancelled), found


def compiled(qpu: QPU, circuit: QuantumCircuit) -> QuantumCircuit:
    """The circuit as the QPU takes it."""
    target = qpu.target()
    if target is None:
        return circuit
    manager = generate_preset_pass_manager(1, target=target, seed_transpiler=5, scheduling_method=None)
    return manager.run(circuit)


def run(qpu: QPU, *circuits: QuantumCircuit, shots: int | None = 400, seed: int = 1) -> list[Outcomes]:
    """Compile circuits and run them as one job; the seeds are ``seed``, ``seed + 1``, ..."""
    seeds = [seed + number for number in range(len(circuits))]
    return run_job(qpu, [compiled(qpu, circuit) for circuit in circuits], shots, seeds)


def run_job(
    qpu: QPU,
    circuits: Sequence[QuantumCircuit],
    shots: int | None,
    seeds: Sequence[int],
    on_job: Callable[[str], None] = lambda job: None,
) -> list[Outcomes]:
    """Run one job of compiled circuits, as the library does."""
    return run_on(qpu, Run(circuits=circuits, shots=shots, seeds=seeds, on_job=on_job))


def bell() -> QuantumCircuit:
    """Two qubits that are both 0 or both 1, measured into the register "meas"."""
    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.cx(0, 1)
    circuit.measure_all()
    return circuit


def asymmetric() -> QuantumCircuit:
    """Qubits 0 and 2 are 1; bits are written crosswise into two registers: low = 01 (bit 0 is 1), high = 110."""
    qubits, low, high = QuantumRegister(5, "q"), ClassicalRegister(2, "low"), ClassicalRegister(3, "high")
    circuit = QuantumCircuit(qubits, low, high)
    circuit.x([0, 2])
    circuit.measure([2, 1, 3, 0, 2], [low[0], low[1], high[0], high[1], high[2]])
    return circuit


def share(outcomes: Outcomes, *texts: str, register: str | None = None) -> float:
    """The share of the shots that gave one of these bit strings."""
    counts = outcomes.get_counts(register)
    return sum(counts.get(text, 0) for text in texts) / sum(counts.values())
