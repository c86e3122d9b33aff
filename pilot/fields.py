"""Fields of descriptions: how each is checked when a description is built, and the errors for invalid values."""

from __future__ import annotations

import os
import re
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import cache
from numbers import Integral, Number, Real
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Literal,
    TypeAlias,
    TypeVar,
    get_args,
    get_origin,
)

import msgspec
from msgspec import Meta

from pilot.errors import DescriptionError, did_you_mean, invalid
from pilot.results import class_name
from pilot.times import TIMES

_S = TypeVar("_S", bound="Description")

AtLeastOne = Annotated[int, Meta(ge=1, description="a whole number of at least 1")]
Count = Annotated[int, Meta(ge=0, description="a whole number of at least 0")]
Whole = Annotated[int, Meta(description="a whole number")]
Size = Annotated[int | str, Meta(description='bytes, or a number with a unit, such as "8 GiB" or "500 MB"')]
YesOrNo = Annotated[bool, Meta(description="True or False")]
PathText = Annotated[str, Meta(description="a path")]
Amount = Annotated[float, Meta(ge=0, description="a number of at least 0; fractions are allowed")]
Share = Annotated[float, Meta(gt=0, description="a number above 0; fractions are allowed")]
Text = Annotated[str, Meta(min_length=1, description="a text that is not empty")]
if TYPE_CHECKING:
    Names: TypeAlias = tuple[str, ...] | list[str]
    SomeNames: TypeAlias = tuple[str, ...] | list[str]
    Texts: TypeAlias = Mapping[str, str]
    Words: TypeAlias = tuple[Any, ...] | list[Any]
    Time: TypeAlias = timedelta | float | str
    TimeOrZero: TypeAlias = timedelta | float | str
    Errors: TypeAlias = type[BaseException] | str | Sequence[type[BaseException] | str]
else:  # what has become of it when the description was built
    Names = Annotated[tuple[Text, ...], Meta(description="a list of texts")]
    SomeNames = Annotated[tuple[Text, ...], Meta(min_length=1, description="a text, or a list of texts")]
    Texts = Annotated[dict[str, str], Meta(description="a mapping from texts to texts")]
    #: Texts, and `FileWord`s.
    Words = tuple[Any, ...]
    Time = Annotated[float, Meta(gt=0, description=TIMES)]
    TimeOrZero = Annotated[float, Meta(ge=0, description=TIMES.replace("above", "of at least"))]
    Errors = tuple[str, ...]  # of `checked_errors`
_Port = Annotated[int, Meta(ge=1, le=65535)]
Ports = Annotated[tuple[_Port, _Port], Meta(description="two ports from 1 to 65535, first and last")]
Fidelity = Annotated[float, Meta(ge=0, le=1, description="a number from 0 to 1")]
Shots = Annotated[int, Meta(ge=1, le=1 << 62, description="a whole number of at least 1, at most 2**62")]
Level = Annotated[int, Meta(ge=0, le=3, description="0, 1, 2 or 3")]
#: Fields with whole numbers, which take floats such as 1e3.
_INTEGERS = (AtLeastOne, Count, Whole, Shots, AtLeastOne | None, Shots | None, Size | None)

_encode = msgspec.msgpack.Encoder().encode
#: Types that messages have.
_PLAIN = frozenset({bool, int, float, str})

_PREFIXES = "KMGT"
_UNITS = {"": 1, "B": 1}
_UNITS |= {f"{prefix}B": 10 ** (3 * power) for power, prefix in enumerate(_PREFIXES, 1)}
_UNITS |= {prefix + end: 2 ** (10 * power) for power, prefix in enumerate(_PREFIXES, 1) for end in ("", "IB")}
_SIZE = re.compile(r"\s*([0-9]*\.?[0-9]+)\s*([A-Za-z]*)\s*")


def whole(field: str, given: Any, expected: str = "a whole number of at least 1", *, least: int = 1) -> int:
    """An argument that is a whole number; also one of another library, such as ``numpy.int64``.

    Raises:
        DescriptionError: it is none, or less than ``least``.
    """
    if isinstance(given, bool) or not isinstance(given, Integral) or int(given) < least:
        raise invalid(field, given, expected)
    return int(given)


class _Call(threading.local):
    """The call that makes a description in this thread: what it gives, by name."""

    fields: Mapping[str, Any] | None = None


_call = _Call()


class NamedFields(msgspec.StructMeta):
    """Says which fields there are when another one is given."""

    if not TYPE_CHECKING:  # who checks types reads the fields

        @property
        def __signature__(self) -> Any:
            """What ``help`` and notebooks show: names and defaults, without what each value is checked for."""
            whole = super().__signature__
            names = [one.replace(annotation=one.empty) for one in whole.parameters.values()]
            return whole.replace(parameters=names)

        def __call__(self, *args: Any, **fields: Any) -> Any:
            _call.fields = fields
            try:
                return super().__call__(*args, **fields)
            except TypeError as error:
                names = self.__struct_fields__
                if args:
                    text = f"{self.__name__} takes its fields by name: {self.__name__}({names[0]}=…)"
                    raise DescriptionError(text, given=args[0]) from None
                for name in set(fields).difference(names):
                    text = _unknown(self, name)
                    raise DescriptionError(text, field=name, given=fields[name]) from error
                raise
            finally:
                _call.fields = None


class Description(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, metaclass=NamedFields):
    """Base of the descriptions: frozen, keyword only, every field checked against its annotation."""

    #: Fields that travel as pickles; the others go into messages.
    _pickled: ClassVar[frozenset[str]] = frozenset()
    #: Fields with commands, paths or variables, and the functions that check them and convert them to texts.
    _readers: ClassVar[Mapping[str, Callable[[Any], Any]]] = {}
    #: The field that is meant by a word of other systems.
    _called: ClassVar[Mapping[str, str]] = {}

    @classmethod
    def build(cls: type[_S], given: _S | Mapping[str, Any]) -> _S:
        """The description itself, or the one that a mapping with the same keys describes.

        Raises:
            DescriptionError: an unknown key (the nearest known one is named), or a value that is not valid.
        """
        if isinstance(given, cls):
            return given
        if not isinstance(given, Mapping):
            raise invalid(cls.__name__, given, f"a {cls.__name__}, or a dict with its keys")
        return cls(**{str(key): value for key, value in given.items()})

    def __post_init__(self) -> None:
        self._check_given()

    def _check_given(self) -> list[str]:
        """Check the fields that differ from their defaults, and no others; their names."""
        known, call, _call.fields = _known(type(self)), _call.fields, None
        given = []
        for name in known if call is None else call:  # else it is made by `msgspec.structs.replace` and the like
            field, value = known[name], getattr(self, name)
            if value is field.default or (type(value) is field.factory and not value):
                continue
            given.append(name)
            if not field.is_free:
                self._check_field(field, value)
        return given

    def _check_field(self, field: _Field, value: Any) -> None:
        name, kind = field.name, field.kind
        try:
            given = self._readers[name](value) if name in self._readers else value
            given = given if name in self._pickled or type(given) in _PLAIN else _plain(given)
            if type(given) is float and given.is_integer() and kind in _INTEGERS:
                given = int(given)  # 1e3
            checked = msgspec.convert(given, kind)
        except msgspec.ValidationError as error:
            raise self.wrong(name, _expected(kind) or str(error)) from None
        except ValueError as error:
            raise self.wrong(name, str(error)) from None
        if checked is not value:
            msgspec.structs.force_setattr(self, name, checked)
        if name not in self._pickled and type(checked) is not float:
            self._check_travels(name, checked, kind)

    def _check_travels(self, field: str, value: Any, kind: Any) -> None:
        try:
            _encode(value)
        except (UnicodeEncodeError, OverflowError) as error:
            if type(value) is int:
                limit = "at most 2**64 - 1" if value > 0 else "at least -2**63"
                raise self.wrong(field, f"{_expected(kind) or 'a whole number'}, {limit}") from error
            raise self.wrong(field, "Unicode text, and whole numbers of 64 bits") from error
        except TypeError as error:
            raise self.wrong(field, "numbers, texts, lists and mappings") from error

    def wrong(self, field: str, expected: str) -> DescriptionError:
        """The error about this field's value, with what is expected."""
        return invalid(f"{type(self).__name__}.{field}", getattr(self, field), expected)


def _plain(value: Any) -> Any:
    """Python's numbers and texts for those of another library, such as ``numpy.int64`` and ``numpy.str_``."""
    kind: Any = type(value)
    if kind in (list, tuple):
        return kind(map(_plain, value))
    if isinstance(value, str):
        return str.__str__(value)
    if not isinstance(value, Real) or kind in (int, float, bool):
        return value
    return int(value) if isinstance(value, Integral) else float(value)


def _unknown(kind: Any, key: str) -> str:
    known: Sequence[str] = kind.__struct_fields__
    hint = f" (did you mean {kind._called[key]!r}?)" if key in kind._called else did_you_mean(key, known)
    return f"{kind.__name__} has no field {key!r}{hint}; it has: {', '.join(known)}"


class _Field(msgspec.Struct, frozen=True, gc=False):
    name: str
    kind: Any
    default: Any
    #: Makes its default, for dicts; None: the default is one object.
    factory: Any
    #: It takes anything.
    is_free: bool


@cache
def _known(cls: type[Description]) -> dict[str, _Field]:
    """The fields of a class, in order."""
    return {
        one.name: _Field(
            one.name,
            one.type,
            one.default,
            None if one.default_factory is msgspec.NODEFAULT else one.default_factory,
            one.type is Any and one.name in cls._pickled and one.name not in cls._readers,
        )
        for one in msgspec.structs.fields(cls)
    }


def _expected(kind: Any) -> str:
    """The description that the annotation carries, also inside a union; or the values that it lists."""
    for part in (kind, *getattr(kind, "__args__", ())):
        if get_origin(part) is Literal:
            return " or ".join(map(repr, get_args(part)))
        for meta in getattr(part, "__metadata__", ()):
            if isinstance(meta, Meta) and meta.description:
                return meta.description
    return ""


def size_of(description: Description, field: str) -> int | None:
    """Bytes from bytes or from a text such as "8 GiB"."""
    value = getattr(description, field)
    if isinstance(value, str):
        match = _SIZE.fullmatch(value)
        if match is None or match[2].upper() not in _UNITS:
            raise description.wrong(field, 'bytes, or a number with a unit, such as "8 GiB" or "500 MB"')
        value = int(float(match[1]) * _UNITS[match[2].upper()])
    if value is not None and value <= 0:
        raise description.wrong(field, "more than 0 bytes")
    if value is not None and value >= 1 << 63:
        raise description.wrong(field, "less than 8 EiB")
    return value  # type: ignore[no-any-return]


_WORDS = "a list of texts or paths, the program first"
_VARIABLES = "a mapping from texts to texts"


class FileWord(ABC):
    """A word of a command that is the path of a file where the command runs."""

    @abstractmethod
    def check_file(self) -> None:
        """Raise ValueError, with what is expected, when there is no such file."""


def checked_words(given: Any) -> tuple[Any, ...]:
    """A program and its arguments, as texts. An argument may be empty, or a `FileWord`.

    Raises:
        ValueError: what is expected, and which word is not valid.
    """
    if isinstance(given, str | bytes):
        text = os.fsdecode(given)
        raise ValueError(f"{_WORDS}; shlex.split({text!r}) splits a text as a shell does")
    if not isinstance(given, list | tuple):
        raise ValueError(_WORDS)
    words = tuple(_argument(word, place) for place, word in enumerate(given))
    if words and not words[0]:
        raise ValueError(f"{_WORDS}; the program (word 0) is empty")
    return words


def _argument(word: Any, place: int) -> Any:
    if isinstance(word, FileWord) and place:
        word.check_file()
        return word
    return _word(word, _WORDS, f"word {place}")


_ERRORS = "exception classes or their names, such as [OSError] or ['pilot.QPUUnavailable']"


def checked_errors(given: Any) -> tuple[str, ...]:
    """Exception classes, one or several, as their names (`class_name`).

    Raises:
        ValueError: what is expected, and what is not valid.
    """
    wanted = list(given) if isinstance(given, list | tuple | set | frozenset) else [given]
    return tuple(_error(one) for one in wanted)


def _error(given: Any) -> str:
    known = _named(given) if isinstance(given, str) else given
    if isinstance(known, type) and issubclass(known, BaseException):
        return class_name(known)  # "IOError" is a name of OSError
    if known is None and all(part.isidentifier() for part in given.split(".")):
        return str(given)
    raise ValueError(f"{_ERRORS}; {given!r} is neither")


def _named(name: str) -> Any:
    """What has this name here; None: that is not known, since workers may have other modules.

    Raises:
        ValueError: it is a slip of the pen.
    """
    head, _, last = name.rpartition(".")
    module = sys.modules.get(head or "builtins")
    found = getattr(module, last, None)
    if found is None and head and module is not None:
        raise ValueError(f"{_ERRORS}; the module {head} has no {last!r}{did_you_mean(last, dir(module))}")
    if found is None and not head and (meant := _misspelt(name)):
        raise ValueError(
            f"{_ERRORS}; did you mean {meant!r}? A class that is called {name!r} all the same needs its module's name "
            "before it"
        )
    return found


def _misspelt(name: str) -> str:
    """The class of Python or of this library that a name is nearly; "": it is one here, or there is none."""
    import difflib  # only where a name is not known

    names, open = set[str](), list[type[BaseException]]([BaseException])
    own = set[str]()
    while open:
        kind = open.pop()
        open += kind.__subclasses__()
        names.add(kind.__name__)
        if kind.__module__ in ("builtins", "pilot"):
            own.add(kind.__name__)
    if name in names:
        return ""
    known = {one.casefold(): one for one in own}
    return known.get(next(iter(difflib.get_close_matches(name.casefold(), known, n=1, cutoff=0.9)), ""), "")


def checked_path(given: Any) -> Any:
    """A path as a text. Values of other types are returned unchanged.

    Raises:
        ValueError: the path is not valid; the message says what is expected.
    """
    if not isinstance(given, str | os.PathLike):
        return given
    if not (path := _word(given, "a path", "it")):
        raise ValueError("a path; it is empty")
    return path


def checked_variables(given: Any) -> Any:
    """Environment variables as texts. Values that are not mappings are returned unchanged.

    Raises:
        ValueError: what is expected, and which variable is not valid.
    """
    if not isinstance(given, Mapping):
        return given
    variables = {}
    for name, value in given.items():
        if not isinstance(name, str) or not name or "=" in name or "\0" in name:
            raise ValueError(f"{_VARIABLES}; {name!r} cannot be the name of a variable")
        variables[name] = _word(value, _VARIABLES, name)
    return variables


def _word(word: Any, expected: str, place: str) -> str:
    if isinstance(word, Number):
        raise ValueError(f"{expected}; {place} is {word!r}: use str({word!r})")
    try:
        text = str.__str__(word) if isinstance(word, str) else os.fsdecode(word)
    except Exception as error:
        raise ValueError(f"{expected}; {place} is {word!r}") from error
    if "\0" in text:
        raise ValueError(f"{expected}, without the NUL character; {place} is {text!r}")
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        raise ValueError(f"{expected} that can be encoded; {place} is {text!r}") from None
    return text
