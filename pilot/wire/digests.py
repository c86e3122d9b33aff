"""Digests of values, the same for equal values in any process."""

from __future__ import annotations

import hashlib
from typing import Any

from pilot.wire import payload, pickles


def digest_of_value(value: Any) -> bytes:
    """The same for equal arguments, also in another process: each value in a list, tuple, dict or set counts by itself,
    whatever other values it shares objects with. Other objects count by their pickles."""
    kind, parts = type(value), list[bytes | memoryview]()
    if kind is list or kind is tuple:
        parts += [digest_of_value(one) for one in value]
    elif kind is set or kind is frozenset:
        parts += sorted(digest_of_value(one) for one in value)
    elif kind is dict:
        parts += sorted(digest_of_value(key) + digest_of_value(one) for key, one in value.items())
    elif kind in (type(None), bool, int, float, str):
        parts.append(repr(value).encode(errors="surrogatepass"))
    else:
        data, *buffers = payload.pieces(value)
        parts += [pickles.without_trackers(bytes(data)), *buffers]
    digest = hashlib.blake2b(kind.__name__.encode(), digest_size=16)
    for part in parts:
        digest.update(part)
    return digest.digest()
