"""``line:5``: a simulated device whose qubits stand in a row."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pilot.errors import QPUError, invalid
from pilot.interfaces import QPU, Run
from pilot.resources import QPUInfo

if TYPE_CHECKING:
    from qiskit.transpiler import Target


class LineQPU(QPU):
    """One worker at a time has it, as it would have a device."""

    exclusive = True

    def __init__(self, name: str, address: str) -> None:
        super().__init__(name, address)
        if not address.isdecimal() or int(address) < 2:
            raise invalid("PilotDescription.qpus", name, "line:5, with a number of qubits from 2 on")
        self._qubits = int(address)

    def open(self) -> None:
        from qiskit.providers.fake_provider import GenericBackendV2  # only a worker needs it

        line = [[left, left + 1] for left in range(self._qubits - 1)]
        self._device = GenericBackendV2(self._qubits, coupling_map=line, seed=1)

    def info(self) -> QPUInfo:
        return QPUInfo(
            name=self.name,
            qubits=self._qubits,
            gates=tuple(self._device.operation_names),
            coupling=tuple((left, left + 1) for left in range(self._qubits - 1)),
            max_shots=100_000,
            max_circuits=100,
            accepts_jobs=True,
            asked=time.time(),
        )

    def target(self) -> Target:
        return self._device.target

    def run(self, run: Run) -> list[dict[str, int]]:
        run.check(self.info())
        job = self._device.run(list(run.circuits), shots=run.shots, seed_simulator=run.seeds[0])
        run.on_job(job.job_id())
        try:
            result = job.result()
        except Exception as error:
            raise QPUError(f"{self.name}: {error}", qpu=self.name) from error
        return [result.get_counts(number) for number in range(len(run.circuits))]
