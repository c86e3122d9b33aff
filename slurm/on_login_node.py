"""Run on a login node (in tmux, or with nohup): pilots come and go as Slurm has room, results stay in the session.

    python on_login_node.py SESSION [SITE.toml[:TABLE]]

When it was ended, or the login node was: the same command attaches to the session and goes on.
"""

import sys
from pathlib import Path

from pilot import PilotDescription, PilotManager


def work(number: int) -> int:
    return number * number


session, site = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else ""
if (session / "connection.json").exists():
    manager = PilotManager.attach(session, progress=True)
else:
    manager = PilotManager(session, progress=True)
    wanted = {"resource": "slurm://", "engine": "dask", "number_of_nodes": 2, "cores_per_node": 2, "walltime": 10}
    if site:
        file, _, table = site.partition(":")
        wanted = PilotDescription.from_toml(file, table or None)
    manager.submit_pilot(wanted)
    manager.map(work, range(1000))

with manager:
    tasks = list(manager.tasks.values())
    print("sum of squares:", sum(manager.get_results(tasks)))
