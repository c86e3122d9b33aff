"""Objects: values that are stored once in a session and that any number of tasks use."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Generic

from pilot.errors import SessionError
from pilot.fields import FileWord
from pilot.manager.journal import ObjectRow, pack, unpack
from pilot.manager.state import SessionState
from pilot.publishing import publish
from pilot.results import Spooled
from pilot.wire.arguments import digest_of, dump_object, load_object, refer_object

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    V = TypeVar("V", default=Any)  # `ObjectRef` alone is `ObjectRef[Any]`
else:
    from typing import TypeVar

    V = TypeVar("V")


class ObjectRef(FileWord, Generic[V]):
    """A reference to a value that `PilotManager.put` has stored.

    As an argument of a task, at any depth, it stands for the value as it was when it was stored. The value's large
    arrays are read-only in the task. In the command of a program or MPI program it stands for the path of a file with
    the value's bytes; then the value must be ``bytes`` or a ``bytearray``.

    The value is kept until `release` is called, until nothing refers to this object any more, or until the session is
    removed; and then until the tasks that use it are done. Tasks that failed or were cancelled keep it until they are
    forgotten, since they may be submitted again.
    """

    def __init__(self, id: int, value: Spooled, kind: str, objects: Objects) -> None:
        #: Its number in the session, from 1 on.
        self.id = id
        #: Its files, for the library.
        self.value = value
        #: The name of the value's class.
        self.kind = kind
        self._objects = objects
        self._digest: bytes | None = None
        self._end = weakref.finalize(self, objects.dropped, id, value)
        self._end.atexit = False

    @property
    def size(self) -> int:
        """Bytes of the pickled value."""
        return self.value.size

    @property
    def released(self) -> bool:
        """True when it may not be used any more."""
        return not self._end.alive

    def get(self) -> V:
        """The value, with read-only arrays; large ones are mapped, not copied. Each call loads it anew.

        Raises:
            SessionError: it was released, or its file is gone with the session's folder.
        """
        if self.released:
            raise SessionError(f"object {self.id} ({self.kind}) was released: put the value again", object=self.id)
        value: V = self._objects.load(self)
        return value

    def release(self) -> None:
        """Let the value go when the tasks that were submitted with it are done. Nothing happens the second time.

        Raises:
            SessionError: the manager is closed, or this process was forked from the manager's.
        """
        self._objects.state.check_open()
        if self._end.detach() is not None:
            self._objects.release(self.id, self.value)

    def digest(self) -> bytes:
        """A digest of the value's pickle: by it tasks with keys are compared. The first call reads the value."""
        if self._digest is None:
            self._digest = digest_of(self.value, self._objects.state.spool)
        return self._digest

    def is_of(self, state: SessionState) -> bool:
        """True for an object of this session."""
        return self._objects.state is state

    def check_file(self) -> None:
        if self.kind not in ("bytes", "bytearray"):
            raise ValueError(
                f"an object of bytes; object {self.id} is a {self.kind}: put its bytes, as a file has them"
            )

    def __reduce__(self) -> Any:
        return refer_object(self)

    def __repr__(self) -> str:
        released = " released" if self.released else ""
        return f"<ObjectRef {self.id} {self.kind}, {self.size:,} bytes{released}>"


class ObjectFile:
    """A word of a program's command: in the worker it is the path of the object's file."""

    def __init__(self, ref: ObjectRef) -> None:
        self._ref = ref

    def __reduce__(self) -> Any:
        return refer_object(self._ref, as_file=True)


class Objects(Mapping[int, ObjectRef]):
    """The objects of one session that are not released, by id. Any thread may call it."""

    def __init__(self, state: SessionState) -> None:
        self.state = state
        self._ids = itertools.count(1)
        #: What somebody holds; and what the manager before had, until it is released.
        self._held: weakref.WeakValueDictionary[int, ObjectRef] = weakref.WeakValueDictionary()
        self._adopted: dict[int, ObjectRef] = {}

    def put(self, value: V) -> ObjectRef[V]:
        """As `PilotManager.put`."""
        self.state.check_open()
        kind = type(value).__qualname__
        spooled = dump_object(value, self.state.files)
        ref: ObjectRef[V] = ObjectRef(next(self._ids), spooled, kind, self)
        self._held[ref.id] = ref
        self.state.journal.put(ObjectRow(ref.id, pack(spooled), kind))
        return ref

    def load(self, ref: ObjectRef) -> Any:
        """The value of an object."""
        try:
            return load_object(ref.value, self.state.spool)
        except FileNotFoundError as error:
            path = str(error.filename)
            raise SessionError(f"object {ref.id} ({ref.kind}) is gone with its file {path}", path=path) from error

    def release(self, id: int, value: Spooled) -> None:
        """An object is used by no new task."""
        self._adopted.pop(id, None)
        self._held.pop(id, None)
        self.state.journal.put(ObjectRow(id, None, ""))
        self.state.journal.mark(partial(self.state.files.release, value.files))

    def dropped(self, id: int, value: Spooled) -> None:
        """Nothing refers to an object any more. The garbage collector calls this, at any time and in any thread: it
        takes no lock."""
        if not self.state.is_foreign and not self.state.is_closed:
            self.state.mailbox.put(partial(self.release, id, value))

    def take_over(self, rows: list[ObjectRow]) -> None:
        """Hold what the manager before had."""
        for row in rows:
            if isinstance(value := unpack(row.value), Spooled):
                self._adopted[row.id] = self._held[row.id] = ObjectRef(row.id, value, row.kind, self)
        self._ids = itertools.count(max((row.id for row in rows), default=0) + 1)

    # ---- a mapping --------------------------------------------------------------------------------------------

    def __getitem__(self, id: int) -> ObjectRef:
        return self._held[id]

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self._held.keys()))

    def __len__(self) -> int:
        return len(self._held)

    def __repr__(self) -> str:
        return repr(dict(self))


def words_of(command: Sequence[Any]) -> tuple[Any, ...]:
    """The words of a command; objects among them become paths where they are loaded."""
    return tuple(ObjectFile(word) if isinstance(word, ObjectRef) else word for word in command)


publish(ObjectRef)
