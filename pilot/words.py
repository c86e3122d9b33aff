"""The words of a command line and its variables, as `subprocess` takes them: texts and paths."""

from __future__ import annotations

import os
from collections.abc import Mapping
from numbers import Number
from typing import Any

_WORDS = "a list of words, the program first, each a text or a path"
_VARIABLES = "a mapping from texts to texts"


def checked_words(given: Any) -> tuple[str, ...]:
    """A program and its arguments, as texts. An argument may be empty.

    Raises:
        ValueError: what is allowed, and which word is not.
    """
    if isinstance(given, str | bytes):
        text = os.fsdecode(given)
        raise ValueError(f"{_WORDS}; shlex.split({text!r}) makes them of a text, as a shell does")
    if not isinstance(given, list | tuple):
        raise ValueError(_WORDS)
    words = tuple(_word(word, _WORDS, f"word {place}") for place, word in enumerate(given))
    if words and not words[0]:
        raise ValueError(f"{_WORDS}; the program (word 0) is empty")
    return words


def checked_path(given: Any) -> Any:
    """A path as a text; what is neither is left to who asks.

    Raises:
        ValueError: what is allowed.
    """
    return _word(given, "a path", "it") if isinstance(given, str | os.PathLike) else given


def checked_variables(given: Any) -> Any:
    """Environment variables as texts; what is no mapping is left to who asks.

    Raises:
        ValueError: what is allowed, and which variable is not.
    """
    if not isinstance(given, Mapping):
        return given
    variables = {}
    for name, value in given.items():
        if not isinstance(name, str) or not name or "=" in name or "\0" in name:
            raise ValueError(f"{_VARIABLES}; {name!r} cannot be the name of a variable")
        variables[name] = _word(value, _VARIABLES, name)
    return variables


def _word(word: Any, allowed: str, place: str) -> str:
    if isinstance(word, Number):
        raise ValueError(f"{allowed}; {place} is {word!r}: use str({word!r})")
    try:
        text = str.__str__(word) if isinstance(word, str) else os.fsdecode(word)
    except Exception as error:
        raise ValueError(f"{allowed}; {place} is {word!r}") from error
    if "\0" in text:
        raise ValueError(f"{allowed}, without the NUL character; {place} is {text!r}")
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        raise ValueError(f"{allowed} that can be encoded; {place} is {text!r}") from None
    return text
