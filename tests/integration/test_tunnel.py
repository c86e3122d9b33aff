"""An agent that reaches its manager through OpenSSH's client only, with a real sshd."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from pilot import PilotDescription, PilotManager
from pilot.errors import PilotFailed, SessionError
from pilot.states import PilotState
from pilot.wire.addresses import split
from pilot.wire.session import SessionFolder
from pilot.wire.tunnel import Tunnel

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
needs_sshd = pytest.mark.skipif(
    SSHD is None or shutil.which("ssh") is None,
    reason="LEFT OUT: no sshd or ssh here (apt-get install openssh-server openssh-client)",
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def login(tmp_path: Path, eventually: Callable[..., object]) -> Iterator[tuple[str, ...]]:
    """The words of a tunnel to a login node, which is this host."""
    folder, port = tmp_path / "ssh", free_port()
    folder.mkdir(mode=0o700)
    for name in ("host", "own"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    shutil.copy(folder / "own.pub", folder / "authorized")
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # what Debian's unit does before it starts sshd
    (folder / "config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\nAuthorizedKeysFile "
        f"{folder}/authorized\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\n"
    )
    with (folder / "log").open("wb") as log:
        assert SSHD is not None
        server = subprocess.Popen([SSHD, "-f", folder / "config", "-D", "-e"], stdin=subprocess.DEVNULL, stderr=log)
    try:
        eventually(lambda: server.poll() is not None or answers(port))
        assert server.poll() is None, (folder / "log").read_text()
        yield (
            *("ssh", "-F", "none", "-p", str(port), "-i", str(folder / "own"), "-o", "IdentitiesOnly=yes"),
            *("-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={folder}/known"),
            f"{getpass.getuser()}@127.0.0.1",
        )
    finally:
        server.terminate()
        server.wait(60)


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def double(number: int) -> int:
    return 2 * number


def tunnels(processes: list[psutil.Process], manager_port: int) -> list[psutil.Process]:
    found = []
    for one in processes:
        try:
            words = one.cmdline()
        except psutil.Error:
            continue
        if "-L" in words and words[words.index("-L") + 1].endswith(f":127.0.0.1:{manager_port}"):
            found.append(one)
    return found


@needs_sshd
def test_a_pilot_through_a_tunnel_that_dies(
    tmp_path: Path,
    login: tuple[str, ...],
    eventually: Callable[..., object],
    leftovers: Callable[[], list[psutil.Process]],
) -> None:
    with PilotManager(tmp_path / "session") as manager:
        pilot = manager.submit_pilot(
            PilotDescription(resource="local://", engine="process", cores_per_node=1, restarts=0, tunnel=login)
        )
        port = split(SessionFolder(manager.session_dir).read_connection().addresses[-1])[1]
        assert manager.submit_task(double, 1).result(timeout=60) == 2
        (ssh,) = tunnels(leftovers(), port)
        way = int(ssh.cmdline()[ssh.cmdline().index("-L") + 1].split(":")[1])
        agent = ssh.parent()
        assert agent is not None
        remote = {one.raddr.port for one in agent.net_connections("tcp") if one.raddr}
        assert way in remote and port not in remote, "the agent does not use the tunnel"

        ssh.kill()
        results = [manager.submit_task(double, number) for number in range(100)]
        assert [task.result(timeout=60) for task in results] == [2 * number for number in range(100)]
        (again,) = tunnels(leftovers(), port)
        assert again.pid != ssh.pid
        assert pilot.state is PilotState.ACTIVE
        assert not any(task.info.attempts for task in results)
    eventually(lambda: not again.is_running() or again.status() == psutil.STATUS_ZOMBIE)


@needs_sshd
def test_a_tunnel_that_leads_nowhere_fails_the_pilot_and_says_why(tmp_path: Path, login: tuple[str, ...]) -> None:
    wrong = (*login[:4], str(free_port()), *login[5:])
    with PilotManager(tmp_path / "session") as manager:
        pilot = manager.submit_pilot(
            PilotDescription(resource="local://", engine="process", cores_per_node=1, restarts=0, tunnel=wrong)
        )
        with pytest.raises(PilotFailed):
            pilot.wait(timeout=60)
        said = pilot.log_path.read_text()
        assert "the tunnel ssh -N -L" in said and "Connection refused" in said


@needs_sshd
def test_the_same_address_again_after_the_command_died(login: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as target:
        port = target.getsockname()[1]
        tunnel = Tunnel(login)
        try:
            address = tunnel.open(port)
            with socket.create_connection(split(address), 5) as client:
                client.sendall(b"x")
                target.settimeout(5)
                while True:  # the first connections are those that asked whether it is open
                    far, _ = target.accept()
                    with far:
                        if far.recv(1) == b"x":
                            break
            assert tunnel.is_up()
            assert tunnel.open(port) == address
            assert tunnel._process is not None
            tunnel._process.kill()
            tunnel._process.wait(60)
            assert not tunnel.is_up()
            assert tunnel.open(port) == address
            assert tunnel.is_up()
        finally:
            tunnel.close()
        assert not tunnel.is_up()


def test_a_command_that_is_not_there() -> None:
    with pytest.raises(SessionError, match=r"the tunnel no-such-ssh -N -L .* cannot be started"):
        Tunnel(("no-such-ssh", "login1")).open(4711)


def test_a_command_that_opens_nothing_is_ended(tmp_path: Path) -> None:
    script = tmp_path / "ssh"
    script.write_text("#!/bin/sh\necho $$ > $0.pid\necho waiting for a password >&2\nexec sleep 1000\n")
    script.chmod(0o700)
    with pytest.raises(SessionError, match="is not open after 1 s: waiting for a password"):
        Tunnel((str(script), "login1")).open(4711, timeout=1)
    assert not psutil.pid_exists(int(Path(f"{script}.pid").read_text()))


def test_own_options_come_before_the_host() -> None:
    words = Tunnel(("ssh", "-p", "2222", "login1")).command()
    assert words[0] == "ssh" and words[-3:] == ["-p", "2222", "login1"]
    assert "BatchMode=yes" in words and "ExitOnForwardFailure=yes" in words
