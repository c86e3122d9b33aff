"""`import pilot` is light, and gives the names it promises."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import pilot

HEAVY = {"ray", "dask", "distributed", "qiskit", "qiskit_aer", "pennylane", "numpy", "matplotlib"}

REPORT = """
import sys, time
began = time.perf_counter()
import pilot
seconds = time.perf_counter() - began
import json
print(json.dumps({"seconds": seconds, "modules": sorted({name.partition(".")[0] for name in sys.modules})}))
"""


def test_a_fresh_interpreter_loads_no_heavy_package() -> None:
    done = subprocess.run([sys.executable, "-c", REPORT], capture_output=True, text=True, check=True)
    report = json.loads(done.stdout)
    print(f"import pilot: {1000 * report['seconds']:.0f} ms")
    assert not HEAVY & set(report["modules"])


def test_every_name_in_all_is_there() -> None:
    assert [name for name in pilot.__all__ if not hasattr(pilot, name)] == []


def test_dir_shows_the_public_names() -> None:
    public = [name for name in pilot.__all__ if not name.startswith("_")]
    assert [name for name in dir(pilot) if not name.startswith("_")] == public
    with pytest.raises(AttributeError, match="has no attribute 'Pilots'"):
        _ = pilot.Pilots


#: What `import pilot`, and what a worker, has loaded of the library.
LOADED = """
import sys
import {module}
print(*sorted(name for name in sys.modules if name.partition(".")[0] == "pilot"))
"""


@pytest.mark.parametrize("module", ["pilot", "pilot.worker.process", "pilot.agent.agent", "pilot.quantum.execution"])
def test_what_runs_elsewhere_does_not_load_the_manager(module: str) -> None:
    code = LOADED.format(module=module)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not [name for name in done.stdout.split() if name.startswith(("pilot.manager", "pilot.scheduling"))]


def test_public_names_are_documented() -> None:
    missing = [name for name in pilot.__all__ if not getattr(pilot, name).__doc__]
    assert not missing
