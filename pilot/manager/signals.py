"""SIGTERM and SIGHUP: a program that they end takes the pilots of its private sessions along."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType

from pilot.wire.marks import MARK

#: What ends a program without a word by default: `kill`, a batch system, `timeout`; a terminal that is gone.
_NUMBERS = (signal.SIGTERM, signal.SIGHUP)
#: What is called when one comes, by the id of what it was given for.
_endings: dict[int, Callable[[], None]] = {}
#: In each thread: its mask of signals before a fork.
_masks = threading.local()


def watch(owner: object, end: Callable[[], None]) -> None:
    """From now on, when one of these signals comes: call ``end``, which must take no lock, and leave the program by
    SystemExit, with 128 and the signal's number as its status, so that ``with`` blocks and atexit's functions run.

    A signal that the program ignores, as by nohup(1), or has a handler for, is left as it is. All of them are where no
    handler can be set, outside of the main thread, and in a task, which ends with its worker.

    Args:
        owner: for `unwatch`.
        end: begins to end the pilots.
    """
    if MARK in os.environ or threading.current_thread() is not threading.main_thread():
        return
    _endings[id(owner)] = end
    for number in _NUMBERS:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _ended)


def unwatch(owner: object) -> None:
    """Call no more what was given for it."""
    _endings.pop(id(owner), None)
    if not _endings and threading.current_thread() is threading.main_thread():
        _take_back()


def _take_back() -> None:
    for number in _NUMBERS:
        if signal.getsignal(number) is _ended:
            signal.signal(number, signal.SIG_DFL)


def _ended(number: int, frame: FrameType | None) -> None:
    if not _endings:  # the last manager was closed in another thread
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    for end in list(_endings.values()):
        end()
    raise SystemExit(128 + number)


# ---- a forked process ends as it would without managers: one that is told to end while it is made must do so, too


def _before_fork() -> None:
    _masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, _NUMBERS)


def _in_parent() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _masks.before)


def _in_child() -> None:
    _endings.clear()
    if threading.current_thread() is threading.main_thread():
        _take_back()
    signal.pthread_sigmask(signal.SIG_SETMASK, _masks.before)


os.register_at_fork(before=_before_fork, after_in_parent=_in_parent, after_in_child=_in_child)
