"""What `pilot.qubit` raises for tapes that cannot be run."""

from __future__ import annotations

from pennylane.exceptions import DeviceError

from pilot.errors import DescriptionError


class TapeRefused(DescriptionError, DeviceError):  # type: ignore[misc] # Any to mypy
    """A tape has something that what runs it does not take; PennyLane takes it for its own error."""
