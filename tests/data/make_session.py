"""Writes the session of a manager that was killed: what `session_schema_0.zip` has of a version with schema 0.

    python tests/data/make_session.py FOLDER

with the package of that version first on PYTHONPATH. `connection.json`, `journal.sqlite` and `spool/` of the folder
are in the file.
"""

from __future__ import annotations

import contextlib
import math
import operator
import os
import sqlite3
import sys
import time
from pathlib import Path

from pilot import PilotDescription, PilotManager, TaskDescription

folder = Path(sys.argv[1])
child = os.fork()
if child == 0:
    manager = PilotManager(folder)
    manager.submit_pilot(PilotDescription(cores_per_node=1, name="one", walltime=60, orphan_timeout=0.5)).wait()
    bell = 'OPENQASM 2.0; include "qelib1.inc"; qreg q[2]; creg c[2]; h q[0]; cx q[0],q[1]; measure q->c;'
    ended = [
        manager.submit_task(math.factorial, 20),
        manager.submit_task(operator.mul, b"x", 2 << 20),  # a file of the spool
        manager.submit_task(operator.truediv, 1, 0),
        manager.submit_task(TaskDescription(executable=["echo", "hello"], name="greeting")),
    ]
    ended.append(manager.submit_task(abs, ended[2]))  # fails with it
    ended.append(manager.submit_task(TaskDescription(function=time.sleep, args=(60,), timeout=0.5)))
    ended.append(manager.submit_task(TaskDescription(circuit=bell, shots=100, seed=1)))
    manager.wait_tasks(ended)
    manager.submit_task(time.sleep, 2)  # runs when the manager is killed
    manager.submit_task(pow, 2, 2).cancel()
    manager.submit_task(TaskDescription(function=math.hypot, args=(3, 4), walltime=5.0, name="left"))
    manager.submit_task(operator.add, ended[0], 1)
    manager.submit_task(TaskDescription(executable=["echo", "again"]))
    manager.submit_task(TaskDescription(circuit=bell, shots=100, seed=1))
    time.sleep(0.5)  # until it is in the journal
    os._exit(9)
os.waitpid(child, 0)
time.sleep(5)  # the agent ends, since its manager is gone
with contextlib.closing(sqlite3.connect(folder / "journal.sqlite")) as db:
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
