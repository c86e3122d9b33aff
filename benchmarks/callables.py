"""Random callables of a script on all engines, against a call of their cloudpickle copy made at submission.

Each case is a random piece of script: a callable (function, lambda, closure, method, partial, object, decorated or
cached function) that reads and changes random things (globals, defaults, closures, attributes, classes, iterators,
random generators, arrays, files, other functions). It is submitted several times, and the script changes something
before each submission. What a task must give is computed at its submission: a fork of this process makes a cloudpickle
copy of the callable and calls it.
"""

from __future__ import annotations

import copyreg
import functools
import os
import pickle
import random
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import _bench
import cloudpickle

ENGINES = ("process", "dask", "ray")
#: Submissions of each callable; and tasks of each submission on each engine.
STEPS, TASKS = 4, 2


@dataclass
class Piece:
    """Something that a callable reads: what the script says before, and what can be done with it."""

    setup: str
    #: What the callable reads.
    value: str
    #: Statements of the script that change it.
    changes: tuple[str, ...] = ()
    #: Statements with which the callable itself changes it.
    effects: tuple[str, ...] = ()
    #: Parameter with a default, such as ``k=[]``.
    parameter: str = ""
    #: Names that the callable must declare to change them.
    declared: str = ""


def pieces(number: int, rng: random.Random, folder: Path) -> list[Piece]:
    """One piece of each kind; `number` makes their names their own."""
    a, b = f"a{number}", f"b{number}"
    n, m = rng.randrange(10), rng.randrange(10, 20)
    file = folder / f"{a}.txt"
    file.write_text("".join(rng.choices("abcdefgh\n", k=40)))
    return [
        Piece(f"{a} = {n}", a, (f"{a} = {m}", f"{a} += 1"), (f"{a} += 1",), declared=f"global {a}"),
        Piece(f"{a} = 'x{n}'", a, (f"{a} = 'y{m}'", f"del {a}; {a} = 'z'")),
        Piece(f"{a} = [{n}]", f"list({a})", (f"{a}.append({m})", f"{a} = [{m}]", f"{a}.clear()"), (f"{a}.append(1)",)),
        Piece(f"{a} = {{'k': {n}}}", f"dict({a})", (f"{a}['k'] = {m}", f"{a}['j'] = {m}"), (f"{a}['l'] = len({a})",)),
        Piece(f"{a} = {{{n}}}", f"sorted({a})", (f"{a}.add({m})",), (f"{a}.add(-1 - len({a}))",)),
        Piece(f"{a} = ({n}, [{n}])", f"list({a}[1])", (f"{a}[1].append({m})",), (f"{a}[1].append(0)",)),
        Piece(f"{a} = ({n}, frozenset({{1, {m}}}))", f"({a}[0], sorted({a}[1]))", (f"{a} = ({m}, frozenset())",)),
        Piece(
            f"import numpy as np\n{a} = np.arange({n + 2})",
            f"{a}.tolist()",
            (f"{a}[0] = {m}", f"{a} = {a} + 1", f"{a} *= 2"),
            (f"{a}[1] += 1",),
        ),
        Piece(f"{b} = []", f"list({a})", (f"{b}.append({m})",), (f"{a}.append(len({a}))",), parameter=f"{a}={b}"),
        Piece(f"{b} = {n}", a, (), (f"{a} += 1",), parameter=f"{a}={b}"),
        Piece(
            f"class {a}:\n    n = {n}\n    def get(self): return self.n",
            f"({a}.n, {a}().get())",
            (f"{a}.n = {m}", f"{a}.get = lambda self: -self.n", f"{a}.later = 1"),
            (f"{a}.n += 1",),
        ),
        Piece(
            f"class {b}:\n    def __init__(self): self.n = {n}\n{a} = {b}()",
            f"({a}.n, isinstance({a}, {b}))",
            (f"{a}.n = {m}", f"{a} = {b}()"),
            (f"{a}.n += 1",),
        ),
        Piece(f"{a} = iter(range({n}, 99))", f"next({a})", (f"next({a})", f"{a} = iter(range({m}, 99))")),
        Piece(f"import itertools\n{a} = itertools.count({n})", f"next({a})", (f"next({a})",)),
        Piece(f"import random as rnd\n{a} = rnd.Random({n})", f"{a}.random()", (f"{a}.random()", f"{a}.seed({m})")),
        Piece(f"{a} = open({str(file)!r})", f"{a}.read(2)", (f"{a}.read(1)", f"{a}.seek({n})")),
        Piece(f"def {a}(): return {n}", f"{a}()", (f"def {a}(): return {m}", f"{a}.__code__ = (lambda: -1).__code__")),
        Piece(
            f"{b} = {n}\ndef {a}(): return {b}",
            f"{a}()",
            (f"{b} = {m}", f"{b} = [{n}]"),
            (f"{a}.calls = getattr({a}, 'calls', 0) + 1",),
        ),
        Piece(f"def {a}(): pass\n{a}.n = {n}", f"{a}.n", (f"{a}.n = {m}",), (f"{a}.n += 1",)),
        Piece(
            f"def {b}():\n    n = {n}\n    def get():\n        nonlocal n\n        n += 1\n"
            f"        return n\n    return get\n"
            f"{a} = {b}()",
            f"{a}()",
            (f"{a}()", f"{a} = {b}()"),
        ),
        Piece(
            f"import functools\n@functools.cache\ndef {a}(n): return n if n < 2 else {a}(n - 1) + {a}(n - 2)",
            f"({a}({n + 5}), {a}({n + 5}))",
        ),
        Piece(
            f"import functools\nclass {b}:\n    n = {n}\n    @functools.cached_property\n    def get(self):\n"
            f"        self.n += 1\n        return self.n\n{a} = {b}()",
            f"({a}.get, {a}.get)",
            (f"{a} = {b}()", f"{b}.n = {m}", f"{a}.get"),
        ),
        Piece(
            f"import enum\nclass {a}(enum.Enum):\n    A = {n}\n    B = {m}",
            f"({a}.A.value, {a}({m}).name, {a}.A is {a}({n}))",
        ),
        Piece(
            f"import collections\n{b} = collections.namedtuple('{b}', 'x y')\n{a} = {b}({n}, [])",
            f"({a}.x, list({a}.y))",
            (f"{a} = {a}._replace(x={m})", f"{a}.y.append({m})"),
            (f"{a}.y.append(0)",),
        ),
        Piece(
            f"import dataclasses\n@dataclasses.dataclass\nclass {b}:\n    x: int = {n}\n    y: list = "
            f"dataclasses.field(default_factory=list)\n{a} = {b}()",
            f"({a}.x, list({a}.y), {a} == {b}({a}.x, list({a}.y)))",
            (f"{a}.x = {m}", f"{a}.y.append({m})"),
            (f"{a}.x += 1",),
        ),
        Piece(f"import functools\n{a} = functools.partial(max, {n})", f"{a}({m - 10})", (f"{a} = min", f"{a} = max")),
        Piece(f"{a} = [].append", f"{a}.__self__ + [0]", (f"{a}({n})",), (f"{a}({m})",)),
        Piece(f"from math import floor as {a}", f"{a}({n}.5)", (f"from math import ceil as {a}", f"{a} = round")),
        Piece(f"import os.path\n{a} = os", f"{a}.path.basename('x/{n}')", (f"import posixpath as {b}",)),
    ]


@dataclass
class Case:
    """A piece of script whose ``work(*args)`` is submitted."""

    kind: str
    text: str
    changes: list[str]
    args: tuple[Any, ...] = ()
    differences: list[str] = field(default_factory=list)


def random_case(number: int, rng: random.Random, folder: Path) -> Case:
    """A callable that reads one to three pieces."""
    chosen = [rng.choice(pieces(10 * number + place, rng, folder)) for place in range(rng.randint(1, 3))]
    setup = [piece.setup for piece in chosen]
    values = f"[{', '.join(piece.value for piece in chosen)}]"
    effects = [rng.choice(piece.effects) for piece in chosen if piece.effects and rng.random() < 0.5]
    declared = [
        piece.declared for piece in chosen if piece.declared and any(piece.effects[0] == one for one in effects)
    ]
    parameters = ", ".join(piece.parameter for piece in chosen if piece.parameter)
    body = [*declared, *effects, f"return {values}"]
    kind = rng.choice(list(KINDS))
    text = "\n".join([*setup, KINDS[kind](parameters, body, rng)])
    possible = [change for piece in chosen for change in piece.changes]
    possible += ["def other(): pass", "work" if kind == "an object" else "pass", *STATE_CHANGES.get(kind, ())]
    return Case(kind, text, ["pass", *rng.choices(possible, k=STEPS - 1)])


def _lines(body: list[str], depth: int) -> str:
    return "\n".join(" " * 4 * depth + line for line in body)


def _function(parameters: str, body: list[str], rng: random.Random) -> str:
    return f"def work({parameters}):\n{_lines(body, 1)}"


def _by_name_alone(parameters: str, body: list[str], rng: random.Random) -> str:
    return f"def work({'*, ' if parameters else ''}{parameters}):\n{_lines(body, 1)}"


def _lambda(parameters: str, body: list[str], rng: random.Random) -> str:
    return f"work = lambda {parameters}: {body[-1].removeprefix('return ')}"


def _closure(parameters: str, body: list[str], rng: random.Random) -> str:
    inner = ["nonlocal seen, count", "count += 1", "seen.append(count)", *body[:-1]]
    inner.append(f"return (count, list(seen), {body[-1].removeprefix('return ')})")
    return (
        f"def outer(seen, count):\n    def work({parameters}):\n{_lines(inner, 2)}\n    def step():\n"
        f"        nonlocal count\n        count += 10\n    return work, step, seen\n"
        f"work, step, seen = outer([], {rng.randrange(9)})"
    )


def _method(parameters: str, body: list[str], rng: random.Random) -> str:
    comma = ", " if parameters else ""
    inner = ["self.count += 1", "Worker.total += 1", *body[:-1]]
    inner.append(f"return (self.count, Worker.total, {body[-1].removeprefix('return ')})")
    return (
        f"class Worker:\n    total = 0\n    def __init__(self): self.count = {rng.randrange(9)}\n"
        f"    def go(self{comma}{parameters}):\n{_lines(inner, 2)}\n"
        "    __call__ = go\nworker = Worker()\nwork = worker.go"
    )


def _object(parameters: str, body: list[str], rng: random.Random) -> str:
    return _method(parameters, body, rng) + "\nwork = worker"


def _class_method(parameters: str, body: list[str], rng: random.Random) -> str:
    comma = ", " if parameters else ""
    inner = ["cls.total += 1", *body[:-1], f"return (cls.total, {body[-1].removeprefix('return ')})"]
    return (
        f"class Worker:\n    total = 0\n    @classmethod\n    def go(cls{comma}{parameters}):\n{_lines(inner, 2)}\n"
        "worker = Worker\nwork = Worker.go"
    )


def _partial(parameters: str, body: list[str], rng: random.Random) -> str:
    comma = ", " if parameters else ""
    inner = ["seen.append(len(seen))", *body[:-1], f"return (list(seen), {body[-1].removeprefix('return ')})"]
    return (
        f"import functools\ndef base(seen{comma}{parameters}):\n{_lines(inner, 1)}\nseen = [{rng.randrange(9)}]\n"
        "work = functools.partial(base, seen)"
    )


def _decorated(parameters: str, body: list[str], rng: random.Random) -> str:
    return (
        "import functools\ndef counted(function):\n    @functools.wraps(function)\n    def wrapper(*args):\n"
        "        wrapper.calls += 1\n        return wrapper.calls, function(*args)\n    wrapper.calls = 0\n"
        f"    return wrapper\n@counted\ndef work({parameters}):\n{_lines(body, 1)}"
    )


def _nested(parameters: str, body: list[str], rng: random.Random) -> str:
    inner = _lines(body, 2)
    return f"def work({parameters}):\n    def inner({parameters}):\n{inner}\n    return [inner() for _ in range(2)]"


def _counting(parameters: str, body: list[str], rng: random.Random) -> str:
    return (
        f"def work({parameters}):\n    work.calls = getattr(work, 'calls', 0) + 1\n{_lines(body[:-1], 1)}\n"
        f"    return work.calls, {body[-1].removeprefix('return ')}"
    )


KINDS = {
    "a function": _function,
    "a function by names": _by_name_alone,
    "a lambda": _lambda,
    "a closure": _closure,
    "a bound method": _method,
    "an object": _object,
    "a class method": _class_method,
    "a partial": _partial,
    "a decorated function": _decorated,
    "a nested function": _nested,
    "a function that counts": _counting,
}

#: What the script can do to the callable itself.
STATE_CHANGES = {
    "a closure": ("step()", "seen.append(-1)"),
    "a bound method": ("worker.count = -5", "Worker.total = 50", "worker.later = []"),
    "an object": ("worker.count = -5", "Worker.total = 50"),
    "a class method": ("Worker.total = 50",),
    "a partial": ("seen.append(-1)", "work = functools.partial(base, seen)"),
    "a decorated function": ("work.calls = 7",),
    "a function that counts": ("work.calls = 7", "work.later = 1"),
}


def reduce_property(cached: functools.cached_property[Any]) -> tuple[Any, ...]:
    """What cloudpickle does not know before Python 3.12."""
    return functools.cached_property, (cached.func,), {"attrname": cached.attrname}


def expected(work: Any, args: tuple[Any, ...]) -> str:
    """What a cloudpickle copy of the callable gives now, in a fork of this process."""
    copy = cloudpickle.dumps(work)
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            answer = repr(pickle.loads(copy)(*args))
        except BaseException as error:
            answer = f"raised {type(error).__name__}: {error}"
        os.write(writing, answer.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read().decode()
    os.waitpid(child, 0)
    return answer


def answer_of(task: Any) -> str:
    """What became of a task, as text."""
    try:
        return repr(task.result(120))
    except Exception as error:
        return f"raised {type(error).__name__}: {error}"


def run_case(case: Case, manager: Any) -> None:
    """Submit it step by step, and compare at the end."""
    space = vars(sys.modules["__main__"])
    exec(compile(case.text, "<script>", "exec", dont_inherit=True), space)
    waiting = []
    for change in case.changes:
        exec(compile(change, "<script>", "exec", dont_inherit=True), space)
        right = expected(space["work"], case.args)
        for engine in ENGINES:
            wanted = {"function": space["work"], "args": case.args, "pilot": engine}
            tasks = [manager.submit_task(wanted) for _ in range(TASKS)]
            waiting.append((change, engine, right, tasks))
    for change, engine, right, tasks in waiting:
        for task in tasks:
            if (answer := answer_of(task)) != right:
                case.differences.append(f"{engine}, after {change!r}: {answer} instead of {right}")


def main() -> None:
    from pilot import PilotDescription, PilotManager

    parser = _bench.arguments(__doc__, engines=())
    parser.add_argument("--cases", type=int, default=400, help="random callables; each runs on all engines")
    parser.add_argument("--seed", type=int, default=1, help="of the random callables")
    options = parser.parse_args()
    copyreg.pickle(functools.cached_property, reduce_property)
    rng = random.Random(options.seed)
    cases = []
    with tempfile.TemporaryDirectory(prefix="pilot-bench-") as folder, PilotManager() as manager:
        pilots = [
            manager.submit_pilot(PilotDescription(name=engine, engine=engine, cores_per_node=1)) for engine in ENGINES
        ]
        for pilot in pilots:
            pilot.wait()
        for number in range(options.cases):
            case = random_case(number, rng, Path(folder))
            run_case(case, manager)
            cases.append(case)
            for difference in case.differences:
                sys.stdout.write(f"case {number}, {case.kind}: {difference}\n{case.text}\n")
    kinds = sorted({case.kind for case in cases})
    _bench.report(
        "callables",
        {
            "cases": (len(cases), _bench.Bar(">=", 300)),
            "different": (sum(bool(case.differences) for case in cases), _bench.Bar("==", 0)),
            "tasks": (len(cases) * STEPS * TASKS * len(ENGINES), None),
        },
        rows=[
            {
                "kind": kind,
                "cases": sum(case.kind == kind for case in cases),
                "different": sum(case.kind == kind and bool(case.differences) for case in cases),
            }
            for kind in kinds
        ],
        configuration={"cases": options.cases, "seed": options.seed, "engines": list(ENGINES)},
        file=options.json,
    )


if __name__ == "__main__":
    main()
