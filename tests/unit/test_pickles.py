"""Classes of a script come out of a pickle as they were defined, and are made without being defined again."""

from __future__ import annotations

import pickle
import sys
import types
from typing import Any

import pytest

from pilot.wire import pickles

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


ENUMS = {
    "another name of a member": (
        "class K(enum.Enum):\n    A = 1\n    B = 1\n    C = 2\n"
        "def get(): return K['B'] is K.A is K.B, list(K.__members__), list(map(str, K))"
    ),
    "attributes of members": (
        "class K(enum.Enum):\n    A = (1, 2)\n    def __init__(self, m, r): self.m, self.r = m, r\n"
        "def get(): return K.A.m, K.A.value, K((1, 2)) is K.A"
    ),
    "numbers with a text": (
        "class K(int, enum.Enum):\n    def __new__(cls, n, text):\n        new = int.__new__(cls, n)\n"
        "        new._value_, new.text = n, text\n        return new\n    A = 1, 'one'\n"
        "def get(): return K.A + 1, K.A.text, K(1) is K.A"
    ),
    "a name for two flags": (
        "class K(enum.Flag):\n    A = 1\n    B = 2\n    AB = 3\ndef get(): return str(K.A | K.B), len(K), K.AB is K(3)"
    ),
    "numbers of a class above": (
        "class J(enum.Enum):\n    def __new__(cls):\n        new = object.__new__(cls)\n"
        "        new._value_ = len(cls.__members__) + 1\n        return new\n"
        "class K(J):\n    A = ()\n    B = ()\ndef get(): return K.A.value, K.B.value, K(2) is K.B"
    ),
    "numbers with a text of a class above": (
        "class J(int, enum.Enum):\n    def __new__(cls, n, text):\n        new = int.__new__(cls, n)\n"
        "        new._value_, new.text = n, text\n        return new\nclass K(J):\n    A = 1, 'one'\n"
        "def get(): return K.A + 1, K.A.text, K(1) is K.A"
    ),
    "a class above that counts": (
        "class J(enum.Enum):\n    def __init__(self, *args):\n        seen.append(args)\n        self.n = len(seen)\n"
        "    def __init_subclass__(cls, **k): seen.append(cls.__name__)\nseen = []\n"
        "class K(J):\n    A = 1\n    B = 2\ndef get(): return K.A.n, K.B.n, seen"
    ),
    "members that are dataclasses": (
        "import dataclasses\n@dataclasses.dataclass\nclass J:\n    size: str\n    legs: int\n"
        "class K(J, enum.Enum):\n    A = 'small', 6\n    B = 'medium', 4\n"
        "def get(): return K.A.legs, K.B.size, str(K.A.value), K.B"
    ),
    "members that are texts, numbers and tuples": (
        "class K(str, enum.Enum): A = 'a'\nclass L(enum.IntFlag, boundary=enum.KEEP): A = 1\n"
        "class M(tuple, enum.Enum): A = 1, 2\n"
        "class N(enum.StrEnum): A = enum.auto()\n"
        "def get(): return K('a') is K.A, K.A + 'b', L(3), L.A | 2, M.A[1], M((1, 2)) is M.A, N.A + 'b', N('a') is N.A"
    ),
    "methods and missing values": (
        "class K(enum.Enum):\n    A = 1\n    def double(self): return 2 * self.value\n    @classmethod\n"
        "    def _missing_(cls, value): return cls.A\ndef get(): return K.A.double(), K(7) is K.A"
    ),
}

TYPES = {
    "a named tuple": (
        "class K(typing.NamedTuple):\n    a: int\n    b: int = 2\n    def sum(self): return self.a + self.b\n"
        "def get(): return K(1).sum(), K._fields, K(1)._replace(a=4), K._field_defaults"
    ),
    "a generic named tuple": (
        "T = typing.TypeVar('T')\nclass K(typing.NamedTuple, typing.Generic[T]):\n    a: T\n"
        "def get(): return K(1).a, K[int].__args__, hasattr(K(1), '__dict__')"
    ),
    "another named tuple": (
        "import collections\nK = collections.namedtuple('K', 'a b')\nclass L(K):\n    __slots__ = ()\n"
        "def get(): return L(1, 2)._asdict(), hasattr(L(1, 2), '__dict__')"
    ),
    "a typed dict": (
        "class K(typing.TypedDict, total=False):\n    a: typing.Required[int]\n    b: str\n"
        "def get(): return K(a=1), K.__required_keys__, K.__optional_keys__"
    ),
    "type variables": (
        "Ts = typing.TypeVarTuple('Ts')\nP = typing.ParamSpec('P')\nclass K(typing.Generic[typing.Unpack[Ts]]): pass\n"
        "class L(typing.Generic[P]): pass\ndef get(): return K[int, str].__args__, len(L.__parameters__)"
    ),
    "a protocol": (
        "@typing.runtime_checkable\nclass K(typing.Protocol):\n    def go(self): ...\nclass L:\n    def go(self): ...\n"
        "def get(): return isinstance(L(), K), isinstance(1, K)"
    ),
    "a structure": (
        "class K(msgspec.Struct, rename='camel', forbid_unknown_fields=True):\n    a_b: int\n    c: list[int] = []\n"
        "    d: int = 4\n    def sum(self): return self.a_b + self.d\n"
        "def get(): return K(1), K(1).sum(), msgspec.json.encode(K(1)), msgspec.json.decode(b'{\"aB\": 3}', type=K)"
    ),
    "a frozen structure": (
        "class K(msgspec.Struct, frozen=True, order=True, tag='k'):\n    a: int\n"
        "    b: dict = msgspec.field(default_factory=dict)\n"
        "def get(): return K(1) < K(2), msgspec.json.encode(K(1)), msgspec.structs.replace(K(1), a=3)"
    ),
    "a structure with words, below another": (
        "class J(msgspec.Struct, dict=True, weakref=True):\n    a: int\n"
        "class K(J, kw_only=True):\n    b: int\n    c: int = 1\n"
        "def get():\n    k = K(1, b=2)\n    k.z = 3\n    return k, isinstance(k, J), k.z, msgspec.structs.fields(K)"
    ),
    "a dictionary of weak values": (
        "import weakref\nclass K: cache = weakref.WeakValueDictionary()\ndef get(): return dict(K.cache)"
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


@pytest.mark.parametrize("text", [*ENUMS.values(), *TYPES.values()], ids=[*ENUMS.keys(), *TYPES.keys()])
def test_enumerations_and_types_are_what_they_were(text: str) -> None:
    get = script(f"import enum, msgspec, typing\n{text}")["get"]
    again = elsewhere(get)
    assert repr(again()) == repr(get())
    assert repr(elsewhere(again)()) == repr(get())


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
