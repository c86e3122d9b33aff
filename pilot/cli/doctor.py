"""`pilot doctor`: what works here, line by line, with what to do where it does not.

Each probe has a time limit of its own and they run side by side: a command that hangs costs its limit, not more.
Nothing is changed here; on a cluster one short job of two tasks is run for each type of ``srun --mpi``, to see whether
it forms one communicator.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import msgspec
import psutil

from pilot import registry
from pilot.descriptions import PilotDescription
from pilot.errors import PluginError
from pilot.profiles import profile_tables
from pilot.worker import gpus

#: Seconds that a command may take, and a step of ``srun``, which may have to wait in the queue.
COMMAND_SECONDS = 5.0
STEP_SECONDS = 30.0
#: Seconds after which a step that got no nodes gives up (``srun --immediate``).
QUEUE_SECONDS = 8

_ASK_SLURM = "is SLURM_CONF right, slurmctld up?"
_LIBRARIES = ("quantum-pilot", "msgspec", "pyzmq", "cloudpickle", "psutil", "rich")
_PRODUCTS = {"ray": "ray", "dask": "distributed"}
#: The first rank of each communicator says its size: two that spoke at once might fall into each other's words.
_RANKS = "from mpi4py import MPI; all = MPI.COMM_WORLD; all.rank or print('size', all.size, flush=True)"
_EXECUTORS = """
import logging, psij
logging.disable()
for name in sorted(psij.JobExecutor.get_executor_names()):
    error = psij.JobExecutor._executors[name][-1].exc
    print(name, "" if error is None else error, sep="|")
"""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the report."""

    topic: str
    state: Literal["ok", "absent", "broken"]
    what: str
    #: What to do about it; empty when there is nothing to do.
    advice: str = ""
    #: True when ``local://`` pilots need it.
    needed: bool = False


Probe = Callable[[], Iterator[Finding]]


class CommandFailed(Exception):
    """A command that is not there, failed, or took too long; the message says which."""


def ask(*command: str, seconds: float | None = None) -> str:
    """What a command writes to stdout; it and its children are ended after ``seconds`` (default: `COMMAND_SECONDS`).

    Raises:
        CommandFailed: it is not there, ended with a code other than 0, or took too long.
    """
    seconds = COMMAND_SECONDS if seconds is None else seconds
    try:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        raise CommandFailed(f"{command[0]}: {error.strerror or error}") from error
    try:
        output, errors = child.communicate(timeout=seconds)
    except subprocess.TimeoutExpired as error:
        for number, grace in ((signal.SIGINT, 1.0), (signal.SIGKILL, None)):  # srun ends its step when interrupted
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.communicate(timeout=grace)
                break
        raise CommandFailed(f"{command[0]} gave no answer in {seconds:g} s") from error
    if child.returncode:
        said = (errors or output).strip().splitlines()
        raise CommandFailed(f"{command[0]} ended with code {child.returncode}: {said[-1] if said else 'no words'}")
    return output


def examine() -> list[Finding]:
    """All findings, in the order of the report. Takes about as long as the slowest probe."""
    probes: Sequence[Probe] = (
        _python, _plugins, _host, _limits, _folders, _gpus, _slurm, _steps, _psij, _mpi, _ssh,
    )  # fmt: skip
    with ThreadPoolExecutor(len(probes)) as pool:
        return [finding for found in pool.map(_careful, probes) for finding in found]


def _careful(probe: Probe) -> list[Finding]:
    found: list[Finding] = []
    try:
        found.extend(probe())
    except Exception as error:
        topic = probe.__name__.strip("_")
        what = f"cannot be examined: {type(error).__name__}: {error}"
        found.append(Finding(topic=topic, state="broken", what=what, advice="a defect of the doctor: please report it"))
    return found


def works_locally(findings: Sequence[Finding]) -> bool:
    """True when everything that ``local://`` pilots need is there."""
    return not any(finding.needed and finding.state == "broken" for finding in findings)


# ---- this process and this host ----------------------------------------------------------------------------------


def _python() -> Iterator[Finding]:
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
                f"pip install {name}" if name != "quantum-pilot" else "pip install quantum-pilot: no plugin is found"
            )
            yield Finding(topic="python", state="broken", what=f"{name}: not installed", advice=advice, needed=True)


def _plugins() -> Iterator[Finding]:
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


def _host() -> Iterator[Finding]:
    cores, all_cores = len(os.sched_getaffinity(0)), os.cpu_count()
    yield Finding(
        topic="host",
        state="ok",
        what=f"{platform.node()}: {cores} of {all_cores} cores are this process's",
        advice="" if cores == all_cores else "start it with more cores (taskset, srun -c) to use the others",
    )
    memory = psutil.virtual_memory()
    low = memory.available < 1 << 30
    yield Finding(
        topic="host",
        state="broken" if low else "ok",
        what=f"{memory.total / 2**30:.1f} GiB of memory, {memory.available / 2**30:.1f} GiB available",
        advice="each worker takes about 50 MB, each Ray pilot about 500 MB" if low else "",
    )


def _limits() -> Iterator[Finding]:
    for name, limit, least, why in (
        ("open files", resource.RLIMIT_NOFILE, 1024, "each worker takes some: ulimit -n 65536"),
        ("processes", resource.RLIMIT_NPROC, 512, "workers and their threads count: ulimit -u"),
    ):
        soft, hard = resource.getrlimit(limit)
        few = soft != resource.RLIM_INFINITY and soft < least
        shown = ["unlimited" if one == resource.RLIM_INFINITY else str(one) for one in (soft, hard)]
        yield Finding(
            topic="limits",
            state="broken" if few else "ok",
            what=f"{name}: {shown[0]} (hard limit {shown[1]})",
            advice=why if few else "",
        )


def _folders() -> Iterator[Finding]:
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


def _gpus() -> Iterator[Finding]:
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
        yield Finding(topic="gpu", state="broken", what=str(error), advice="is the driver loaded on this host?")
        return
    for line in listed.strip().splitlines():
        yield Finding(topic="gpu", state="ok", what=line)
    if not listed.strip():
        yield Finding(topic="gpu", state="absent", what="nvidia-smi lists none")


def _amd_gpus() -> Iterator[Finding]:
    for variable in (gpus.HIP, gpus.ROCR):
        names = gpus.visible(os.environ, variable)
        if names is not None:
            what = f"AMD: {variable} names {len(names)} ({', '.join(names) or 'none'}); tasks get theirs in it"
            yield Finding(topic="gpu", state="ok" if names else "absent", what=what)
            return
    tool = next(filter(shutil.which, ("amd-smi", "rocm-smi")), None)
    if tool is not None:
        what = f"AMD: {tool} is there, but neither {gpus.HIP} nor {gpus.ROCR} is set: GPUs go by their numbers"
        advice = f"in a job set {gpus.ROCR} to those of the job, and gpus_per_node to how many these are"
        yield Finding(topic="gpu", state="ok", what=what, advice=advice)


# ---- clusters ------------------------------------------------------------------------------------------------------


def _slurm() -> Iterator[Finding]:
    if shutil.which("sbatch") is None:
        advice = "for slurm:// run this where sbatch is: a login node, or through slurm://user@host"
        yield Finding(topic="slurm", state="absent", what="no sbatch on PATH", advice=advice)
        return
    for command in (("sbatch", "--version"), ("scontrol", "ping")):
        try:
            said = ask(*command).strip()
        except CommandFailed as error:
            yield Finding(topic="slurm", state="broken", what=str(error), advice=_ASK_SLURM)
            continue
        down = "DOWN" in said and " UP" not in said
        advice = "jobs cannot be submitted until slurmctld is up" if down else ""
        yield Finding(topic="slurm", state="broken" if down else "ok", what=said.replace("\n", "; "), advice=advice)
    yield from _partitions()
    yield from _licences()
    try:
        ask("sacct", "--allocations", "--noheader", "--starttime=now")
        yield Finding(topic="slurm", state="ok", what="accounting: sacct answers")
    except CommandFailed as error:
        advice = "not needed: the end of a job is then read from its own marker"
        yield Finding(topic="slurm", state="absent", what=f"accounting: {error}", advice=advice)


def _partitions() -> Iterator[Finding]:
    """By sinfo(1), --format."""
    try:
        rows = ask("sinfo", "--noheader", "--format=%P|%a|%D|%c|%m|%l|%G|%t").strip().splitlines()
    except CommandFailed as error:
        yield Finding(topic="slurm", state="broken", what=f"partitions: {error}", advice=_ASK_SLURM)
        return
    for row in rows:
        name, up, nodes, cores, memory, most, gres, state = row.split("|", 7)
        usable = up == "up" and not re.match(r"(down|drain|fail|maint|unk|inval)", state)
        what = f"partition {name}: {nodes} nodes {state}, {cores} cores, {memory} MB each, at most {most}"
        what += f", gres {gres}" if gres != "(null)" else ""
        advice = (
            "" if usable else f"no job starts there now; `sinfo --list-reasons --partition={name.rstrip('*')}` says why"
        )
        yield Finding(topic="slurm", state="ok" if usable else "broken", what=what, advice=advice)


def _licences() -> Iterator[Finding]:
    try:
        rows = ask("scontrol", "--oneliner", "show", "lic").strip().splitlines()
    except CommandFailed as error:
        yield Finding(topic="slurm", state="broken", what=f"licences: {error}", advice=_ASK_SLURM)
        return
    for row in rows:
        fields = dict(word.split("=", 1) for word in row.split() if "=" in word)
        if name := fields.get("LicenseName"):
            what = f"licence {name}: {fields.get('Free', '?')} of {fields.get('Total', '?')} free"
            yield Finding(topic="slurm", state="ok", what=what)


def _steps() -> Iterator[Finding]:
    """Which ``srun --mpi=TYPE`` makes one communicator of two ranks."""
    if shutil.which("srun") is None:
        return
    try:
        types = _mpi_types(ask("srun", "--mpi=list"))
    except CommandFailed as error:
        yield Finding(topic="srun --mpi", state="broken", what=str(error), advice=_ASK_SLURM)
        return
    try:
        version("mpi4py")
    except PackageNotFoundError:
        what = f"{', '.join(types)}: not tried, since mpi4py is not installed"
        yield Finding(topic="srun --mpi", state="absent", what=what, advice="pip install mpi4py mpich")
        return
    with ThreadPoolExecutor(max(1, len(types))) as pool:
        yield from pool.map(_step, types)


def _mpi_types(listed: str) -> list[str]:
    """From ``srun --mpi=list``, whose format differs between releases; ``none`` and pinned versions are left out."""
    words = re.findall(r"^\s+([a-z]\w*)\s*$|^(?:srun: )([a-z]\w*)$", listed, re.MULTILINE)
    names = [one or other for one, other in words]
    return [name for name in dict.fromkeys(names) if name not in ("none", "openmpi")]


def _step(kind: str) -> Finding:
    topic, job = f"srun --mpi={kind}", f"pilot-doctor-{kind}-{os.getpid()}"
    options = (
        "--ntasks=2",
        "--time=1",
        f"--immediate={QUEUE_SECONDS}",
        f"--job-name={job}",
        "--quit-on-interrupt",
    )
    try:
        said = ask("srun", f"--mpi={kind}", *options, sys.executable, "-c", _RANKS, seconds=STEP_SECONDS)
    except CommandFailed as error:
        with contextlib.suppress(CommandFailed):  # an srun that had to be killed leaves its job
            ask("scancel", f"--name={job}")
        if "Unable to allocate" in str(error) or "no answer" in str(error):
            advice = f"no nodes in {QUEUE_SECONDS} s: the cluster is busy, or there is no default partition; try again"
            return Finding(topic=topic, state="absent", what=f"not known: {error}", advice=advice)
        return Finding(
            topic=topic, state="broken", what=str(error), advice="this MPI was not built for it; try the others"
        )
    return _communicator(topic, said)


def _communicator(topic: str, said: str) -> Finding:
    sizes = re.findall(r"size (\d+)", said)
    if sizes == ["2"]:
        return Finding(topic=topic, state="ok", what="2 ranks form one communicator")
    what = f"2 ranks do not form one communicator, but some of size {', '.join(sizes) or 'that is not said'}"
    return Finding(topic=topic, state="broken", what=what, advice="do not use it: each rank would compute by itself")


def _psij() -> Iterator[Finding]:
    try:
        installed = version("psij-python")
    except PackageNotFoundError:
        advice = "pip install 'quantum-pilot[psij]' for psij://slurm, pbs, lsf, flux"
        yield Finding(topic="psi/j", state="absent", what="not installed", advice=advice)
        return
    try:
        rows = ask(sys.executable, "-c", _EXECUTORS, seconds=3 * COMMAND_SECONDS).strip().splitlines()
    except CommandFailed as error:
        what = f"psij-python {installed} cannot be used: {error}"
        yield Finding(topic="psi/j", state="broken", what=what, advice="pip install --force-reinstall psij-python")
        return
    executors = [row.partition("|") for row in rows]
    usable = ", ".join(name for name, _, missing in executors if not missing)
    yield Finding(topic="psi/j", state="ok", what=f"psij-python {installed}: {usable}")
    for name, _, missing in executors:
        if missing:
            yield Finding(
                topic="psi/j", state="absent", what=f"executor {name}: {missing}", advice="needs its own package"
            )


def _mpi() -> Iterator[Finding]:
    try:
        bindings = f"mpi4py {version('mpi4py')}"
        yield Finding(topic="mpi", state="ok", what=bindings)
    except PackageNotFoundError:
        bindings = ""
        advice = "pip install mpi4py mpich: for Python functions on several ranks"
        yield Finding(topic="mpi", state="absent", what="mpi4py: not installed", advice=advice)
    beside = str(Path(sys.executable).parent)
    program = shutil.which("mpiexec") or shutil.which("mpirun") or shutil.which("mpiexec", path=beside)
    if program is None:
        yield Finding(
            topic="mpi", state="absent", what="no mpiexec on PATH", advice="pip install mpich, or load a module"
        )
        return
    try:
        said = ask(program, "--version").strip()
    except CommandFailed as error:
        yield Finding(topic="mpi", state="broken", what=str(error), advice="load another MPI, or pip install mpich")
        return
    flavour = next((one for one in ("Open MPI", "HYDRA", "Intel") if one.lower() in said.lower()), said[:40])
    release = re.search(r"\d+\.\d+[.\w]*", said)
    flavour = {"HYDRA": "MPICH (Hydra)"}.get(flavour, flavour)
    yield Finding(topic="mpi", state="ok", what=f"{program}: {flavour} {release[0] if release else ''}".rstrip())
    if bindings:
        options = ("--oversubscribe", "--allow-run-as-root") if flavour == "Open MPI" else ()
        try:
            said = ask(program, *options, "-n", "2", sys.executable, "-c", _RANKS, seconds=3 * COMMAND_SECONDS)
        except CommandFailed as error:
            advice = "is mpi4py bound to another MPI than this mpiexec's?"
            yield Finding(topic="mpiexec", state="broken", what=str(error), advice=advice)
        else:
            yield _communicator("mpiexec", said)


def _ssh() -> Iterator[Finding]:
    if shutil.which("ssh") is None:
        advice = "only slurm://user@host and tunnels need it: install OpenSSH's client"
        yield Finding(topic="ssh", state="absent", what="no ssh on PATH", advice=advice)
        return
    try:
        child = subprocess.run(
            ["ssh", "-V"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=COMMAND_SECONDS
        )
        yield Finding(topic="ssh", state="ok", what=(child.stderr or child.stdout).strip())
    except (OSError, subprocess.TimeoutExpired) as error:
        yield Finding(topic="ssh", state="broken", what=str(error), advice="run `ssh -V` and see")


# ---- site profiles -------------------------------------------------------------------------------------------------


def examine_site(path: str) -> list[Finding]:
    """Each table of a site profile against the live Slurm: partition, nodes, cores, memory, walltime, gres, licences.

    Raises:
        DescriptionError: the file cannot be read, or a table describes no pilot.
    """
    tables = {name: PilotDescription.from_toml(path, name) for name in profile_tables(path)}
    try:
        rows = ask("sinfo", "--noheader", "--format=%P|%D|%c|%m|%l|%f|%G").strip().splitlines()
        licences = ask("scontrol", "--oneliner", "show", "lic")
        options = ask("sbatch", "--help")
    except CommandFailed as error:
        what = f"Slurm cannot be asked: {error}"
        return [Finding(topic=path, state="broken", what=what, advice="run this on a login node", needed=True)]
    partitions = [_Partition(*row.split("|", 6)) for row in rows]
    found = []
    for name, pilot in tables.items():
        wrong = [*_misfits(pilot, partitions), *_licence_misfits(pilot, licences), *_option_misfits(pilot, options)]
        found += [Finding(topic=name, state="broken", what=what, advice=advice, needed=True) for what, advice in wrong]
        if not wrong:
            queue = pilot.queue or "the default partition"
            found.append(Finding(topic=name, state="ok", what=f"fits {queue} ({pilot.resource})", needed=True))
    return found


class _Partition(msgspec.Struct):
    """A row of sinfo: nodes of one kind."""

    name: str
    nodes: str
    cores: str
    memory: str
    most: str
    features: str
    gres: str


def _misfits(pilot: PilotDescription, partitions: list[_Partition]) -> Iterator[tuple[str, str]]:
    """What of a pilot does not fit into its partition, and what there is. Without one it is the default partition, or
    any where a constraint or a qos chooses it."""
    names = {row.name.rstrip("*") for row in partitions}
    wanted = (
        set(pilot.queue.split(",")) if pilot.queue else {row.name[:-1] for row in partitions if row.name[-1] == "*"}
    )
    if not pilot.queue and (pilot.constraint or pilot.qos):
        wanted = names
    rows = [row for row in partitions if row.name.rstrip("*") in wanted]
    if not rows:
        yield f"partition {pilot.queue or '(default)'} is not there", f"there are: {', '.join(sorted(names))}"
        return
    for field, asked, there in (
        ("number_of_nodes", pilot.number_of_nodes, max(sum(_nodes(rows, name)) for name in wanted)),
        ("cores_per_node", pilot.cores_per_node or 0, max(_number(row.cores) for row in rows)),
        ("memory in MiB", _mebibytes(pilot.memory), max(_number(row.memory) for row in rows)),
    ):
        if asked > there:
            yield f"{field} = {asked}", f"at most {there}"
    longest = max(rows, key=lambda row: _seconds(row.most)).most
    if pilot.seconds is not None and pilot.seconds > _seconds(longest):
        yield f"walltime = {timedelta(seconds=pilot.seconds)}", f"at most {longest}"
    features = {feature for row in rows for feature in row.features.split(",")}
    for feature in re.findall(r"[\w.-]+", re.sub(r"\*\d+", "", pilot.constraint or "")):
        if feature not in features:
            yield (
                f"constraint {feature}",
                f"features of these nodes: {', '.join(sorted(features - {'(null)'})) or 'none'}",
            )
    gres = ",".join(row.gres for row in rows)
    for one in [f"gpu:{pilot.gpus_per_node}"] * bool(pilot.gpus_per_node) + (pilot.gres or "").split(","):
        kind, _, count = one.rpartition(":") if one[-1:].isdigit() else (one, "", "1")
        have = [int(number) for number in re.findall(rf"\b{re.escape(kind)}(?::[a-z]\w*)?:(\d+)", gres)]
        if one and int(count) > max(have, default=0):
            yield f"gres {one}", f"these nodes have: {gres.replace('(null)', 'none')}"


def _licence_misfits(pilot: PilotDescription, licences: str) -> Iterator[tuple[str, str]]:
    totals = dict(re.findall(r"LicenseName=(\S+) Total=(\d+)", licences))
    for one in filter(None, re.split("[,;]", pilot.licenses or "")):
        name, _, count = one.partition(":")
        if int(count or 1) > int(totals.get(name, 0)):
            yield (
                f"licence {one}",
                f"there are: {', '.join(f'{key}:{total}' for key, total in totals.items()) or 'none'}",
            )


def _option_misfits(pilot: PilotDescription, options: str) -> Iterator[tuple[str, str]]:
    """Options of sbatch that only a site's SPANK plugin gives it."""
    for line in pilot.scheduler_script_commands:
        match = re.match(r"#SBATCH\s+(--[\w-]+)", line)
        if match and not re.search(rf"{match[1]}\b", options):
            yield f"sbatch has no option {match[1]}", "its SPANK plugin is not installed here: remove the line"


def _nodes(rows: list[_Partition], name: str) -> list[int]:
    return [_number(row.nodes) for row in rows if row.name.rstrip("*") == name]


def _mebibytes(memory: int | str | None) -> int:
    return memory >> 20 if isinstance(memory, int) else 0


def _number(text: str) -> int:
    """``4``, or ``4+`` where nodes differ."""
    return int(text.rstrip("+") or 0)


def _seconds(limit: str) -> float:
    """sinfo's ``days-hours:minutes:seconds``, ``infinite`` among them."""
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", limit)
    if match is None:
        return float("inf")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return float(86400 * days + 3600 * hours + 60 * minutes + seconds)
