"""Pickles that any process can load: by name what every process imports, by value what only the script has.

A worker's ``__main__`` is empty. What the user's script defines, and whatever cloudpickle was told to take by value
(``cloudpickle.register_pickle_by_value``), travels by value; what can only travel as a name of ``__main__`` is refused.
"""

from __future__ import annotations

import functools
import io
import pickle
import sys
import threading
import typing
from collections.abc import Callable
from concurrent.futures import Future
from types import FunctionType, ModuleType
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import cloudpickle
from cloudpickle import cloudpickle as _internals

Collect = Callable[[pickle.PickleBuffer], Any] | None

#: The user's script; where it is imported again, in a child that multiprocessing starts by spawn or by fork server, it
#: has the second name too.
SCRIPT = ("__main__", "__mp_main__")
#: Names of the modules that `cloudpickle.register_pickle_by_value` was called with.
registered: set[str] = _internals._PICKLE_BY_VALUE_MODULES
if SCRIPT[1] in sys.modules:
    registered.add(SCRIPT[1])
_loaded_classes = _internals._DYNAMIC_CLASS_TRACKER_BY_ID
#: Classes that are as they should be in this process: its own, and those that were loaded completely.
_settled: WeakSet[type] = WeakSet()
_settling_one = threading.RLock()


def dumps(value: Any) -> bytes:
    """The value in pickle protocol 5.

    Raises:
        Exception: it cannot be pickled, or only as a name of ``__main__``.
    """
    data = dumps_by_name(value)
    return dumps_by_value(value) if data is None else data


def dumps_by_name(value: Any, collect: Collect = None) -> bytes | None:
    """As `dumps`, quickly; None where something has to travel by value.

    Args:
        value: any Python value.
        collect: takes large buffers out of band; None: they are part of the pickle.
    """
    if registered and registered != {SCRIPT[1]}:
        return None
    try:
        data = pickle.dumps(value, 5, buffer_callback=collect)
    except Exception:  # not picklable by reference
        return None
    return None if b"_main__" in data else data  # the end of either name of the script


def dumps_by_value(value: Any, collect: Collect = None) -> bytes:
    """As `dumps`, for what `dumps_by_name` does not take."""
    with io.BytesIO() as file:
        Pickler(file, 5, collect).dump(value)
        return file.getvalue()


def forget_classes() -> None:
    """Load classes that travel by value anew from now on, instead of taking those that were loaded before."""
    if _loaded_classes.data:
        _loaded_classes.clear()


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """As cloudpickle's; what can only travel as a name of ``__main__`` raises."""

    def reducer_override(self, value: Any) -> Any:
        kind = type(value)
        if issubclass(kind, type):
            reduced = super().reducer_override(value)
            return _settling(value, reduced) if isinstance(reduced, tuple) and len(reduced) == 6 else reduced
        if kind is FunctionType:
            return super().reducer_override(value)
        if (by_value := _BY_VALUE.get(kind)) is not None:
            return NotImplemented if find(value) is not None else by_value(value)
        if kind is ModuleType and value.__name__ in SCRIPT:
            raise pickle.PicklingError("it reads the module __main__ itself, which is empty in a worker")
        reduce = self.dispatch_table.get(kind)
        if reduce is not None:
            reduced = reduce(value)
        elif _reduces_plainly(kind):
            if isinstance(value, Future) or hasattr(kind, "_asyncio_future_blocking"):
                raise pickle.PicklingError("a future of another library cannot travel: wait for it, give its result")
            return NotImplemented
        else:
            reduced = value.__reduce_ex__(5)
        if isinstance(reduced, str) and pickle.whichmodule(value, reduced) in SCRIPT:  # type: ignore[attr-defined]
            raise pickle.PicklingError(
                f"{reduced} can only travel as a name of __main__, which is empty in a worker: define it in a module"
            )
        return reduced


def _reduces_plainly(kind: Any) -> bool:
    """True for a class whose objects pickle as Python does it by itself."""
    return kind.__reduce__ is object.__reduce__ and kind.__reduce_ex__ is object.__reduce_ex__


def find(value: Any) -> tuple[Any, str] | None:
    """The module or class that has this function or class, and its name there; None: it does not travel by name."""
    module, path = getattr(value, "__module__", None) or "builtins", getattr(value, "__qualname__", None)
    holder: Any = sys.modules.get(module)
    if holder is None or path is None or is_by_value(module):
        return None
    *parents, name = path.split(".")
    for parent in parents:
        holder = getattr(holder, parent, None)
    return (holder, name) if getattr(holder, name, None) is value else None


def is_by_value(module: str) -> bool:
    """True for the script itself, and for modules that the user has registered with cloudpickle."""
    if module in SCRIPT:
        return True
    return bool(registered) and any(f"{module}.".startswith(f"{one}.") for one in registered)


# ---- classes: a pickle that comes back does not change the class that its own process has ----------------------


def _settling(kind: type, reduced: tuple[Any, ...]) -> tuple[Any, ...]:
    _settled.add(kind)
    make, args, state, _, _, set_state = reduced
    return make, args, (set_state, state), None, None, _settle


def _settle(kind: type, state: tuple[Callable[[type, Any], Any], Any]) -> type:
    with _settling_one:  # another thread may load the same class
        if kind not in _settled:
            _settled.add(kind)
            set_state, rest = state
            try:
                set_state(kind, rest)
            except BaseException:
                _settled.discard(kind)
                raise
    return kind


# ---- what cloudpickle takes for a name, or refuses ------------------------------------------------------------------


def _reduce_cached(cached: Any) -> tuple[Any, ...]:
    state = {name: value for name, value in vars(cached).items() if name not in ("__wrapped__", "cache_parameters")}
    return _make_cached, (cached.__wrapped__, cached.cache_parameters()), state


def _make_cached(function: Callable[..., Any], parameters: dict[str, Any]) -> Any:
    return functools.lru_cache(**parameters)(function)


def _reduce_property(cached: functools.cached_property[Any]) -> tuple[Any, ...]:
    return functools.cached_property, (cached.func,), {"attrname": cached.attrname, "__doc__": cached.__doc__}


def _reduce_new_type(kind: Any) -> tuple[Any, ...]:
    return typing.NewType, (kind.__qualname__, kind.__supertype__)


def _reduce_parameters(kind: Any) -> tuple[Any, ...]:
    return typing.ParamSpec, (kind.__name__,)


def _reduce_weak(known: WeakKeyDictionary[Any, Any]) -> tuple[Any, ...]:
    return WeakKeyDictionary, (dict(known),)  # functools.singledispatch has one


_BY_VALUE: dict[type, Callable[[Any], tuple[Any, ...]]] = {
    functools._lru_cache_wrapper: _reduce_cached,
    functools.cached_property: _reduce_property,
    typing.NewType: _reduce_new_type,
    typing.ParamSpec: _reduce_parameters,
    WeakKeyDictionary: _reduce_weak,
}
