"""Another user of this host against a session with process, Ray and Dask pilots.

    python benchmarks/strangers.py [--json FILE]     # as root, so that the stranger is another user: "nobody"

The stranger knows every open port of the session. It tries the protocols of their listeners without a key, the files
and Unix sockets of the session, and sends random messages over connections that it keeps open while no-ops run. `read`
is the number of places where it found a secret of the session: a key, a token, or the argument or the source of a task.
`unpickled` is the number of pickles of its own that a process of the session has loaded. `rate_ratio` is the rate of
no-ops with the attack over that without it, in alternating order: tasks per second of processor time of the manager and
of all processes of its pilots, what the attack costs them included. One attack is 10,000 messages over 500 connections,
20 in one write to each, during 100,000 no-ops, a second or two. `stubborn_ratio` is the same for a stranger who sends
them one by one, and connects again when it is dropped, which Ray does soon: it makes two to three times as many
connections. `us_per_connection` is what one costs the session, from which follows the ratio for others. `clock_ratio`
is `rate_ratio` by the clock, which the stranger's own processor time lowers as well.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import _bench
import _processes
import psutil
from _stranger import Address, Stranger

from pilot import PilotDescription, PilotManager, TaskDescription

#: No-ops during one attack, at least; and of one call of `map`.
TASKS, AT_ONCE = 100_000, 2_000
#: Parts of an attack, and of the no-ops without one, that follow each other in turn.
SLICES = 5
ENGINES = ("process", "ray", "dask")
#: What the stranger does meanwhile: nothing; its messages in one write to each connection; or one by one.
ATTACKS = QUIET, FLOOD, STUBBORN = ("quiet", "flood", "stubborn")
Row = dict[str, float]
#: What must not get out, besides keys and tokens.
SECRET = f"secret-{secrets.token_hex(8)}"


def hold(word: str, seconds: float) -> str:
    """A task with a secret among its arguments and in its environment."""
    time.sleep(seconds)
    return word


def listeners() -> list[Address]:
    """Every open port of the session, as another user reaches it."""
    found: set[Address] = set()
    for process in [psutil.Process(), *_processes.marked()]:
        for one in process.net_connections(kind="tcp"):
            if one.status == psutil.CONN_LISTEN:
                host = "127.0.0.1" if one.laddr.ip in ("::", "0.0.0.0", "::ffff:127.0.0.1") else one.laddr.ip
                found.add((host, one.laddr.port))
    return sorted(found)


def files(manager: PilotManager) -> list[str]:
    """What the session has on disk, its processes' own files in /proc, and all Unix sockets with a path."""
    pids = [os.getpid(), *(process.pid for process in _processes.marked())]
    own = [str(path) for path in manager.session_dir.rglob("*")]
    temporary = [str(path) for folder in Path(tempfile.gettempdir()).glob("pilot-*") for path in folder.rglob("*")]
    proc = [f"/proc/{pid}/{name}" for pid in pids for name in ("environ", "mem", "maps", "cmdline", "stack")]
    sockets = [line.split()[7] for line in Path("/proc/net/unix").read_text().splitlines()[1:] if "/" in line]
    shared = [str(path) for path in Path("/dev/shm").iterdir() if path.is_file()]
    return [*own, *temporary, *proc, *sockets, *shared]


def keys(manager: PilotManager) -> list[bytes]:
    """Keys and tokens of the session, and the secrets in its tasks."""
    connection = json.loads((manager.session_dir / "connection.json").read_text())
    found = [connection["secret_key"].encode(), SECRET.encode(), hold.__doc__.encode()]  # type: ignore[union-attr]
    for path in manager.session_dir.rglob("key.pem"):
        found.append(path.read_bytes().splitlines()[1])
    for process in _processes.marked():
        if token := process.environ().get("RAY_AUTH_TOKEN"):
            found.append(token.encode())
    return list(dict.fromkeys(found))


def slice_of(manager: PilotManager, stranger: Stranger, attack: str, ports: list[Address], options: Any) -> Row:
    """Run no-ops; during an attack, at least until the stranger has sent its share."""
    processes = _processes.marked()
    if attack != QUIET:
        shares = (options.messages // SLICES, options.connections // SLICES)
        stranger.ask("flood", ports, *shares, attack == STUBBORN)
    began, spent, done, most = time.perf_counter(), _processes.cpu_seconds(processes), 0, 0
    while done < TASKS // SLICES or (attack != QUIET and not stranger.is_done()):
        values = manager.get_results(manager.map(_bench.noop, range(AT_ONCE)))
        assert values == list(range(AT_ONCE))
        done += AT_ONCE
        most = max(most, len(list(Path("/proc/self/fd").iterdir())))
    used, seconds = _processes.cpu_seconds(processes) - spent, time.perf_counter() - began
    told = stranger.answer() if attack != QUIET else {}
    return {"cpu s": used, "s": seconds, "tasks": done, "descriptors": most, **told}


def alternation(manager: PilotManager, stranger: Stranger, ports: list[Address], options: Any) -> dict[str, Row]:
    """Each attack, and as many no-ops without one, in turn in short slices, so that all have the same machine."""
    rows: dict[str, Row] = {attack: {} for attack in ATTACKS}
    for number in range(SLICES):
        for attack in ATTACKS[number % len(ATTACKS) :] + ATTACKS[: number % len(ATTACKS)]:
            found = slice_of(manager, stranger, attack, ports, options)
            row = rows[attack]
            most = max(found["descriptors"], row.get("descriptors", 0))
            row |= {name: row.get(name, 0) + value for name, value in found.items()} | {"descriptors": most}
    return rows


def run(options: Any, stranger: Stranger, folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The figures and the rows."""
    with PilotManager(folder / "session") as manager:
        for engine in ENGINES:
            manager.submit_pilot(PilotDescription(engine=engine, cores_per_node=1, environment={"WORD": SECRET}))
        for pilot in manager.pilots:
            pilot.wait()
            manager.submit_task(TaskDescription(function=hold, args=(SECRET, 0.0), pilot=pilot.id)).result()
        ports, paths = listeners(), files(manager)
        stranger.ask("know", keys(manager))
        uid = stranger.answer()
        stranger.ask("speak", ports)
        told: dict[str, Any] = stranger.answer()
        stranger.ask("look_around", paths)
        told |= {f"files {name}": count for name, count in stranger.answer().items()}
        slice_of(manager, stranger, QUIET, ports, options)  # warm
        rows = [alternation(manager, stranger, ports, options) for _ in range(options.repeat)]
        stranger.ask("report")
        read = stranger.answer()
        after = manager.submit_task(TaskDescription(function=hold, args=(SECRET, 0.0))).result(60)
        assert after == SECRET and Path("/etc/hostname").read_bytes()

    def ratios(attack: str, what: str) -> list[float]:
        return [row[attack]["tasks"] / row[attack][what] * row[QUIET][what] / row[QUIET]["tasks"] for row in rows]

    def total(attack: str, what: str) -> float:
        return float(sum(row[attack][what] for row in rows))

    def extra(row: dict[str, Row]) -> float:
        attacked, quiet = row[FLOOD], row[QUIET]
        return attacked["cpu s"] - attacked["tasks"] * quiet["cpu s"] / quiet["tasks"]

    figures: dict[str, Any] = {
        "read": (float(len(read)), _bench.Bar("<=", 0)),
        "unpickled": (float(len(list((folder / "files").iterdir()))), _bench.Bar("<=", 0)),
        "rate_ratio": (ratios(FLOOD, "cpu s"), _bench.Bar(">=", 0.9)),
        "clock_ratio": (ratios(FLOOD, "s"), None),
        "us_per_connection": ([1e6 * extra(row) / row[FLOOD]["connections"] for row in rows], None),
        "messages": (total(FLOOD, "sent"), _bench.Bar(">=", options.messages * options.repeat)),
        "connections": (total(FLOOD, "connections"), _bench.Bar(">=", options.connections * options.repeat)),
        "stubborn_ratio": (ratios(STUBBORN, "cpu s"), None),
        "stubborn_connections": (total(STUBBORN, "connections"), None),
        "ports": (float(len(ports)), None),
        "descriptors": (max(one["descriptors"] for row in rows for one in row.values()), None),
        "uid": (float(uid), None),
    }
    listed = [{"attack": attack, **one} for row in rows for attack, one in row.items()]
    return figures, [{"found": place} for place in read] + [told] + listed


def main() -> None:
    parser = _bench.arguments(__doc__, engines=(), repeat=10)
    parser.add_argument("--messages", type=int, default=10_000, help="random messages of each attack")
    parser.add_argument("--connections", type=int, default=500, help="connections that each attack keeps open")
    parser.add_argument("--seed", type=int, default=20261129, help="of what the stranger sends")
    options = parser.parse_args()
    if os.getuid():
        sys.exit("strangers: run it as root, so that the stranger can be another user")
    with tempfile.TemporaryDirectory(prefix="strangers-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        (folder / "files").mkdir()
        (folder / "files").chmod(0o777)
        stranger = Stranger(folder / "files", options.seed)
        stranger.ask("check_pickle")
        stranger.answer()
        (folder / "files/unpickled").unlink()  # else its pickles do nothing
        figures, rows = run(options, stranger, folder)
        stranger.end()
    configuration = {name: getattr(options, name) for name in ("messages", "connections", "repeat", "seed")}
    _bench.report("strangers", figures, rows=rows, configuration=configuration, file=options.json)


if __name__ == "__main__":
    main()
