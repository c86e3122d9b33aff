"""``ssh://host``, ``ssh://user@host:port``: the pilot is a process on a host that OpenSSH's client reaches.

ssh asks nothing (BatchMode); the user's ``~/.ssh/config`` holds. The session folder must have the same path on the
host: the agent reads there what it is to do, and workers leave large results there. QUANTUM_PILOT_SSH names another
command than ``ssh``, such as ``ssh -F my_config``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pilot.descriptions import PilotDescription
from pilot.errors import JobRefused, PilotError
from pilot.interfaces import Job, JobState, Launcher, Misfit, Refusal
from pilot_plugins.launchers.fields import no_batch_system
from pilot_plugins.launchers.ssh import scripts
from pilot_plugins.launchers.ssh.host import Host, in_one_line, python_path
from pilot_plugins.launchers.ssh.scripts import SshId
from pilot_plugins.launchers.ssh_client import is_host

_REFUSED = {
    **no_batch_system("ssh://"),
    "number_of_nodes": Refusal("1 with ssh://, which is one host: ask for a pilot for each", applies=False),
}


class SshLauncher(Launcher):
    """Starts the agent in a session of its own, so that it outlives the connection, and asks the host about it."""

    poll_interval = 1.0
    remote = True

    def __init__(self) -> None:
        self._hosts: dict[str, Host] = {}

    def refusal(self, resource: str, field: str) -> Refusal | None:
        return _REFUSED.get(field)

    def check(self, description: PilotDescription) -> None:
        """A host, and the number of cores."""
        _host_of(description)
        if description.cores_per_node is None:
            raise description.wrong("cores_per_node", "the cores of the host that this pilot may use")
        if description.container and description.conda_environment:
            raise description.wrong("conda_environment", "none with a container, which has its own Python")

    def preflight(self, description: PilotDescription) -> list[Misfit]:
        """Logs in, loads the environment, and starts its Python."""
        host = self._host(_host_of(description))
        code, output, errors = host.run(scripts.check(description), _needs_login_shell(description))
        if code:
            why = str(_not_started(host.name, code, output, errors))
            return [Misfit("resource", description.resource, why)]
        there, asked = scripts.cores(output), description.cores
        if there is not None and there < asked:
            return [Misfit("cores_per_node", str(asked), f"{host.name} has {there} cores")]
        return []

    def submit(self, job: Job) -> str:
        wanted = job.description
        host = self._host(_host_of(wanted))
        code, output, errors = host.run(scripts.start(job, python_path()), _needs_login_shell(wanted))
        id = scripts.started(output, host.name)
        if id is None:
            raise _not_started(host.name, code, output, errors)
        return str(id)

    def find(self, description: PilotDescription, pilot: str, mark: str) -> str | None:
        host = self._host(_host_of(description))
        _, output, _ = host.run(scripts.find(mark))
        id = scripts.started(output, host.name)
        return None if id is None else str(id)

    def status(self, jobs: Mapping[str, Path]) -> Mapping[str, tuple[JobState, str]]:
        by_host: dict[str, dict[SshId, Path]] = {}
        for native_id, folder in jobs.items():
            id = SshId.parse(native_id)
            by_host.setdefault(id.host, {})[id] = folder
        states: dict[str, tuple[JobState, str]] = {}
        for name, ids in by_host.items():
            host = self._host(name)
            known = host.look(ids, self.poll_interval)
            for id in ids:
                states[str(id)] = _state(id, known.get(id), host.trouble)
        return states

    def cancel(self, native_id: str, mark: str) -> None:
        id = SshId.parse(native_id)
        host = self._host(id.host)
        _, output, errors = host.run(scripts.end(id, mark))
        host.forget(id)
        if scripts.left(output):
            raise PilotError(
                f"processes of a pilot on {id.host} do not end: {in_one_line(output)} {in_one_line(errors)}"
            )

    def _host(self, name: str) -> Host:
        if (host := self._hosts.get(name)) is None:
            host = self._hosts.setdefault(name, Host(name))  # another thread may have made one meanwhile
        return host


def _host_of(description: PilotDescription) -> str:
    where = description.resource.partition("://")[2].rstrip("/")
    if not is_host(where):
        raise description.wrong("resource", "ssh://host, or ssh://user@host:port")
    return where


def _state(id: SshId, known: tuple[bool, str] | None, trouble: str) -> tuple[JobState, str]:
    where = f"process {id.pid} on {id.host}"
    if known is not None and not known[0]:
        return JobState.ENDED, f"{where}: {known[1]}"
    if trouble or known is None:
        return JobState.UNKNOWN, f"{where}: {trouble or 'not asked yet'}"
    return JobState.RUNNING, f"{where}: running"


def _needs_login_shell(description: PilotDescription) -> bool:
    """A login shell knows ``module`` and ``conda``."""
    return bool(description.modules or description.conda_environment)


def _not_started(host: str, code: int, output: str, errors: str) -> PilotError:
    said = in_one_line(output) or in_one_line(errors) or "no output"
    if code == scripts.REFUSED:
        return JobRefused(f"ssh {host}: {output.strip().splitlines()[-1].strip()}")
    if code == scripts.NO_FOLDER:
        return JobRefused(
            f"ssh {host}: the session folder is not visible there ({in_one_line(errors)}): set session_dir to a folder "
            "on a file system that both hosts have under the same path"
        )
    return PilotError(f"ssh {host}: the agent was not started (code {code}): {said}")
