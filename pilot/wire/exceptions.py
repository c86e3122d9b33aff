"""Exceptions as they come out of a pickle: the same class, arguments and text, or not at all.

Python pickles an exception as its class, to be called with ``args``. Where a class makes its text in ``__init__`` the
copy has another text, and where it takes other arguments there is no copy. Such an exception travels with its
attributes, without a call of its ``__init__``. A class with a ``__reduce__`` of its own decides by itself.
"""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Sequence
from typing import Any, cast

from pilot.errors import text_of
from pilot.results import class_name
from pilot.wire import pickles

#: Python's own attributes of an exception, also where its class lets none be set or read.
cause_of, args_of, traceback_of = (
    cast(Any, vars(BaseException)[name]) for name in ("__cause__", "args", "__traceback__")
)
_ADDRESS = re.compile(r"\b0x[0-9a-f]+")


def dumps(error: BaseException) -> bytes | None:
    """A pickle that gives the same exception back, in this process at least; None: there is none."""
    for one in (pickles.dumps, _dumps_whole):
        try:
            data = one(error)
            if is_same(error, pickle.loads(data)):
                return data
        except BaseException:  # also of the code that a pickle may run
            continue
    return None


def is_same(error: BaseException, again: Any) -> bool:
    """True when both have the same class (by its name: a class may be loaded twice), arguments and text."""
    return (
        isinstance(again, Exception)
        and _name(again) == _name(error)
        and len(again.args) == len(error.args)
        and all(map(_is_equal, again.args, error.args))
        and _is_alike(text_of(again), text_of(error))
    )


def classes_of(kind: type) -> list[str]:
    """The names of an exception's class and of its bases, as `class_name` makes them."""
    try:
        return [class_name(base) for base in type.mro(kind) if base is not object]
    except Exception:  # code of its class's class
        return []


def explain(error: BaseException, cause: BaseException, notes: Sequence[str]) -> list[str]:
    """Give the exception a cause and notes, also when its class overrides how these are set.

    Returns:
        The notes that it does not take.
    """
    cause_of.__set__(error, cause)
    left = []
    for note in notes:
        try:
            BaseException.add_note(error, note)
        except BaseException:  # code of its class
            left.append(note)
    return left


def is_usable(error: Any) -> bool:
    """True for an exception that can be raised: its attributes can be read, which code that catches it relies on, and
    it is no StopIteration, which asyncio does not take."""
    try:
        return (
            isinstance(error, Exception)
            and not isinstance(error, StopIteration)
            and hasattr(error, "args")
            and hasattr(error, "__traceback__")
        )
    except BaseException:  # code of its class
        return False


def _name(error: BaseException) -> tuple[str, str]:
    return type(error).__module__, type(error).__qualname__


def _is_equal(one: Any, other: Any) -> bool:
    """Equal, or similar as far as this can be decided: objects without ``==``, arrays, nan."""
    if type(one).__qualname__ != type(other).__qualname__:
        return False
    try:
        if one == other:
            return True
    except Exception:  # arrays
        pass
    return _ADDRESS.sub("", repr(one)) == _ADDRESS.sub("", repr(other))


def _is_alike(one: str, other: str) -> bool:
    """Equal apart from addresses of objects and the order of sets."""
    return one == other or sorted(_ADDRESS.sub("", one)) == sorted(_ADDRESS.sub("", other))


# ---- exceptions without their __init__ ------------------------------------------------------------------------------


class _Whole(pickles.Pickler):
    """Pickles exceptions with their attributes, those in groups too."""

    def reducer_override(self, value: Any) -> Any:
        kind = type(value)
        if not issubclass(kind, type) and issubclass(kind, BaseException):
            base = _built_in(kind)
            if kind is not base and kind.__reduce__ is base.__reduce__ and kind.__reduce_ex__ is object.__reduce_ex__:
                return _remake, (kind, base, *_parts(value, base))
        return super().reducer_override(value)


def _dumps_whole(error: BaseException) -> bytes:
    with io.BytesIO() as file:
        _Whole(file, 5).dump(error)
        return file.getvalue()


def _built_in(kind: type[BaseException]) -> type[BaseException]:
    """The class of Python's own that holds what is not in ``__dict__``, such as ``OSError.errno``."""
    return next(one for one in kind.__mro__ if one.__module__ == "builtins")


def _parts(error: BaseException, base: type[BaseException]) -> tuple[Any, ...]:
    """What its built-in class is called with, its ``args``, and all of its attributes."""
    reduced: Any = base.__reduce__(error)
    _, given, *state = reduced
    held = object.__getstate__(error)  # a dict, or a tuple of two where there are __slots__
    plain, slots = held if isinstance(held, tuple) else (held, None)
    return given, error.args, {**(state[0] if state else {}), **(plain or {}), **(slots or {})}


def _remake(
    kind: type[BaseException],
    base: type[BaseException],
    given: tuple[Any, ...],
    args: tuple[Any, ...],
    attributes: dict[str, Any],
) -> BaseException:
    error = base.__new__(kind, *given)
    base.__init__(error, *given)
    args_of.__set__(error, args)
    for name, value in attributes.items():
        object.__setattr__(error, name, value)
    return error
