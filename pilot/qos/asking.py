"""The properties of a QPU, asked from this process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilot import registry

if TYPE_CHECKING:
    from pilot.resources import QPUInfo


def ask(name: str) -> QPUInfo:
    """What a QPU reports of itself, its calibration included. Blocks while it is opened.

    Args:
        name: as in ``PilotDescription.qpus``.

    Raises:
        PluginError: there is no such kind of QPU.
        QPUError: it cannot be opened.
    """
    qpu = registry.make(name)
    qpu.open()
    try:
        return qpu.info()
    finally:
        qpu.close()
