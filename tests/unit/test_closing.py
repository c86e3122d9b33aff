"""`Callbacks` and `Mailbox` while they are closed in one thread and used in another."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilot.manager.callbacks import Callbacks
from pilot.manager.mailbox import Mailbox

ROUNDS, CALLS = 300, 30


@pytest.fixture(autouse=True)
def _quick_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_a_callback_that_is_added_while_they_end_is_called_once(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(ROUNDS):
        callbacks, called = Callbacks(), list[int]()
        callbacks.thread.start()

        def add(callbacks: Callbacks = callbacks, called: list[int] = called) -> None:
            for number in range(CALLS):
                callbacks.add(lambda number=number: called.append(number))  # type: ignore[misc]

        thread = threading.Thread(target=add)
        thread.start()
        callbacks.close()
        thread.join()
        callbacks.thread.join()
        assert sorted(called) == list(range(CALLS))
    assert not caplog.records


def test_who_wakes_a_mailbox_that_is_closed_writes_into_no_other_file(tmp_path: Path) -> None:
    for _ in range(ROUNDS):
        mailbox, is_over = Mailbox(), threading.Event()

        def wake(mailbox: Mailbox = mailbox, is_over: threading.Event = is_over) -> None:
            while not is_over.is_set():
                mailbox.wake()

        thread = threading.Thread(target=wake)
        thread.start()
        mailbox.close()
        files = [os.open(tmp_path / name, os.O_RDWR | os.O_CREAT) for name in ("one", "other")]  # with its numbers
        is_over.set()
        thread.join()
        sizes = [os.fstat(file).st_size for file in files]
        for file in files:
            os.close(file)
        assert sizes == [0, 0]
