"""The body of a request: bytes to a mapping, within a bound of size.

The vendor's client compresses bodies of more than 1,024 bytes with bz2, and says so in ``Content-Encoding``; in one
call it says so of a body that is not compressed. So the first bytes decide, not the header. The API's own examples
have ``True`` and ``False`` where JSON has ``true`` and ``false``; these words are read, too.
"""

from __future__ import annotations

import bz2
import gzip
import re
import zlib
from io import BytesIO
from typing import Any

import msgspec

from pilot.service.origin.codes import ErrorCode, OriginError

#: A text, closed or not, or one of Python's words outside texts. It matches each character once.
_WORDS = re.compile(rb'"(?:[^"\\]|\\.?)*+"?|\b(?:True|False|None)\b', re.DOTALL)
_JSON_WORDS = {b"True": b"true", b"False": b"false", b"None": b"null"}
_BZ2, _GZIP = b"BZh", b"\x1f\x8b"


def is_packed(body: bytes) -> bool:
    """True for a body that is compressed."""
    return body.startswith((_BZ2, _GZIP))


def unpacked(body: bytes, limit: int) -> bytes:
    """The body, decompressed where it is compressed (bz2 or gzip).

    Args:
        body: as it was sent.
        limit: bytes of the result at most. No more are made of a compressed body.

    Raises:
        OriginError: it is larger, or a compressed body is damaged.
    """
    try:
        if body.startswith(_BZ2):
            data = _bounded(bz2.BZ2File(BytesIO(body)), limit)
        elif body.startswith(_GZIP):
            data = _bounded(gzip.GzipFile(fileobj=BytesIO(body)), limit)
        else:
            data = body
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise OriginError(f"the compressed body is damaged: {error}", code=ErrorCode.JSON_FIELD) from None
    if len(data) > limit:
        message = f"the body has more than {limit} bytes; send fewer programs at a time"
        raise OriginError(message, code=ErrorCode.PROGRAM_LENGTH)
    return data


def _bounded(file: bz2.BZ2File | gzip.GzipFile, limit: int) -> bytes:
    with file:
        return file.read(limit + 1)


def mapping_of(data: bytes) -> dict[str, Any]:
    """The JSON object in a body.

    Raises:
        OriginError: it is no JSON object.
    """
    try:
        value = _decoded(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise OriginError(f"the body is not JSON: {error}", code=ErrorCode.JSON_FIELD) from None
    if not isinstance(value, dict):
        message = f'the body is a JSON {_kind(value)}; expected an object, such as {{"TaskType": 0, ...}}'
        raise OriginError(message, code=ErrorCode.JSON_FIELD)
    return value


def _decoded(data: bytes) -> Any:
    try:
        return msgspec.json.decode(data)
    except msgspec.DecodeError:
        changed = _WORDS.sub(lambda match: _JSON_WORDS.get(match[0], match[0]), data)
        if changed == data:
            raise
        return msgspec.json.decode(changed)


def _kind(value: object) -> str:
    if value is None:
        return "null"
    return {str: "text", bool: "truth value", int: "number", float: "number"}.get(type(value), "array")
