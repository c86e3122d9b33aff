"""What every engine promises (`EngineContract`), and the native clients of those that have one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import distributed
import numpy as np
import psutil
import pytest
from pilot_plugins.engines.dask import DaskEngine

from pilot import Pilot, PilotDescription, PilotManager, registry
from pilot.errors import PilotError, SessionError
from pilot.manager.pilots import change_pilot, update_pilot
from pilot.states import PilotState
from pilot.testing import EngineContract
from pilot.wire.processes import marked


class TestProcess(EngineContract):
    engine = "process"

    def test_native_client(self, pilot: Pilot) -> None:
        assert pilot._client == {}
        with pytest.raises(NotImplementedError, match="has no native client; describe it"):
            pilot.get_client()


class TestDask(EngineContract):
    engine = "dask"

    def test_native_client(self, pilot: Pilot) -> None:
        with pilot.get_client() as client:
            assert client.submit(pow, 2, 5).result(timeout=60) == 32
            assert client.gather(client.map(abs, [-1, -2])) == [1, 2]
            assert client.dashboard_link is None

    def test_values_of_all_sizes_go_to_a_task_and_back(self, pilot: Pilot) -> None:
        with pilot.get_client() as client:
            for size in (0, 1, 1 << 10, (1 << 20) + 1, 100 << 20):
                given = np.arange(size, dtype=np.uint8)
                assert np.array_equal(client.submit(np.flip, client.scatter(given)).result(timeout=60), given[::-1])
            both = client.map(np.ones, [1 << 20] * 2, workers=list(client.scheduler_info()["workers"]), pure=False)
            assert client.submit(np.dot, *both).result(timeout=60) == 1 << 20  # one of them goes between workers

    def test_it_listens_at_files_that_only_this_user_reaches(self, manager: PilotManager, pilot: Pilot) -> None:
        settings = json.loads((manager.session_dir / "pilots" / pilot.id / "agent.json").read_text())
        connections = [one for process in marked(settings["mark"]) for one in process.net_connections("tcp")]
        assert not [one for one in connections if one.status == psutil.CONN_LISTEN]
        folder = Path(pilot._client["address"].removeprefix("unix://")).parent
        assert folder.stat().st_mode & 0o777 == 0o700
        folder.chmod(0o722)
        try:
            with pytest.raises(SessionError, match=f"{folder} is not this user's alone"):
                pilot.get_client()
        finally:
            folder.chmod(0o700)


def test_workers_of_dask_that_are_killed_leave_no_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, eventually: Callable[..., object]
) -> None:
    """In a folder whose path is no UTF-8 text, which Dask cannot send."""
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/\xff")
    Path(folder).mkdir()
    monkeypatch.setenv("TMPDIR", folder)
    monkeypatch.setattr(tempfile, "tempdir", folder)
    with PilotManager(tmp_path / "session") as manager:
        pilot = manager.submit_pilot(PilotDescription(engine="dask", cores_per_node=1))
        pids = [manager.submit_task(os.getpid).result(timeout=60)]
        sockets = Path(pilot._client["address"].removeprefix("unix://")).parent
        for _ in range(2):
            os.kill(pids[-1], signal.SIGKILL)
            eventually(lambda: not psutil.pid_exists(pids[-1]), timeout=60)
            pids.append(manager.submit_task(os.getpid).result(timeout=60))
        assert len(set(pids)) == 3
        eventually(lambda: len(list(sockets.glob("dask-*.*"))) == 1, timeout=60)
        assert len(list(sockets.glob("pymp*"))) == 1
        assert not list(next(Path(folder).glob("pilot-*")).glob("dask-*.*"))


class Cluster(DaskEngine):
    """Says how many workers its client waits for."""

    @staticmethod
    def _open(client: Mapping[str, str], *, default: bool) -> Any:
        return SimpleNamespace(wait_for_workers=lambda count, timeout: waited.append(count))


waited: list[int] = []


def test_a_client_of_dask_waits_for_the_workers_of_all_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "load", lambda group, name: Cluster)
    pilot = Pilot(Mock(), "pilot-1", PilotDescription(engine="dask", cores_per_node=2, number_of_nodes=3), tmp_path)
    for nodes in ("a", "ab", "abc", "abcd", "ab"):
        change_pilot(pilot, PilotState.ACTIVE, "")
        update_pilot(pilot, {"address": "x", "workers": "2"}, tuple(nodes), ())
        pilot.get_client()
    assert waited == [6, 6, 6, 8, 4]


def test_dask_pilot_goes_on_without_its_sockets_and_after_its_shutdown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, eventually: Callable[..., object]
) -> None:
    with tempfile.TemporaryDirectory(prefix="a:1 ") as folder, PilotManager(tmp_path / "session") as manager:
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.setattr(tempfile, "tempdir", folder)
        pilot = manager.submit_pilot(PilotDescription(engine="dask", cores_per_node=1))
        with pilot.get_client() as client:
            files = list(Path(folder).glob("pilot-*/**/dask-????????"))
            assert len(files) == 2  # the scheduler's and the worker's
            for file in files:
                file.unlink()
            eventually(lambda: all(file.exists() for file in files))
            with pilot.get_client() as later:
                assert later.submit(pow, 2, 5).result(timeout=60) == 32
            before = pilot._client
            client.shutdown()
        assert manager.submit_task(pow, 2, 6).result(timeout=60) == 64
        eventually(lambda: "as by client.shutdown()" in pilot.log_path.read_text())
        eventually(lambda: pilot._client != before, timeout=60)
        with pilot.get_client() as client:
            assert client.submit(pow, 2, 7).result(timeout=60) == 128
        shutil.rmtree(next(Path(folder).glob("pilot-*")))  # as when it ends
        with pytest.raises(PilotError, match=r"cannot connect: .* is gone, as when its worker or its pilot has ended"):
            pilot.get_client()


def test_dask_with_ports_uses_them_with_tls(tmp_path: Path) -> None:
    ports = (20_000 + os.getpid() % 10_000, 20_200 + os.getpid() % 10_000)
    with PilotManager(tmp_path / "session") as manager:
        settings = {"DASK_DISTRIBUTED__WORKER__RESOURCES": "{'GPU': 1}"}
        pilot = manager.submit_pilot(PilotDescription(engine="dask", ports=ports, environment=settings))
        assert manager.get_results(manager.map(abs, range(-9, 0))) == list(range(9, 0, -1))
        client = pilot._client
        assert ports[0] <= int(client["address"].removeprefix("tls://127.0.0.1:")) <= ports[1]
        assert {Path(client[one]).stat().st_mode & 0o077 for one in ("ca_file", "cert", "key")} == {0}
        with pilot.get_client() as connected:
            assert connected.submit(pow, 2, 5, resources={"GPU": 1}).result(timeout=60) == 32
            for worker in connected.scheduler_info()["workers"]:
                assert ports[0] <= int(worker.removeprefix("tls://127.0.0.1:")) <= ports[1]
        for security in (distributed.Security.temporary(), None):
            with pytest.raises((OSError, TimeoutError, RuntimeError, TypeError)):
                distributed.Client(client["address"], security=security, timeout=2, set_as_default=False)


def test_dask_says_why_its_workers_do_not_start(tmp_path: Path, eventually: Callable[..., object]) -> None:
    port = 30_000 + os.getpid() % 10_000
    with PilotManager(tmp_path / "session") as manager:
        pilot = manager.submit_pilot(PilotDescription(engine="dask", ports=(port, port), cores_per_node=1, restarts=0))
        eventually(lambda: pilot.state is PilotState.FAILED)
        assert "(the last one ended with code 1: OSError: [Errno 98] Address already in use)" in pilot.reason


RAY_CLIENT = """
import sys, warnings
warnings.simplefilter("ignore")
from pilot import registry
ray = registry.load("pilot.engines", "ray").connect({"address": sys.argv[1], "token": sys.argv[2]})
work = ray.remote(num_cpus=0)(lambda: 6 * 7)  # idle workers of other tests keep their cores for a minute
print("found", ray.get(work.remote(), timeout=80))
ray.shutdown()
"""


def ray_client(client: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", RAY_CLIENT, client["address"], client["token"]]
    return subprocess.run(command, capture_output=True, text=True, timeout=100)


class TestRay(EngineContract):
    engine = "ray"

    def test_native_client(self, pilot: Pilot) -> None:
        done = ray_client(pilot._client)
        assert "found 42" in done.stdout, done.stdout + done.stderr

    def test_foreign_connections_are_refused(self, pilot: Pilot) -> None:
        command = [sys.executable, "-c", RAY_CLIENT, pilot._client["address"], "0" * 64]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as foreign:
            assert foreign.stdout is not None
            for line in foreign.stdout:  # Ray tries again for 20 s
                assert "found" not in line
                if "InvalidAuthToken" in line:
                    break
            else:
                pytest.fail("it was not refused")
            foreign.kill()
