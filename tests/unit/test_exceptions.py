"""Exceptions on their way: what arrives has the class, the arguments and the text of what was raised, or at least its
text. The oracle is the exception that was raised."""

from __future__ import annotations

import dataclasses
from random import Random
from typing import Any

import numpy
import pytest

from pilot.errors import DescriptionError, QPUError, TaskError, TaskExited
from pilot.wire import payload


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


def travelled(error: BaseException) -> BaseException:
    return payload.load_exception(payload.dump_exception(raised(error)), "task 1 (f)", "task 1 (f)", "stderr: words")


class Code(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(f"exit code {code}")
        self.code = code


class Slotted(Exception):
    __slots__ = ("code",)

    def __init__(self, text: str, code: int = 0) -> None:
        super().__init__(text)
        self.code = code

    def __str__(self) -> str:
        return f"{self.args[0]} {self.code}"


class Two(Exception):
    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")


class KeywordOnly(ValueError):
    def __init__(self, *, field: str) -> None:
        super().__init__(f"{field} is wrong")
        self.field = field


class Unasked(RuntimeError):
    def __init__(self, *parts: str) -> None:
        super().__init__("first", *parts)


class Gone(FileNotFoundError):
    def __init__(self, path: str) -> None:
        super().__init__(2, "gone", path)


class Told(Exception):
    def __init__(self, names: list[str]) -> None:
        super().__init__(["no", *names])


class Read(UnicodeDecodeError):
    def __init__(self, data: bytes) -> None:
        super().__init__("utf-8", data, 0, 1, "not read")


class NoSet(Exception):
    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"read only: {name}")


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    code: int


@dataclasses.dataclass(frozen=True, slots=True)
class FrozenSlots(Exception):
    code: int


class Noted(Exception):
    __notes__ = ()  # type: ignore[assignment] # not a list


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class MuteForGood(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)

    __repr__ = __str__


#: Those that arrive as what they were.
SAME = {
    "as Python's": KeyError("missing"),
    "of ours": DescriptionError("wrong", field="shots"),
    "of a QPU": QPUError("busy", qpu="fake:manila"),
    "with an errno": FileNotFoundError(2, "gone", "x"),
    "a text of its own": Code(3),
    "slots": Slotted("failed", 3),
    "two arguments": Two(5, "bad"),
    "keywords": KeywordOnly(field="shots"),
    "more arguments each time": Unasked("second"),
    "a file's with an init": Gone("/x"),
    "a list that grows": Told(["yes"]),
    "a codec's with an init": Read(b"\xff"),
    "without attributes": NoSet("the real reason"),
    "frozen": Frozen(3),
    "frozen with slots": FrozenSlots(3),
    "odd notes": Noted("the real reason"),
    "an array": ValueError(numpy.arange(3)),
    "not a number": ValueError(float("nan")),
    "a set": ValueError({"one", "two", "three"}),
    "an object": ValueError(object()),
    "import": ImportError("none", name="x", path="y"),
    "surrogates": ValueError("caf\udce9"),
}


@pytest.mark.parametrize("error", SAME.values(), ids=SAME)
def test_it_arrives_as_what_it_was(error: Exception) -> None:
    again = travelled(error)
    assert type(again) is type(error)
    assert len(again.args) == len(error.args)
    assert sorted(str(again).split(" at 0x")[0]) == sorted(str(error).split(" at 0x")[0])  # a set has no order
    assert isinstance(again.__cause__, payload.RemoteTraceback)
    assert "in raised" in str(again.__cause__)
    said = [*getattr(again, "__notes__", ()), str(again.__cause__)]
    assert "stderr: words" in "".join(said)
    for name in ("code", "field", "errno", "filename", "qpu", "name", "path", "data", "object"):
        if hasattr(error, name):
            assert getattr(again, name) == getattr(error, name)


def test_groups_with_such_exceptions_arrive_whole() -> None:
    group = ExceptionGroup("several", [Code(3), ExceptionGroup("more", [Two(5, "bad"), ValueError("plain")])])
    again = travelled(group)
    assert isinstance(again, ExceptionGroup)
    assert isinstance(again.exceptions[1], ExceptionGroup)
    assert str(again.exceptions[0]) == "exit code 3"
    assert list(map(str, again.exceptions[1].exceptions)) == ["5: bad", "plain"]


def test_notes_and_causes_are_told() -> None:
    error = ValueError("second")
    error.__cause__ = raised(KeyError("first"))
    error.add_note("a hint")
    again = travelled(error)
    assert again.__notes__ == ["a hint", "task 1 (f)", "stderr: words"]
    assert "KeyError: 'first'" in str(again.__cause__)


class Unpicklable(Exception):
    def __reduce__(self) -> Any:
        raise TypeError("not me")


class Impostor(Exception):
    def __reduce__(self) -> Any:
        return str, ("not an exception",)


class Liar(Exception):
    def __reduce__(self) -> Any:
        return Liar, ("another text",)


class Stranger(Exception):
    def __reduce__(self) -> Any:
        return ValueError, self.args


def fail(*args: Any) -> Any:
    raise SystemExit(5)


class Explosive(Exception):
    def __reduce__(self) -> Any:
        return fail, self.args


class Unreadable(Exception):
    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(f"{name} cannot be read")


class Holder(Exception):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lines = (line for line in ())


def local() -> Exception:
    class Local(Exception):
        def __reduce__(self) -> Any:
            raise RecursionError

    return Local("inside")


#: id: (exception, its text)
TEXT_ONLY = {
    "refuses": (Unpicklable("the real reason"), "the real reason"),
    "unpickles to something else": (Impostor("who"), "who"),
    "lies about its text": (Liar("the real reason"), "the real reason"),
    "unpickles to another class": (Stranger("the real reason"), "the real reason"),
    "ends who unpickles it": (Explosive("the real reason"), "the real reason"),
    "holds a generator": (ValueError(x for x in ()), "<generator"),
    "an attribute that cannot travel": (Holder("the real reason"), "the real reason"),
    "a local class": (local(), "inside"),
    "StopIteration": (StopIteration("the real reason"), "the real reason"),
    "SystemExit": (SystemExit(3), "3"),
    "KeyboardInterrupt": (KeyboardInterrupt(), ""),
    "a group with one that ends": (BaseExceptionGroup("all", [KeyboardInterrupt()]), "all (1 sub-exception)"),
}


@pytest.mark.parametrize("given, text", TEXT_ONLY.values(), ids=TEXT_ONLY)
def test_it_arrives_as_text(given: BaseException, text: str) -> None:
    arrives_as_text(given, text)


def test_attributes_that_raise() -> None:  # made here: whatever looks at all objects of the process would meet it
    arrives_as_text(Unreadable("the real reason"), "the real reason")


def arrives_as_text(given: BaseException, text: str) -> None:
    again = travelled(given)
    assert type(again) is (TaskError if issubclass(type(given), Exception) else TaskExited)
    assert str(again).startswith(f"task 1 (f) raised {type(given).__qualname__}: {text}")
    assert again.__notes__ == ["stderr: words"]
    assert text in str(again.__cause__)
    assert "in raised" in str(again.__cause__)


class Stored(Exception):
    def __reduce__(self) -> Any:
        return make, self.args


def make(*args: Any) -> Any:
    return Stored(*args)


@pytest.mark.parametrize("made", [fail, lambda *args: "a text", lambda *args: Unreadable()])
def test_what_fails_only_where_it_arrives(made: Any) -> None:
    """As a class that needs what only the worker has."""
    data = payload.dump_exception(raised(Stored("the real reason")))
    assert type(payload.load_exception(data, "it")) is Stored
    make.__code__, code = made.__code__, make.__code__
    try:
        error = payload.load_exception(data, "rank 1")
    finally:
        make.__code__ = code
    assert type(error) is TaskError
    assert str(error) == "rank 1 raised Stored: the real reason"


@pytest.mark.parametrize("error", [Mute(), MuteForGood()], ids=["RuntimeError", "SystemExit"])
def test_no_text_can_be_made(error: Exception) -> None:
    again = travelled(error)
    assert type(again) is type(error)
    assert type(error).__qualname__ in str(again.__cause__)


def test_texts_that_are_no_unicode() -> None:
    error = payload.load_exception(payload.dump_exception(raised(Unpicklable("caf\udce9"))), "it")
    assert str(error) == r"it raised Unpicklable: caf\udce9"


METHODS = [
    "__str__",
    "__repr__",
    "__reduce__",
    "__reduce_ex__",
    "__getstate__",
    "__setstate__",
    "__getattribute__",
    "__getattr__",
    "__setattr__",
    "__eq__",
    "__ne__",
    "__hash__",
    "__bool__",
    "__len__",
    "__format__",
    "add_note",
    "with_traceback",
]
ATTRIBUTES = ["__class__", "args", "__dict__", "__notes__", "__cause__", "__context__", "__traceback__", "__doc__"]


def test_no_class_keeps_its_exception_from_arriving(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random classes some of whose methods and attributes fail, or give what nobody expects."""
    random = Random(7)

    def failing() -> Any:
        kind = random.choice([RuntimeError, SystemExit, AttributeError, TypeError])

        def fails(*args: Any, **keywords: Any) -> Any:
            raise kind("not me")

        return random.choice([fails, lambda *args, **keywords: None, lambda *args, **keywords: 5])

    for _ in range(1000):
        members: dict[str, Any] = {name: failing() for name in random.sample(METHODS, random.randint(0, 3))}
        for name in random.sample(ATTRIBUTES, random.randint(0, 2)):
            members[name] = random.choice([None, (), 5, "x", {}, property(failing())])
        kind = type("Odd", (random.choice([Exception, ValueError, RuntimeError, StopIteration]),), members)
        monkeypatch.setitem(globals(), "Odd", kind)
        error = travelled(kind("the real reason"))
        cause = vars(BaseException)["__cause__"].__get__(error)
        assert "__str__" in members or "__repr__" in members or "the real reason" in str(cause), members
        with pytest.raises(Exception):  # noqa: B017 - what it is was tested above
            raise error
