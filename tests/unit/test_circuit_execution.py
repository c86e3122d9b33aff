"""Circuits of the mini-app, what its devices are called, and what it refuses; nothing runs here."""

from __future__ import annotations

import json

import msgspec
import pytest
from pilot_miniapps.circuit_execution import app, oracles
from pilot_miniapps.circuit_execution.devices import Device, check_pilots, check_widths, qpus_of
from pilot_miniapps.circuit_execution.measured import Measurement, crossing
from pilot_miniapps.circuit_execution.settings import Cell
from pilot_miniapps.circuit_execution.workload import Workload, values_together
from qiskit import QuantumCircuit
from qiskit.quantum_info import Operator, SparsePauliOp

from pilot import DescriptionError, PilotDescription
from pilot.resources import QPUInfo


@pytest.mark.parametrize("qubits", [2, 3, 5])
def test_circuits_come_from_their_seeds_and_differ(qubits: int) -> None:
    workload = Workload(qubits=qubits, depth=4, size=3, seed=7)
    cases = [workload.case(number) for number in range(20)]
    again, observable = workload.case(11)
    assert again == cases[11][0] and observable == cases[11][1]
    assert len({str(circuit.draw()) for circuit, _ in cases}) == 20
    for circuit, its in cases:
        assert circuit.num_qubits == its.num_qubits == qubits
        assert "I" * qubits not in its.paulis.to_labels()
        assert sum(its.coeffs) == pytest.approx(1)


def test_values_of_many_circuits_are_those_of_the_matrices() -> None:
    workload = Workload(qubits=3, depth=4, size=2, seed=3)
    values = values_together(workload, range(6))
    for number, value in enumerate(values):
        circuit, observable = workload.case(number)
        state = Operator(circuit).data[:, 0]
        assert value == pytest.approx((state.conj() @ observable.to_matrix() @ state).real, abs=1e-12)
    assert oracles.ideal_values(workload, range(6)) == pytest.approx(values, abs=1e-12)


def test_the_noisy_oracle_is_the_arithmetic_of_the_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    """One X gate, read: with the snapshot's gate error and readout errors, by hand. Relaxation in 36 ns is 1e-3."""

    def case(self: Workload, number: int) -> tuple[QuantumCircuit, SparsePauliOp]:
        circuit = QuantumCircuit(2)
        circuit.x(0)
        return circuit, SparsePauliOp("IZ")

    from qiskit import generate_preset_pass_manager
    from qiskit_ibm_runtime.fake_provider import FakeManilaV2

    monkeypatch.setattr(Workload, "case", case)
    backend = FakeManilaV2()
    circuit, _ = case(None, 0)  # type: ignore[arg-type]
    circuit.measure_active()
    compiled = generate_preset_pass_manager(2, target=backend.target, seed_transpiler=0).run(circuit)
    (qubit,) = {compiled.find_bit(entry.qubits[0]).index for entry in compiled.data if entry.name == "measure"}
    known = backend.properties().qubit_property(qubit)
    wrong_1 = known["prob_meas0_prep1"][0]
    assert wrong_1 > 0.01
    (found,) = oracles.noisy_values(Workload(qubits=2, depth=1, size=1, seed=0), [0], "manila")
    assert found == pytest.approx(-(1 - 2 * wrong_1), abs=2e-3)


@pytest.mark.parametrize(
    ("name", "qpu", "simulator", "snapshot", "gpu", "key"),
    [
        ("cpu", "aer", True, False, False, "cpu"),
        ("gpu", "aer:statevector?device=GPU", True, False, True, "gpu"),
        (
            "aer:statevector?precision=single",
            "aer:statevector?precision=single",
            True,
            False,
            False,
            "aer_statevector_precision_single",
        ),
        ("fake:manila?queue=1", "fake:manila?queue=1", False, True, False, "fake_manila_queue_1"),
        ("ibm:ibm_fez", "ibm:ibm_fez", False, False, False, "ibm_ibm_fez"),
    ],
)
def test_devices_are_known_by_their_names(
    name: str, qpu: str, simulator: bool, snapshot: bool, gpu: bool, key: str
) -> None:
    device = Device(name)
    assert (device.qpu, device.is_simulator, device.is_snapshot, device.is_gpu, device.key) == (
        qpu,
        simulator,
        snapshot,
        gpu,
        key,
    )
    assert device.needs() == ({"num_gpus": 1.0} if gpu else {})
    assert qpus_of([Device("cpu"), device]) == ([] if name == "cpu" else [qpu])


def test_a_device_that_no_pilot_has_is_refused() -> None:
    pilots = [PilotDescription(engine="process", cores_per_node=1, qpus=["fake:manila"])]
    check_pilots([Device("cpu"), Device("fake:manila")], pilots)
    with pytest.raises(DescriptionError, match=r"no pilot has the QPU 'ibm:ibm_fez' \(they have fake:manila\)"):
        check_pilots([Device("ibm:ibm_fez")], pilots)
    with pytest.raises(DescriptionError, match=r"gpu needs a GPU, and the pilots have none: .*gpus_per_node"):
        check_pilots([Device("gpu")], pilots)


def test_circuits_wider_than_a_device_are_refused_before_anything_runs() -> None:
    qpus = {"fake:manila": QPUInfo(name="fake:manila", qubits=5)}
    check_widths(Device("fake:manila"), [2, 5], qpus)
    with pytest.raises(DescriptionError, match="qpu_qubits: 7 is too wide for fake:manila, which has 5 qubits"):
        check_widths(Device("fake:manila"), [2, 7], qpus)
    broken = {"fake:x": QPUInfo(name="fake:x", qubits=0, problem="no snapshot 'x'")}
    with pytest.raises(DescriptionError, match="fake:x: no snapshot 'x'"):
        check_widths(Device("fake:x"), [2], broken)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"qubits": [1]}, "qubits"),
        ({"qubits": []}, "qubits"),
        ({"qubits": [2, 2]}, "a value comes twice"),
        ({"circuits": 0}, "circuits"),
        ({"shots": 100, "batches": [1, 8]}, "batches: .* is not valid with shots"),
        ({"devices": []}, "devices"),
        ({"seed": -1}, "seed"),
    ],
)
def test_wrong_settings_are_named(given: dict[str, object], message: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=message):
        msgspec.convert(given, app.Settings)


def test_the_default_pilot_has_what_the_devices_need(monkeypatch: pytest.MonkeyPatch) -> None:
    (pilot,) = app.CircuitExecution(app.Settings(devices=("cpu", "fake:manila"))).pilots()
    assert isinstance(pilot, PilotDescription)
    assert (pilot.qpus, pilot.gpus_per_node) == (("fake:manila",), 0)
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(DescriptionError, match="nvidia-smi lists none on this host"):
        app.CircuitExecution(app.Settings(devices=("gpu",))).pilots()


def test_checks_allow_for_the_errors_of_shots_and_for_nothing_else() -> None:
    exact = oracles.Check(value=0.5, standard_error=0.0, expected=0.5 + 1e-8)
    assert not exact.passes(5.0)
    sampled = oracles.Check(value=0.5, standard_error=0.1, expected=0.85)
    assert sampled.deviation() == pytest.approx(3.5) and sampled.passes(5.0) and not sampled.passes(3.0)
    assert oracles.allowed_errors(1) < oracles.allowed_errors(1000) < 7


def test_the_crossing_is_where_the_gpu_stays_faster() -> None:
    rates = {"cpu": [100, 90, 50, 10, 1], "gpu": [20, 95, 40, 40, 40]}
    measurements = [
        Measurement(
            Cell(
                device=Device(device),
                workload=Workload(qubits=2 + 4 * place, depth=1, size=1, seed=0),
                numbers=range(4),
                batch=1,
                repetition=0,
            ),
            4 / rate,
            [(0.0, 0.0)] * 4,
        )
        for device, its in rates.items()
        for place, rate in enumerate(its)
    ]
    assert crossing(measurements) == 14
    assert crossing([one for one in measurements if one.cell.device.name == "cpu"]) is None
    row = measurements[0].row()
    assert row["circuits_per_second"] == pytest.approx(100) and row["seconds_for_1024"] == pytest.approx(10.24)


def test_the_plot_is_made_from_the_report_alone() -> None:
    rows = [
        {
            "device": device,
            "qubits": qubits,
            "batch": 1,
            "repetition": repetition,
            "circuits": 8,
            "seconds_for_1024": 2.0**qubits + repetition,
            "circuits_per_second": 1024 / (2.0**qubits + repetition),
        }
        for device in ("cpu", "ibm:ibm_fez")
        for qubits in (2, 4)
        for repetition in (0, 1)
    ]
    report = json.loads(json.dumps({"rows": rows, "details": {"labels": {"cpu": "CPU", "ibm:ibm_fez": "Fez"}}}))
    drawing = app.CircuitExecution(app.Settings()).draw(report)["circuit-execution"]
    left, right = drawing.axes
    assert "(s)" in left.get_ylabel() and "(1/s)" in right.get_ylabel()
    assert list(left.get_lines()[0].get_ydata()) == pytest.approx([4.5, 16.5])
