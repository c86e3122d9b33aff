"""How the ranks of an MPI task are started here: by a command of the resource manager's, or by an ``mpiexec``."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from pilot import registry
from pilot.errors import MpiFailed
from pilot.interfaces import JobEnvironment
from pilot.resources import Resources
from pilot.wire.marks import MARK

#: Environment variable with the words of ``PilotDescription.mpi``, quoted as a shell does.
WORDS = "PILOT_MPI"
#: Seconds that a launcher may take to form a communicator of two ranks when it is tried.
TRY_SECONDS = 30.0
#: What to do where no launcher works.
HINT = (
    "install an MPI in the pilot's environment (`pip install mpich mpi4py`), or set PilotDescription.mpi "
    'to the command that starts MPI programs here, such as ("mpiexec",)'
)


class RankLayout(msgspec.Struct, frozen=True):
    """What the agent set aside for the MPI task that runs."""

    resources: Resources
    #: Ranks by node (`JobEnvironment.node`), in order. Empty: all on this one.
    hosts: dict[str, int]
    #: A folder that every node sees.
    folder: str
    #: By node, the GPUs of its ranks in their order, each as many. Empty: none.
    gpus: dict[str, list[str]] = {}

    def filled(self) -> dict[str, int]:
        """The hosts, this one filled in."""
        return self.hosts or {registry.job_environment().node(): self.resources.ranks}

    def gpus_by_rank(self) -> list[list[str]]:
        """The GPUs of each rank: launchers number the ranks of a host one after the other, the hosts in order."""
        ranks: list[list[str]] = []
        for host, count in self.filled().items():
            names = self.gpus.get(host, [])
            each = len(names) // count
            ranks += [names[at * each : (at + 1) * each] for at in range(count)]
        return ranks


#: Starts two ranks; None when they form one communicator, else what is wrong.
TryOut = Callable[["Launch", RankLayout], str | None]


class Launch(msgspec.Struct, frozen=True):
    """A command that starts the ranks, and the family of launchers that it belongs to."""

    words: tuple[str, ...]
    #: ``hydra`` (MPICH, Intel MPI), ``openmpi``, ``other`` (gets ``-n`` only), or the ``mpi_program`` of a
    #: `JobEnvironment`.
    kind: str

    def __str__(self) -> str:
        return shlex.join(self.words)

    def environment(self) -> JobEnvironment:
        """The job environment whose program starts the ranks; a plain one when ``mpiexec`` does."""
        return _environment_of(self.kind)

    def command(self, layout: RankLayout, folder: Path) -> tuple[list[str], dict[str, str]]:
        """The command line before the program, and variables to set for it."""
        hosts, ranks = layout.filled(), str(layout.resources.ranks)
        one = len(hosts) == 1
        if (environment := self.environment()).mpi_program:
            return environment.mpi_command(self.words, hosts, layout.resources, folder)
        if self.kind == "hydra":  # mpiexec -help
            where = ["-launcher", "fork", "-rmk", "user", "-hosts", f"localhost:{ranks}"]
            if not one:
                where = ["-hosts", ",".join(f"{host}:{count}" for host, count in hosts.items())]
            return [*self.words, *where, "-n", ranks], {}
        if self.kind == "openmpi":  # mpirun(1); the agent has set the cores aside, so that nothing is to be bound here
            root = ["--allow-run-as-root"] if os.geteuid() == 0 else []
            names = {"localhost": int(ranks)} if one else hosts
            where = ["--host", ",".join(f"{host}:{count}" for host, count in names.items())]
            return [*self.words, *root, "--oversubscribe", "--bind-to", "none", *where, "-n", ranks], {}
        if not one:
            raise MpiFailed(
                f"`{self}` is neither the mpiexec of MPICH, Intel MPI or Open MPI nor a command of the resource "
                f"manager: how to pass it {len(hosts)} hosts is not known; ask for nodes=1, or set "
                "PilotDescription.mpi to one of these"
            )
        return [*self.words, "-n", ranks], {}


def _environment_of(program: str) -> JobEnvironment:
    """The job environment whose program for MPI ranks this is; a plain one where it is none's."""
    return next((one for one in registry.job_environments() if one.mpi_program == program), JobEnvironment())


def find_launch(layout: RankLayout, try_out: TryOut) -> Launch:
    """The command in PILOT_MPI, or the first one that forms one communicator here. Blocks, the first time for seconds.

    Raises:
        MpiFailed: there is none.
    """
    if given := os.environ.get(WORDS):
        return _launch_of(tuple(shlex.split(given)))
    return _found(layout, try_out)


@functools.cache
def _launch_of(words: tuple[str, ...]) -> Launch:
    """The command with its family, by its name or the output of ``--version``.

    Raises:
        MpiFailed: there is no such program.
    """
    if shutil.which(words[0]) is None:
        raise MpiFailed(f"PilotDescription.mpi: {words[0]} was not found; {HINT}")
    if _environment_of(program := Path(words[0]).name).mpi_program:
        return Launch(words, program)
    try:
        version = subprocess.run([words[0], "--version"], capture_output=True, text=True, timeout=TRY_SECONDS).stdout
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        version = ""
    if "HYDRA" in version or "Intel(R) MPI" in version:
        return Launch(words, "hydra")
    return Launch(words, "openmpi" if "Open MPI" in version or "OpenRTE" in version or "PRRTE" in version else "other")


def _candidates() -> Iterator[Launch]:
    """The launchers that were found, the preferred ones first."""
    environment = registry.job_environment()
    for words in environment.mpi_candidates():
        yield Launch(words, environment.mpi_program)
    found = [shutil.which("mpiexec", path=str(Path(sys.executable).parent)), shutil.which("mpiexec")]
    for path in dict.fromkeys(path for path in found if path):
        yield _launch_of((path,))


#: By whether the ranks are on several hosts.
_works: dict[bool, Launch] = {}


def _found(layout: RankLayout, try_out: TryOut) -> Launch:
    """The first candidate that forms one communicator of two ranks, on two hosts if the task is on several.

    Asked once for each worker, and once for each node of a pilot: the answer is kept in its temporary folder.
    Without mpi4py nothing can be tried, and the first candidate is taken.
    """
    several = len(layout.filled()) > 1
    if several in _works:
        return _works[several]
    kept = Path(tempfile.gettempdir()) / f"mpi-{'hosts' if several else 'host'}.json" if MARK in os.environ else None
    if kept is not None:
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            _works[several] = msgspec.json.decode(kept.read_bytes(), type=Launch)
            return _works[several]
    tried = []
    for launch in _candidates():
        problem = try_out(launch, layout) if importlib.util.find_spec("mpi4py") is not None else None
        if problem is None:
            _works[several] = launch
            if kept is not None:
                with contextlib.suppress(OSError):
                    part = kept.with_suffix(f".{os.getpid()}")
                    part.write_bytes(msgspec.json.encode(launch))
                    part.rename(kept)
            return launch
        tried.append(f"`{launch}`: {problem}")
    listed = "; ".join(tried) or "there is no resource manager that starts them, and no mpiexec"
    here = registry.job_environment().node()
    raise MpiFailed(f"no way to start MPI programs was found on {here}: {listed}. What to do: {HINT}")
