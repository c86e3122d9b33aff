"""`variational` from settings to report, and on after its manager was killed."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from pilot_miniapps.frame import execute
from pilot_miniapps.variational.app import CHEMICAL_ACCURACY, Settings, Variational

from pilot import PilotDescription, PilotManager

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SETTINGS = Settings(
    qpu="fake:manila?shot_time=1e-5",
    lengths=(0.735, 1.4),
    shots=500,
    qpu_steps=2,
    h2_steps=1,
    lih_steps=4,
    maxcut_steps=2,
    nodes=6,
    layers=1,
)
PILOT = PilotDescription(engine="process", cores_per_node=2, qpus=[SETTINGS.qpu])
#: A run whose manager kills itself when three steps are done.
SCRIPT = """
import os, signal, sys, threading, time
from pathlib import Path
import msgspec
from pilot import PilotDescription
from pilot_miniapps.frame import execute
from pilot_miniapps.variational.app import Settings, Variational

def kill(run):
    while sum("/step-" in task.name and task.done() for task in list(run.tasks)) < 3:
        time.sleep(0.005)
    os.kill(os.getpid(), signal.SIGKILL)

class Killed(Variational):
    def work(self, run):
        threading.Thread(target=kill, args=(run,), daemon=True).start()
        return super().work(run)

if __name__ == "__main__":
    settings = msgspec.json.decode(sys.argv[2], type=Settings)
    pilot = PilotDescription(engine="process", cores_per_node=2, qpus=[settings.qpu])
    execute(Killed(settings), Path(sys.argv[1]), [pilot])
"""


def test_a_killed_run_goes_on_at_its_step(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "run"), msgspec.json.encode(SETTINGS).decode()]
    whole = execute(Variational(SETTINGS), tmp_path / "whole", [PILOT])
    assert whole["oracle"]["passed"], whole["oracle"]
    figures = whole["figures"]
    assert figures["energy_error"]["value"] <= CHEMICAL_ACCURACY and figures["energy_error"]["met"]
    assert 0 < figures["qpu_busy_one_loop"]["value"] <= 1 and 0 < figures["qpu_busy"]["value"] <= 1
    assert (tmp_path / "whole/variational.png").read_bytes().startswith(b"\x89PNG")
    noisy = [row for row in whole["rows"] if row["loop"].startswith("qpu/")]
    assert len(noisy) == 2
    for row in noisy:  # the noise is in what was measured, and hardly in the state
        assert 0 <= row["error"] < 0.02 and row["standard_error"] > 0

    killed = subprocess.run(command, timeout=200, check=False)
    assert killed.returncode == -signal.SIGKILL
    resumed = execute(Variational(SETTINGS), tmp_path / "run", [], resume=True)
    assert resumed["rows"] == whole["rows"]
    assert resumed["oracle"] == whole["oracle"]
    with PilotManager.attach(tmp_path / "run/session") as manager:
        names = Counter(task.name for task in manager.tasks.values() if task.name != "warm-up")
        assert not [name for name, number in names.items() if number > 1]
