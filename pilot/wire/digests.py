"""Digests of values, the same for equal values in any process."""

from __future__ import annotations

import hashlib
import io
import logging
import pickle
from collections.abc import Callable, Iterable
from pickle import _Unpickler as Unpickler  # in Python: only its opcodes can be read another way
from types import FunctionType
from typing import Any, ClassVar

from pilot.wire import payload, pickles

log = logging.getLogger(__name__)

_Bytes = bytes | bytearray | memoryview
#: Where a function or a class stands: among what a function finds as globals and the attributes of a class, and among
#: the arguments of `types.CodeType` (file, first line, table of lines).
_PLACES = ("__file__", "__path__", "__firstlineno__")
_PLACES_OF_CODE = (10, 13, 14)
_PLAIN = frozenset((type(None), bool, int, float, str))
_UNORDERED = (set, frozenset)
#: The digests of functions and classes that are kept, at most; and those, by digests of their whole pickles.
MOST_KEPT = 1000
_kept: dict[bytes, bytes] = {}
#: How a pickle of protocol 5 begins.
_PICKLE = pickle.PROTO + b"\5"


def digest_of_value(value: Any) -> bytes:
    """The same for equal arguments, also in another process: each value in a list, tuple, dict or set counts by itself,
    whatever other values it shares objects with. Other objects count by their pickles."""
    kind = type(value)
    if kind is list or kind is tuple:
        return _digest(kind.__name__, [digest_of_value(one) for one in value])
    if kind is set or kind is frozenset:
        return _digest(kind.__name__, sorted(digest_of_value(one) for one in value))
    if kind is dict:
        pairs = (digest_of_value(key) + digest_of_value(one) for key, one in value.items())
        return _digest(kind.__name__, sorted(pairs))
    if kind in _PLAIN:
        return _digest(kind.__name__, [_encoded(_text(value))])
    data, *buffers = payload.pieces(value, _Comparing)
    return _digest(kind.__name__, [_digest_of_pickle(bytes(data)), *buffers])


def digest_of_code(data: bytes) -> bytes:
    """The digest of the pickle of a function or a class, which many tasks have: it is kept."""
    key = _digest("code", [data])
    if (digest := _kept.get(key)) is None:
        if len(_kept) >= MOST_KEPT:
            _kept.clear()
        digest = _kept[key] = _digest_of_pickle(data)
    return digest


def _digest_of_pickle(data: bytes) -> bytes:
    """The same for pickles of the same functions and objects. What differs in the next run of a script does not count:
    cloudpickle's names of classes, the order of sets, and where in which file a function stands."""
    data = pickles.without_trackers(data)
    if b"CodeType" in data or pickle.EMPTY_SET in data or pickle.FROZENSET in data:
        try:
            return _digest_of_parts(_Parts(io.BytesIO(data), buffers=_Numbers()).load(), {})
        except Exception:  # bytes that only look like a pickle, or one so deep that the order of its sets counts
            log.debug("%d bytes are compared as they are", len(data), exc_info=True)
    return _digest("pickle", [data])


def _digest(kind: str, parts: Iterable[_Bytes]) -> bytes:
    digest = hashlib.blake2b(kind.encode(), digest_size=16)
    for part in parts:
        digest.update(part)
    return digest.digest()


def _digest_of_parts(value: Any, known: dict[int, bytes]) -> bytes:
    """The digest of what `_Parts` has read. ``known``: by id, those of what was met before."""
    kind = type(value)
    if kind is bytes and value[:2] == _PICKLE:  # of a function that another one calls
        return _digest_of_pickle(value)
    if kind not in (list, tuple, dict, set, frozenset, _Made):
        return _digest(kind.__name__, [value if kind in (bytes, bytearray) else _encoded(_text(value))])
    if kind in (list, tuple, set, frozenset) and _PLAIN.issuperset(map(type, value)):  # much quicker for a long one
        texts = [_text(one) for one in value]
        return _digest(f"plain {kind.__name__}", [_encoded(repr(sorted(texts) if kind in _UNORDERED else texts))])
    if (digest := known.get(id(value))) is None:
        known[id(value)] = b"a part of itself"
        parts = value.parts if kind is _Made else value
        if kind is dict:
            parts = [one for key, part in value.items() if key not in _PLACES for one in (key, part)]
        digests = [_digest_of_parts(one, known) for one in parts]
        digest = known[id(value)] = _digest(kind.__name__, sorted(digests) if kind in _UNORDERED else digests)
    return digest


def _text(value: Any) -> str:
    try:
        return repr(value)
    except ValueError:  # an int of more digits than Python writes
        return hex(value)


def _encoded(text: str) -> bytes:
    return text.encode(errors="surrogatepass")


class _Made:
    """What a pickle makes by a call, or calls by its name: it is not made here, but has what it would be made of."""

    def __init__(self, *parts: Any) -> None:
        self.parts = list(parts)

    def __call__(self, *args: Any) -> _Made:
        is_code = self.parts[1:] == ["CodeType"]
        return _Made(self, *(one for at, one in enumerate(args) if not (is_code and at in _PLACES_OF_CODE)))

    def append(self, item: Any) -> None:
        self.parts.append(item)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.parts += (key, value)


class _Comparing(pickles.Pickler):
    """Functions and classes that travel by value are pickled as their digests."""

    def reducer_override(self, value: Any) -> Any:
        if issubclass(type(value), type | FunctionType) and pickles.find(value) is None:
            return _Made, (digest_of_code(pickles.dumps_by_value(value)),)
        return super().reducer_override(value)


class _Numbers:
    """Stands for the buffers beside a pickle: their numbers."""

    def __init__(self) -> None:
        self._next = 0

    def __iter__(self) -> _Numbers:
        return self

    def __next__(self) -> bytes:
        self._next += 1
        return b"buffer %d" % self._next


class _Parts(Unpickler):
    """Reads what a pickle is made of. Nothing is imported, and nothing is called."""

    dispatch: ClassVar[dict[int, Any]] = dict(Unpickler.dispatch)
    stack: list[Any]
    pop_mark: Callable[[], list[Any]]

    def load(self) -> list[Any]:
        """The value, and what was called for its effect alone, such as to give an object its state."""
        self._dropped: list[Any] = []
        return [super().load(), self._dropped]

    def find_class(self, module: str, name: str) -> Any:
        return _Made(module, name)

    def _make(self) -> None:
        args = self.stack.pop()
        self.stack[-1] = _Made(self.stack[-1], args)

    def _make_with_names(self) -> None:
        kwargs, args = self.stack.pop(), self.stack.pop()
        self.stack[-1] = _Made(self.stack[-1], args, kwargs)

    def _build(self) -> None:
        state = self.stack.pop()
        self.stack[-1].parts.append(state)

    def _pop(self) -> None:
        if self.stack:
            self._dropped.append(self.stack.pop())
        else:
            self.pop_mark()

    dispatch[pickle.NEWOBJ[0]] = _make
    dispatch[pickle.NEWOBJ_EX[0]] = _make_with_names
    dispatch[pickle.BUILD[0]] = _build
    dispatch[pickle.POP[0]] = _pop
