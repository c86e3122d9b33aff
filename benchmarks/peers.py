"""Tasks without work and tasks of 10 ms: ours beside what others use for them, in one run, in alternating order.

    python benchmarks/peers.py [--only NAME ...] [--repeat 3] [--tasks 256 … 8192] [--json FILE]

Each system runs on two workers of this machine in a fresh process; medians and spreads over the rounds are shown, and
`scripts/peers.py` makes a page of the JSON. Systems that this library does not need are installed on demand, each into
an environment of its own below ``.peers``. One that cannot be installed, or does not run, is reported with the reason.
dask-jobqueue, and ours beside it, run on a private Slurm (root).
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import _bench

ROOT = Path(__file__).resolve().parents[1]
#: Seconds that one measurement may take, and an installation.
MEASURE_SECONDS, INSTALL_SECONDS = 240, 600
OURS = ("quantum-pilot",)


@dataclasses.dataclass(frozen=True)
class Peer:
    """A system.

    Attributes:
        name: as in `_peer.SYSTEMS`.
        what: for the page.
        packages: what to install; empty: it runs in the environment of this library.
        command: of the environment, before the script; {python} is its interpreter.
        slurm: it needs the private Slurm.
        reference: whose figures are divided by this one's.
        versions: of which packages the page has them; empty: of those that are installed.
    """

    name: str
    what: str
    packages: tuple[str, ...] = ()
    command: tuple[str, ...] = ("python",)
    slurm: bool = False
    reference: str = "ours, process"
    versions: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """Of its environment."""
        return ROOT / ".peers" / self.name if self.packages else Path(sys.prefix)


PEERS = (
    Peer("ours, process", "a pilot with the engine `process`", versions=OURS),
    Peer("ours, ray", "a pilot with the engine `ray`", versions=(*OURS, "ray")),
    Peer("ours, dask", "a pilot with the engine `dask`", versions=(*OURS, "distributed")),
    Peer("ray", "a Ray instance, one remote call a task", reference="ours, ray", versions=("ray",)),
    Peer(
        "dask",
        "a LocalCluster of two processes, one `submit` a task",
        reference="ours, dask",
        versions=("distributed",),
    ),
    Peer("process pool", "`concurrent.futures.ProcessPoolExecutor`"),
    Peer("parsl", "Parsl's HighThroughputExecutor, one block of two workers", ("parsl",)),
    Peer("executorlib", "executorlib's SingleNodeExecutor, block allocation", ("executorlib",)),
    Peer("dragonhpc", "Dragon's multiprocessing pool", ("dragonhpc",), ("dragon", "--single-node-override")),
    Peer(
        "ours, dask on slurm",
        "a pilot of one Slurm job with the engine `dask`",
        slurm=True,
        versions=(*OURS, "distributed"),
    ),
    Peer(
        "dask-jobqueue",
        "dask-jobqueue's SLURMCluster, one job with two workers",
        ("dask-jobqueue", "distributed"),
        slurm=True,
        reference="ours, dask on slurm",
    ),
)


class Unavailable(Exception):
    """A system cannot be measured; the text says why."""


def install(peer: Peer) -> dict[str, str]:
    """Make its environment unless it is there; the versions in it.

    Raises:
        Unavailable: it cannot be installed.
    """
    python = peer.folder / "bin/python"
    done = peer.folder / ".installed"
    if peer.packages and not done.exists():
        sys.stderr.write(f"  installing {' '.join(peer.packages)}\n")
        shutil.rmtree(peer.folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", peer.folder], check=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "psutil", *peer.packages]
        _run(pip, INSTALL_SECONDS, "cannot be installed", dict(os.environ))
        done.touch()
    ask = "import importlib.metadata as m, sys; print(*(m.version(one) for one in sys.argv[1:]), sep='\\n')"
    names = peer.versions or peer.packages
    shown = subprocess.run([python, "-c", ask, *names], capture_output=True, text=True, check=True).stdout.split()
    return dict(zip(names, shown, strict=True))


def measure(peer: Peer, settings: dict[str, Any]) -> dict[str, float]:
    """Its figures, from a fresh process.

    Raises:
        Unavailable: it does not run.
    """
    sys.stderr.write(f"  measuring {peer.name}\n")
    environment = {
        **os.environ,
        "PATH": f"{peer.folder / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(Path(__file__).parent),
        "PILOT_BENCHMARK": f"{os.getpid()}-{peer.name}",
    }
    with tempfile.TemporaryDirectory(prefix="pilot-bench-") as folder:
        figures = Path(folder, "figures.json")
        program, *flags = peer.command
        script = str(Path(__file__).with_name("_peer.py"))
        command = [str(peer.folder / "bin" / program), *flags, script, peer.name, json.dumps(settings), str(figures)]
        _run(command, MEASURE_SECONDS, "does not run", environment, folder)
        if not figures.exists():
            raise Unavailable("it does not run: it ended without an error and without a result")
        found: dict[str, float] = json.loads(figures.read_text())
        return found


def _run(
    command: Sequence[str | Path], seconds: float, failed: str, environment: dict[str, str], folder: str | None = None
) -> None:
    """Run a command, and end all of its processes where it takes too long.

    What it says goes into a file: a system may leave a process behind that holds a pipe open. It has a process group of
    its own, but no session: Dragon waits for ever in one.
    """
    with tempfile.TemporaryFile("w+", errors="replace") as said:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=said, stderr=subprocess.STDOUT, process_group=0
        )
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Unavailable(f"it {failed}: no end within {seconds:g} s") from None
        finally:
            with contextlib.suppress(ProcessLookupError):  # all of them have ended
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        said.seek(0)
        lines = [line.strip() for line in said if line.strip()]
    if code:
        raise Unavailable(f"it {failed}: {lines[-1] if lines else f'exit code {code}'}"[:300])


def rounds(peers: Sequence[Peer], repeat: int, settings: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """For each system its figures, one a round; and why there are none of the others."""
    found: dict[str, list[dict[str, float]]] = {peer.name: [] for peer in peers}
    reasons: dict[str, str] = {}
    for number in range(repeat):
        for peer in peers if number % 2 == 0 else reversed(peers):
            if peer.name in reasons:
                continue
            try:
                install(peer)
                found[peer.name].append(measure(peer, settings))
            except Unavailable as error:
                reasons[peer.name] = str(error)
                sys.stderr.write(f"  {peer.name}: {error}\n")
    return {name: its for name, its in found.items() if its and name not in reasons}, reasons


@contextlib.contextmanager
def slurm(peers: Sequence[Peer], reasons: dict[str, str]) -> Iterator[list[Peer]]:
    """The systems that can be measured here, with the private Slurm where one of them needs it."""
    if not any(peer.slurm for peer in peers):
        yield list(peers)
        return
    try:
        import _cluster

        started = contextlib.ExitStack()
        started.enter_context(_cluster.slurm())
    except Exception as error:  # of many kinds, by what the machine lacks
        reasons.update({peer.name: f"no private Slurm: {error}"[:300] for peer in peers if peer.slurm})
        yield [peer for peer in peers if not peer.slurm]
        return
    with started:
        yield list(peers)


def rows_of(peers: Sequence[Peer], found: dict[str, Any], reasons: dict[str, str]) -> list[dict[str, Any]]:
    """A row for each system: medians, or the reason why there are none."""
    rows = []
    for peer in peers:
        row: dict[str, Any] = {"system": peer.name, "what": peer.what}
        if peer.name in found:
            runs = found[peer.name]
            row |= {key: statistics.median(run[key] for run in runs) for key in runs[0]}
            row["versions"] = " ".join(f"{name} {version}" for name, version in install(peer).items())
            row["spread"] = {key: [min(run[key] for run in runs), max(run[key] for run in runs)] for key in runs[0]}
        else:
            row["reason"] = reasons.get(peer.name, "not asked for")
        rows.append(row)
    return rows


def ratios_of(peers: Sequence[Peer], found: dict[str, Any]) -> dict[str, Any]:
    """By key, ours over the other one in each round: rates, processor time, round trips, starts."""
    figures: dict[str, Any] = {}
    for peer in peers:
        if peer.name not in found or peer.reference not in found or peer.versions[:1] == OURS:
            continue
        pairs = list(zip(found[peer.reference], found[peer.name], strict=True))
        most = max((key for key in pairs[0][0] if key.endswith("tasks/s")), key=lambda key: int(key.split()[0]))
        name = peer.name.replace(" ", "_").replace("-", "_")
        figures[f"rate_over_{name}"] = ([our[most] / other[most] for our, other in pairs], None)
        for key, short in (("cpu us", "cpu"), ("round trip ms", "round_trip"), ("start s", "start")):
            if all(other[key] for _, other in pairs):  # processor time counts in hundredths of a second
                figures[f"{short}_over_{name}"] = ([our[key] / other[key] for our, other in pairs], None)
    return figures


def main() -> None:
    parser = _bench.arguments(__doc__, engines=[], repeat=3)
    names = [peer.name for peer in PEERS]
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", default=names, help=", ".join(names))
    parser.add_argument("--tasks", nargs="+", type=int, default=[256, 1024, 4096, 8192], help="without work, at once")
    parser.add_argument("--singles", type=int, default=300, help="round trips")
    parser.add_argument("--naps", type=int, default=400, help="tasks of 10 ms at once")
    options = parser.parse_args()
    peers = [peer for peer in PEERS if peer.name in options.only]
    settings = {"tasks": sorted(options.tasks), "singles": options.singles, "naps": options.naps, "nap": 0.01}
    reasons: dict[str, str] = {}
    with slurm(peers, reasons) as able:
        found, failed = rounds(able, options.repeat, settings)
    reasons |= failed
    rows = rows_of(peers, found, reasons)
    if found:
        _bench.show("Ours and others, two workers", [_shown(row) for row in rows if row["system"] in found], None)
    for name, reason in reasons.items():
        print(f"{name}: {reason}")
    _bench.report(
        "peers",
        ratios_of(peers, found),
        rows=rows,
        configuration={**settings, "repeat": options.repeat},
        file=options.json,
    )


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """What the table in the terminal has of a row."""
    return {key: value for key, value in row.items() if key not in ("what", "versions", "spread")}


if __name__ == "__main__":
    main()
