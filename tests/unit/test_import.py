"""`import pilot` is light, and gives the names it promises."""

from __future__ import annotations

import json
import subprocess
import sys
from types import ModuleType

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


def test_every_public_name_is_in_all() -> None:
    public = {
        name
        for name, value in vars(pilot).items()
        if not name.startswith("_") and not isinstance(value, ModuleType) and name != "annotations"
    }
    assert public - set(pilot.__all__) == set()


def test_public_names_are_documented() -> None:
    missing = [name for name in pilot.__all__ if not getattr(pilot, name).__doc__]
    assert not missing
