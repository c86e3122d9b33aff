"""The record of a session: what a journal keeps, row by row, and what every implementation of one does.

``sqlite.py`` has the one in a file. `read` in ``recovery.py`` makes of the rows what an attached manager takes over.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple, TypeVar

import msgspec

from pilot.errors import SessionError
from pilot.resources import QPUEstimate
from pilot.results import Outcome, Spooled, Value
from pilot.states import TaskState

#: The layout of the tables; a manager refuses a session of a later one.
SCHEMA = 1

_encode = msgspec.msgpack.Encoder().encode
_decode_spooled = msgspec.msgpack.Decoder(Spooled).decode
_decode_estimates = msgspec.msgpack.Decoder(tuple[QPUEstimate, ...]).decode
_decode_needs = msgspec.msgpack.Decoder(dict[int, bool | int]).decode

#: A value as one column: a file's path and size as text, so that they differ from a pickle.
Packed = bytes | str | None
#: What a task needs, and by which ids its arguments refer to it: as `TaskRecord.needs`.
Needs = dict[int, bool | int]


class Recorded(Outcome, frozen=True, array_like=True, gc=False):
    """An outcome whose value and output are in the journal only."""


# ---- rows: the fields are the columns, in order ---------------------------------------------------------------


class Row(msgspec.Struct, frozen=True, gc=False):
    """Base of all rows. One with the same key takes the place of the one before.

    Fields that come later stand at the end and have a default: a journal that was made before has no such columns.
    """

    table: ClassVar[str]
    #: Whether the first column is the key; else every row is kept.
    keyed: ClassVar[bool] = True


class SessionRow(Row, frozen=True, gc=False):
    """Something about the session: ``schema``, ``path``, ``versions`` (of the last manager), ``firsts`` (the first task
    of each manager), or ``forgotten`` (the last of the tasks that were forgotten)."""

    table = "session"
    key: str
    value: str


class PilotRow(Row, frozen=True, gc=False):
    """A pilot that was requested, and the mark of its last job."""

    table = "pilots"
    id: str
    description: bytes
    mark: str = ""


class PilotChangeRow(Row, frozen=True, gc=False):
    """A pilot's new state, or a job of its own or of further nodes."""

    table = "pilot_changes"
    keyed = False
    pilot: str
    state: str
    reason: str
    #: Of the job that was submitted.
    native_id: str | None
    #: Wall clock, seconds since the epoch.
    time: float
    #: A number of `records.Change`.
    change: int = 0
    #: Number of the job of further nodes; 0: the pilot's own.
    job: int = 0


class PilotParentRow(Row, frozen=True, gc=False):
    """A pilot that takes over from another one."""

    table = "pilot_parents"
    pilot: str
    parent: str


class FunctionRow(Row, frozen=True, gc=False):
    """A function: its number, the digest of its pickle, and the pickle."""

    table = "functions"
    id: int
    digest: str
    name: str
    code: bytes


class TermsRow(Row, frozen=True, gc=False):
    """`Terms`, encoded, and their number."""

    table = "terms"
    id: int
    terms: bytes


class KeyRow(Row, frozen=True, gc=False):
    """The key that a user gave a task, and what was submitted under it: digests by name, encoded."""

    table = "keys"
    key: str
    task: int
    digests: bytes


class TaskRow(Row, frozen=True, gc=False):
    """A task as it was submitted, with the numbers of its function and its terms."""

    table = "tasks"
    id: int
    function: int
    payload: Packed
    terms: int
    name: str | None
    submitted: float
    needs: bytes | None = None


class EstimateRow(Row, frozen=True, gc=False):
    """What is expected of a task on each QPU, encoded: the last that was known."""

    table = "estimates"
    task: int
    estimates: bytes


class ObjectRow(Row, frozen=True, gc=False):
    """An object that was stored, and the name of its class; without a value: it was released."""

    table = "objects"
    id: int
    value: Packed
    kind: str


class AttemptRow(Row, frozen=True, gc=False):
    """An attempt at a task that did not count, as in `Attempt`."""

    table = "attempts"
    keyed = False
    task: int
    number: int
    pilot: str
    worker: str
    reason: str
    ended: float
    batch: int = 0
    #: A number of `records.Change`.
    change: int = 0
    started: float | None = None


class WorkerRow(Row, frozen=True, gc=False):
    """Where a worker was, and the GPUs (with blanks between) and the QPU that it had."""

    table = "workers"
    worker: str
    node: str
    host: str
    gpus: str
    qpu: str | None


class ResultRow(Row, frozen=True, gc=False):
    """How a task ended: with an outcome, or with an error of the manager's."""

    table = "results"
    task: int
    state: str
    status: int | None
    pilot: str | None
    worker: str | None
    bound: float
    started: float | None = None
    seconds: float | None = None
    value: Packed = None
    stdout: str | None = None
    stderr: str | None = None
    #: A number of `errors.ErrorCode`, and the other fields of `Failed`.
    error: int | None = None
    reason: str | None = None
    cause: int | None = None
    first: int | None = None
    links: int | None = None


#: In the order in which rows refer to each other.
KINDS: tuple[type[Row], ...] = (
    SessionRow,
    PilotRow,
    PilotChangeRow,
    PilotParentRow,
    FunctionRow,
    TermsRow,
    KeyRow,
    ObjectRow,
    TaskRow,
    EstimateRow,
    AttemptRow,
    WorkerRow,
    ResultRow,
)

#: Kinds of rows about one task, and the column that has its id.
OF_TASKS: dict[type[Row], str] = {
    KeyRow: "task",
    TaskRow: "id",
    EstimateRow: "task",
    AttemptRow: "task",
    ResultRow: "task",
}

AnyRow = TypeVar("AnyRow", bound=Row)


class EndedRows(NamedTuple):
    """The rows about a task that has ended: without its payload, and without value, stdout and stderr of its result."""

    task: TaskRow
    result: ResultRow
    attempts: list[AttemptRow]
    key: str | None


#: What reading rows ends with when they are not as a manager has written them.
NONSENSE = (msgspec.MsgspecError, ValueError, KeyError, TypeError, AttributeError, AssertionError)


def damaged(journal: str, error: BaseException) -> SessionError:
    """What to raise then."""
    text = f"the journal {journal} is damaged ({type(error).__name__}: {error}): put it back from a copy"
    return SessionError(text, path=journal)


def pack(value: Value) -> Packed:
    """A value as one column."""
    return _encode(value).hex() if isinstance(value, Spooled) else value


def unpack(column: Packed) -> Value:
    """What `pack` took."""
    return _decode_spooled(bytes.fromhex(column)) if isinstance(column, str) else column


def pack_estimates(estimates: Sequence[QPUEstimate]) -> bytes:
    """The column of an `EstimateRow`."""
    return _encode(estimates)


def unpack_estimates(column: bytes) -> tuple[QPUEstimate, ...]:
    """What `pack_estimates` took."""
    return _decode_estimates(column)


def unpack_needs(column: bytes | None) -> Needs:
    """What a task needs, from its column."""
    return _decode_needs(column) if column else {}


# ---- the contract ---------------------------------------------------------------------------------------------


class JournalReader(ABC):
    """Reads the rows of one session."""

    #: How messages call it.
    name: str

    @abstractmethod
    def forked(self) -> None:
        """In a forked child: from now on only single values are read."""

    # ---- all rows, for an attach ----------------------------------------------------------------------------

    @abstractmethod
    def rows(self, kind: type[AnyRow]) -> list[AnyRow]:
        """Every committed row of a kind; those without a key in the order in which they were handed over."""

    @abstractmethod
    def unfinished(self) -> list[TaskRow]:
        """Every task without a result, by id."""

    @abstractmethod
    def ended(self) -> list[int]:
        """The ids of all tasks with a result, in order."""

    @abstractmethod
    def not_done(self) -> list[tuple[int, TaskState]]:
        """The tasks that failed or were cancelled, and which of the two."""

    @abstractmethod
    def kept_arguments(self) -> list[Value]:
        """The large arguments of tasks that failed or were cancelled, and may be submitted again."""

    # ---- single rows and values, from any thread ----------------------------------------------------------------

    @abstractmethod
    def row(self, kind: type[AnyRow], key: int | str) -> AnyRow | None:
        """The committed row with this key.

        Raises:
            SessionError: the journal cannot be read; so do the methods below.
        """

    @abstractmethod
    def ended_between(self, first: int, last: int) -> list[EndedRows]:
        """The tasks with a result whose ids are in this range, both ends included, by id."""

    @abstractmethod
    def value(self, task: int) -> Value:
        """The value of a finished task."""

    @abstractmethod
    def output(self, task: int) -> tuple[str, str]:
        """What a finished task wrote: stdout, stderr."""

    @abstractmethod
    def work(self, task: int) -> tuple[Value, Needs] | None:
        """The arguments of a task, and what it needs; None when it is not committed."""


class Journal(JournalReader):
    """Keeps the rows of one session. A new journal has one row: the `SCHEMA`.

    Rows are handed over without waiting, and committed soon in a thread of its own, in the order in which they refer to
    each other: no result without its task, no task without its function. While nothing can be committed, rows are kept
    and tried again.
    """

    #: Why nothing can be committed now; None: it can.
    trouble: str | None = None

    @abstractmethod
    def start(self, on_commit: Callable[[list[Any]], None]) -> None:
        """Begin to commit.

        Args:
            on_commit: called in the journal's thread with the marks (see `mark`) whose rows are committed.
        """

    @abstractmethod
    def put(self, row: Row) -> None:
        """Hand over a row. Any thread may call it, and `extend` and `mark`."""

    @abstractmethod
    def extend(self, rows: Sequence[Row]) -> None:
        """Hand over rows, all of one kind."""

    @abstractmethod
    def mark(self, mark: Any, *, soon: bool = False) -> None:
        """Hand over a mark: when every row before it is committed it is called in the journal's thread, if it can be
        called, else handed to ``on_commit``. ``soon``: something waits for it, so that it costs time to collect more
        rows first."""

    @abstractmethod
    def forget(self, tasks: Sequence[int]) -> None:
        """Remove the rows about these tasks, those that were handed over before included. Marks that come after this
        are handed back when that is committed. Any thread may call it."""

    @abstractmethod
    def flush(self, timeout: float) -> bool:
        """Block until all that was handed over is committed; False when that takes longer than ``timeout`` seconds. Not
        in the journal's thread."""

    @abstractmethod
    def close(self) -> None:
        """Commit what was handed over (one try), and close. Blocks."""
