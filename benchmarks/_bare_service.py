"""The bare framework beside the service: the same body, checked in the same way, and one commit for each request.

python benchmarks/_bare_service.py FILE PORT
"""

from __future__ import annotations

import secrets
import sqlite3
import sys
import threading

import uvicorn
from fastapi import FastAPI

from pilot.service.models import Accepted, TaskBody

app = FastAPI()
lock = threading.Lock()


@app.post("/v1/tasks", status_code=202)
def submit(body: TaskBody) -> Accepted:
    id = secrets.token_hex(16).upper()
    with lock:
        database.execute("insert into tasks (id, body) values (?, ?)", (id, body.model_dump_json()))
        database.commit()
    return Accepted(ids=[id])


if __name__ == "__main__":
    database = sqlite3.connect(sys.argv[1], check_same_thread=False)
    database.execute("pragma journal_mode=wal")
    database.execute("pragma synchronous=full")
    database.execute("create table tasks (id text primary key, body text)")
    uvicorn.run(app, port=int(sys.argv[2]), log_level="warning", access_log=False)
