"""The standard streams of the command `pilot`: closed or broken ones end in an error message, not in a traceback."""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

#: What is written instead where a terminal's encoding has no such sign.
_PLAIN = {"±": "+-", "✓": "+", "–": "-", "✗": "x", "→": "->", "…": "...", "µ": "u"}
_ERRORS = "pilot-plain"


def prepare() -> None:
    """Make all three usable, and let no sign fail that the encoding of one does not have.

    A stream that is closed becomes empty, or takes everything. Standard input stays None in ``sys`` then, so that who
    needs it can say so. Its descriptor is taken in any case: the next file to be opened would get it.
    """
    codecs.register_error(_ERRORS, _plain)
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            _silence(descriptor)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            file = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - for as long as this process
            setattr(sys, name, file)
        stream = getattr(sys, name)
        if getattr(stream, "errors", None) in ("strict", "surrogateescape") and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=_ERRORS)


def read_input() -> str:
    """All of standard input.

    Raises:
        OSError: it is closed.
        UnicodeDecodeError: it is no text.
    """
    if sys.stdin is None:
        raise OSError(errno.EBADF, "it stands for standard input, which is closed")
    return sys.stdin.buffer.read().decode()


def has_output() -> bool:
    """False when standard output was closed before this process began."""
    return sys.__stdout__ is not None


def is_output(path: str) -> bool:
    """True when this file is standard output, under any name."""
    try:
        return has_output() and os.path.samestat(Path(path).stat(), os.fstat(1))
    except OSError:  # it is not there yet
        return False


def say(text: str) -> None:
    """A line on standard error, where that can be had."""
    try:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
    except OSError:
        _silence(2)


def end() -> None:
    """Write out what is buffered; raises OSError where standard output does not take it."""
    with contextlib.suppress(ValueError):  # it was closed
        sys.stdout.flush()
    try:
        sys.stderr.flush()
    except ValueError:
        pass
    except OSError:
        _silence(2)


@contextlib.contextmanager
def lasting() -> Iterator[None]:
    """Within it nothing that is written to standard output fails, so that the work goes on to its end and its files.

    Raises:
        OSError: at the end, where standard output took not all.
    """
    given = sys.stdout
    if given is not sys.__stdout__ or given is None:  # replaced by other code, or none
        yield
        return
    given.flush()
    raw = _Lasting(given.fileno(), "wb", closefd=False)
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(raw), given.encoding, given.errors, line_buffering=given.line_buffering
    )
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stdout = given
    if raw.error is not None:
        raise raw.error


class _Lasting(io.FileIO):
    #: The first error of writing.
    error: OSError | None = None

    def write(self, data: Any, /) -> int:
        if self.error is None:
            try:
                return super().write(data)
            except OSError as error:
                self.error = error
        return memoryview(data).nbytes


def give_up_output() -> None:
    """Standard output takes no more: what is buffered and what is still written goes nowhere."""
    _silence(1)


def _silence(descriptor: int) -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    if nowhere == descriptor:
        os.set_inheritable(descriptor, True)
        return
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def _plain(error: UnicodeError) -> tuple[str | bytes, int]:
    """A handler of encoding errors (`codecs.register_error`): plain signs, or the number of the character; what stands
    for a byte that was no Unicode becomes that byte again."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    sign = error.object[error.start]
    if "\udc80" <= sign <= "\udcff":
        return bytes([ord(sign) - 0xDC00]), error.start + 1
    return _PLAIN.get(sign, sign.encode("ascii", "backslashreplace").decode()), error.start + 1
