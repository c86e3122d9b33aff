"""What every engine promises (`EngineContract`), and the native clients of those that have one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pilot import Pilot
from pilot.testing import EngineContract


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

    def test_foreign_connections_are_refused(self, pilot: Pilot) -> None:
        distributed = pytest.importorskip("distributed")
        client = pilot._client
        foreign = distributed.Security.temporary()
        for security in (foreign, None):
            with pytest.raises((OSError, TimeoutError, RuntimeError, TypeError)):
                distributed.Client(client["address"], security=security, timeout=2, set_as_default=False)
        assert {Path(client[one]).stat().st_mode & 0o077 for one in ("ca_file", "cert", "key")} == {0}


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
