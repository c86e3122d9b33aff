"""What is expected of circuits on QPUs and simulators: fidelity, seconds, bytes and cost, each with its spread."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from pilot.errors import DescriptionError, QPUError
from pilot.qos.predictor import Prediction, Predictor
from pilot.qos.run_times import Row, RunTimes, device_prior, device_row, simulator_prior, simulator_row
from pilot.quantum import costs
from pilot.resources import QPUEstimate

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from qiskit import QuantumCircuit

    from pilot.qos.prices import PriceTable
    from pilot.resources import QPUInfo

#: Predicted bytes of simulations scatter by this share of them.
BYTES_SCATTER = 0.2


class Estimator:
    """Estimates circuits, and learns from those that have run.

    Args:
        prices: of the QPUs; None: costs are not known.
    """

    def __init__(self, prices: PriceTable | None = None) -> None:
        self.predictor = Predictor()
        self.run_times = RunTimes()
        self._prices = prices

    def estimate(
        self,
        circuit: QuantumCircuit,
        info: QPUInfo,
        *,
        shots: int | None,
        level: int = 2,
        values: NDArray[np.float64] | None = None,
    ) -> QPUEstimate:
        """What is expected of a circuit on a QPU. Takes tens of milliseconds, or less than one if it is known.

        Args:
            circuit: with its measurements.
            info: of the QPU; of a device with its calibration.
            shots: of the circuit; None: exact, on a simulator.
            level: Qiskit's optimization level.
            values: for its free parameters, in the order of ``circuit.parameters``.

        Raises:
            QPUError: the QPU cannot run the circuit, or not with so many shots.
            DescriptionError: it has too few qubits, or the circuit has parameters without a value.
        """
        if values is None and circuit.parameters:
            names = ", ".join(parameter.name for parameter in circuit.parameters)
            raise DescriptionError(f"circuit {circuit.name!r} has parameters without a value: {names}; give numbers")
        if info.max_shots is not None and shots is not None and shots > info.max_shots:
            raise QPUError(f"{info.name} takes at most {info.max_shots} shots, not {shots}", qpu=info.name)
        if info.simulator:
            return self._simulated(circuit, info, shots)
        return self.of_prediction(self.predictor.predict(circuit, info, level, values), info, shots or 1)

    def of_prediction(self, prediction: Prediction, info: QPUInfo, shots: int, circuits: int = 1) -> QPUEstimate:
        """What a prediction means, with the QPU's times and prices; shots are those of all circuits together."""
        fidelity, seconds = prediction.fidelity, None
        if prediction.duration is not None:
            self.run_times.expect(info.name, device_prior(info.rep_delay))
            seconds = self.run_times.estimate(info.name, device_row(shots, prediction.duration))
        found = QPUEstimate(
            info.name,
            fidelity=None if fidelity is None else fidelity.value,
            fidelity_spread=None if fidelity is None else fidelity.spread,
            seconds=None if seconds is None else seconds.seconds,
            seconds_spread=None if seconds is None else seconds.spread,
            calibrated=prediction.calibrated,
        )
        return self._priced(found, shots, circuits)

    def learn(self, prediction: Prediction, info: QPUInfo, shots: int, seconds: float) -> None:
        """A circuit that was predicted has run: it held the QPU for so many seconds."""
        if prediction.duration is not None:
            self.run_times.expect(info.name, device_prior(info.rep_delay))
            self.run_times.learn(info.name, device_row(shots, prediction.duration), seconds)

    def _simulated(self, circuit: QuantumCircuit, info: QPUInfo, shots: int | None) -> QPUEstimate:
        """Without noise, by the fastest method."""
        simulated = simulation_of(circuit, shots)
        place = f"{info.name} {simulated.method}"
        self.run_times.expect(place, simulator_prior())
        time = self.run_times.estimate(place, simulated.row)
        found = QPUEstimate(
            info.name,
            fidelity=1.0,
            fidelity_spread=0.0,
            seconds=time.seconds,
            seconds_spread=time.spread,
            memory=simulated.bytes,
            memory_spread=BYTES_SCATTER * simulated.bytes,
        )
        return self._priced(found, shots or 0)

    def _priced(self, found: QPUEstimate, shots: int, circuits: int = 1) -> QPUEstimate:
        price = None if self._prices is None else self._prices.price_of(found.qpu)
        if price is None:
            return found
        cost, spread = price.cost(shots, found.seconds, found.seconds_spread, circuits)
        return msgspec.structs.replace(found, cost=cost, cost_spread=spread)


class Simulated(NamedTuple):
    """The fastest way to simulate a circuit."""

    method: str
    bytes: float
    #: For `RunTimes`.
    row: Row


def simulation_of(circuit: QuantumCircuit, shots: int | None) -> Simulated:
    """How a circuit is simulated, and what that takes; ``shots`` is None: its exact probabilities."""
    about = costs.facts(circuit)
    options = costs.estimate(about, shots)
    best = costs.choose(options) or options[0]
    return Simulated(best.method, best.bytes, simulator_row(best.seconds, about.gates, about.qubits))
