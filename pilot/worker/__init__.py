"""Runs in the engine's worker processes, and in the ranks of MPI tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pilot.interfaces import WorkerSpec


def serve(spec: WorkerSpec) -> None:
    """Work until the agent ends it. Blocks; an engine calls it in a process of its own for each worker."""
    from pilot.worker import process  # who only imports the engine does not load it

    process.serve(spec)
