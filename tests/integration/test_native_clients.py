"""A user's program with the native clients of its pilots: what they are for it, and what is left of them after that."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

DASK = """
import os
import dask, dask.bag, joblib
from pilot import PilotDescription, PilotManager

def bag():
    return set(dask.bag.range(4, npartitions=4).map(lambda _: os.getpid()).compute())

def delayed():
    return {dask.delayed(os.getpid)().compute()}

def parallel():
    with joblib.parallel_config(backend="dask", n_jobs=2):
        return set(joblib.Parallel()(joblib.delayed(os.getpid)() for _ in range(4)))

def pids(client):
    return set(client.run(os.getpid).values())

with PilotManager() as manager:
    pilots = [manager.submit_pilot(PilotDescription(engine="dask", cores_per_node=cores)) for cores in (2, 1)]
    one = pilots[0].get_client()
    here = pids(one)
    assert len(here) == 2, here
    assert bag() | delayed() | parallel() == here, (bag(), delayed(), parallel(), here)
    two, again = pilots[1].get_client(), pilots[1].get_client()
    there = pids(two)
    assert there == pids(again) and there != here, (there, here)
    assert bag() == delayed() == there
    with one.as_current():
        assert bag() | delayed() == here
    again.close()
    assert delayed() == there
    pilots[0].cancel()
    assert one.status == "closed"
    assert bag() == delayed() == there
assert two.status == "closed"
assert delayed() == {os.getpid()}, "no client is left behind"
assert dask.config.get("scheduler", None) is None
assert dask.bag.range(4, npartitions=2).sum().compute(scheduler="threads") == 6
print("went on")
"""

RAY = """
import os, sys
import ray
from pilot import PilotDescription, PilotManager
from pilot.errors import PilotError

@ray.remote(num_cpus=0)
def double(number):
    return 2 * number

before = {name: value for name, value in os.environ.items() if name.startswith("RAY_")}
with PilotManager() as manager:
    one, two = [manager.submit_pilot(PilotDescription(engine="ray", cores_per_node=1)) for _ in range(2)]
    assert one.get_client() is ray and one.get_client() is ray
    assert ray.get(double.remote(16)) == 32
    try:
        two.get_client()
        sys.exit("two clusters at a time")
    except PilotError as error:
        assert "call ray.shutdown() before" in str(error), error
    one.cancel()
    assert not ray.is_initialized()
    try:
        one.get_client()
        sys.exit("the client of a pilot that has ended")
    except PilotError as error:
        assert "is cancelled" in str(error), error
    two.get_client()
    assert ray.get(double.remote(32)) == 64
assert not ray.is_initialized()
assert {name: value for name, value in os.environ.items() if name.startswith("RAY_")} == before
print("went on")
"""


@pytest.mark.parametrize("program", [pytest.param(DASK, id="dask"), pytest.param(RAY, id="ray")])
def test_clients_are_the_default_ones_until_their_pilot_ends(program: str, tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_text(program)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, str(path)], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert (done.returncode, done.stdout) == (0, "went on\n"), done.stderr[-3000:]
