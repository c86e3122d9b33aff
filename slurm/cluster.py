#!/usr/bin/env python3
"""A private Slurm of four nodes on this host: real daemons, no systemd, nothing outside one folder.

::

    python slurm/cluster.py start  [--folder F] [--port-base N] [--accounting]
    python slurm/cluster.py status [--folder F]
    python slurm/cluster.py env    [--folder F]      # eval "$(…)": for sbatch, squeue and so on
    python slurm/cluster.py stop   [--folder F]

For tests and for trying things out; it needs root, and on Debian ``apt-get install slurm-wlm munge``. `start` and
`stop` may be called twice. Each ``slurmd -N NAME`` plays one node (a build with ``--enable-multiple-slurmd``, as
Debian's); on every node ``hostname`` is this host's name, SLURMD_NODENAME distinguishes them. See slurm.conf(5).

Nodes c1, c2 (partitions ``cpu``, the default, and ``low``, whose jobs are requeued when cpu wants the nodes),
g1 (partition ``gpu``, ``--gres=gpu:2``, on device files that are clones of /dev/null), q1 (partition ``qpu``,
``--gres=qpu:1``); partition ``all`` has the four. Licences: qpu_ibm:1 and qpu_iqm:2.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import re
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

NODES = ("c1", "c2", "g1", "q1")
#: Of each node, for any host.
CPUS, MEGABYTES = 4, 5000
#: Ports from the base on: slurmctld, slurmdbd, MariaDB, and a slurmd for each node from 11 on.
PORTS = (0, 2, 3, 11, 12, 13, 14)
PORT_BASE = 16817
#: Version 1 control groups of the freezer: the only way to end processes that left their session and process group.
FREEZER = Path("/sys/fs/cgroup/freezer")

PACKAGES = "on Debian: apt-get install --no-install-recommends slurm-wlm munge"
ACCOUNTING_PACKAGES = (
    "on Debian: apt-get install --no-install-recommends slurmdbd slurm-wlm-mysql-plugin mariadb-server"
)

SLURM_CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
SlurmctldPort={port}
{auth}
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd.%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.%n.log
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
ProctrackType=proctrack/{proctrack}
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=5
SwitchType=switch/none
MpiDefault=pmi2
ReturnToService=2
SlurmdParameters=config_overrides
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=2,batch_sched_delay=0,sched_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=256
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu,qpu
Licenses=qpu_ibm:1,qpu_iqm:2
{accounting}
JobCompType=jobcomp/none
InactiveLimit=0
KillWait=2
CompleteWait=0
MinJobAge=600
SlurmdTimeout=10
SlurmctldTimeout=10
UnkillableStepTimeout=20
BatchStartTimeout=10
MessageTimeout=10
TCPTimeout=2
MaxArraySize=1000
JobRequeue=1
SlurmctldDebug=info
SlurmdDebug=info
NodeName=DEFAULT CPUs={cpus} RealMemory={megabytes} State=UNKNOWN
NodeName=c1 NodeHostname={host} NodeAddr=127.0.0.1 Port={c1}
NodeName=c2 NodeHostname={host} NodeAddr=127.0.0.1 Port={c2}
NodeName=g1 NodeHostname={host} NodeAddr=127.0.0.1 Port={g1} Gres=gpu:2 Feature=h200
NodeName=q1 NodeHostname={host} NodeAddr=127.0.0.1 Port={q1} Gres=qpu:1 Feature=ibm
PartitionName=DEFAULT MaxTime=60 DefaultTime=10 State=UP
PartitionName=cpu Nodes=c1,c2 Default=YES PriorityTier=10
PartitionName=low Nodes=c1,c2 PriorityTier=1 PreemptMode=REQUEUE
PartitionName=gpu Nodes=g1
PartitionName=qpu Nodes=q1
PartitionName=all Nodes=c1,c2,g1,q1
"""

SLURMDBD_CONF = """\
{auth}
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={port}
SlurmUser=root
PidFile={folder}/run/slurmdbd.pid
LogFile={folder}/log/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={database}
StorageUser=slurm
StoragePass={password}
StorageLoc=slurm_acct_db
"""


class ClusterError(Exception):
    """The cluster cannot be started; the message says what to do."""


class Cluster:
    """One private Slurm, in its folder; another object on the same folder is the same cluster."""

    nodes = NODES

    def __init__(
        self, folder: str | os.PathLike[str] | None = None, port_base: int | None = None, accounting: bool = False
    ) -> None:
        """Name the cluster; `start` starts it.

        Args:
            folder: for all its files. Default: ``slurm-cluster`` below the temporary directory.
            port_base: first of about 15 ports; the next free ones are taken when some are not free.
            accounting: with slurmdbd and MariaDB, so that ``sacct`` works.
        """
        self.folder = Path(folder or Path(tempfile.gettempdir()) / "slurm-cluster").absolute()
        self._port_base = port_base or PORT_BASE
        self._accounting = accounting
        self._groups = FREEZER / f"slurm-cluster-{self.folder.as_posix().strip('/').replace('/', '-')}"

    @property
    def environment(self) -> dict[str, str]:
        """What every client (sbatch, squeue, …) needs in its environment."""
        return {"SLURM_CONF": str(self._conf)}

    # ---- start --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start what does not run yet; returns when all nodes take jobs, in less than a second.

        Raises:
            ClusterError: something is missing, or a daemon does not start.
        """
        self._check()
        with self._locked():
            if not self.pid("slurmctld"):
                self._write_files()
            self._start_munged()
            if self._accounting and not self.pid("slurmdbd"):
                self._start_accounting()
            if not self.pid("slurmctld"):
                self._launch("slurmctld", "slurmctld", "-f", str(self._conf))
            for node in NODES:
                self.start_slurmd(node)
            self._wait_ready()

    def start_slurmd(self, node: str) -> None:
        """Start one node's daemon, unless it runs."""
        if not self.pid(f"slurmd.{node}"):
            self._launch(f"slurmd.{node}", "slurmd", "-f", str(self._conf), "-N", node)

    def start_slurmctld(self) -> None:
        """Start the controller, unless it runs; returns when it answers."""
        if not self.pid("slurmctld"):
            self._launch("slurmctld", "slurmctld", "-f", str(self._conf))
        if not wait_for(lambda: self.run("scontrol", "ping").returncode == 0, 10):
            raise ClusterError(f"slurmctld does not answer; see {self.folder}/log/slurmctld.log")

    def _check(self) -> None:
        if os.geteuid() != 0:
            raise ClusterError("slurmctld and slurmd have to be started by root")
        wanted = ["slurmctld", "slurmd", "sbatch", "scontrol"]
        if missing := [name for name in wanted if not which(name)]:
            raise ClusterError(f"not installed: {', '.join(missing)}; {PACKAGES}")
        wanted = ["slurmdbd", "sacctmgr", "mariadbd", "mariadb", "mariadb-install-db"] if self._accounting else []
        if missing := [name for name in wanted if not which(name)]:
            raise ClusterError(f"not installed: {', '.join(missing)}; {ACCOUNTING_PACKAGES}")

    def _write_files(self) -> None:
        for name in ("etc", "log", "run", "state", "munge", "devices", *(f"spool/{node}" for node in NODES)):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        for path in (self.folder, *self.folder.iterdir()):
            path.chmod(0o755)  # munged and slurmctld refuse folders that others may write to
        (self.folder / "state").chmod(0o700)
        base = free_ports(self._port_base)
        ports = {node: base + offset for node, offset in zip(NODES, PORTS[3:], strict=True)}
        (self.folder / "run/port_base").write_text(str(base))
        (self.folder / "etc/cgroup.conf").write_text(
            f"CgroupAutomount=no\nCgroupPlugin=cgroup/v1\nCgroupMountpoint={self.folder}/cgroup\n"
        )
        devices = [self.folder / f"devices/gpu{number}" for number in (0, 1)]
        for device in devices:
            if not device.exists():
                os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        (self.folder / "etc/gres.conf").write_text(
            f"NodeName=g1 Name=gpu File={self.folder}/devices/gpu[0-1]\nNodeName=q1 Name=qpu Count=1\n"
        )
        self._conf.write_text(
            SLURM_CONF.format(
                host=socket.gethostname().partition(".")[0],
                folder=self.folder,
                port=base,
                cpus=CPUS,
                megabytes=MEGABYTES,
                auth=self._auth("CredType"),
                proctrack="cgroup" if self._make_groups() else "pgid",
                accounting=self._accounting_lines(base),
                **ports,
            )
        )

    def _auth(self, *more: str) -> str:
        """munge, on a socket of our own; without munge no authentication at all: this host's users are trusted then."""
        kind = "munge" if which("munged") else "none"
        lines = [f"AuthType=auth/{kind}", *(f"{name}=cred/{kind}" for name in more)]
        return "\n".join([*lines, f"AuthInfo=socket={self.folder}/munge/socket"] if kind == "munge" else lines)

    def _accounting_lines(self, base: int) -> str:
        if not self._accounting:
            return "AccountingStorageType=accounting_storage/none"
        lines = ["AccountingStorageType=accounting_storage/slurmdbd", "AccountingStorageHost=127.0.0.1"]
        lines.append(f"AccountingStoragePort={base + 2}")
        if which("munged"):
            lines.append(f"AccountingStoragePass={self.folder}/munge/socket")  # sacct takes its munge from here
        return "\n".join(lines)

    def _make_groups(self) -> bool:
        """Slurm names its control groups after the node; below a group of our own they are apart from others'."""
        if not os.access(FREEZER / "cgroup.procs", os.W_OK):
            return False
        try:
            self._groups.mkdir(exist_ok=True)
        except OSError:
            return False
        link = self.folder / "cgroup/freezer"
        link.parent.mkdir(exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(self._groups)
        return True

    def _start_munged(self) -> None:
        if not which("munged") or self.pid("munged"):
            return
        folder = self.folder / "munge"
        if not (folder / "key").exists():
            descriptor = os.open(folder / "key", os.O_WRONLY | os.O_CREAT, 0o600)
            with os.fdopen(descriptor, "wb") as key:
                key.write(secrets.token_bytes(128))
        files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "seed-file": "seed", "log-file": "log"}
        self._launch("munged", "munged", "--force", *(f"--{option}={folder / name}" for option, name in files.items()))

    def _start_accounting(self) -> None:
        base = int((self.folder / "run/port_base").read_text())
        data, where, log = self.folder / "mysql", self.folder / "run/mysql.sock", self.folder / "log/mariadb.log"
        plain = ("--no-defaults", "--user=root", f"--datadir={data}")
        if not (data / "mysql").exists():
            self._launch("", "mariadb-install-db", *plain, "--auth-root-authentication-method=normal", "--skip-test-db")
        if not self.pid("mariadbd"):
            options = (f"--socket={where}", f"--pid-file={self.folder}/run/mariadbd.pid", f"--port={base + 3}")
            limits = ("--bind-address=127.0.0.1", "--innodb-buffer-pool-size=64M", "--innodb-lock-wait-timeout=900")
            with log.open("ab") as output:
                subprocess.Popen(
                    [which("mariadbd") or "", *plain, *options, *limits],
                    stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, env=self._clean(),
                )  # fmt: skip
        password = secrets.token_hex(16)
        accounts = "".join(
            f"create or replace user slurm@'{host}' identified by '{password}';"
            f"grant all on slurm_acct_db.* to slurm@'{host}';"
            for host in ("127.0.0.1", "localhost")
        )
        script = f"create database if not exists slurm_acct_db;{accounts}"
        client = ("mariadb", "--no-defaults", "-u", "root", "-S", str(where))
        if not wait_for(lambda: self.run(*client, input=script).returncode == 0, 30):
            raise ClusterError(f"MariaDB does not start; see {log}")
        conf = self.folder / "etc/slurmdbd.conf"
        conf.touch(mode=0o600)
        conf.write_text(
            SLURMDBD_CONF.format(
                auth=self._auth(), port=base + 2, database=base + 3, folder=self.folder, password=password
            )
        )
        self._launch("slurmdbd", "slurmdbd")
        if not wait_for(lambda: self.run("sacctmgr", "-n", "show", "cluster").returncode == 0, 30):
            raise ClusterError(f"slurmdbd does not answer; see {self.folder}/log/slurmdbd.log")
        if "test" not in self.run("sacctmgr", "-n", "show", "cluster", "format=cluster").stdout.split():
            self.run("sacctmgr", "-i", "add", "cluster", "test")

    def _wait_ready(self) -> None:
        def ready() -> bool:
            shown = self.run("sinfo", "-h", "-N", "-o", "%N %t").stdout.splitlines()
            return {line.split()[0] for line in shown if re.search(r" (idle|mix|alloc|plnd|comp)$", line)} == {*NODES}

        if not wait_for(ready, 20):
            raise ClusterError(
                f"not all nodes are ready after 20 s; see {self.folder}/log:\n{self.run('sinfo', '-N', '-l').stdout}"
            )

    # ---- stop ---------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """End every job and every daemon; what is left then are files in the folder. At most about 30 s."""
        if not self.folder.exists():
            return
        with self._locked():
            if self.pid("slurmctld"):
                self._end_jobs()
            daemons = [f"slurmd.{node}" for node in NODES] + ["slurmctld"]
            self._end(daemons, 10)
            self._end_processes_of_jobs()
            for name in ("slurmdbd", "mariadbd", "munged"):
                self._end([name], 10)
            self._remove_groups()

    def kill_slurmd(self, node: str) -> None:
        """``kill -9`` of one node's daemon: Slurm sees the node as down SlurmdTimeout (10 s) and a bit later; processes
        of jobs there go on until `start_slurmd`."""
        if pid := self.pid(f"slurmd.{node}"):
            os.kill(pid, signal.SIGKILL)
            wait_for(lambda: not is_alive(pid), 5)

    def stop_slurmctld(self) -> None:
        """End the controller: until `start_slurmctld` sbatch and squeue get no answer; jobs continue."""
        self._end(["slurmctld"], 10)

    def restart_slurmctld(self) -> None:
        """End the controller and start it again, with the jobs that it knows."""
        self.stop_slurmctld()
        self.start_slurmctld()

    def _end_jobs(self) -> None:
        def none() -> bool:
            answer = self.run("squeue", "-h", "-o", "%i")
            return answer.returncode == 0 and not answer.stdout.strip()

        if none():
            return
        self.run("scancel", "--user=root")
        if not wait_for(none, 1.5):  # Slurm itself waits for 6 to 10 s before it sends SIGKILL
            self._end_processes_of_jobs(steps=False)
            wait_for(none, 10)

    def _end(self, names: Sequence[str], seconds: float) -> None:
        pids = {name: pid for name in names if (pid := self.pid(name))}
        for pid in pids.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        for name, pid in pids.items():
            if not wait_for(lambda pid=pid: not is_alive(pid), seconds):  # type: ignore[misc]
                os.kill(pid, signal.SIGKILL)
                wait_for(lambda pid=pid: not is_alive(pid), 5)  # type: ignore[misc]
            self._pid_file(name).unlink(missing_ok=True)

    def _end_processes_of_jobs(self, steps: bool = True) -> None:
        """``kill -9`` of what jobs of this cluster started, by their environment and control groups; ``steps``: of
        slurmstepd as well, which looks after them."""
        for _ in range(20):
            pids = {pid for pid in self._processes_of_jobs() if steps or not is_step(pid)}
            if not pids:
                break
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            wait_for(lambda: not any(map(is_alive, pids)), 0.5)  # noqa: B023

    def _processes_of_jobs(self) -> set[int]:
        ours = f"SLURM_CONF={self._conf}".encode()
        found = set()
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            with contextlib.suppress(OSError):
                words = (entry / "environ").read_bytes().split(b"\0")
                of_job = any(word.startswith(b"SLURM_JOB_ID=") for word in words) or is_step(int(entry.name))
                if ours in words and of_job and is_alive(int(entry.name)):
                    found.add(int(entry.name))
        if self._groups.exists():
            for path in self._groups.rglob("cgroup.procs"):
                with contextlib.suppress(OSError):
                    found |= {int(pid) for pid in path.read_text().split()}
        return {pid for pid in found if is_alive(pid)}

    def _remove_groups(self) -> None:
        for _ in range(20):  # a group can be removed a moment after its last process
            if not self._groups.exists():
                return
            for folder, _, _ in os.walk(self._groups, topdown=False):
                with contextlib.suppress(OSError):
                    Path(folder).rmdir()
            time.sleep(0.05)

    # ---- status -------------------------------------------------------------------------------------------------

    def status(self) -> str:
        """Daemons, nodes and jobs, to be read by people."""
        names = ["munged", "slurmctld", *(f"slurmd.{node}" for node in NODES)]
        names += ["slurmdbd", "mariadbd"] if self.pid("slurmdbd") else []
        lines = [f"{name:12} {f'up, process {pid}' if (pid := self.pid(name)) else 'down'}" for name in names]
        if self.pid("slurmctld"):
            lines += ["", self.run("sinfo", "-N", "-o", "%N %P %t %c %m %G").stdout, self.run("squeue").stdout]
        return "\n".join(lines).rstrip()

    def is_running(self) -> bool:
        """True when the controller and every node's daemon run."""
        return all(self.pid(name) for name in ("slurmctld", *(f"slurmd.{node}" for node in NODES)))

    def pid(self, name: str) -> int | None:
        """The process of a daemon (``slurmctld``, ``slurmd.c1``, …), None when it does not run."""
        try:
            pid = int(self._pid_file(name).read_text())
        except (OSError, ValueError):
            return None
        return pid if is_alive(pid) and name.partition(".")[0] in command_name(pid) else None

    def run(self, *command: str, input: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command as a client of this cluster; its output is captured, its exit code not looked at."""
        return subprocess.run(
            [which(command[0]) or command[0], *command[1:]],
            env=self._clean(), input=input or "", capture_output=True, text=True, timeout=60,
        )  # fmt: skip

    # ---- its own ------------------------------------------------------------------------------------------------

    @property
    def _conf(self) -> Path:
        return self.folder / "etc/slurm.conf"

    def _pid_file(self, name: str) -> Path:
        return self.folder / ("munge/pid" if name == "munged" else f"run/{name}.pid")

    def _clean(self) -> dict[str, str]:
        """The environment without what another Slurm, or a job of one, has set."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM", "SBATCH", "SQUEUE"))}
        return kept | self.environment

    def _launch(self, name: str, *command: str) -> None:
        """Start a daemon, which leaves for the background by itself, and then writes the file with its process id."""
        done = self.run(*command)
        if done.returncode:
            words = (done.stderr or done.stdout).strip()
            raise ClusterError(f"{command[0]} does not start: {words or done.returncode}; see {self.folder}/log")
        if name and not wait_for(lambda: self.pid(name) is not None, 10):
            raise ClusterError(f"{command[0]} ended at once; see {self.folder}/log")

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def which(name: str) -> str | None:
    """A program's path; daemons are in /usr/sbin, which not every user's PATH has."""
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin:/usr/local/sbin")


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    """Ask until it is true, or the time is over."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def is_alive(pid: int) -> bool:
    """True when the process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def command_name(pid: int) -> str:
    """The name of its program, "" when it is gone."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def is_step(pid: int) -> bool:
    """True for slurmstepd, which looks after one step of a job."""
    return command_name(pid).startswith("slurmstepd")


def free_ports(base: int) -> int:
    """The first base from this one on whose ports are all free on 127.0.0.1."""
    for start in range(base, 65000, 20):
        if all(is_free(start + offset) for offset in PORTS):
            return start
    raise ClusterError(f"no free ports from {base} on: give another --port-base")


def is_free(port: int) -> bool:
    """True when this port is free to listen on."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="A private Slurm of four nodes on this host.")
    parser.add_argument("action", choices=["start", "stop", "status", "env"])
    parser.add_argument("--folder", help="for all its files (default: slurm-cluster below the temporary directory)")
    parser.add_argument("--port-base", type=int, help=f"first of its ports (default: {PORT_BASE})")
    parser.add_argument("--accounting", action="store_true", help="with slurmdbd and MariaDB, for sacct")
    options = parser.parse_args(arguments)
    cluster = Cluster(options.folder, options.port_base, options.accounting)
    try:
        if options.action in ("start", "stop"):
            getattr(cluster, options.action)()
        elif options.action == "status":
            print(cluster.status())
        else:
            print("\n".join(f"export {name}='{value}'" for name, value in cluster.environment.items()))
    except ClusterError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
