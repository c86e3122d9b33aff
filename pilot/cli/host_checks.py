"""The checks of `pilot doctor` that concern this Python and this host."""

from __future__ import annotations

import importlib.util
import os
import platform
import resource as rlimits
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from pilot import registry
from pilot.cli.findings import CommandFailed, Finding, ask
from pilot.errors import PluginError
from pilot.worker.gpus import HIP, ROCR, visible

_LIBRARIES = ("quantum-pilot", "msgspec", "pyzmq", "cloudpickle", "psutil", "rich")
_PRODUCTS = {"ray": "ray", "dask": "distributed"}


def python() -> Iterator[Finding]:
    enough = sys.version_info >= (3, 11)
    yield Finding(
        topic="python",
        state="ok" if enough else "broken",
        what=f"Python {platform.python_version()} at {sys.executable}",
        advice="" if enough else "Python 3.11 or later is needed",
        needed=True,
    )
    for name in _LIBRARIES:
        try:
            yield Finding(topic="python", state="ok", what=f"{name} {version(name)}", needed=True)
        except PackageNotFoundError:
            advice = (
                f"pip install {name}"
                if name != "quantum-pilot"
                else "pip install quantum-pilot: without it no plugin is found"
            )
            yield Finding(topic="python", state="broken", what=f"{name}: not installed", advice=advice, needed=True)


def plugins() -> Iterator[Finding]:
    for group, topic in (("pilot.engines", "engine"), ("pilot.launchers", "launcher")):
        for name in registry.names(group):
            needed = name in ("process", "local")
            try:
                registry.check(group, name)
            except PluginError as error:
                advice = str(error).rpartition(": ")[2]
                yield Finding(topic=topic, state="absent", what=f"{name}: not installed", advice=advice, needed=needed)
                continue
            product = _PRODUCTS.get(name)
            yield Finding(
                topic=topic,
                state="ok",
                what=f"{name} ({product} {version(product)})" if product else name,
                needed=needed,
            )


def ray_addresses() -> Iterator[Finding]:
    """Whether this Ray keeps to loopback with ``local://``, as the engine asks it to (``engines/ray.py``)."""
    found = importlib.util.find_spec("ray")
    if found is None or found.origin is None:
        return
    services = Path(found.origin).parent / "_private/services.py"
    if services.is_file() and "if not ray_constants.ENABLE_RAY_CLUSTER:" in services.read_text():
        what = (
            "its ports are on loopback with local://; on clusters some are on all addresses of a node, with its token"
        )
        yield Finding(topic="ray", state="ok", what=what)
        return
    yield Finding(
        topic="ray",
        state="broken",
        what=f"Ray {version('ray')} listens on all addresses of this host with local://, too, with its token",
        advice="install the Ray of constraints.txt, use engine='dask' or 'process', or have a firewall",
    )


def resources() -> Iterator[Finding]:
    cores, all_cores = len(os.sched_getaffinity(0)), os.cpu_count()
    yield Finding(
        topic="host",
        state="ok",
        what=f"{platform.node()}: this process may use {cores} of {all_cores} cores",
        advice="" if cores == all_cores else "to use the others, start it with more cores (taskset, or a larger job)",
    )
    memory = psutil.virtual_memory()
    low = memory.available < 1 << 30
    yield Finding(
        topic="host",
        state="broken" if low else "ok",
        what=f"{memory.total / 2**30:.1f} GiB of memory, {memory.available / 2**30:.1f} GiB available",
        advice="each worker takes about 50 MB, each Ray pilot about 500 MB" if low else "",
    )


def limits() -> Iterator[Finding]:
    for name, limit, least, why in (
        ("open files", rlimits.RLIMIT_NOFILE, 1024, "each worker takes some: ulimit -n 65536"),
        ("processes", rlimits.RLIMIT_NPROC, 512, "workers and their threads count: ulimit -u"),
    ):
        soft, hard = rlimits.getrlimit(limit)
        few = soft != rlimits.RLIM_INFINITY and soft < least
        shown = ["unlimited" if one == rlimits.RLIM_INFINITY else str(one) for one in (soft, hard)]
        yield Finding(
            topic="limits",
            state="broken" if few else "ok",
            what=f"{name}: {shown[0]} (hard limit {shown[1]})",
            advice=why if few else "",
        )


def folders() -> Iterator[Finding]:
    for topic, place, least, needed, advice in (
        ("session", Path(tempfile.gettempdir()), 1 << 30, True, "set TMPDIR, or give PilotManager a session_dir"),
        ("shared memory", Path("/dev/shm"), 1 << 28, False, "Ray and large arguments get slow; mount it as tmpfs"),
    ):
        try:
            with tempfile.NamedTemporaryFile(dir=place, prefix="pilot-doctor-") as file:
                file.write(b"x")
            free = shutil.disk_usage(place).free
        except OSError as error:
            what = f"{place} cannot be written: {error.strerror or error}"
            yield Finding(topic=topic, state="broken", what=what, advice=advice, needed=needed)
            continue
        what = f"{place}: writable, {free / 2**30:.1f} GiB free"
        yield Finding(
            topic=topic, state="ok" if free >= least else "broken", what=what, advice="" if free >= least else advice
        )


def gpus() -> Iterator[Finding]:
    """NVIDIA's by their driver; AMD's by what the job says."""
    amd = list(_amd_gpus())
    yield from amd
    if shutil.which("nvidia-smi") is None:
        if not amd:
            yield Finding(topic="gpu", state="absent", what="none (no nvidia-smi)")
        return
    try:
        listed = ask("nvidia-smi", "--query-gpu=index,uuid,name,memory.total", "--format=csv,noheader")
    except CommandFailed as error:
        yield Finding(
            topic="gpu", state="broken", what=str(error), advice="check that the driver is loaded on this host"
        )
        return
    for line in listed.strip().splitlines():
        yield Finding(topic="gpu", state="ok", what=line)
    if not listed.strip():
        yield Finding(topic="gpu", state="absent", what="nvidia-smi lists none")


def _amd_gpus() -> Iterator[Finding]:
    for variable in (HIP, ROCR):
        names = visible(os.environ, variable)
        if names is not None:
            what = f"AMD: {variable} names {len(names)} ({', '.join(names) or 'none'}); tasks get theirs in it"
            yield Finding(topic="gpu", state="ok" if names else "absent", what=what)
            return
    tool = next(filter(shutil.which, ("amd-smi", "rocm-smi")), None)
    if tool is not None:
        what = f"AMD: {tool} is installed, but neither {HIP} nor {ROCR} is set: GPUs are named by their numbers"
        advice = f"in a job, set {ROCR} to the GPUs of the job, and gpus_per_node to their number"
        yield Finding(topic="gpu", state="ok", what=what, advice=advice)
