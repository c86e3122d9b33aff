"""``ssh://`` with a real sshd: the contract, and what goes wrong on the way."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from pilot_plugins.launchers import ssh_client
from pilot_plugins.launchers.slurm import hosts as slurm_hosts
from pilot_plugins.launchers.ssh import host as ssh_host
from pilot_plugins.launchers.ssh.launcher import SshLauncher
from pilot_plugins.launchers.ssh.scripts import SshId
from pilot_plugins.launchers.ssh_client import SSH
from sshd import MISSING, Sshd

from pilot import PilotDescription, PilotManager
from pilot.errors import DescriptionError, JobRefused, PilotError, PilotFailed
from pilot.interfaces import Job, JobState
from pilot.testing import LauncherContract
from pilot.wire.marks import MARK
from pilot.wire.processes import marked

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    one = Sshd(tmp_path_factory.mktemp("ssh") / "sshd")
    with one.running():
        yield one


@pytest.fixture(autouse=True)
def client(server: Sshd, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sshd]:
    """The client's settings are as they were after each test."""
    monkeypatch.setenv(SSH, server.command)
    monkeypatch.setattr(SshLauncher, "poll_interval", 0.1)
    yield server
    server.know("host")
    server.use("own")


@pytest.fixture
def described(server: Sshd) -> Callable[..., PilotDescription]:
    def make(**fields: Any) -> PilotDescription:
        return PilotDescription(**{"resource": f"ssh://{server.host}", "cores_per_node": 1, **fields})

    return make


class TestSsh(LauncherContract):
    resource = "ssh://"

    @pytest.fixture
    def description(self, server: Sshd) -> PilotDescription:
        return PilotDescription(resource=f"ssh://{server.host}", cores_per_node=1)


def agent_job(make_job: Callable[..., Job], wanted: PilotDescription) -> Job:
    return make_job(wanted, sys.executable, "-c", "print('ran')")


# ---- the way there --------------------------------------------------------------------------------------------------


def test_an_unknown_host_key(client: Sshd, make_job: Any, described: Any) -> None:
    client.know(None)
    with pytest.raises(JobRefused, match=rf"ssh {client.host}: its host key is unknown: log in once by hand"):
        SshLauncher().submit(agent_job(make_job, described()))


def test_a_changed_host_key(client: Sshd, make_job: Any, described: Any) -> None:
    client.know("other")
    with pytest.raises(JobRefused, match=r"its host key has changed: .*ssh-keygen -R"):
        SshLauncher().submit(agent_job(make_job, described()))


def test_a_refused_login(client: Sshd, make_job: Any, described: Any) -> None:
    client.use("stranger")
    with pytest.raises(JobRefused, match=r"the login is refused: .*ssh-copy-id.*Permission denied"):
        SshLauncher().submit(agent_job(make_job, described()))


@pytest.mark.parametrize(
    ("host", "said"), [("me@127.0.0.1:1", "Connection refused"), ("no-such-host.invalid", "resolve")]
)
def test_a_host_that_cannot_be_reached(host: str, said: str, make_job: Any, described: Any) -> None:
    """Another try may succeed, so it is not refused."""
    with pytest.raises(PilotError, match=f"ssh {host}: the host cannot be reached: .*{said}") as caught:
        SshLauncher().submit(agent_job(make_job, described(resource=f"ssh://{host}")))
    assert not isinstance(caught.value, JobRefused)


def test_settings_of_the_users_own_logins(client: Sshd, tmp_path: Path) -> None:
    """Such as of a login node: a terminal that continues, and a forward that a login by hand has taken already."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with (client.folder / "ssh_config").open("a") as file:
            file.write(
                "RequestTTY force\nRemoteCommand tmux attach || tmux\nExitOnForwardFailure yes\n"
                f"LocalForward 127.0.0.1:{taken.getsockname()[1]} localhost:8888\n"
            )
        assert slurm_hosts.Host(client.host, slurm_hosts.run).call(["echo", "hello"]) == (0, "hello\n", "")
        assert ssh_host.Host(client.host).run("echo hello") == (0, "hello\n", "")


def test_a_long_path_of_the_temporary_folder(client: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As sites set TMPDIR for each job; the path of the connection's socket has to be short."""
    folder = tmp_path / ("x" * 60)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    assert ssh_host.Host(client.host).run("echo hello") == (0, "hello\n", "")
    monkeypatch.setattr(ssh_client, "_PARENT_BYTES", 0)  # nowhere
    assert ssh_host.Host(client.host).run("echo hello") == (0, "hello\n", "")
    assert list(folder.iterdir()) == []


def test_no_client(monkeypatch: pytest.MonkeyPatch, make_job: Any, described: Any) -> None:
    monkeypatch.setenv(SSH, "no-such-ssh")
    with pytest.raises(JobRefused, match="no-such-ssh is not on PATH: install OpenSSH's client"):
        SshLauncher().submit(agent_job(make_job, described()))


# ---- what is there --------------------------------------------------------------------------------------------------


def python_that(tmp_path: Path, script: str) -> str:
    """A virtual environment whose Python is this script."""
    path = tmp_path / "venv/bin/python"
    path.parent.mkdir(parents=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)
    return str(tmp_path / "venv")


def test_a_python_that_is_missing(tmp_path: Path, make_job: Any, described: Any) -> None:
    with pytest.raises(JobRefused, match=rf"there is no Python {tmp_path}/none/bin/python on .*: set venv or"):
        SshLauncher().submit(agent_job(make_job, described(venv=str(tmp_path / "none"))))


def test_a_python_of_another_version(tmp_path: Path, make_job: Any, described: Any) -> None:
    code = 'shift; exec {} -c "import sys; sys.version_info = (2, 7); $1" "$2" "$3" "$4"'
    venv = python_that(tmp_path / "own", code.format(sys.executable))
    here = "{}.{}".format(*sys.version_info[:2])
    with pytest.raises(
        JobRefused, match=rf"{venv}/bin/python on .* has Python 2\.7; needed, as here: Python {here}, quantum-pilot"
    ):
        SshLauncher().submit(agent_job(make_job, described(venv=venv)))


def test_a_python_without_the_library(tmp_path: Path, make_job: Any, described: Any) -> None:
    venv = python_that(tmp_path, f'exec {sys.executable} -S -I "$@"')
    with pytest.raises(JobRefused, match=r"cannot load quantum-pilot: .*ModuleNotFoundError.*install it there"):
        SshLauncher().submit(agent_job(make_job, described(venv=venv)))


def test_a_folder_that_the_host_does_not_see(make_job: Any, described: Any) -> None:
    job = agent_job(make_job, described())
    job.folder.rmdir()
    with pytest.raises(JobRefused, match=r"the session folder is not visible there .*No such file.*session_dir"):
        SshLauncher().submit(job)
    job.folder.mkdir()


def test_modules_that_are_not_there(make_job: Any, described: Any) -> None:
    """127: the host has no command ``module``; 1: it has no such module."""
    ended = r"PilotDescription\.modules: `module load no-such-module` ended with code (127: .*not found|1: .*Unable)"
    with pytest.raises(JobRefused, match=ended):
        SshLauncher().submit(agent_job(make_job, described(modules=("no-such-module",))))


def test_what_the_doctor_finds(client: Sshd, tmp_path: Path, described: Any) -> None:
    launcher = SshLauncher()
    (misfit,) = launcher.preflight(described(cores_per_node=100_000))
    assert (misfit.field, misfit.asked) == ("cores_per_node", "100000")
    assert misfit.there.startswith(f"{client.host} has ")
    (misfit,) = launcher.preflight(described(venv=str(tmp_path / "none")))
    assert misfit.field == "resource" and "there is no Python" in misfit.there


@pytest.mark.parametrize(
    "fields",
    [
        {"number_of_nodes": 2},
        {"cores_per_node": None},
        {"queue": "debug"},
        {"exclusive": True},
        {"scheduler_script_commands": ("#SBATCH -x",)},
        {"resource": "ssh://"},
        {"resource": "ssh://-oProxyCommand=x"},
        {"conda_environment": "q", "container": ("apptainer", "exec", "q.sif")},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_what_it_cannot_start(fields: dict[str, Any], described: Any) -> None:
    with pytest.raises(DescriptionError, match=next(iter(fields))):
        SshLauncher().check_fields(described(**fields))
        SshLauncher().check(described(**fields))


# ---- the state of jobs ----------------------------------------------------------------------------------------------


def test_a_host_that_is_away_ends_no_job(client: Sshd, make_job: Any, described: Any, eventually: Any) -> None:
    launcher = SshLauncher()
    job = make_job(described(), "sleep", "60")
    id = launcher.submit(job)
    eventually(lambda: launcher.status({id: job.folder})[id][0] is JobState.RUNNING)
    another = SshLauncher()  # with a connection of its own
    client.know("other")
    eventually(lambda: another.status({id: job.folder})[id][1].count("has changed"))
    assert another.status({id: job.folder})[id][0] is JobState.UNKNOWN
    client.know("host")
    eventually(lambda: another.status({id: job.folder})[id][0] is JobState.RUNNING)
    another.cancel(id, job.environment[MARK])


def test_a_job_of_another_start_of_the_host_has_ended(make_job: Any, described: Any, eventually: Any) -> None:
    launcher = SshLauncher()
    job = make_job(described(), "sleep", "60")
    id = SshId.parse(launcher.submit(job))
    before = str(id._replace(boot="00000000-0000-0000-0000-000000000000"))
    eventually(lambda: launcher.status({before: job.folder})[before][1].endswith("the host was started anew"))
    later = str(id._replace(start="1"))
    eventually(
        lambda: launcher.status({later: job.folder})[later] == (JobState.ENDED, mentions(id, "the agent is gone"))
    )
    launcher.cancel(later, "0" * 32)  # another process: it is left alone
    assert marked(job.environment[MARK])
    launcher.cancel(str(id), job.environment[MARK])


def mentions(id: SshId, what: str) -> str:
    return f"process {id.pid} on {id.host}: {what}"


# ---- pilots ---------------------------------------------------------------------------------------------------------


def where() -> tuple[str, str | None]:
    return str(Path.cwd()), os.environ.get("SSH_CONNECTION")


def test_a_pilot(tmp_path: Path, described: Any, eventually: Any) -> None:
    """Its tasks run in a session of sshd's; it outlives the connection, and ends with its manager."""
    with PilotManager(tmp_path / "session", address="127.0.0.1") as manager:
        pilot = manager.submit_pilot(described(name="far", engine="process"))
        folder, connection = manager.submit_task(where).result(60)
        assert folder == str(Path.cwd())
        assert connection is not None and "127.0.0.1" in connection
        eventually(lambda: pilot.job.endswith(": running"))
        mark = mark_in(manager.session_dir / "pilots" / pilot.id / "agent.json")
        assert marked(mark)
    eventually(lambda: not marked(mark))


def test_a_pilot_that_cannot_be_says_why(client: Sshd, tmp_path: Path, described: Any) -> None:
    client.use("stranger")
    with PilotManager(tmp_path / "session", address="127.0.0.1") as manager:
        pilot = manager.submit_pilot(described())
        with pytest.raises(PilotFailed, match="the login is refused"):
            pilot.wait(60)


def test_nothing_is_left_of_a_manager_that_was_killed(tmp_path: Path, server: Sshd, eventually: Any) -> None:
    program = f"""
import os, signal
from pilot import PilotDescription, PilotManager
manager = PilotManager({str(tmp_path / "session")!r}, address="127.0.0.1")
pilot = manager.submit_pilot(
    PilotDescription(resource="ssh://{server.host}", cores_per_node=1, engine="process", orphan_timeout=5)
)
assert manager.submit_task(pow, 2, 3).result(60) == 8
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    mark = mark_in(tmp_path / "session/pilots/pilot-1/agent.json")
    assert marked(mark)
    eventually(lambda: not marked(mark), timeout=90)


def mark_in(settings: Path) -> str:
    mark: str = json.loads(settings.read_text())["mark"]
    return mark


def test_a_job_outlives_its_connection(
    make_job: Any, described: Any, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host is one of the user's configuration; the shared connection ends with the launcher at the latest."""
    with tempfile.TemporaryDirectory(prefix="t-") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        launchers = [SshLauncher()]
        job = make_job(described(resource="ssh://far"), "sleep", "60")
        id = launchers[0].submit(job)
        (before,) = connections(folder)
        before.kill()
        eventually(lambda: launchers[0].status({id: job.folder})[id][0] is JobState.RUNNING)
        assert connections(folder) != [before]
        assert launchers[0].find(job.description, "pilot-1", job.environment[MARK]) == id
        launchers[0].cancel(id, job.environment[MARK])
        assert launchers[0].find(job.description, "pilot-1", job.environment[MARK]) is None
        launchers.clear()
        eventually(lambda: not connections(folder))


def connections(folder: str) -> list[psutil.Process]:
    """Processes of ssh that keep a connection open: their names say with which socket."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if any(folder in word and "[mux]" in word for word in process.cmdline()):
                found.append(process)
    return found


def test_it_never_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SSH, "ssh")
    words = ssh_host.connection("me@node7:2222", test_it_never_asks)
    assert "BatchMode=yes" in words
    assert words[-6:] == ("-p", "2222", "-l", "me", "node7", "--")
