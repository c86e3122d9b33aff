"""What the cluster benchmarks share: a private Slurm, and the bare engines as its users start them by hand."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "slurm"))

from cluster import Cluster  # noqa: E402

CORES = 2
PYTHON = sys.executable

#: The usual batch script for Ray (head, workers, driver), one core more or less; token by hand, ports as it likes.
RAY = """
address=$(hostname -I | cut -d' ' -f1)
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN=$(head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \\n')
ray="{python} -m ray.scripts.scripts start --num-cpus={cores} --num-gpus=0 --object-store-memory=268435456 --block"
srun --overlap --mem=0 -N1 -n1 $ray --head --node-ip-address=$address --port={port} --include-dashboard=false \\
    --disable-usage-stats --temp-dir={folder}/ray >{folder}/head.log 2>&1 &
until (exec 3<>/dev/tcp/$address/{port}) 2>/dev/null; do sleep 0.05; done
[ {nodes} = 1 ] || srun --overlap --mem=0 -N1 -n1 --exclude=$SLURMD_NODENAME $ray --address=$address:{port} \\
    --node-ip-address=$address --temp-dir={folder}/ray2 >{folder}/worker.log 2>&1 &
{python} {folder}/driver.py
"""
RAY_DRIVER = """
import os, socket, time, ray
ray.init(address="{host}:{port}", _node_ip_address="{host}", log_to_driver=False)
ray.get(ray.remote(lambda: time.time()).remote())
print("first", time.time(), flush=True)
while len([node for node in ray.nodes() if node["Alive"]]) < {nodes}:
    time.sleep(0.02)
print("all", time.time(), flush=True)
"""
DASK = """
srun --overlap --mem=0 -N1 -n1 {python} -m distributed.cli.dask_scheduler --host 127.0.0.1 --port 0 --no-dashboard \\
    --scheduler-file {folder}/scheduler.json >{folder}/scheduler.log 2>&1 &
srun --overlap --mem=0 -N{nodes} -n{nodes} {python} -m distributed.cli.dask_worker --scheduler-file \\
    {folder}/scheduler.json --host 127.0.0.1 --nthreads 1 --nworkers {cores} --no-dashboard --memory-limit 0 \\
    --local-directory {folder} >{folder}/worker.log 2>&1 &
{python} {folder}/driver.py
"""
DASK_DRIVER = """
import time
from distributed import Client
client = Client(scheduler_file="{folder}/scheduler.json", timeout=60)
client.submit(time.time, pure=False).result()
print("first", time.time(), flush=True)
client.wait_for_workers({nodes} * {cores})
print("all", time.time(), flush=True)
"""


@contextlib.contextmanager
def slurm() -> Iterator[Cluster]:
    """A private Slurm for this benchmark; its clients find it by the environment. It also ends with SIGTERM."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    with tempfile.TemporaryDirectory(prefix="pilot-bench-slurm-") as folder:
        cluster = Cluster(Path(folder), port_base=17700)
        cluster.start()
        os.environ.update(cluster.environment)
        try:
            yield cluster
        finally:
            cluster.stop()


def bare_start(cluster: Cluster, engine: str, nodes: int) -> dict[str, float]:
    """Seconds from ``sbatch`` to the first task's end, and until every node is there: the engine by hand."""
    with tempfile.TemporaryDirectory(prefix="bare-") as folder:
        host = subprocess.run(["hostname", "-I"], capture_output=True, text=True, check=True).stdout.split()[0]
        values = {"python": PYTHON, "cores": CORES, "nodes": nodes, "folder": folder, "port": 26379, "host": host}
        script, driver = (RAY, RAY_DRIVER) if engine == "ray" else (DASK, DASK_DRIVER)
        Path(folder, "driver.py").write_text(driver.format(**values))
        Path(folder, "job.sh").write_text("#!/bin/bash\n" + script.format(**values))
        began = time.time()
        output = f"{folder}/out"
        job = sbatch(f"-N{nodes}", f"-c{CORES}", "-t5", "-o", output, f"{folder}/job.sh")
        lines = wait_for(lambda: dict(line.split() for line in read(output) if line[:4] in ("firs", "all ")), "all")
        subprocess.run(["scancel", job], check=True)
        while subprocess.run(["squeue", "-h", "-j", job], capture_output=True, text=True).stdout.strip():
            time.sleep(0.1)
        return {name: float(lines[name]) - began for name in ("first", "all")}


def sbatch(*arguments: str) -> str:
    """The id of a submitted job."""
    answer = subprocess.run(["sbatch", "--parsable", *arguments], capture_output=True, text=True, check=True)
    return answer.stdout.strip()


def read(path: str) -> list[str]:
    """The lines of a file that may not be there yet."""
    with contextlib.suppress(OSError):
        return Path(path).read_text().splitlines()
    return []


def wait_for(question: Any, key: str, seconds: float = 120.0) -> Any:
    """The answer, as soon as it has the key."""
    deadline = time.monotonic() + seconds
    while key not in (answer := question()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{key!r} did not come within {seconds:g} s; there is {answer}")
        time.sleep(0.02)
    return answer
