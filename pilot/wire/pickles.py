"""Pickles that any process can load: by name what every process imports, by value what only the script has.

A worker's ``__main__`` is empty. What the user's script defines, and what ``cloudpickle.register_pickle_by_value``
registers, travels by value; what can only travel as a name of ``__main__`` is refused.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import pickle
import sys
import threading
import typing
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from types import FunctionType, MemberDescriptorType, ModuleType, resolve_bases
from typing import Any
from weakref import WeakKeyDictionary, WeakSet, WeakValueDictionary

import cloudpickle
import msgspec
from cloudpickle import cloudpickle as _internals

#: The module name of the script: in the first process, and in a child that multiprocessing has spawned.
MAINS = ("__main__", "__mp_main__")

#: Of a structure of msgspec's, what its class was made with.
_STRUCT_SETTINGS = (
    *("frozen", "eq", "order", "array_like", "gc", "repr_omit_defaults", "omit_defaults", "forbid_unknown_fields"),
    *("weakref", "dict", "cache_hash", "tag", "tag_field"),
)
_Factory: Any = type(
    msgspec.defstruct("_", [("value", list, msgspec.field(default_factory=list))]).__struct_defaults__[0]
)

Collect = Callable[[pickle.PickleBuffer], Any] | None

#: Names of the modules that `cloudpickle.register_pickle_by_value` was called with.
registered: set[str] = _internals._PICKLE_BY_VALUE_MODULES
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
    if registered:
        return None
    try:
        data = pickle.dumps(value, 5, buffer_callback=collect)
    except Exception:  # not picklable by reference
        return None
    return None if b"_main__" in data else data  # also __mp_main__


def dumps_by_value(value: Any, collect: Collect = None, pickler: type[Pickler] | None = None) -> bytes:
    """As `dumps`, for what `dumps_by_name` does not take; with a ``pickler`` of another class."""
    with io.BytesIO() as file:
        (pickler or Pickler)(file, 5, collect).dump(value)
        return file.getvalue()


def forget_classes() -> None:
    """Load classes that travel by value anew from now on, instead of taking those that were loaded before."""
    if _loaded_classes.data:
        _loaded_classes.clear()


def loaded_classes() -> list[type]:
    """The classes that have travelled by value since then."""
    return list(_loaded_classes.values())


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """As cloudpickle's; what can only travel as a name of ``__main__`` raises."""

    def reducer_override(self, value: Any) -> Any:
        kind = type(value)
        if issubclass(kind, type):
            own = getattr(value, "__module__", None) == MAINS[1]  # which cloudpickle takes for a module
            reduced = _internals._dynamic_class_reduce(value) if own else super().reducer_override(value)
            return _reduce_class(value, reduced) if isinstance(reduced, tuple) and len(reduced) == 6 else reduced
        if kind is FunctionType:
            own = getattr(value, "__module__", None) == MAINS[1]
            return self._dynamic_function_reduce(value) if own else super().reducer_override(value)
        if (by_value := _BY_VALUE.get(kind)) is not None:
            return NotImplemented if find(value) is not None else by_value(value)
        if kind is ModuleType and value.__name__ in MAINS:
            raise pickle.PicklingError("it reads the module __main__ itself, which is empty in a worker")
        if kind is not ModuleType and issubclass(kind, ModuleType) and _is_imported(value):
            return importlib.import_module, (value.__name__,)  # such as those of six, or lazy ones
        reduce = self.dispatch_table.get(kind)
        if reduce is not None:
            reduced = reduce(value)
        elif _reduces_plainly(kind):
            if issubclass(kind, Future) or hasattr(kind, "_asyncio_future_blocking"):
                raise pickle.PicklingError("a future of another library cannot travel: wait for it, give its result")
            return NotImplemented
        else:
            reduced = value.__reduce_ex__(5)
        if isinstance(reduced, str) and pickle.whichmodule(value, reduced) in MAINS:  # type: ignore[attr-defined]
            raise pickle.PicklingError(
                f"{reduced} can only travel as a name of __main__, which is empty in a worker: define it in a module"
            )
        return reduced


def _is_imported(module: ModuleType) -> bool:
    return sys.modules.get(module.__name__) is module


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
    if module in MAINS:
        return True
    return bool(registered) and any(f"{module}.".startswith(f"{one}.") for one in registered)


# ---- classes: a pickle that comes back does not change the class that its own process has ----------------------


def _reduce_class(kind: type, reduced: tuple[Any, ...]) -> tuple[Any, ...]:
    """As cloudpickle's; besides with the slots, and made without what happens where a class is defined."""
    _settled.add(kind)
    make, args, state, _, _, set_state = reduced
    state[0].pop("__slotnames__", None)  # copyreg sets it when the first object is pickled
    if isinstance(kind, type(msgspec.Struct)):
        made = {"__slots__", "__annotations__", "__match_args__"}  # and all of __struct_…
        attributes = {key: value for key, value in state[0].items() if key not in made and key[:9] != "__struct_"}
        attributes = {key: value for key, value in attributes.items() if not _is_slot(value, kind)}
        make, args, state = _make_struct, _parts_of_struct(kind, args), (attributes, state[1])
    elif make is _internals._make_skeleton_class:
        metaclass, name, bases, space, *tracked = args
        attributes, others = state
        if "__slots__" in vars(kind):
            space = {**space, "__slots__": _slots(kind)}
        if metaclass is type and any(isinstance(base, FunctionType) for base in bases):  # typing.NamedTuple
            space, bases = {**space, "__orig_bases__": bases}, kind.__bases__
        attributes = {name: value for name, value in attributes.items() if not _is_slot(value, kind)}
        maker = next(one for one in metaclass.__mro__ if find(one) is not None)
        make, args, state = _make_class, (maker, metaclass, name, bases, space, *tracked), (attributes, others)
    elif make is _internals._make_skeleton_enum:
        bases, name, qualname, _, *others = args
        known: dict[str, Any] = vars(kind)["_member_map_"]
        values = {name: member._value_ for name, member in known.items()}
        held = {name: _held(member) for name, member in known.items()}
        attributes = {name: value for name, value in state[0].items() if name not in known}
        make, args = _make_enum, (bases, name, qualname, values, *others)
        set_state, state = _set_members, ((attributes, state[1]), held)
    return make, args, (set_state, state), None, None, _settle


def _held(member: Any) -> dict[str, Any]:
    """What an ``__init__`` or ``__new__`` has given a member of an enumeration, which run no second time."""
    return {name: value for name, value in vars(member).items() if not (name.startswith("_") and name.endswith("_"))}


def _set_members(kind: Any, state: tuple[Any, dict[str, dict[str, Any]]]) -> None:
    own, held = state
    _internals._class_setstate(kind, own)
    for name, attributes in held.items():
        vars(kind._member_map_[name]).update(attributes)


def _slots(kind: type) -> tuple[str, ...]:
    """The names of a class's own slots, as objects have them: private ones have the class's name before them."""
    space = vars(kind)
    named = (name for name, value in space.items() if _is_slot(value, kind))
    return (*named, *(name for name in ("__dict__", "__weakref__") if name in space))


def _is_slot(value: Any, kind: type) -> bool:
    return isinstance(value, MemberDescriptorType) and value.__objclass__ is kind


def _make_class(
    maker: Any, metaclass: Any, name: str, bases: tuple[Any, ...], space: dict[str, Any], tracker: str, extra: Any
) -> type:
    """The class that this process has, or one without attributes. No code of a script that counts or changes classes
    where they are defined runs, for it has run: the attributes that come later are its result.

    Args:
        maker: the first class in the ``metaclass``'s own order that travels by name.
        metaclass: of the class.
        name: of the class.
        bases: of the class, as the script wrote them.
        space: what the class must have from the start.
        tracker: cloudpickle's name of the class.
        extra: cloudpickle's, None.
    """
    known: type | None = _loaded_classes.get(tracker)
    if known is not None:
        return known
    resolved = resolve_bases(bases)
    with _settling_one, _without_hooks(resolved):
        if maker is metaclass:
            return _internals._make_skeleton_class(metaclass, name, bases, space, tracker, extra)  # type: ignore[no-any-return]
        space = {**space, "__orig_bases__": bases} if resolved is not bases else dict(space)
        kind = maker.__new__(metaclass, name, resolved, space)
        maker.__init__(kind, name, resolved, space)
        return _internals._lookup_class_or_track(tracker, kind)  # type: ignore[no-any-return]


@contextlib.contextmanager
def _without_hooks(bases: tuple[type, ...]) -> Iterator[None]:
    """Within it, hooks for new subclasses that a script defines on these classes do not run."""
    hooks = {
        owner: vars(owner)["__init_subclass__"]
        for base in bases
        for owner in base.__mro__
        if "__init_subclass__" in vars(owner) and find(owner) is None
    }
    for owner in hooks:
        type.__setattr__(owner, "__init_subclass__", classmethod(_do_nothing))
    try:
        yield
    finally:
        for owner, hook in hooks.items():
            type.__setattr__(owner, "__init_subclass__", hook)


def _do_nothing(kind: Any, *args: Any) -> None:
    """Does nothing, instead of an ``__init_subclass__`` or the ``__init__`` of an enumeration's members."""


def _parts_of_struct(kind: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """What `_make_struct` is called with, of a class and what cloudpickle would call its own with."""
    names, given = kind.__struct_fields__, kind.__struct_defaults__
    defaults = dict(zip(names, (*(msgspec.NODEFAULT,) * (len(names) - len(given)), *given), strict=True))
    written = dict(zip(names, kind.__struct_encode_fields__, strict=True))
    fields = []
    for name, annotation in vars(kind).get("__annotations__", {}).items():
        if name in written:
            default = defaults[name]
            factory = getattr(default, "factory", None) if type(default) is _Factory else None
            how = {"default_factory": factory} if factory is not None else {"default": default}
            fields.append((name, annotation, {**how, "name": written[name]}))
    config = {name: getattr(kind.__struct_config__, name) for name in _STRUCT_SETTINGS}
    config["kw_only"] = any(name not in kind.__match_args__ for name, *_ in fields)
    return args[1], kind.__bases__, kind.__module__, fields, config, args[4]


def _make_struct(name: str, bases: Any, module: str, fields: Any, config: dict[str, Any], tracker: str) -> type:
    """As `_make_class`, of msgspec's structures."""
    known: type | None = _loaded_classes.get(tracker)
    if known is not None:
        return known
    whole = [(field, annotation, msgspec.field(**how)) for field, annotation, how in fields]
    with _settling_one, _without_hooks(bases):
        kind = msgspec.defstruct(name, whole, bases=bases, module=module, **config)
        return _internals._lookup_class_or_track(tracker, kind)  # type: ignore[no-any-return]


def _make_enum(
    bases: tuple[Any, ...], name: str, qualname: str, members: dict[str, Any], module: str, tracker: str, extra: Any
) -> type:
    """As `_make_class`, with the members: their values are given, and no code of the script makes them again."""
    known: type | None = _loaded_classes.get(tracker)
    if known is not None:
        return known
    metaclass: Any = type(bases[-1])
    space = metaclass.__prepare__(name, bases)
    for key, value in {"__new__": _new_member, "__init__": _do_nothing, **members}.items():
        space[key] = value
    with _settling_one, _without_hooks(bases):
        kind = metaclass.__new__(metaclass, name, bases, space)
        for key in ("__init__", "__new_member__"):  # else they come with the attributes
            if key in vars(kind):
                type.__delattr__(kind, key)
        kind.__module__, kind.__qualname__ = module, qualname
        return _internals._lookup_class_or_track(tracker, kind)  # type: ignore[no-any-return]


def _new_member(kind: Any, *args: Any) -> Any:
    """A member that is made of its value alone."""
    plain = kind._member_type_
    new = object.__new__(kind) if plain.__new__ is object.__new__ else plain.__new__(kind, *args)
    if plain is not object and len(args) == 1 and isinstance(args[0], plain):
        new._value_ = args[0]
    return new


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


def _reduce_parameter_tuple(kind: Any) -> tuple[Any, ...]:
    return typing.TypeVarTuple, (kind.__name__,)


def _reduce_weak_values(known: WeakValueDictionary[Any, Any]) -> tuple[Any, ...]:
    return WeakValueDictionary, (dict(known),)


def _reduce_weak(known: WeakKeyDictionary[Any, Any]) -> tuple[Any, ...]:
    return WeakKeyDictionary, (dict(known),)  # functools.singledispatch has one


_BY_VALUE: dict[type, Callable[[Any], tuple[Any, ...]]] = {
    functools._lru_cache_wrapper: _reduce_cached,
    functools.cached_property: _reduce_property,
    typing.NewType: _reduce_new_type,
    typing.ParamSpec: _reduce_parameters,
    typing.TypeVarTuple: _reduce_parameter_tuple,
    WeakValueDictionary: _reduce_weak_values,
    WeakKeyDictionary: _reduce_weak,
}


# ---- comparing pickles ----------------------------------------------------------------------------------------------


def without_trackers(data: bytes) -> bytes:
    """A pickle in which all classes of the script have one name instead of the random ones that cloudpickle gives them
    in each process: to be compared, and never to be loaded."""
    for tracker in list(_loaded_classes):
        data = data.replace(tracker.encode(), b"0" * len(tracker))
    return data
