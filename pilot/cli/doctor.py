"""`pilot doctor`: what works here, line by line, with what to do where it does not.

Each probe has a time limit of its own and they run side by side: a command that hangs costs its limit, not more.
Nothing is changed here; on a cluster one short job of two tasks is run for each type of ``srun --mpi``, to see whether
it forms one communicator.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from pilot import registry
from pilot.cli import host_checks
from pilot.cli.findings import COMMAND_SECONDS, CommandFailed, Finding, ask
from pilot.descriptions import PilotDescription
from pilot.errors import DescriptionError, PilotError, PluginError
from pilot.interfaces import Launcher
from pilot.profiles import profile_tables

#: Seconds that a step of ``srun`` may take, which may have to wait in the queue.
STEP_SECONDS = 30.0
#: Seconds after which a step that got no nodes gives up (``srun --immediate``).
QUEUE_SECONDS = 8

_ASK_SLURM = "check SLURM_CONF, and that slurmctld runs"
#: The first rank of each communicator says its size: two that spoke at once might fall into each other's words.
_RANKS = "from mpi4py import MPI; all = MPI.COMM_WORLD; all.rank or print('size', all.size, flush=True)"
_EXECUTORS = """
import logging, psij
logging.disable()
for name in sorted(psij.JobExecutor.get_executor_names()):
    error = psij.JobExecutor._executors[name][-1].exc
    print(name, "" if error is None else error, sep="|")
"""


Probe = Callable[[], Iterator[Finding]]


def examine() -> list[Finding]:
    """All findings, in the order of the report. Takes about as long as the slowest probe."""
    probes: Sequence[Probe] = (
        host_checks.python, host_checks.plugins, host_checks.ray_addresses, host_checks.resources, host_checks.limits,
        host_checks.folders, host_checks.gpus, _slurm, _steps, _psij, _mpi, _ssh,
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
        found.append(
            Finding(topic=topic, state="broken", what=what, advice="a bug in `pilot doctor`: please report it")
        )
    return found


def works_locally(findings: Sequence[Finding]) -> bool:
    """True when everything that ``local://`` pilots need is there."""
    return not any(finding.needed and finding.state == "broken" for finding in findings)


# ---- clusters ------------------------------------------------------------------------------------------------------


def _slurm() -> Iterator[Finding]:
    if shutil.which("sbatch") is None:
        advice = "run this on a login node, or use slurm://user@host, to submit to Slurm"
        yield Finding(topic="slurm", state="absent", what="no sbatch on PATH", advice=advice)
        return
    for command in (("sbatch", "--version"), ("scontrol", "ping")):
        try:
            output = ask(*command).strip()
        except CommandFailed as error:
            yield Finding(topic="slurm", state="broken", what=str(error), advice=_ASK_SLURM)
            continue
        down = "DOWN" in output and " UP" not in output
        advice = "jobs cannot be submitted until slurmctld is up" if down else ""
        yield Finding(topic="slurm", state="broken" if down else "ok", what=output.replace("\n", "; "), advice=advice)
    yield from _partitions()
    yield from _licences()
    try:
        ask("sacct", "--allocations", "--noheader", "--starttime=now")
        yield Finding(topic="slurm", state="ok", what="accounting: sacct answers")
    except CommandFailed as error:
        advice = "optional: without it the end of a job is read from a file that the job writes"
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
            ""
            if usable
            else f"no job starts there now; `sinfo --list-reasons --partition={name.rstrip('*')}` shows why"
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
        output = ask("srun", f"--mpi={kind}", *options, sys.executable, "-c", _RANKS, seconds=STEP_SECONDS)
    except CommandFailed as error:
        with contextlib.suppress(CommandFailed):  # an srun that had to be killed leaves its job
            ask("scancel", f"--name={job}")
        if "Unable to allocate" in str(error) or "no answer" in str(error):
            advice = f"no nodes in {QUEUE_SECONDS} s: the cluster is busy, or there is no default partition; try again"
            return Finding(topic=topic, state="absent", what=f"not known: {error}", advice=advice)
        return Finding(
            topic=topic, state="broken", what=str(error), advice="this MPI does not support it; try the other types"
        )
    return _communicator(topic, output)


def _communicator(topic: str, output: str) -> Finding:
    sizes = re.findall(r"size (\d+)", output)
    if sizes == ["2"]:
        return Finding(topic=topic, state="ok", what="2 ranks form one communicator")
    what = f"2 ranks do not form one communicator, but some of size {', '.join(sizes) or 'unknown'}"
    return Finding(topic=topic, state="broken", what=what, advice="do not use it: each rank would run on its own")


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
                topic="psi/j",
                state="absent",
                what=f"executor {name}: {missing}",
                advice="install the package that it needs",
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
        output = ask(program, "--version").strip()
    except CommandFailed as error:
        yield Finding(topic="mpi", state="broken", what=str(error), advice="load another MPI, or pip install mpich")
        return
    flavour = next((one for one in ("Open MPI", "HYDRA", "Intel") if one.lower() in output.lower()), output[:40])
    release = re.search(r"\d+\.\d+[.\w]*", output)
    flavour = {"HYDRA": "MPICH (Hydra)"}.get(flavour, flavour)
    yield Finding(topic="mpi", state="ok", what=f"{program}: {flavour} {release[0] if release else ''}".rstrip())
    if bindings:
        options = ("--oversubscribe", "--allow-run-as-root") if flavour == "Open MPI" else ()
        try:
            output = ask(program, *options, "-n", "2", sys.executable, "-c", _RANKS, seconds=3 * COMMAND_SECONDS)
        except CommandFailed as error:
            advice = "mpi4py may be built with another MPI than that of mpiexec"
            yield Finding(topic="mpiexec", state="broken", what=str(error), advice=advice)
        else:
            yield _communicator("mpiexec", output)


def _ssh() -> Iterator[Finding]:
    if shutil.which("ssh") is None:
        advice = "install OpenSSH's client; only slurm://user@host and tunnels need it"
        yield Finding(topic="ssh", state="absent", what="no ssh on PATH", advice=advice)
        return
    try:
        child = subprocess.run(
            ["ssh", "-V"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=COMMAND_SECONDS
        )
        yield Finding(topic="ssh", state="ok", what=(child.stderr or child.stdout).strip())
    except (OSError, subprocess.TimeoutExpired) as error:
        yield Finding(topic="ssh", state="broken", what=str(error), advice="run `ssh -V` to see the error")


# ---- site profiles -------------------------------------------------------------------------------------------------


def examine_site(path: str) -> list[Finding]:
    """Each table of a profile against what its launcher finds on this cluster.

    Raises:
        DescriptionError: the file cannot be read, or a table describes no pilot.
    """
    return examine_pilots({name: PilotDescription.from_toml(path, name) for name in profile_tables(path)})


def examine_pilots(pilots: Mapping[str, PilotDescription]) -> list[Finding]:
    """Pilots, each under a name, against what their launchers find here."""
    launchers: dict[str, Launcher] = {}
    found = []
    for name, pilot in pilots.items():
        scheme = pilot.resource.partition("://")[0]
        try:
            if scheme not in launchers:
                launchers[scheme] = registry.load("pilot.launchers", scheme)()
            launchers[scheme].check_fields(pilot)
            _check_rest(launchers[scheme], pilot)
            misfits = launchers[scheme].preflight(pilot)
        except DescriptionError as error:
            advice = "`pilot doctor --fields` shows what each launcher does with each field"
            found.append(Finding(topic=name, state="broken", what=str(error), advice=advice, needed=True))
            continue
        except PilotError as error:
            is_plugin = isinstance(error, PluginError)
            advice = "correct the resource, or install its plugin" if is_plugin else "run this on a login node"
            found.append(Finding(topic=name, state="broken", what=str(error), advice=advice, needed=True))
            continue
        for field, asked, there in misfits:
            found.append(Finding(topic=name, state="broken", what=f"{field} = {asked}", advice=there, needed=True))
        if not misfits:
            what = f"fits {pilot.resource}" + (f", queue {pilot.queue}" if pilot.queue else "")
            found.append(Finding(topic=name, state="ok", what=what, needed=True))
    return found


def _check_rest(launcher: Launcher, pilot: PilotDescription) -> None:
    """Raise DescriptionError for what the launcher refuses on any host. Users may give the cores themselves."""
    try:
        launcher.check(msgspec.structs.replace(pilot, cores_per_node=pilot.cores_per_node or 1))
    except DescriptionError as error:
        if error.field != "resource":
            raise
