"""What every test may use, and the check that the suite leaves no process behind."""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from pilot.descriptions import PilotDescription
from pilot.interfaces import Job
from pilot.testing import polling
from pilot.wire.marks import MARK
from pilot.wire.processes import marked

for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) == signal.SIG_IGN:  # as a shell starts what is to run in the background
        signal.signal(number, handler)

#: In the environment of everything that this run of the suite starts: other runs are not to be blamed.
SUITE_MARK = "PILOT_TEST_SUITE"


@pytest.fixture(scope="session")
def eventually() -> Callable[..., object]:
    """``eventually(condition, timeout=60)``: what the condition returns, as soon as that is true."""
    return polling.eventually


@pytest.fixture(scope="session")
def leftovers() -> Callable[[], list[psutil.Process]]:
    """The agents that this run has started, and their processes, that are alive now."""
    return agent_processes


@pytest.fixture(scope="session", autouse=True)
def no_process_left_behind() -> Iterator[None]:
    """Fails the run when an agent, or a process of an agent, outlives the last test by a minute."""
    os.environ[SUITE_MARK] = str(os.getpid())
    yield
    polling.eventually(lambda: not agent_processes(), timeout=60, complaint=lambda: f"left behind: {agent_processes()}")


@pytest.fixture
def make_job(tmp_path: Path) -> Iterator[Callable[..., Job]]:
    """``make_job(description, *command, **environment)``: a job for a launcher, with a mark and a folder of its own;
    no process of it may be left after the test."""
    made: list[Job] = []

    def make(description: PilotDescription, *command: str, **environment: str) -> Job:
        pilot = f"pilot-{len(made) + 1}"
        folder = tmp_path / pilot
        folder.mkdir()
        made.append(
            Job(
                pilot=pilot,
                command=command,
                environment={**description.environment, MARK: secrets.token_hex(16), **environment},
                description=description,
                folder=folder,
                log_path=folder / "agent.log",
            )
        )
        return made[-1]

    yield make
    for job in made:
        assert not marked(job.environment[MARK])


def agent_processes() -> list[psutil.Process]:
    """Agents mark every process they start with PILOT_AGENT; a zombie has ended, and waits to be reaped."""
    found = []
    for process in psutil.process_iter():
        try:
            environment = process.environ()
            if (
                "PILOT_AGENT" in environment
                and environment.get(SUITE_MARK) == os.environ[SUITE_MARK]
                and process.status() != psutil.STATUS_ZOMBIE
            ):
                found.append(process)
        except psutil.Error:  # another user's, or gone meanwhile
            continue
    return found
