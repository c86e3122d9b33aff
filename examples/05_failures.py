"""A task that raises, one that takes too long, one that is tried again, and one whose worker is killed."""

import os
import signal
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from pilot import PilotDescription, PilotManager, TaskDescription


def third_time_lucky(notes: str) -> str:
    with Path(notes).open("a+") as file:
        file.write("tried\n")
        file.seek(0)
        tries = len(file.readlines())
    if tries < 3:
        raise RuntimeError(f"no luck at try {tries}")
    return f"lucky at try {tries}"


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


with TemporaryDirectory() as folder, PilotManager() as manager:
    manager.submit_pilot(PilotDescription(engine="process", cores_per_node=2))
    notes = str(Path(folder, "notes"))
    tasks = [
        manager.submit_task(int, "not a number"),
        manager.submit_task(TaskDescription(function=time.sleep, args=[60], timeout=0.5)),
        manager.submit_task(TaskDescription(function=third_time_lucky, args=[notes], retries=2)),
        manager.submit_task(die),
    ]
    for task in tasks:
        error = task.exception()  # the task's own exception, with the remote traceback
        print(f"{task.info.name}: {error!r}" if error else f"{task.info.name}: {task.result()}")
        for attempt in task.info.attempts:
            print(f"    attempt {attempt.number} on {attempt.pilot}: {attempt.reason}")
