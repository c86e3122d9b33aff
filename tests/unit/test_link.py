"""A `Link` over a network that loses whatever it likes, whenever a connection breaks."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence

import pytest

from pilot.wire import messages
from pilot.wire.link import Link
from pilot.wire.messages import Message

STREAM = 2**61


class Wire:
    """One way: in order, until it breaks; then what is on it is gone."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[Message, Sequence[bytes]]] = deque()
        self.sent = 0

    def send(self, message: Message, frames: Sequence[bytes] = ()) -> None:
        self.sent += 1
        self.waiting.append((message, frames))


class End:
    """A line with what a manager or an agent does around it."""

    def __init__(self, out: Wire, into: Wire) -> None:
        self.line = Link(out.send, STREAM)
        self.out = out
        self.into = into
        self.got: list[int] = []

    def say(self, number: int) -> None:
        self.line.send(messages.CancelTasks([number]))

    def beat(self) -> None:
        self.out.send(self.line.beat())

    def listen(self, count: int = 10**9) -> None:
        while self.into.waiting and count:
            count -= 1
            message, frames = self.into.waiting.popleft()
            if isinstance(message, messages.Envelope):
                if self.line.take(message):
                    self.line.done(message.seq)
                    self.got += messages.decode(frames[0]).tasks
            elif isinstance(message, messages.Heartbeat):
                self.line.hear(message)
            elif isinstance(message, messages.Resend):
                self.line.repeat(message)


@pytest.fixture
def ends() -> tuple[End, End]:
    there, back = Wire(), Wire()
    return End(there, back), End(back, there)


@pytest.mark.parametrize("seed", range(30))
def test_all_arrives_once_and_in_order_whatever_is_lost(ends: tuple[End, End], seed: int) -> None:
    chance = random.Random(seed)
    said = [0, 0]
    for _ in range(600):
        which = chance.randrange(2)
        match chance.choices(["say", "listen", "beat", "break"], [10, 8, 3, 1])[0]:
            case "say":
                ends[which].say(said[which])
                said[which] += 1
            case "listen":
                ends[which].listen(chance.randrange(6))
            case "beat":
                ends[which].beat()
            case "break":
                for end in ends:  # the kernel may have handed over a part of it
                    for _ in range(chance.randrange(len(end.into.waiting) + 1)):
                        end.into.waiting.pop()
    for _ in range(4):  # ask, repeat, take, free
        for end in ends:
            end.beat()
        for end in ends:
            end.listen()
    assert ends[0].got == list(range(said[1]))
    assert ends[1].got == list(range(said[0]))
    assert all(end.line.is_clear() for end in ends)


def test_a_lost_tail_is_noticed_by_the_next_beat(ends: tuple[End, End]) -> None:
    one, other = ends
    one.say(0)
    one.out.waiting.clear()
    one.beat()
    other.listen()
    one.listen()
    other.listen()
    assert other.got == [0]


def test_a_gap_is_noticed_by_the_next_message(ends: tuple[End, End]) -> None:
    one, other = ends
    one.say(0)
    one.out.waiting.clear()
    for number in range(1, 100):
        one.say(number)
    other.listen()
    assert one.into.sent == 1  # asked once, not for each of the 99
    one.listen()
    other.listen()
    assert other.got == list(range(100))


def test_a_slow_network_makes_nothing_be_sent_twice(ends: tuple[End, End]) -> None:
    one, other = ends
    for number in range(100):
        one.say(number)
    for _ in range(100):  # of many seconds: the peer lives, and takes one message in each
        one.beat()
        other.beat()
        one.listen()
        other.listen(1)
    assert one.out.sent == 200


def test_one_loss_on_a_slow_network_costs_one_repetition(ends: tuple[End, End]) -> None:
    one, other = ends
    for number in range(100):
        one.say(number)
    del one.out.waiting[0]
    for _ in range(400):
        one.beat()
        one.listen()
        other.listen(2)
    assert other.got == list(range(100))
    assert one.out.sent == 200 + 400  # everything once more, and the beats


def test_a_dead_peer_costs_what_is_kept_for_it_and_no_more(ends: tuple[End, End]) -> None:
    one, _ = ends
    one.say(0)
    for _ in range(100):
        one.beat()
        one.listen()
    assert one.out.sent == 101


def test_what_the_peer_has_done_with_is_forgotten(ends: tuple[End, End]) -> None:
    one, other = ends
    one.say(0)
    other.listen()
    assert not one.line.is_clear()
    other.say(0)  # carries the news
    one.listen()
    assert one.line.is_clear()


def test_taken_is_not_done(ends: tuple[End, End]) -> None:
    one, other = ends
    one.say(0)
    head, _ = other.into.waiting.popleft()
    assert isinstance(head, messages.Envelope)
    assert other.line.take(head)
    assert not other.line.take(head)
    other.beat()
    one.listen()
    assert not one.line.is_clear()  # it is not in the journal yet
    other.line.done(1)
    other.beat()
    one.listen()
    assert one.line.is_clear()


def test_another_manager_gets_what_is_kept_and_is_not_mistaken(ends: tuple[End, End]) -> None:
    agent, manager = ends
    for number in range(3):
        agent.say(number)
    agent.line.send(messages.AgentReady([], {}, {}))
    manager.listen(1)
    agent.line.free(1)
    old = agent.line.beat()
    later, agent.out.waiting = list(agent.out.waiting), deque()
    new = End(manager.out, manager.into)
    new.line = Link(manager.out.send, STREAM + 1)
    agent.line.start(STREAM + 1, stale=(messages.AgentReady,))
    new.listen()
    assert new.got == [1, 2]
    agent.out.waiting.extend(later)  # of the stream before
    agent.out.send(old)
    new.listen()
    assert new.got == [1, 2]
    assert not new.out.waiting
