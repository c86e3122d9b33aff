"""`KnownFunctions`: which functions a peer has, so that each is sent to it once, and it has not too many."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

#: A peer that has more functions than this, or more bytes of their pickles, is to forget them; they are sent again.
MOST, MOST_BYTES = 10_000, 128 << 20


class KnownFunctions:
    """The functions that an agent has of its manager, or a worker of its agent, by digest."""

    def __init__(self) -> None:
        self._digests: set[str] = set()
        self._bytes = 0

    def lacking(self, digests: Iterable[str]) -> tuple[list[str], bool]:
        """Which of these the peer lacks; and whether it has too many, and is to forget those that it has."""
        has_many = len(self._digests) > MOST or self._bytes > MOST_BYTES
        if has_many:
            self.clear()
        return [digest for digest in digests if digest not in self._digests], has_many

    def add(self, codes: Mapping[str, bytes]) -> None:
        """These were sent, by digest."""
        self._digests.update(codes)
        self._bytes += sum(map(len, codes.values()))

    def clear(self) -> None:
        """It has none, as far as is known."""
        self._digests.clear()
        self._bytes = 0
