"""The tables of the service's store, and the version of their layout."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

#: Of the layout below. A store of an earlier version is changed when it is opened, one of a later version is refused.
VERSION = 2
#: By version: what makes the layout of the next one, where new tables are not enough.
UPGRADES = {1: "ALTER TABLE tasks ADD COLUMN cancel_requested FLOAT"}

#: Characters of the names of a task's QPUs, joined by "|"; what is longer is cut.
QPU_CHARACTERS = 200

metadata = MetaData()

#: One row: the version of the layout.
layout = Table("layout", metadata, Column("version", Integer, nullable=False))

#: One row: the service that has the lock of the store, or had it last.
holder = Table(
    "holder",
    metadata,
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    # Seconds since the epoch.
    Column("since", Float, nullable=False),
)

#: SQLite counts up by itself only with this type.
_Number = BigInteger().with_variant(Integer, "sqlite")

tasks = Table(
    "tasks",
    metadata,
    # In the order in which they were accepted.
    Column("number", _Number, primary_key=True, autoincrement=True),
    # What users know it by: 32 hexadecimal digits from the system's random numbers.
    Column("id", String(32), nullable=False, unique=True),
    Column("user", String(64), nullable=False),
    Column("project", String(64), nullable=False, server_default=""),
    Column("session", String(32), nullable=False, server_default=""),
    # The interface that it came by: "v1", …
    Column("route", String(16), nullable=False),
    Column("name", String(200), nullable=False, server_default=""),
    # "active", or how it ended: "done", "failed", "cancelled", "invalid".
    Column("state", String(12), nullable=False),
    # The QPU that was asked for; once it has ended, the one that it ran on. "": none.
    Column("qpu", String(QPU_CHARACTERS), nullable=False, server_default=""),
    # Seconds since the epoch. Never less than in the row before.
    Column("submitted", Float, nullable=False),
    Column("ended", Float),
    # When its user asked to end it. It is ended as cancelled, unless it has a result first.
    Column("cancel_requested", Float),
    # JSON: the format of the programs, their hashes in order, and the fields of the task.
    Column("work", Text, nullable=False),
    # JSON: what the interface keeps for itself.
    Column("extra", Text, nullable=False, server_default=""),
    # A digest of all that the result depends on; "": it must not be taken from another task.
    Column("content", String(64), nullable=False, server_default=""),
    # JSON: why it did not end well; and the steps that it took, with their times.
    Column("error", Text),
    Column("steps", Text),
    Index("tasks_of_user", "user", "number"),
    Index("tasks_by_state", "user", "state", "number"),
    Index("tasks_by_project", "user", "project", "number"),
    Index("tasks_by_qpu", "user", "qpu", "number"),
    Index("tasks_by_time", "submitted"),
    sqlite_autoincrement=True,
)
Index(
    "tasks_active", tasks.c.number, sqlite_where=tasks.c.state == "active", postgresql_where=tasks.c.state == "active"
)
Index("tasks_of_session", tasks.c.session, sqlite_where=tasks.c.session != "", postgresql_where=tasks.c.session != "")
Index("tasks_by_content", tasks.c.content, sqlite_where=tasks.c.content != "", postgresql_where=tasks.c.content != "")

#: What users called their submissions, so that each is accepted once; a digest of the body, and the ids that it got.
keys = Table(
    "keys",
    metadata,
    Column("user", String(64), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("digest", String(64), nullable=False),
    # Separated by spaces.
    Column("ids", Text, nullable=False),
    Column("created", Float, nullable=False, index=True),
)

#: The texts of programs, each once.
programs = Table(
    "programs",
    metadata,
    Column("hash", String(64), primary_key=True),
    Column("text", Text, nullable=False),
    # How many programs of tasks it is; a text that is none is removed with the last of them.
    Column("uses", _Number, nullable=False),
)

#: The results of tasks that are done: JSON.
results = Table(
    "results",
    metadata,
    Column("number", _Number, primary_key=True, autoincrement=False),
    Column("value", LargeBinary, nullable=False),
)

#: How many tasks each user has in each state, kept up to date with each change.
counters = Table(
    "counters",
    metadata,
    Column("user", String(64), primary_key=True),
    Column("state", String(12), primary_key=True),
    Column("count", _Number, nullable=False),
)

#: Sessions of users: names for groups of tasks.
sessions = Table(
    "sessions",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("user", String(64), nullable=False, index=True),
    Column("name", String(200), nullable=False),
    Column("created", Float, nullable=False),
    Column("closed", Float),
)

#: Who may ask. Of the secret only a digest is kept.
tokens = Table(
    "tokens",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("user", String(64), nullable=False),
    Column("is_admin", Boolean, nullable=False),
    Column("created", Float, nullable=False),
    Column("expires", Float),
    Column("revoked", Float),
)
