"""A task computes what its function is when it is submitted, and no task sees what another one has changed."""

from __future__ import annotations

import concurrent.futures
import functools
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from pilot import PilotDescription, PilotManager, TaskDescription
from pilot.errors import NotPicklable, PluginError
from pilot.interfaces import JointFunction
from pilot.wire import known_functions

SOON = 120.0


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PilotManager]:
    """One worker: whatever a task leaves behind, the next one would meet."""
    with PilotManager(tmp_path_factory.mktemp("session")) as manager:
        manager.submit_pilot(PilotDescription(cores_per_node=1))
        yield manager


def script(text: str) -> dict[str, Any]:
    """The globals of a script that says this."""
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(text, "<script>", "exec", dont_inherit=True), space)
    return space


#: What the script says; what happens before each submission of `work`; the results.
CHANGED: dict[str, tuple[str, list[str], list[Any]]] = {
    "a global": ("k = 2\ndef work(): return k", ["", "k = 3", "k = 2"], [2, 3, 2]),
    "a global list": ("k = [1]\ndef work(): return sum(k)", ["", "k.append(2)", "k.clear()"], [1, 3, 0]),
    "a global dict of another function": (
        "k = {'a': 1}\ndef other(): return k['a']\ndef work(): return other()",
        ["", "k['a'] = 2"],
        [1, 2],
    ),
    "another function": ("def other(): return 1\ndef work(): return other()", ["", "def other(): return 2"], [1, 2]),
    "an array": (
        "import numpy as np\nk = np.ones(3)\ndef work(): return float(k.sum())",
        ["", "k[0] = 5", "k *= 2"],
        [3.0, 7.0, 14.0],
    ),
    "a class": ("class K: n = 1\ndef work(): return K.n", ["", "K.n = 2", "K.n = 3"], [1, 2, 3]),
    "a method of a class": (
        "class K:\n    def go(self): return 1\ndef work(): return K().go()",
        ["", "K.go = lambda self: 2"],
        [1, 2],
    ),
    "a default": ("def work(x=1): return x", ["", "work.__defaults__ = (2,)"], [1, 2]),
    "a default that grows": ("k = []\ndef work(x=k): return len(x)", ["", "k.append(1)"], [0, 1]),
    "its code": ("def work(): return 1", ["", "work.__code__ = (lambda: 2).__code__"], [1, 2]),
    "its attribute": ("def work(): return work.k\nwork.k = 1", ["", "work.k = 2"], [1, 2]),
    "a closure": (
        "def make():\n    n = 1\n    def work(): return n\n    def step():\n        nonlocal n\n        n += 1\n"
        "    return work, step\nwork, step = make()",
        ["", "step()", "step()"],
        [1, 2, 3],
    ),
    "an object": (
        "class K:\n    def __init__(self): self.n = 1\n    def __call__(self): return self.n\nwork = K()",
        ["", "work.n = 2"],
        [1, 2],
    ),
    "a bound method": (
        "class K:\n    def __init__(self): self.n = 1\n    def get(self): return self.n\nk = K()\nwork = k.get",
        ["", "k.n = 2"],
        [1, 2],
    ),
    "a partial": (
        "import functools\nk = []\nwork = functools.partial(len, k)",
        ["", "k.append(1)"],
        [0, 1],
    ),
    "a module's function that was put in its place": (
        "import textwrap\ndef work(): return go('a')\nfrom textwrap import dedent as go",
        ["", "def go(x): return 'mine'", "from textwrap import dedent as go"],
        ["a", "mine", "a"],
    ),
}

#: What the script says, and what every one of several calls of `work` gives when each has a copy of its own.
ALONE: dict[str, tuple[str, Any]] = {
    "a bound method that counts": (
        "class K:\n    n = 0\n    def __init__(self): self.m = 0\n    def go(self):\n        self.m += 1\n"
        "        K.n += 1\n"
        "        return self.m, K.n\nwork = K().go",
        (1, 1),
    ),
    "a partial with a list": (
        "import functools\ndef push(k, x):\n    k.append(x)\n    return k\nwork = functools.partial(push, [], 1)",
        [1],
    ),
    "a global that counts": ("n = 0\ndef work():\n    global n\n    n += 1\n    return n", 1),
    "a global by another way": (
        "def work():\n    g = globals()\n    g['n'] = g.get('n', 0) + 1\n    return g['n']",
        1,
    ),
    "a global that a text sets": (
        "def work():\n    exec(\"n = globals().get('n', 0) + 1\", globals())\n    return globals()['n']",
        1,
    ),
    "a global of another function by another way": (
        "def other():\n    globals().setdefault('n', 0)\n    globals()['n'] += 1\n    return globals()['n']\n"
        "def work(): return other()",
        1,
    ),
    "its own annotations": (
        "def work():\n    a = work.__annotations__\n    a['n'] = a.get('n', 0) + 1\n    return a['n']",
        1,
    ),
    "its own name": ("def work():\n    work.__name__ += 'a'\n    return work.__name__", "worka"),
    "its own documentation": ("def work():\n    'a'\n    work.__doc__ += 'a'\n    return work.__doc__", "aa"),
    "a global list": ("k = []\ndef work():\n    k.append(1)\n    return k", [1]),
    "a default list": ("def work(k=[]):\n    k.append(1)\n    return k", [1]),
    "a default by name": ("def work(*, k={}):\n    k[len(k)] = 1\n    return k", {0: 1}),
    "its own attribute": ("def work():\n    work.n = getattr(work, 'n', 0) + 1\n    return work.n", 1),
    "its own defaults": (
        "def work(n=0):\n    work.__defaults__ = (n + 1,)\n    return n",
        0,
    ),
    "an attribute of another function": (
        "def other(): pass\ndef work():\n    other.n = getattr(other, 'n', 0) + 1\n    return other.n",
        1,
    ),
    "a closure that counts": (
        "def make():\n    n = 0\n    def work():\n        nonlocal n\n        n += 1\n        return n\n"
        "    return work\n"
        "work = make()",
        1,
    ),
    "an iterator": ("k = iter('abc')\ndef work(): return next(k)", "a"),
    "an iterator in a partial": ("import functools\nwork = functools.partial(next, iter([5, 6]))", 5),
    "a class that counts": ("class K:\n    n = 0\ndef work():\n    K.n += 1\n    return K.n", 1),
    "a class that counts its objects": (
        "class K:\n    made = []\n    def __init__(self): K.made.append(1)\ndef work():\n    K()\n"
        "    return len(K.made)",
        1,
    ),
    "a cached function": (
        "import functools\ncalls = []\n@functools.cache\ndef other(x):\n    calls.append(x)\n    return x\n"
        "def work():\n    other(1)\n    other(1)\n    return len(calls), other.cache_info().hits",
        (1, 1),
    ),
    "a cached function itself": (
        "import functools\n@functools.lru_cache(maxsize=8)\n"
        "def work(n=12): return n if n < 2 else work(n-1) + work(n-2)",
        144,
    ),
    "a cached function that is called main": (
        "import functools\n@functools.cache\ndef main(x=3): return x + 1\nwork = main",
        4,
    ),
    "a cached method": (
        "import functools\nclass K:\n    @functools.lru_cache\n    def go(self, x): return x * x\n"
        "work = functools.partial(K().go, 3)",
        9,
    ),
    "a cached property": (
        "import functools\nclass K:\n    n = 0\n    @functools.cached_property\n    def go(self):\n        K.n += 1\n"
        "        return K.n\ndef work():\n    k = K()\n    return k.go, k.go",
        (1, 1),
    ),
    "a type of its own": (
        "import typing\nUser = typing.NewType('User', int)\ndef work(x: User = User(4)) -> User: return User(x + 1)",
        5,
    ),
    "a function by the type of its argument": (
        "import functools\n@functools.singledispatch\ndef go(x): return 'any'\n@go.register\n"
        "def _(x: int): return 'int'\n"
        "def work(): return go(1), go('a')",
        ("int", "any"),
    ),
    "members of an Enum": (
        "import enum\nclass K(enum.Enum):\n    A = 1\n    B = 2\ndef work(): return [k.name for k in K], K(2) is K.B",
        (["A", "B"], True),
    ),
    "the main module": (
        "import sys\ndef work(): return sorted(name for name in vars(sys.modules['__main__']) if name[0] != '_')",
        [],
    ),
}


@pytest.mark.parametrize(("text", "changes", "results"), CHANGED.values(), ids=CHANGED.keys())
def test_a_task_computes_what_its_function_is_when_it_is_submitted(
    manager: PilotManager, text: str, changes: list[str], results: list[Any]
) -> None:
    space = script(text)
    tasks = []
    for change in changes:
        exec(change, space)
        tasks.append([manager.submit_task(space["work"]) for _ in range(3)])
    exec(changes[-1], space)  # after the last submission: nobody sees it
    assert [[task.result(SOON) for task in three] for three in tasks] == [[result] * 3 for result in results]


@pytest.mark.parametrize(("text", "result"), ALONE.values(), ids=ALONE.keys())
def test_no_task_sees_what_another_one_has_changed(manager: PilotManager, text: str, result: Any) -> None:
    work = script(text)["work"]
    assert [manager.submit_task(work).result(SOON) for _ in range(3)] == [result] * 3
    assert [task.result(SOON) for task in [manager.submit_task(work) for _ in range(3)]] == [result] * 3


def test_a_retry_does_not_see_what_the_failed_attempt_has_changed(manager: PilotManager) -> None:
    text = "seen = []\ndef work(k=[]):\n    k.append(1)\n    seen.append(1)\n    raise ValueError(len(k), len(seen))"
    task = manager.submit_task(TaskDescription(function=script(text)["work"], retries=2))
    error = task.exception(SOON)
    assert isinstance(error, ValueError)
    assert error.args == (1, 1)
    assert len(task.info.attempts) == 2


def test_methods_with_a_state_give_what_a_process_pool_gives(manager: PilotManager) -> None:
    generator = random.Random(7)
    expected = [random.Random(7).random(), random.Random(7).random()]
    assert [manager.submit_task(generator.random).result(SOON) for _ in range(2)] == expected
    first = generator.random()
    assert manager.submit_task(generator.random).result(SOON) != first
    items: list[int] = []
    assert [manager.submit_task([1, 2].pop).result(SOON) for _ in range(3)] == [2, 2, 2]
    assert [manager.submit_task(functools.partial(items.__add__, [i])).result(SOON) for i in range(3)] == [
        [0],
        [1],
        [2],
    ]


def test_a_map_takes_the_function_once(manager: PilotManager) -> None:
    space = script("k = [0]\ndef work(x):\n    k.append(x)\n    return k")

    def numbers() -> Iterator[int]:
        for number in range(3):
            space["k"].append(9)
            yield number

    assert manager.get_results(manager.map(space["work"], numbers())) == [[0, 0], [0, 1], [0, 2]]


def test_a_result_does_not_change_the_class_that_the_script_has(manager: PilotManager) -> None:
    text = "class K:\n    n = 1\n    def value(self): return self.n\ndef work():\n    K.n = 5\n    return K()"
    space = script(text)
    task = manager.submit_task(space["work"])
    space["K"].n = 2
    result = task.result(SOON)
    assert isinstance(result, space["K"])
    assert result.value() == space["K"].n == 2


#: What a task does with pickle, which writes names of the script.
BY_NAME = {
    "an object": "def work():\n    return pickle.loads(pickle.dumps(K(3))).n",
    "a function": "def work():\n    return pickle.loads(pickle.dumps(three))()",
    "itself": "def work(again=True):\n    return pickle.loads(pickle.dumps(work))(False) if again else 3",
    "an object of a method's class": "class J(K):\n    def go(self): return pickle.loads(pickle.dumps(self)).n\n"
    "work = J(3).go",
    "a function that a method reads": "class J:\n    def __call__(self): return pickle.loads(pickle.dumps(three))()\n"
    "work = J()",
    "a function that a partial reads": "import functools\ndef go(f): return pickle.loads(pickle.dumps(f))()\n"
    "work = functools.partial(go, three)",
    "an object of a cached function": "import functools\n@functools.cache\ndef work():\n"
    "    return pickle.loads(pickle.dumps(K(3))).n",
    "an object on a shelf": "import shelve, tempfile\ndef work():\n    with tempfile.TemporaryDirectory() as folder:\n"
    "        with shelve.open(folder + '/a') as shelf: shelf['k'] = K(3)\n"
    "        with shelve.open(folder + '/a') as shelf: return shelf['k'].n",
    "a pool of joblib": "import joblib\ndef one(): return 1\ndef work():\n"
    "    return sum(joblib.Parallel(n_jobs=2, backend='multiprocessing')(joblib.delayed(one)() for _ in range(3)))",
}


@pytest.mark.parametrize("text", BY_NAME.values(), ids=BY_NAME.keys())
def test_a_task_may_pickle_what_is_the_scripts(manager: PilotManager, text: str) -> None:
    before = "import pickle\nclass K:\n    def __init__(self, n): self.n = n\ndef three(): return 3\n"
    assert manager.submit_task(script(before + text)["work"]).result(SOON) == 3


def test_a_task_may_pickle_its_arguments(manager: PilotManager) -> None:
    space = script("import pickle\ndef three(): return 3\ndef work(f): return pickle.loads(pickle.dumps(f))()")
    assert manager.submit_task(space["work"], space["three"]).result(SOON) == 3
    assert manager.submit_task(space["work"], f=space["three"]).result(SOON) == 3


def test_a_name_of_the_script_that_did_not_come_along_is_missing(manager: PilotManager) -> None:
    text = "k = 1\ndef work():\n    import __main__\n    return hasattr(__main__, 'k'), __main__.k"
    with pytest.raises(AttributeError, match="module '__main__' has no attribute 'k'"):
        manager.submit_task(script(text)["work"]).result(SOON)


class Anything:
    """Answers to every name, as proxies of remote objects do."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__name__":
            raise AttributeError(name)
        return Anything()

    def __call__(self, value: int) -> int:
        return value + 1


class Broken:
    """Names cannot be asked for."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __call__(self, value: int) -> int:
        return value + 1


class OursByName:
    """Its names mean something to this library, and not to the user."""

    immutable = True

    def __init__(self) -> None:
        self.seen: list[int] = []

    def __call__(self, value: int) -> int:
        self.seen.append(value)
        return value + len(self.seen)

    def run_together(self, other: Any) -> str:
        return "not meant"


class EqualAlone(OursByName, JointFunction):
    """Objects are equal, and cannot be hashed."""

    def __eq__(self, other: object) -> bool:
        return True


@pytest.mark.parametrize(
    "work", [Anything(), Broken(), OursByName(), EqualAlone()], ids=lambda work: type(work).__name__
)
def test_callable_objects_may_have_any_names(manager: PilotManager, work: Any) -> None:
    tasks = [manager.submit_task(work, value) for value in (1, 1, 2)]
    assert manager.get_results(tasks) == [2, 2, 3]


class OneTooFew(JointFunction):
    """Its results are not one for each task."""

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return 1

    def run_together(self, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        return list(calls)[1:]


def test_a_plugin_that_returns_too_few_results_is_told(manager: PilotManager) -> None:
    task = manager.submit_task(OneTooFew(), 1)
    with pytest.raises(PluginError, match=r"OneTooFew.run_together returned \[\]; expected a list of 1 results"):
        task.result(SOON)
    assert task.info.attempts == ()
    assert manager.submit_task(abs, -3).result(SOON) == 3


def test_a_function_that_reads_too_deep_a_value_is_refused(manager: PilotManager) -> None:
    space = script("k = ()\nfor _ in range(200_000): k = (k,)\ndef work(): return k")
    with pytest.raises(NotPicklable, match="the function work cannot be pickled"):
        manager.submit_task(space["work"])


def test_objects_with_slots_come_back(manager: PilotManager) -> None:
    text = (
        "import dataclasses\n@dataclasses.dataclass(slots=True)\nclass K:\n    n: int\ndef work(k): return K(k.n + 1)"
    )
    space = script(text)
    result = manager.submit_task(space["work"], space["K"](1)).result(SOON)
    assert type(result) is space["K"]
    assert result == space["K"](2)


def test_a_result_defines_no_class_again(manager: PilotManager) -> None:
    text = (
        "class J:\n    n = 0\n    def __init_subclass__(cls): J.n += 1\nclass K(J): pass\ndef work(): return K(), K.n"
    )
    space = script(text)
    for _ in range(3):
        assert manager.submit_task(space["work"]).result(SOON)[1] == 1
        assert space["J"].n == 1


def test_arguments_and_results_of_tasks_share_the_classes_of_the_function(manager: PilotManager) -> None:
    text = "class K: pass\ndef make(): return K()\ndef work(k): return isinstance(k, K)"
    space = script(text)
    made = manager.submit_task(space["make"])
    assert manager.submit_task(space["work"], made).result(SOON)
    assert manager.submit_task(space["work"], space["K"]()).result(SOON)
    assert isinstance(made.result(SOON), space["K"])


def test_a_registered_module_travels_by_value(
    manager: PilotManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "not_on_the_path_of_workers.py").write_text("k = 1\ndef work(): return k\n")
    monkeypatch.syspath_prepend(tmp_path)
    import not_on_the_path_of_workers as module

    try:
        with pytest.raises(ModuleNotFoundError):
            manager.submit_task(module.work).result(SOON)
        cloudpickle.register_pickle_by_value(module)
        assert manager.submit_task(module.work).result(SOON) == 1
        module.k = 2
        assert manager.submit_task(module.work).result(SOON) == 2
    finally:
        cloudpickle.unregister_pickle_by_value(module)
        del sys.modules["not_on_the_path_of_workers"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "class K:\n    def __reduce__(self): return 'k'\nk = K()\ndef work(): return k",
            "k can only travel as a name",
        ),
        ("import sys\nmain = sys.modules['__main__']\ndef work(): return main", "reads the module __main__ itself"),
        ("import threading\nk = threading.Lock()\ndef work(): return k", "cannot pickle '_thread.lock' object"),
    ],
)
def test_what_cannot_travel_is_refused_when_it_is_submitted(manager: PilotManager, text: str, words: str) -> None:
    with pytest.raises(NotPicklable, match=f"the function work cannot be pickled.*{words}"):
        manager.submit_task(script(text)["work"])


def test_tasks_and_futures_where_they_cannot_be_say_what_to_do(manager: PilotManager) -> None:
    task = manager.submit_task(int)
    for work in (functools.partial(abs, task), lambda: task):
        with pytest.raises(NotPicklable, match="only as an argument of a task: submit_task"):
            manager.submit_task(work)
    future: concurrent.futures.Future[int] = concurrent.futures.Future()
    with pytest.raises(NotPicklable, match="wait for it, give its result"):
        manager.submit_task(abs, future)


def test_functions_that_an_agent_was_told_to_forget_are_sent_again(
    manager: PilotManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_functions, "MOST", 3)
    order = [random.Random(1).randrange(12) for _ in range(60)]
    functions = [lambda number=number: number for number in range(12)]
    tasks = [manager.submit_task(functions[number]) for number in order]
    assert [task.result(SOON) for task in tasks] == order
    one_by_one = [manager.submit_task(functions[number]).result(SOON) for number in order[:20]]
    assert one_by_one == order[:20]


def test_a_large_function_that_is_pickled_again_and_again_is_told_of_once(
    manager: PilotManager, caplog: pytest.LogCaptureFixture
) -> None:
    work = script("k = [bytes(2_000_000)]\ndef work(): return len(k[0])")["work"]
    assert [manager.submit_task(work).result(SOON) for _ in range(3)] == [2_000_000] * 3
    (told,) = [one.getMessage() for one in caplog.records if "at each submission" in one.getMessage()]
    assert told.startswith("function work takes 2,00")


AGAIN = """
import multiprocessing
from pilot import PilotDescription, PilotManager

STEP = 5

class Number:
    def __init__(self, value):
        self.value = value

def add(number):
    return Number(number.value + STEP)

def own_manager(value):
    with PilotManager() as manager:
        manager.submit_pilot(PilotDescription(cores_per_node=1))
        by_name = manager.submit_task(add, Number(value)).result(timeout=60)
        read = manager.submit_task(lambda number: add(number).value, Number(value)).result(timeout=60)
        return by_name.value, type(by_name) is Number, read

if __name__ == "__main__":
    for method in ("spawn", "forkserver"):
        with multiprocessing.get_context(method).Pool(1) as pool:
            print(pool.map(own_manager, [1]))
"""


def test_a_child_that_imports_the_script_again_submits_what_it_defines(tmp_path: Path) -> None:
    """multiprocessing gives the script another name there."""
    program = tmp_path / "program.py"
    program.write_text(AGAIN)
    ran = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=170)
    assert ran.stdout.splitlines() == ["[(6, True, 6)]"] * 2, ran.stderr
