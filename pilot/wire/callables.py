"""What a callable reads that can change: as long as none of it has changed, its pickle is used again.

A manager keeps the pickle of a function, and a worker the loaded function, as long as its `Snapshot` holds. What reads
something that can change in place has no snapshot: it is pickled at each submission and loaded for each task.
"""

from __future__ import annotations

import datetime
import decimal
import dis
import fractions
import pathlib
import re
import sys
import uuid
from collections.abc import Iterator, Mapping
from itertools import repeat
from operator import attrgetter, is_
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, ModuleType
from typing import Any
from weakref import WeakKeyDictionary

from pilot.interfaces import JointFunction, WorkFunction
from pilot.wire.pickles import find, is_by_value, registered

#: Types (not their subclasses) whose values never change.
_IMMUTABLE = frozenset(
    {
        *(type(None), type(...), type(NotImplemented), bool, int, float, complex, str, bytes, range),
        *(decimal.Decimal, fractions.Fraction, uuid.UUID, re.Pattern),
        *(datetime.date, datetime.datetime, datetime.time, datetime.timedelta, datetime.timezone),
        *(pathlib.PurePosixPath, pathlib.PosixPath),
    }
)
_MISSING = object()
_ROOT = object()
#: Further attributes of a function.
_texts = attrgetter("__name__", "__qualname__", "__module__", "__doc__")

#: Code → names of the globals that it and the functions inside it read or set.
_names: WeakKeyDictionary[CodeType, tuple[str, ...]] = WeakKeyDictionary()


class Snapshot:
    """All that a callable reads, as it was when this was made."""

    __slots__ = ("_modules", "_named", "_reads", "_registered")

    def __init__(self, named: tuple[Any, str] | None, reads: tuple[_Read, ...], modules: int | None) -> None:
        self._named = named
        self._reads = reads
        self._modules = modules
        self._registered = frozenset(registered)

    @classmethod
    def of(cls, work: Any, *, owned: bool = False) -> Snapshot | None:
        """Of a function or class; None: it may change in place, as other objects may.

        Args:
            work: any callable.
            owned: only ``work`` uses its globals, because it was loaded from a pickle. What it sets there under names
                that its code does not show (``globals()``, ``exec``) is then a change as well.
        """
        if (named := _place(work)) is not None:
            return cls(named, (), None)
        if type(work) is not FunctionType:
            return None
        walk = _Walk(work, owned)
        try:
            whole = walk.whole()
        except RecursionError:  # tuples in tuples, deeper than pickle goes
            return None
        return cls(None, tuple(walk.reads), len(sys.modules) if walk.packages else None) if whole else None

    def holds(self, work: Any) -> bool:
        """True while all is the same for this callable, the one that it was made of."""
        if self._named is not None:
            holder, name = self._named
            return getattr(holder, name, None) is work and self._registered == registered
        for read in self._reads:
            if not read.holds(work):
                return False
        return self._registered == registered and (self._modules is None or self._modules == len(sys.modules))


def is_lasting(work: Any) -> bool:
    """True for what travels by name, and for objects that are declared immutable."""
    return is_immutable(work) or _place(work) is not None


def is_immutable(work: Any) -> bool:
    """True for a function that never changes, and that is compared and hashed by its settings."""
    return isinstance(work, WorkFunction) and type(work).__hash__ not in (None, object.__hash__)


def together(work: Any) -> Any:
    """The method that runs several tasks of this callable at once; None: it has none."""
    return work.run_together if isinstance(work, JointFunction) and is_immutable(work) else None


def name_of(work: Any) -> str:
    """The name of a callable, or else of its class: an object may have any attribute, or none."""
    try:
        name = work.__name__
    except Exception:
        name = None
    return name if isinstance(name, str) and name else type(work).__name__


class _Read:
    """What one function that travels by value reads."""

    __slots__ = (
        "annotations",
        "cells",
        "code",
        "contents",
        "defaults",
        "function",
        "names",
        "options",
        "own",
        "size",
        "space",
        "texts",
        "values",
    )

    def __init__(self, function: FunctionType, root: FunctionType, owned: bool) -> None:
        #: `_ROOT` stands for the function that was asked for, so that the snapshot does not keep it alive.
        self.function: Any = _ROOT if function is root else function
        self.code = function.__code__
        self.defaults = function.__defaults__
        self.options = dict(function.__kwdefaults__ or {}) or None
        self.own = dict(function.__dict__)
        self.annotations = dict(function.__annotations__)
        self.texts = _texts(function)
        self.cells: tuple[CellType, ...] = function.__closure__ or ()
        self.contents = tuple(_content(cell) for cell in self.cells)
        self.space = function.__globals__
        self.names = tuple(self.space) if owned else _names_of(self.code)
        self.size = len(self.space) if owned else None
        self.values = tuple(self.space.get(name, _MISSING) for name in self.names)

    def holds(self, root: Any) -> bool:
        function = root if self.function is _ROOT else self.function
        if function.__code__ is not self.code or function.__defaults__ is not self.defaults:
            return False
        if (self.options or function.__kwdefaults__) and not _same(function.__kwdefaults__ or {}, self.options or {}):
            return False
        own = function.__dict__
        if (own or self.own) and not _same(own, self.own):
            return False
        if _texts(function) != self.texts:
            return False
        annotations = function.__annotations__
        if (annotations or self.annotations) and not _same(annotations, self.annotations):
            return False
        if self.size is not None and len(self.space) != self.size:
            return False
        if self.cells and not all(map(is_, map(_content, self.cells), self.contents)):
            return False
        return not self.names or all(map(is_, map(self.space.get, self.names, repeat(_MISSING)), self.values))


class _Walk:
    """Visits all functions that travel by value with one, each once."""

    def __init__(self, root: FunctionType, owned: bool) -> None:
        self._root = root
        self._owned = owned
        self._functions = [root]
        self.reads: list[_Read] = []
        #: It reads a package: of its submodules those travel along that are imported by then.
        self.packages = False

    def whole(self) -> bool:
        """True when nothing that they read can change in place."""
        for function in self._functions:  # grows meanwhile
            read = _Read(function, self._root, self._owned)
            self.reads.append(read)
            used = map(function.__globals__.get, _names_of(read.code), repeat(_MISSING))
            values = (
                *(read.defaults or ()),
                *(read.options or {}).values(),
                *read.own.values(),
                *read.contents,
                *used,
                *read.annotations.values(),
                *read.texts,
            )
            if not all(map(self._is_fixed, values)):
                return False
        return True

    def _is_fixed(self, value: Any) -> bool:
        kind = type(value)
        if kind in _IMMUTABLE or value is _MISSING:
            return True
        if kind is tuple or kind is frozenset:
            return all(map(self._is_fixed, value))
        if kind is ModuleType:
            name: str = value.__name__
            self.packages = self.packages or hasattr(value, "__path__")
            return sys.modules.get(name) is value and not is_by_value(name)
        if _place(value) is not None:
            return True
        if kind is FunctionType:
            if not any(value is other for other in self._functions):
                self._functions.append(value)
            return True
        return False


def _place(value: Any) -> tuple[Any, str] | None:
    """Where to find a function or class that travels by name; None: it does not."""
    if isinstance(value, BuiltinFunctionType):  # of a module, or a method bound to an object with a state of its own
        return find(value) if isinstance(getattr(value, "__self__", None), ModuleType) else None
    return find(value) if isinstance(value, FunctionType | type) else None


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # nothing was assigned yet
        return _MISSING


def _same(these: Mapping[str, Any], those: Mapping[str, Any]) -> bool:
    return len(these) == len(those) and all(these.get(name, _MISSING) is value for name, value in those.items())


def _names_of(code: CodeType) -> tuple[str, ...]:
    names = _names.get(code)
    if names is None:
        read = (
            instruction.argval
            for one in _codes(code)
            for instruction in dis.get_instructions(one)
            if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME", "STORE_GLOBAL", "DELETE_GLOBAL")
        )
        names = _names[code] = tuple(dict.fromkeys(read))
    return names


def _codes(code: CodeType) -> Iterator[CodeType]:
    """A function's code, and that of the functions, classes and comprehensions in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)
