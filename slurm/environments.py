"""Tries environments: one task on a pilot of each table of a profile.

    python environments.py FILE.toml [TABLE ...]

It prints which Python has run each task, which modules and which conda environment were loaded there, and the root of
the file system, which in a container is not the node's.
"""

import os
import sys
from pathlib import Path

from pilot import PilotDescription, PilotManager
from pilot.profiles import profile_tables


def where() -> dict[str, str]:
    names = ("LOADEDMODULES", "CONDA_DEFAULT_ENV", "SLURM_JOB_ID")
    return {
        "python": sys.executable,
        "root": str(Path("/").stat().st_ino),
        **{name: os.environ.get(name, "") for name in names},
    }


file, *tables = sys.argv[1:]
with PilotManager() as manager:
    tasks = {}
    for table in tables or profile_tables(file):
        manager.submit_pilot(PilotDescription.from_toml(file, table, name=table))
        tasks[table] = manager.submit_task({"function": where, "pilot": table})
    for table, task in tasks.items():
        print(table, *(f"{name}={value}" for name, value in task.result().items()))
