"""`import pilot` is light, and gives the names it promises."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
import traceback
from typing import Any, get_type_hints

import cloudpickle
import msgspec
import pytest
import zmq

import pilot
from pilot import errors
from pilot.wire import polling

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


def test_a_worker_beside_its_agent_does_not_load_zeromq() -> None:
    code = "import sys, pilot.worker.process; print([name for name in sys.modules if name.startswith('zmq')])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
    assert (polling._EVENTS, polling._POLLIN) == (zmq.EVENTS, zmq.POLLIN)


def test_public_names_are_documented() -> None:
    missing = [name for name in pilot.__all__ if not getattr(pilot, name).__doc__]
    assert not missing


CLASSES = [name for name in pilot.__all__ if isinstance(getattr(pilot, name), type)]


@pytest.mark.parametrize("name", CLASSES)
def test_public_classes_name_the_package_as_their_module(name: str) -> None:
    cls = getattr(pilot, name)
    assert cls.__module__ == "pilot"
    assert pickle.loads(pickle.dumps(cls)) is cloudpickle.loads(cloudpickle.dumps(cls)) is cls
    get_type_hints(cls)  # the names in annotations are found


def test_every_error_is_a_public_name() -> None:
    kinds = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, pilot.PilotError)]
    assert {one.__name__ for one in kinds} <= set(CLASSES)


def test_errors_print_and_pickle_as_public_names() -> None:
    error = pilot.DescriptionError("no", field="cores")
    assert traceback.format_exception(error) == ["pilot.DescriptionError: no\n"]
    for value in (error, pilot.TaskState.DONE):
        data = pickle.dumps(value, 0)
        assert b"cpilot\n" + type(value).__name__.encode() in data


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (pilot.PilotDescription, {"cores_per_node": 2, "walltime": 5400, "labels": ["a"]}),
        (pilot.TaskDescription, {"executable": ["date", "-u"], "num_gpus": 0.5, "retries": 1}),
        (pilot.TaskInfo, {"id": 1, "name": "one", "state": "done", "gpus": ["0"]}),
        (pilot.MpiResult, {"ranks": 2, "stdout": ["a", "b"], "stderr": ["", ""]}),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
def test_public_structs_are_decoded_copied_and_pickled(kind: Any, fields: dict[str, Any]) -> None:
    value = msgspec.json.decode(msgspec.json.encode(fields), type=kind)
    assert msgspec.convert(fields, kind) == copy.copy(value) == copy.deepcopy(value) == value
    assert pickle.loads(pickle.dumps(value)) == value
    number = next(name for name, given in fields.items() if isinstance(given, int))
    with pytest.raises(msgspec.ValidationError, match=f"Expected `int.*got `str` - at `..{number}`"):
        msgspec.convert({**fields, number: "many"}, kind)
