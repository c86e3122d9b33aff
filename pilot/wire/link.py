"""The conversation with one peer: each message is taken in once and in order, also when connections break.

ZeroMQ makes a broken connection again by itself, but the messages in transit are lost. So both ends number what they
send and keep it until the other end has finished with it. The receiver takes only the next number. One connection
keeps the order, so it notices a loss by a later number, or by a `Heartbeat` that says that more was sent. Then it asks
(`Resend`), and everything after the last message taken is sent again.

Nothing is sent again because time passes: on a slow network that would add to what waits already. Each time it is sent
is a *round*. A `Resend` has the last round that its sender saw; one about an earlier round was answered before.
So what waits for a peer is at most twice what is kept for it, and that is bounded by the pilot's credit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from pilot.wire import messages
from pilot.wire.messages import Envelope, Frames, Heartbeat, Message, Resend


class Link:
    """One end of the conversation. For one thread."""

    def __init__(self, transmit: Callable[[Message, Frames], object], stream: int = 0) -> None:
        """Make it.

        Args:
            transmit: sends to the peer, or loses it.
            stream: the number of the manager, which distinguishes its messages from those of another one.
        """
        self._transmit = transmit
        self._begin(stream)

    def _begin(self, stream: int) -> None:
        self.stream = stream
        #: What the peer has not finished with, in order; the last one has the number `_sent`.
        self._kept: deque[tuple[Message, Frames]] = deque()
        self._sent = self._round = 0
        self._taken = self._done = 0
        #: The peer's round that was asked about.
        self._asked = -1

    def start(self, stream: int, stale: tuple[type[Message], ...] = ()) -> None:
        """Begin from 1 with another manager: it gets all that is kept, but for messages of the ``stale`` types."""
        kept = [one for one in self._kept if not isinstance(one[0], stale)]
        self._begin(stream)
        for message, frames in kept:
            self.send(message, frames)

    # ---- what goes out ----------------------------------------------------------------------------------------

    def send(self, message: Message, frames: Frames = ()) -> None:
        """Send, and keep until the peer has finished with it."""
        self._sent += 1
        self._kept.append((message, frames))
        self._send(self._sent, message, frames)

    def _send(self, seq: int, message: Message, frames: Frames) -> None:
        head = Envelope(self.stream, seq, self._round, self._done)
        self._transmit(head, [messages.encode(message), *frames])

    def beat(self) -> Heartbeat:
        """A `Heartbeat` with the numbers of the conversation."""
        return Heartbeat(self.stream, self._sent, self._round, self._done)

    def free(self, done: int) -> None:
        """The peer has finished with everything up to this number."""
        while self._kept and self._sent - len(self._kept) < done:
            self._kept.popleft()

    def is_clear(self) -> bool:
        """True when the peer has finished with all that was sent."""
        return not self._kept

    # ---- what comes in ----------------------------------------------------------------------------------------

    def take(self, head: Envelope) -> bool:
        """True for the next one in order; one that was taken already, or is too early, is dropped."""
        if head.stream != self.stream:
            return False
        self.free(head.done)
        if head.seq == self._taken + 1:
            self._taken += 1
            return True
        if head.seq > self._taken and head.round != self._asked:
            self._ask(head.round)
        return False

    def untake(self) -> None:
        """The last message that was taken could not be handled: it is requested again when the peer sends something."""
        self._taken -= 1
        self._asked = -1

    def done(self, seq: int) -> None:
        """The peer may forget everything up to this one; the next message to it says so."""
        self._done = max(self._done, seq)

    def hear(self, beat: Heartbeat) -> None:
        """Take in a `Heartbeat`: ask again for what is lost."""
        if beat.sender != self.stream:
            return
        self.free(beat.done)
        if beat.sent > self._taken:
            self._ask(beat.round)

    def _ask(self, round: int) -> None:
        self._asked = round
        self._transmit(Resend(self.stream, self._taken, round), ())

    def repeat(self, again: Resend) -> None:
        """Answer a `Resend`: send what the peer lost."""
        if again.stream != self.stream or again.round != self._round:
            return
        self._round += 1
        first = self._sent - len(self._kept) + 1
        for seq, (message, frames) in enumerate(list(self._kept), first):
            if seq > again.after:
                self._send(seq, message, frames)
