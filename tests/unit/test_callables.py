"""What a snapshot of a callable notices, and what has none."""

from __future__ import annotations

import functools
import math
import random
import sys
import types
from typing import Any

import cloudpickle
import pytest

from pilot.wire.callables import Snapshot


def script(text: str) -> dict[str, Any]:
    """The globals of a script that says this."""
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(text, "<script>", "exec", dont_inherit=True), space)
    return space


FIXED = {
    "nothing": "def f(): return 1",
    "numbers and texts": "a, b, c = 1, 'x', (2.5, None, b'')\ndef f(x=1, *, y='z'): return a, b, c, x, y",
    "modules": "import math, os.path\ndef f(): return math.pi, os.path.sep",
    "functions and classes of modules": "from fractions import Fraction\nfrom math import sin\n"
    "def f(): return sin(Fraction(1, 2))",
    "other functions of the script": "def h(): return k\nk = 3\ndef g(): return h()\ndef f(): return g()",
    "itself": "def f(n): return 1 if n < 1 else f(n - 1)",
    "a closure over a number": "def make(n):\n    def f(): return n\n    return f\nf = make(3)",
    "a decorated function": "import functools\ndef twice(g):\n    @functools.wraps(g)\n"
    "    def f(): return 2 * g()\n    return f\n@twice\ndef f(): return 1",
    "a global that is not there": "def f(): return later",
    "a nested function": "k = 2\ndef f(): return [(lambda x: x * k)(x) for x in range(3)]",
}

CHANGES = {
    "a global": ("k = 1\ndef f(): return k", "k = 2"),
    "a global of a nested function": ("k = 1\ndef f(): return (lambda: k)()", "k = 2"),
    "a global of another function": ("k = 1\ndef g(): return k\ndef f(): return g()", "k = 2"),
    "another function": ("def g(): return 1\ndef f(): return g()", "def g(): return 2"),
    "the code of another function": ("def g(): return 1\ndef f(): return g()", "g.__code__ = (lambda: 2).__code__"),
    "a global that comes": ("def f(): return later", "later = 1"),
    "a global that goes": ("k = 1\ndef f(): return k", "del k"),
    "a builtin that the script has too": ("def f(x): return abs(x)", "abs = str"),
    "its code": ("def f(): return 1", "f.__code__ = (lambda: 2).__code__"),
    "its defaults": ("def f(x=1): return x", "f.__defaults__ = (2,)"),
    "a default by name": ("def f(*, x=1): return x", "f.__kwdefaults__['x'] = 2"),
    "a first default by name": ("def f(*, x): return x", "f.__kwdefaults__ = {'x': 2}"),
    "an attribute": ("def f(): return f.k\nf.k = 1", "f.k = 2"),
    "a first attribute": ("def f(): return f.k", "f.k = 2"),
    "a closure": (
        "def make():\n    n = 1\n    def f(): return n\n    def go():\n        nonlocal n\n        n = 2\n"
        "    return f, go\n"
        "f, go = make()",
        "go()",
    ),
    "what a wrapper wraps": (
        "import functools\ndef g(): return k\nk = 1\n@functools.wraps(g)\ndef f(): return f.__wrapped__()",
        "k = 2",
    ),
    "an annotation": ("def f(x: int): return f.__annotations__", "f.__annotations__['x'] = str"),
    "a first annotation": ("def f(x): return f.__annotations__", "f.__annotations__['x'] = str"),
    "its name": ("def f(): return f.__name__", "f.__name__ = 'g'"),
    "its documentation": ("def f(): return f.__doc__", "f.__doc__ = 'g'"),
    "a class instead of a number": ("k = 1\ndef f(): return k", "class k: pass"),
}

MUTABLE = {
    "a list": "k = [1]\ndef f(): return k",
    "a list in a tuple": "k = (1, [2])\ndef f(): return k",
    "a dict as default": "def f(x={}): return x",
    "a list as default by name": "def f(*, x=[]): return x",
    "a class of the script": "class K: pass\ndef f(): return K",
    "a class of the script as annotation": "class K: pass\ndef f(x: K): return x",
    "an object": "class K: pass\nk = K()\ndef f(): return k",
    "a subclass of int": "class K(int): pass\nk = K(1)\ndef f(): return k",
    "a partial": "import functools\nk = functools.partial(print, [])\ndef f(): return k()",
    "a bound method": "k = [].append\ndef f(): return k(1)",
    "an iterator": "k = iter('abc')\ndef f(): return next(k)",
    "a closure over a list": "def make(n):\n    def f(): return n\n    return f\nf = make([])",
    "an attribute that is a dict": "def f(): return f.k\nf.k = {}",
    "a list of another function": "k = []\ndef g(): return k\ndef f(): return g()",
    "a cached function": "import functools\n@functools.cache\ndef g(): return 1\ndef f(): return g()",
}


@pytest.mark.parametrize("text", FIXED.values(), ids=FIXED.keys())
def test_what_does_not_change_has_a_snapshot(text: str) -> None:
    function = script(text)["f"]
    snapshot = Snapshot.of(function)
    assert snapshot is not None
    assert snapshot.holds(function)


@pytest.mark.parametrize(("text", "change"), CHANGES.values(), ids=CHANGES.keys())
def test_a_change_is_noticed(text: str, change: str) -> None:
    space = script(text)
    snapshot = Snapshot.of(space["f"])
    assert snapshot is not None
    exec(change, space)
    assert not snapshot.holds(space["f"])


@pytest.mark.parametrize("change", ["new = 1", "del unread", "unread = 2", "globals()['new'] = 1"])
def test_of_globals_of_its_own_every_change_is_noticed(change: str) -> None:
    space = script("unread = 1\ndef f(): return globals()")
    snapshot = Snapshot.of(space["f"], owned=True)
    assert snapshot is not None
    assert snapshot.holds(space["f"])
    exec(change, space)
    assert not snapshot.holds(space["f"])


@pytest.mark.parametrize("text", MUTABLE.values(), ids=MUTABLE.keys())
def test_what_may_change_in_place_has_none(text: str) -> None:
    assert Snapshot.of(script(text)["f"]) is None


@pytest.mark.parametrize(
    "work", [functools.partial(print, 1), random.random, [].append, str.join, type("C", (), {})(), "x".join]
)
def test_only_functions_and_classes_have_one(work: Any) -> None:
    assert Snapshot.of(work) is None


@pytest.mark.parametrize("work", [math.sin, len, int, random.Random, functools.wraps, random.Random.gauss])
def test_what_is_found_by_name_has_one_while_the_name_is_its_own(work: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = Snapshot.of(work)
    assert snapshot is not None
    assert snapshot.holds(work)
    if work is functools.wraps:
        monkeypatch.setattr(functools, "wraps", None)
        assert not snapshot.holds(work)


def test_a_submodule_that_is_imported_later_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    function = script("import os\ndef f(): return os.path")["f"]
    package = types.ModuleType("os")
    package.__path__ = []  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "os_package", package)
    package.__name__ = "os_package"
    function.__globals__["os"] = package
    snapshot = Snapshot.of(function)
    assert snapshot is not None
    assert snapshot.holds(function)
    monkeypatch.setitem(sys.modules, "os_package.path", types.ModuleType("os_package.path"))
    assert not snapshot.holds(function)


def test_a_module_that_travels_by_value_is_the_script_too(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("own_module")
    exec("k = [1]\ndef f(): return k", vars(module))
    monkeypatch.setitem(sys.modules, "own_module", module)
    assert Snapshot.of(module.f) is not None
    cloudpickle.register_pickle_by_value(module)
    try:
        assert Snapshot.of(module.f) is None
        assert Snapshot.of(script("from own_module import f as g\ndef f(): return g()")["f"]) is None
    finally:
        cloudpickle.unregister_pickle_by_value(module)


def test_a_snapshot_does_not_keep_its_function_alive() -> None:
    import weakref

    space = script("k = 1\ndef make(n):\n    def f(): return n + k\n    return f")
    function = space["make"](3)
    snapshot, alive = Snapshot.of(function), weakref.ref(function)
    assert snapshot is not None
    del function
    assert alive() is None
