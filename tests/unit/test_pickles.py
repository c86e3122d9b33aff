"""Classes of a script come out of a pickle as they were defined, and are made without being defined again."""

from __future__ import annotations

import pickle
import sys
import types
from typing import Any

import pytest

from pilot import pickles

SLOTS = {
    "one": "class K:\n    __slots__ = ('a',)",
    "a text": "class K:\n    __slots__ = 'a'",
    "a dict": "class K:\n    __slots__ = {'a': 'what it is'}",
    "with weak references": "class K:\n    __slots__ = ('a', '__weakref__')",
    "of a dataclass": "import dataclasses\n@dataclasses.dataclass(slots=True)\nclass K:\n    a: int = 0",
    "of a frozen dataclass": (
        "import dataclasses\n@dataclasses.dataclass(slots=True, frozen=True, weakref_slot=True)\n"
        "class K:\n    a: int = 1"
    ),
    "of attrs": "import attrs\n@attrs.define\nclass K:\n    a: int = 0",
    "in two classes": "class J:\n    __slots__ = ('b',)\nclass K(J):\n    __slots__ = ('a',)",
    "of an abstract class": (
        "import abc\nclass J(abc.ABC):\n    __slots__ = ()\n    @abc.abstractmethod\n    def go(self): ...\n"
        "class K(J):\n    __slots__ = ('a',)\n    def go(self): return 1"
    ),
    "of a generic class": (
        "import typing\nT = typing.TypeVar('T')\nclass K(typing.Generic[T]):\n    __slots__ = ('a', '__weakref__')"
    ),
}

HOOKS = {
    "subclasses that are counted": (
        "class J:\n    n = 0\n    def __init_subclass__(cls, **k):\n        super().__init_subclass__(**k)\n"
        "        J.n += 1\n"
        "class K(J): pass\ndef get(): return K.n",
        1,
    ),
    "subclasses that are listed": (
        "class J:\n    known = []\n    def __init_subclass__(cls): J.known.append(cls.__name__)\n"
        "class K(J): pass\nclass L(K): pass\ndef get(): return K.known",
        ["K", "L"],
    ),
    "subclasses with an argument": (
        "class J:\n    def __init_subclass__(cls, *, kind): cls.kind = kind\nclass K(J, kind='k'): pass\n"
        "def get(): return K.kind",
        "k",
    ),
    "subclasses that must have an attribute": (
        "class J:\n    def __init_subclass__(cls): assert 'a' in vars(cls)\nclass K(J):\n    a = 1\n"
        "def get(): return K.a",
        1,
    ),
    "a metaclass that counts": (
        "class M(type):\n    n = 0\n    def __new__(mcs, name, bases, space):\n        M.n += 1\n"
        "        return super().__new__(mcs, name, bases, space)\n"
        "class K(metaclass=M): pass\ndef get(): return M.n, type(K) is M",
        (1, True),
    ),
    "a metaclass with an argument": (
        "import abc\nclass M(abc.ABCMeta):\n    def __new__(mcs, name, bases, space, *, kind):\n"
        "        cls = super().__new__(mcs, name, bases, space)\n        cls.kind = kind\n        return cls\n"
        "    def __init__(cls, name, bases, space, *, kind): super().__init__(name, bases, space)\n"
        "class K(metaclass=M, kind='k'): pass\nK.register(int)\ndef get(): return K.kind, isinstance(1, K)",
        ("k", True),
    ),
    "a metaclass of a generic class": (
        "import typing\nT = typing.TypeVar('T')\nclass M(type):\n    def __new__(mcs, *a, kind=None):\n"
        "        return super().__new__(mcs, *a)\n    def __init__(cls, *a, kind=None): super().__init__(*a)\n"
        "class J(typing.Generic[T], metaclass=M): pass\nclass K(J[int], metaclass=M): pass\n"
        "def get(): return K.__orig_bases__[0].__args__, K.__bases__[0].__name__",
        ((int,), "J"),
    ),
}


def script(text: str, name: str = "__main__") -> dict[str, Any]:
    """The globals of a script that says this."""
    space: dict[str, Any] = {"__name__": name}
    exec(compile(text, "<script>", "exec", dont_inherit=True), space)
    return space


def elsewhere(value: Any) -> Any:
    """The value as another process has it."""
    data = pickles.dumps(value)
    pickles.forget_classes()
    return pickle.loads(data)


@pytest.mark.parametrize("text", SLOTS.values(), ids=SLOTS.keys())
def test_slots_are_slots(text: str) -> None:
    kind = script(text)["K"]
    one = kind()
    object.__setattr__(one, "a", 3)
    again = elsewhere(one)
    assert type(again) is not kind
    assert type(again).__slots__ == kind.__slots__
    assert again.a == 3
    with pytest.raises((AttributeError, TypeError)):
        again.other = 1
    assert not hasattr(again, "__dict__")
    assert type(again).__weakrefoffset__ == kind.__weakrefoffset__
    assert elsewhere(again).a == 3


def test_slots_beside_attributes() -> None:
    space = script("class K:\n    __slots__ = ('a', '__dict__')\nclass L(K): pass")
    for kind in space["K"], space["L"]:
        one = kind()
        one.a, one.b = 1, 2
        again = elsewhere(one)
        assert (again.a, again.b, vars(again)) == (1, 2, {"b": 2})


def test_private_slots() -> None:
    text = "class K:\n    __slots__ = ('__a',)\n    def __init__(self): self.__a = 3\n    def go(self): return self.__a"
    again = elsewhere(script(text)["K"]())
    assert again.go() == 3
    assert type(again)().go() == 3


def test_an_object_with_slots_comes_back_as_the_scripts_own() -> None:
    space = script("class K:\n    __slots__ = ('a',)")
    one = space["K"]()
    one.a = 3
    there = pickles.dumps(one)
    back = pickle.loads(pickles.dumps(pickle.loads(there)))
    assert type(back) is space["K"]
    assert back.a == 3


@pytest.mark.parametrize(("text", "result"), HOOKS.values(), ids=HOOKS.keys())
def test_classes_are_not_defined_again(text: str, result: Any) -> None:
    space = script(text)
    before = space["get"]()
    assert elsewhere(space["get"])() == before == result
    pickle.loads(pickles.dumps(space["K"]))
    assert space["get"]() == result


def test_subclasses_are_told_of_again_when_a_class_is_there() -> None:
    text = "class J:\n    n = 0\n    def __init_subclass__(cls): J.n += 1\nclass K(J): pass\ndef get(): return J"
    base = elsewhere(script(text)["K"]).__mro__[1]
    type("L", (base,), {})
    assert base.n == 2


def test_the_script_of_a_spawned_child_travels_by_value(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        "import enum\nclass E(enum.Enum): A = 1\nclass K: n = 2\ndef other(): return 3\n"
        "def work(): return K, other(), E.A"
    )
    main = types.ModuleType("__mp_main__")
    vars(main).update(space := script(text, "__mp_main__"))
    monkeypatch.setitem(sys.modules, "__mp_main__", main)
    function, one = pickles.dumps(space["work"]), pickles.dumps(space["K"]())
    assert type(pickle.loads(one)) is space["K"]
    monkeypatch.delitem(sys.modules, "__mp_main__")
    pickles.forget_classes()
    kind, result, member = pickle.loads(function)()
    assert (kind.n, result, member.value) == (2, 3, 1)
    assert kind is not space["K"]


def test_modules_of_other_classes_travel_by_name() -> None:
    space = script("import six.moves\nfrom six.moves import urllib\ndef work(): return urllib, six.moves")
    assert elsewhere(space["work"])() == space["work"]()
