"""QPUs that cannot be opened, whose jobs fail, or that are not there: errors say why, and the rest goes on."""

from __future__ import annotations

import contextlib
import os
import time
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from circuit_cases import SOON, Eventually, bell, describe, free, named, state, total

from pilot import DescriptionError, NoPilotError, PilotDescription, PilotManager, PilotState
from pilot.cli import main as cli
from pilot.errors import QPUError, QPUUnavailable, TaskTimeout

pytestmark = [pytest.mark.timeout(120), pytest.mark.usefixtures("plugin")]


#: Name, and words of the error.
UNUSABLE = {
    "moody:raises": "RuntimeError: the crystals are empty",
    "moody:info": "KeyError: 'qubits'",
    "moody:exits": r"its worker has ended 3 times before it was open \(the last one .* code 3",
    "qiskit:nonesuch_of_nobody:x": "the module nonesuch_of_nobody cannot be imported where the pilot runs",
    "ibm:ibm_fez": "there are no credentials: set QISKIT_IBM_TOKEN",
}


def test_devices_that_cannot_be_used_say_why_and_the_rest_goes_on(
    tmp_path: Path, eventually: Eventually, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("QISKIT_IBM")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    with PilotManager(tmp_path / "s", wait_for_pilot=0) as manager:
        manager.submit_pilot(PilotDescription(cores_per_node=1, qpus=[*UNUSABLE, "moody:fine"], name="moody"))
        early = {}
        for name in UNUSABLE:
            with contextlib.suppress(NoPilotError):  # on a busy machine it may be known already
                early[name] = manager.submit_task(describe(bell(), shots=5, qpu=name))
        assert total(manager.submit_task(describe(bell(), shots=5, qpu="moody:fine"))) == 5
        assert manager.submit_task(pow, 2, 3).result(timeout=SOON) == 8
        eventually(lambda: len(manager.qpus) == len(UNUSABLE) + 1, timeout=SOON)
        for name, words in UNUSABLE.items():
            if name in early:
                with pytest.raises(NoPilotError, match=f"{name} of moody cannot be used: .*{words}"):
                    early[name].result(timeout=SOON)
                assert words.split(r"\(")[0] in manager.explain(early[name])
            info = manager.qpus[name]
            assert info.problem and info.accepts_jobs is False and info.qubits == 0
            with pytest.raises(NoPilotError, match=words):
                manager.submit_task(describe(bell(), shots=5, qpu=name)).result(timeout=SOON)
        assert total(manager.submit_task(describe(bell(), shots=5))) == 5  # on the one that works
    assert cli.main(["qpus", "moody:raises", "moody:info", "moody:fine"]) == 1
    shown = capsys.readouterr()
    assert "moody:fine" in shown.out
    assert "moody:raises: RuntimeError: the crystals" in shown.err and "moody:info: KeyError" in shown.err


def test_devices_whose_jobs_go_wrong(tmp_path: Path, eventually: Eventually) -> None:
    away, order = f"moody:away{tmp_path}/away", f"moody:order{tmp_path}/order"
    with PilotManager(tmp_path / "s", wait_for_pilot=0) as manager:
        names = ["moody:run", "moody:few", "moody:slow", "moody:hangs", away, order]
        pilot = manager.submit_pilot(PilotDescription(cores_per_node=1, qpus=names, name="moody"))
        held = manager.submit_task(describe(bell(), shots=5, qpu="moody:hangs"))
        with pytest.raises(ZeroDivisionError, match="half a qubit"):
            manager.submit_task(describe(bell(), shots=5, qpu="moody:run")).result(timeout=SOON)
        with pytest.raises(QPUError, match="moody:few gave 0 results for 1 circuits"):
            manager.submit_task(describe(bell(), shots=5, qpu="moody:few")).result(timeout=SOON)
        # tries again, and not
        with pytest.raises(QPUUnavailable, match="calibrated"):
            manager.submit_task(describe(bell(), shots=5, qpu=away)).result(timeout=SOON)
        Path(f"{tmp_path}/away").unlink()
        again = manager.submit_task(describe(bell(), shots=5, qpu=away, retries=1))
        assert total(again) == 5
        # higher priorities first, and after what they depend on
        first = manager.submit_task(time.sleep, 1)
        fields: dict[str, Any] = {"shots": 5, "qpu": order, "depends_on": [first]}
        tasks = [manager.submit_task(describe(named(f"p{level}"), priority=level, **fields)) for level in (0, 2, 1)]
        last = manager.submit_task(describe(named("last"), shots=5, qpu=order, depends_on=tasks))
        assert total(last) == 5
        assert Path(f"{tmp_path}/order").read_text().split() == ["p2", "p1", "p0", "last"]
        # too slow
        late = [manager.submit_task(describe(bell(), shots=5, qpu="moody:slow", timeout=0.3)) for _ in range(2)]
        fine = manager.submit_task(describe(bell(), shots=5, qpu="moody:slow"))
        for task in late:
            with pytest.raises(TaskTimeout):
                task.result(timeout=SOON)
        assert total(fine) == 5
        # one that goes down with its first job: the circuits go elsewhere, which is no retry
        down = f"moody:down{tmp_path}/down"
        manager.submit_pilot(PilotDescription(cores_per_node=1, qpus=[down], labels=["lent"]))
        moved = [manager.submit_task(describe(bell(), shots=5, qpu="*", labels=["lent"])) for _ in range(3)]
        eventually(lambda: moved[0].info.attempts, timeout=SOON)
        manager.submit_pilot(PilotDescription(cores_per_node=1, qpus=["moody:fine"], labels=["lent"]))
        assert [total(task) for task in moved] == [5.0] * 3
        assert {task.info.qpu for task in moved} == {"moody:fine"}
        assert {one.reason for task in moved for one in task.info.attempts} == {"it went down"}
        assert Path(f"{tmp_path}/down").stat().st_size <= 2  # jobs that it was sent: one ran, one waited
        # what never opens
        assert "moody:hangs" not in manager.qpus
        assert "has not reported yet" in manager.explain(held)
        assert held.cancel()
        manager.submit_task(describe(bell(), shots=5, qpu="moody:hangs"))
        began = time.monotonic()
        pilot.cancel()
        assert time.monotonic() - began < 60


def test_pilots_that_come_late_leave_and_have_too_little_time(tmp_path: Path, eventually: Eventually) -> None:
    wanted = describe(bell(), shots=5, qpu="moody:fine")
    with PilotManager(tmp_path / "s", wait_for_pilot=0) as manager:
        with pytest.raises(NoPilotError, match="submit_pilot first"):
            manager.submit_task(wanted)
        manager.submit_pilot(PilotDescription(cores_per_node=1, name="cpu"))
        with pytest.raises(NoPilotError, match="cpu has no device 'moody:fine'"):
            manager.submit_task(wanted)
        late = manager.submit_pilot(PilotDescription(cores_per_node=1, name="late", qpus=["moody:fine"]))
        assert total(manager.submit_task(wanted)) == 5  # asked for before the pilot was there
        late.drain()
        eventually(lambda: late.state in (PilotState.DRAINING, PilotState.DONE), SOON)
        with pytest.raises(NoPilotError, match=r"late is (draining|done)"):
            manager.submit_task(wanted).result(timeout=SOON)
        short = PilotDescription(cores_per_node=1, name="short", qpus=["moody:fine"], walltime=300, drain=0)
        manager.submit_pilot(short)
        with pytest.raises(NoPilotError, match="short has 300 s of walltime left, but 1000 s are needed"):
            manager.submit_task(describe(bell(), shots=5, qpu="moody:fine", expected_duration=1000))
        assert total(manager.submit_task(describe(bell(), shots=5, qpu="moody:fine", expected_duration=10))) == 5
    with (
        pytest.raises(DescriptionError, match=r"qpus: .* each name only once"),
        PilotManager(tmp_path / "t") as manager,
    ):
        manager.submit_pilot(PilotDescription(qpus=["moody:fine", "moody:fine"]))


@pytest.mark.parametrize("engine", ["ray", "dask"])
def test_devices_over_other_engines(tmp_path: Path, engine: str, eventually: Eventually) -> None:
    pytest.importorskip({"dask": "distributed"}.get(engine, engine))
    qpus = ["moody:fine", "moody:waits"]
    with PilotManager(tmp_path / "s") as manager:
        pilot = manager.submit_pilot(PilotDescription(engine=engine, cores_per_node=1, qpus=qpus))
        assert pilot.wait(60) is PilotState.ACTIVE
        counts = manager.submit_task(describe(bell(), shots=100, qpu="moody:fine"))
        values = manager.submit_task(describe(state, observables=["ZZ"], shots=2000, qpu="moody:fine"))
        angles = np.array([[0.0], [np.pi]])
        sweep = manager.submit_task(describe(free, parameters=angles, shots=100, qpu="moody:fine"))
        exact = manager.submit_task(describe(state, observables=["ZZ", "XX"]))
        waits = manager.submit_task(describe(bell(), shots=10, qpu="moody:waits"))
        assert total(counts) == 100
        assert values.result(timeout=SOON).values[0] == 1.0
        assert [outcome.get_counts() for outcome in sweep.result(timeout=SOON)] == [{"0": 100}, {"1": 100}]
        assert exact.result(timeout=SOON).values == pytest.approx([1.0, 1.0])
        eventually(waits.running, timeout=SOON)
        assert waits.cancel()
        with pytest.raises(CancelledError):
            waits.result()
        assert total(manager.submit_task(describe(bell(), shots=10, qpu="moody:fine"))) == 10
