"""Run on a login node (in tmux, or with nohup): pilots come and go as Slurm has room, results stay in the session.

    python on_login_node.py SESSION [SITE.toml[:TABLE]]

When it was ended, or the login node was: the same command attaches to the session and goes on. Each task has a name of
its own: what the session does not have by that name is submitted, what failed there or was cancelled (by Ctrl-C, say)
gets another attempt. So it may be killed at any moment.
"""

import sys
from pathlib import Path

from pilot import PilotDescription, PilotManager, PilotState, TaskDescription, TaskState


def work(number: int) -> int:
    return number * number


session, site = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else ""
if (session / "connection.json").exists():
    manager = PilotManager.attach(session, progress=True)
else:
    manager = PilotManager(session, progress=True)

with manager:
    over = (PilotState.DONE, PilotState.FAILED, PilotState.CANCELLED)
    if all(pilot.state in over for pilot in manager.pilots):
        wanted = {"resource": "slurm://", "engine": "dask", "number_of_nodes": 2, "cores_per_node": 2, "walltime": 600}
        if site:
            file, _, table = site.partition(":")
            wanted = PilotDescription.from_toml(file, table or None)
        manager.submit_pilot(wanted)
    tasks = {task.name: task for task in manager.tasks.values()}  # of several attempts the last one
    lost = [task for task in tasks.values() if task.state in (TaskState.FAILED, TaskState.CANCELLED)]
    tasks |= {task.name: task for task in manager.resubmit(lost)}
    for number in range(1000):
        if (name := f"square of {number}") not in tasks:
            tasks[name] = manager.submit_task(TaskDescription(function=work, args=[number], name=name))
    print("sum of squares:", sum(manager.get_results(tasks.values())))
