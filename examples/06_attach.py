"""A manager is killed in the middle of its work; another one opens the session again and has every result."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from pilot import PilotDescription, PilotManager


def work(number: int) -> int:
    time.sleep(0.02)
    return number


def begin_and_be_killed(session: str) -> None:
    manager = PilotManager(session)
    manager.submit_pilot(PilotDescription(engine="process", cores_per_node=2))
    tasks = manager.map(work, range(200))
    tasks[20].result()
    os.kill(os.getpid(), signal.SIGKILL)


if len(sys.argv) == 2:
    begin_and_be_killed(sys.argv[1])

with TemporaryDirectory() as folder:
    session = str(Path(folder, "session"))
    killed = subprocess.run([sys.executable, __file__, session])
    print("the first manager ended with code", killed.returncode)

    with PilotManager.attach(session) as manager:
        print(sum(task.done() for task in manager.tasks.values()), "results were there at once")
        print("the sum is right:", sum(manager.get_results(manager.tasks.values())) == sum(range(200)))
