"""One peer, measured: runs in the peer's own environment, which has nothing of this library.

    PYTHON _peer.py NAME SETTINGS FILE

A peer is a context manager with the two verbs of `_bare`, `submit` and `gather`. `measure` writes its figures into
FILE as JSON. Every process that a peer starts has this script's mark in its environment, so that their processor time
can be added up wherever they belong in the process tree.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import psutil
from _bare import BARE, WORKERS

MARK = "PILOT_BENCHMARK"


def noop(number: int) -> int:
    return number


def nap(number: int, seconds: float) -> int:
    """Busy for so long: a sleep would leave the core to others."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
    return number


class OfFutures:
    """A peer whose calls are futures of the standard library, made by an executor."""

    def __enter__(self) -> OfFutures:
        self._executor = self.executor()
        self.submit = self._executor.submit
        return self

    def executor(self) -> Any:
        raise NotImplementedError

    def gather(self, calls: Iterable[Any]) -> list[Any]:
        return [call.result() for call in calls]

    def __exit__(self, *error: object) -> None:
        self._executor.shutdown(wait=True)


class Parsl(OfFutures):
    """A HighThroughputExecutor with one block of two workers on this machine."""

    def executor(self) -> Any:
        import parsl
        from parsl.concurrent import ParslPoolExecutor
        from parsl.config import Config
        from parsl.executors import HighThroughputExecutor
        from parsl.providers import LocalProvider

        self._folder = tempfile.TemporaryDirectory(prefix="parsl-")
        provider = LocalProvider(init_blocks=1, min_blocks=1, max_blocks=1)
        htex = HighThroughputExecutor(
            address="127.0.0.1", loopback_address="127.0.0.1", max_workers_per_node=WORKERS, provider=provider
        ) if "loopback_address" in HighThroughputExecutor.__init__.__annotations__ else HighThroughputExecutor(
            address="127.0.0.1", max_workers_per_node=WORKERS, provider=provider
        )
        parsl.set_stream_logger  # noqa: B018
        return ParslPoolExecutor(Config(executors=[htex], run_dir=self._folder.name))
