"""What fake: adds to the suite of all QPUs: the noise and the times of a device's snapshot."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import pytest
from pilot_plugins.qpus.fake import FakeQPU
from qiskit import QuantumCircuit, generate_preset_pass_manager

from pilot.errors import DescriptionError, QPUError
from pilot.interfaces import QPU
from pilot.testing.qpus import bell, compiled, run, run_job, share


def test_every_snapshot_has_a_name() -> None:
    from pilot_plugins.qpus.fake import _snapshots
    from qiskit_ibm_runtime import fake_provider

    assert len(_snapshots()) == len({name for name in dir(fake_provider) if name.startswith("Fake")}) - 1 == 68
    for name in ("FakeKolkataV2", "fake_kolkata", "ibm_kolkata", "Kolkata", "kolkata"):
        assert FakeQPU("fake", name).snapshot == "kolkata"
    assert FakeQPU("fake", "fractional").snapshot in _snapshots()


@pytest.mark.parametrize(
    ("option", "lines", "words"),
    [
        ("outages", "begin,end\nnan,10\n", "line 2 of .* is 'nan,10'; expected begin,end, two numbers"),
        ("outages", "begin,end\n10,5\n", "must end later"),
        ("calibration", "begin,factor\n0,nan\n", "line 2 of .* is '0,nan'; expected begin,factor, two numbers"),
        ("calibration", "begin,factor\n0,inf\n", "a factor that is not above 0, or not finite"),
    ],
)
def test_files_of_a_fake_device_that_are_not_valid(option: str, lines: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "file.csv"
    file.write_text(lines)
    with pytest.raises(DescriptionError, match=words):
        FakeQPU("fake", f"manila?clock=0&{option}={file}")


def idle(microseconds: float) -> QuantumCircuit:
    """Qubit 0 is excited and waits."""
    circuit = QuantumCircuit(1)
    circuit.x(0)
    if microseconds:
        circuit.delay(microseconds, 0, "us")
    circuit.measure_all()
    return circuit


def scheduled(qpu: QPU, circuit: QuantumCircuit, layout: list[int]) -> QuantumCircuit:
    manager = generate_preset_pass_manager(
        1, target=qpu.target(), seed_transpiler=5, initial_layout=layout, scheduling_method="alap"
    )
    return manager.run(circuit)


@pytest.mark.filterwarnings("ignore:Duration is rounded")
def test_fake_a_long_delay_relaxes_as_t1_says() -> None:
    import numpy as np

    qpu = FakeQPU("fake:manila", "manila")
    qpu.open()
    t1 = qpu.target().qubit_properties[2].t1  # type: ignore[union-attr]
    short, long = (
        share(run_job(qpu, [scheduled(qpu, idle(delay), [2])], 4000, [3])[0], "1") for delay in (0, 1e6 * t1)
    )
    readout = qpu._backend.properties().qubit_property(2)
    wrong_0, wrong_1 = readout["prob_meas1_prep0"][0], readout["prob_meas0_prep1"][0]
    left = np.exp(-1)
    assert short == pytest.approx(1 - wrong_1, abs=0.02)
    assert long == pytest.approx(left * (1 - wrong_1) + (1 - left) * wrong_0, abs=0.03)


def test_fake_idle_qubits_relax_while_others_work() -> None:
    """Qubit 0 waits for a long ladder on qubits 1 and 2, with no delay in the circuit itself."""
    qpu = FakeQPU("fake:manila", "manila")
    qpu.open()
    waiting = QuantumCircuit(3, 1)
    waiting.x(0)
    waiting.barrier()
    for _ in range(200):
        waiting.cx(1, 2)
        waiting.sx(1)
    waiting.barrier()
    waiting.x(0)
    waiting.measure(0, 0)
    busy = compiled(qpu, waiting)
    assert "delay" not in busy.count_ops()
    quiet = QuantumCircuit(3, 1)
    quiet.x(0)
    quiet.barrier()
    quiet.x(0)
    quiet.measure(0, 0)
    late, early = (share(run_job(qpu, [each], 2000, [3])[0], "1") for each in (busy, compiled(qpu, quiet)))
    assert early < 0.1 < 0.25 < late


def test_fake_noise_on_the_used_qubits_is_that_of_the_whole_device() -> None:
    """Against Aer's own model of all 27 qubits, on a circuit that is scheduled the same way."""
    from pilot_plugins.qpus.noise import NoisyDevice
    from qiskit_aer import AerSimulator
    from qiskit_aer.noise import NoiseModel
    from qiskit_ibm_runtime.fake_provider import FakeKolkataV2

    backend = FakeKolkataV2()
    circuit = QuantumCircuit(3)
    circuit.h(0)
    for _ in range(6):
        circuit.cx(0, 1)
        circuit.cx(1, 2)
        circuit.sx(2)
    circuit.measure_all()
    device = NoisyDevice(backend.target)
    physical = generate_preset_pass_manager(
        1, backend=backend, initial_layout=[12, 13, 14], seed_transpiler=5, scheduling_method="alap"
    ).run(circuit)
    ours = device.run(physical, 40_000, 1, lambda: None).get_counts()
    model = NoiseModel.from_backend(backend)
    simulator = AerSimulator(method="density_matrix", noise_model=model, max_parallel_threads=1)
    theirs = simulator.run(physical, shots=40_000, seed_simulator=2).result().get_counts()
    distance = sum(abs(ours.get(key, 0) - theirs.get(key, 0)) for key in ours.keys() | theirs.keys()) / 80_000
    assert distance < 0.012  # two samples of 40,000 of one distribution over 8 outcomes: 0.005 on average


#: Without durations of measurements and a unit of time; without that of a reset; without resets.
WITH_HOLES = ("almaden", "essex", "london", "singapore", "vigo", "boeblingen", "melbourne", "armonk")


@pytest.mark.parametrize("snapshot", WITH_HOLES)
def test_fake_snapshots_with_holes_in_their_calibration_run(snapshot: str) -> None:
    """A pair, a reset, and decoupling; the thinned form of all 68."""
    from pilot.quantum.mitigation import Device, stages

    qpu = FakeQPU(f"fake:{snapshot}", snapshot)
    qpu.open()
    wide = min(2, qpu.info().qubits)
    again = QuantumCircuit(wide, 2)
    again.x(0)
    again.measure(0, 0)
    again.reset(0)
    for qubit in range(1, wide):
        again.cx(0, qubit)
        again.x(0)
        again.cx(0, qubit)
        again.x(0)
    again.measure(0, 1)
    circuit = compiled(qpu, again)
    (outcomes,) = run_job(qpu, [circuit], 400, [1])
    assert share(outcomes, "01") > 0.7
    planned = stages(["dd"]).stage.plan([circuit], 400, Device(target=qpu.target(), name=qpu.name))
    (decoupled,) = planned.combine(run_job(qpu, list(planned.circuits), 400, [1]))
    assert share(decoupled, "01") > 0.7
    if wide > 1:
        (outcomes,) = run(qpu, compiled(qpu, bell()))
        assert share(outcomes, "00", "11") > 0.7


def test_fake_noise_without_durations_is_that_of_aer() -> None:
    from pilot_plugins.qpus.noise import NoisyDevice
    from qiskit_aer import AerSimulator
    from qiskit_aer.noise import NoiseModel
    from qiskit_ibm_runtime.fake_provider import FakeLondonV2

    backend = FakeLondonV2()
    circuit = QuantumCircuit(2, 2)
    circuit.h(0)
    for _ in range(4):
        circuit.cx(0, 1)
        circuit.reset(1)
        circuit.cx(0, 1)
    circuit.measure([0, 1], [0, 1])
    device = NoisyDevice(backend.target)
    physical = generate_preset_pass_manager(0, backend=backend, initial_layout=[0, 1]).run(circuit)
    small, active = device.reduce(physical)
    scheduled = device.schedule(small, active)  # the other one has no idle times unless they are in the circuit
    ours = device.run(physical, 40_000, 1, lambda: None).get_counts()
    model = NoiseModel.from_backend(backend)
    simulator = AerSimulator(method="density_matrix", noise_model=model, max_parallel_threads=1)
    theirs = simulator.run(scheduled, shots=40_000, seed_simulator=2).result().get_counts()
    assert sum(abs(ours.get(key, 0) - theirs.get(key, 0)) for key in ours.keys() | theirs.keys()) / 80_000 < 0.012


def test_fake_simulates_the_used_qubits_of_156_alone() -> None:
    qpu = FakeQPU("fake:fez", "fez")
    qpu.open()
    circuit = compiled(qpu, bell())
    assert circuit.num_qubits == 156
    begin = time.process_time()
    (outcomes,) = run_job(qpu, [circuit], 1000, [1])
    assert time.process_time() - begin < 2  # 0.05 s here; with the whole device's model 5 s
    assert 0.8 < share(outcomes, "00", "11") < 0.999


def test_fake_reads_ones_and_zeros_as_they_were_calibrated() -> None:
    """The snapshot's two readout errors of a qubit differ; each is met within four standard errors."""
    qpu = FakeQPU("fake:manila", "manila")
    qpu.open()
    properties = qpu._backend.properties().qubit_property(0)
    wrong_0, wrong_1 = properties["prob_meas1_prep0"][0], properties["prob_meas0_prep1"][0]
    assert wrong_1 > wrong_0 * 1.2
    nothing = QuantumCircuit(1, 1)
    nothing.measure(0, 0)
    measured = share(run_job(qpu, [scheduled(qpu, nothing, [0])], 20_000, [1])[0], "1")
    assert measured == pytest.approx(wrong_0, abs=4 * (wrong_0 / 20_000) ** 0.5)


def busy_circuit(seed: int) -> QuantumCircuit:
    """Gates, delays, resets and measurements in any order, each measurement into a bit of its own."""
    import numpy as np

    random = np.random.default_rng(seed)
    circuit = QuantumCircuit(3, 12)
    free = 3
    for _ in range(12):
        first, second = random.permutation(3)[:2].tolist()
        kind = random.integers(7)
        if kind == 0:
            circuit.cx(first, second)
        elif kind == 1:
            circuit.barrier(first, second)
        elif kind == 2 and free < 12:
            circuit.measure(first, free)
            free += 1
        elif kind == 3:
            circuit.reset(first)
        elif kind == 4:
            circuit.delay(160 * int(random.integers(1, 200)), first, "dt")
        else:
            circuit.ry(random.uniform(0, 3), first)
    circuit.measure(range(3), range(3))
    return circuit


@pytest.mark.parametrize("seed", range(4))
def test_fake_distributions_are_those_of_aer_with_the_same_noise(seed: int) -> None:
    import numpy as np
    from qiskit_aer import AerSimulator

    qpu = FakeQPU("fake:manila", "manila")
    qpu.open()
    device = qpu._device
    assert device is not None
    circuit = compiled(qpu, busy_circuit(seed))
    small, active = device.reduce(circuit)
    scheduled = device.schedule(small, active)
    ours = run_job(qpu, [circuit], 100_000, [1])[0].get_counts()
    model = device.noise(scheduled, active)
    simulator = AerSimulator(method="density_matrix", noise_model=model, max_parallel_threads=1)
    theirs = simulator.run(scheduled, shots=4_000, seed_simulator=2).result().get_counts()
    shares = {key: (ours.get(key, 0) / 100_000, theirs.get(key, 0) / 4_000) for key in ours.keys() | theirs.keys()}
    distance = sum(abs(one - other) for one, other in shares.values()) / 2
    assert distance < 1.5 * sum(np.sqrt(one / 4_000) for one, _ in shares.values()) / 2


@pytest.mark.parametrize("seed", range(4))
def test_fake_schedules_as_qiskit_does(seed: int) -> None:
    from qiskit import QuantumRegister
    from qiskit.transpiler import PassManager
    from qiskit.transpiler.passes import ALAPScheduleAnalysis, PadDelay, TimeUnitConversion

    from pilot.quantum.durations import timed

    qpu = FakeQPU("fake:manila", "manila")
    qpu.open()
    device = qpu._device
    assert device is not None
    small, active = device.reduce(compiled(qpu, busy_circuit(seed)))
    ours = device.schedule(small, active)
    target = timed(device.target, active)
    physical = QuantumCircuit(QuantumRegister(len(active), "q"), small.clbits, *small.cregs)
    physical.compose(small, physical.qubits, physical.clbits, inplace=True)
    passes = [TimeUnitConversion(target=target), ALAPScheduleAnalysis(target=target)]
    theirs = PassManager([*passes, PadDelay(target=target, fill_very_end=False)]).run(physical)
    assert idle_times(ours) == idle_times(theirs)


def idle_times(circuit: QuantumCircuit) -> list[list[tuple[str, int]]]:
    """Of each qubit from its first instruction to its last: their names, each with the idle time before it in dt."""
    found: list[list[tuple[str, int]]] = [[] for _ in circuit.qubits]
    waited = dict.fromkeys(circuit.qubits, 0)
    for entry in circuit.data:
        for qubit in entry.qubits:
            if entry.name == "delay":
                waited[qubit] += entry.operation.duration
            elif entry.name != "barrier":
                own = found[circuit.find_bit(qubit).index]
                own.append((entry.name, waited[qubit] if own else 0))
                waited[qubit] = 0
    return found


def test_fake_a_seed_gives_the_same_counts_alone_and_in_company() -> None:
    qpu = FakeQPU("fake:manila", "manila")
    qpu.open()
    dynamic = QuantumCircuit(2, 2)
    dynamic.h(0)
    dynamic.measure(0, 0)
    with dynamic.if_test((dynamic.clbits[0], 1)):
        dynamic.x(1)
    dynamic.measure(1, 1)
    circuits = [compiled(qpu, each) for each in (bell(), dynamic, *map(busy_circuit, range(3)))]
    seeds = [11, 12, 13, 14, 11]
    together = [outcomes.get_counts() for outcomes in run_job(qpu, circuits, 300, seeds)]
    alone = [
        run_job(qpu, [circuit], 300, [seed])[0].get_counts() for circuit, seed in zip(circuits, seeds, strict=True)
    ]
    backwards = [outcomes.get_counts() for outcomes in run_job(qpu, circuits[::-1], 300, seeds[::-1])]
    assert together == alone == backwards[::-1]
    assert together[0] != run_job(qpu, circuits[:1], 300, [15])[0].get_counts()


@pytest.mark.parametrize("room", [None, 0])
def test_fake_takes_registers_of_any_name_with_room_for_probabilities_and_without(
    room: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without room for exact probabilities Aer follows single shots."""
    from qiskit import ClassicalRegister, QuantumRegister

    if room is not None:
        monkeypatch.setattr("pilot.quantum.device_noise._MAX_VALUES", room)
    qpu = FakeQPU("fake:manila", "manila")
    qpu.open()
    circuit = QuantumCircuit(QuantumRegister(2, "x"), ClassicalRegister(1, "q"), ClassicalRegister(2, "y"))
    circuit.x(0)
    circuit.cz(0, 1)
    circuit.measure([0, 1], circuit.cregs[1])
    (outcomes,) = run_job(qpu, [compiled(qpu, circuit)], 400, [1])
    assert share(outcomes, "01 0") > 0.8
    assert outcomes.shots == 400


def test_fake_runs_dynamic_circuits() -> None:
    qpu = FakeQPU("fake:fez", "fez")
    qpu.open()
    circuit = QuantumCircuit(2, 2)
    circuit.x(0)
    circuit.measure(0, 0)
    with circuit.if_test((circuit.clbits[0], 1)):
        circuit.x(1)
    circuit.measure(1, 1)
    (outcomes,) = run_job(qpu, [compiled(qpu, circuit)], 400, [1])
    assert 0.8 < share(outcomes, "11") < 1


def test_fake_refuses_circuits_that_are_not_compiled_for_it() -> None:
    qpu = FakeQPU("fake:manila", "manila")
    with pytest.raises(QPUError, match=r"has h on \[0\], which the device has not: compile it"):
        run_job(qpu, [bell()], 10, [1])


def test_fake_takes_the_time_that_it_is_told_to() -> None:
    qpu = FakeQPU("fake:manila?queue=0.3&shot_time=1e-3", "manila?queue=0.3&shot_time=1e-3")
    qpu.open()
    assert qpu.info().expected_wait == 0.3
    circuit = compiled(qpu, bell())
    run_job(qpu, [circuit], 1, [1])
    begin = time.monotonic()
    run_job(qpu, [circuit, circuit], 100, [1, 2])
    assert time.monotonic() - begin >= 0.5


def ladder(line: list[int], rounds: int) -> QuantumCircuit:
    """One qubit in a superposition is copied to each next one of the line; in later rounds it is turned again."""
    circuit = QuantumCircuit(27, len(line))
    for number in range(rounds):
        for one, other in itertools.pairwise(line):
            circuit.sx(one)
            circuit.rz(0.4 + number, one)
            circuit.cx(one, other)
    circuit.measure(line, range(len(line)))
    return circuit


#: Each is a neighbour of the one before on kolkata.
LINE = [0, 1, 4, 7, 10, 12, 15, 18, 21, 23, 24, 25, 22, 19, 16, 14, 11, 8, 5, 3]


def test_fake_wide_circuits_have_the_probabilities_of_the_whole_state() -> None:
    """On seven qubits, which both can follow."""
    import numpy as np
    from pilot_plugins.qpus.noise import NoisyDevice
    from qiskit_ibm_runtime.fake_provider import FakeKolkataV2

    device = NoisyDevice(FakeKolkataV2().target)
    small, active = device.reduce(ladder(LINE[:7], 2))
    scheduled = device.schedule(small, active)
    bits, wanted = device.probabilities(scheduled, active)
    same, chain = device.chain(scheduled, active, 60.0)
    table, counts = chain.sample(same, 10**12, np.random.default_rng(0), lambda: None)
    found = np.zeros(1 << len(bits))
    found[(table << np.arange(len(bits))).sum(axis=1)] = counts / 1e12
    assert same == bits
    assert abs(found - wanted).sum() < 2e-5


def test_fake_samples_wide_circuits_that_are_little_entangled() -> None:
    """Twenty qubits in a second, where Aer would take hours, shot by shot. The same seed gives the same."""
    from pilot_plugins.qpus.noise import NoisyDevice
    from qiskit_ibm_runtime.fake_provider import FakeKolkataV2

    device = NoisyDevice(FakeKolkataV2().target)
    ghz = QuantumCircuit(27, 20)
    ghz.sx(LINE[0])
    for one, other in itertools.pairwise(LINE):
        ghz.cx(one, other)
    ghz.measure(LINE, range(20))
    begin = time.process_time()
    outcomes = device.run(ghz, 100_000, 1, lambda: None)
    assert time.process_time() - begin < 20
    right = share(outcomes, "0" * 20, "1" * 20)
    assert 0.2 < right < 0.8
    assert device.run(ghz, 100_000, 1, lambda: None).get_counts() == outcomes.get_counts()


def test_fake_a_wide_circuit_that_is_too_entangled_is_followed_shot_by_shot(monkeypatch: pytest.MonkeyPatch) -> None:
    from pilot_plugins.qpus.noise import NoisyDevice
    from qiskit_ibm_runtime.fake_provider import FakeKolkataV2

    monkeypatch.setattr("pilot.quantum.device_noise._MAX_VALUES", 0)  # no room for exact probabilities
    monkeypatch.setattr("pilot.quantum.noisy_chains._STEP", 1e6)
    outcomes = NoisyDevice(FakeKolkataV2().target).run(ladder(LINE[:3], 1), 100, 1, lambda: None)
    assert outcomes.weights.sum() == 100


def test_fake_a_wide_circuit_without_room_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    qpu = FakeQPU("fake:brisbane", "brisbane")
    qpu.open()
    monkeypatch.setattr("pilot.quantum.noisy_chains._STEP", 1e6)
    ghz = QuantumCircuit(60)
    ghz.h(0)
    for qubit in range(59):
        ghz.cx(qubit, qubit + 1)
    ghz.measure_all()
    ghz.name = "wide"
    wanted = r"'wide': to follow 6\d qubits with noise shot by shot takes .* GiB, this machine has .* GiB: cut it"
    with pytest.raises(QPUError, match=wanted):
        run_job(qpu, [compiled(qpu, ghz)], 10, [1])
