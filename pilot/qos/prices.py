"""What runs cost: a table of prices, from a TOML file."""

from __future__ import annotations

import os
from fnmatch import fnmatchcase
from typing import Annotated, Any

import msgspec

from pilot.errors import DescriptionError
from pilot.toml_files import read_toml

#: The environment variable that names the file with a user's prices.
VARIABLE = "QUANTUM_PILOT_PRICES"

Amount = Annotated[float, msgspec.Meta(ge=0, le=1e300, description="an amount of money, at least 0")]


class Price(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The price of a QPU, in the currency of its table."""

    #: Of each circuit that is sent (vendors call it a task), of each shot, and of each second that the QPU is held.
    task: Amount = 0.0
    shot: Amount = 0.0
    second: Amount = 0.0

    def cost(
        self, shots: int, seconds: float | None, spread: float | None, circuits: int = 1
    ) -> tuple[float | None, float | None]:
        """What a task costs, and the standard deviation of that.

        Args:
            shots: of all its circuits together.
            seconds: that it is expected to hold the QPU; None: not known.
            spread: the standard deviation of these; None: not known.
            circuits: of the task.

        Returns:
            None where the time is not known and counts.
        """
        if seconds is None and self.second:
            return None, None
        fixed = circuits * self.task + shots * self.shot
        return fixed + self.second * (seconds or 0.0), self.second * (spread or 0.0)


class PriceTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Prices of QPUs::

    currency = "EUR"

    [qpus."ibm:*"]
    second = 1.5

    [qpus."fake:*"]
    task = 0.3
    shot = 0.00035
    """

    currency: str
    #: By name of the QPU as in ``PilotDescription.qpus``, or a pattern with ``*``; the first that fits holds.
    qpus: dict[str, Price]

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str]) -> PriceTable:
        """The table in a file.

        Raises:
            DescriptionError: it cannot be read, or a key or value is not valid.
        """
        return cls.build(read_toml(path), os.fspath(path))

    @classmethod
    def of_user(cls) -> PriceTable | None:
        """That in the file that ``QUANTUM_PILOT_PRICES`` names; None: it names none.

        Raises:
            DescriptionError: as `from_toml`.
        """
        path = os.environ.get(VARIABLE)
        return cls.from_toml(path) if path else None

    @classmethod
    def build(cls, data: dict[str, Any], where: str = "prices") -> PriceTable:
        """The table from a mapping with the same keys; ``where`` stands at the beginning of an error.

        Raises:
            DescriptionError: a key or value is not valid.
        """
        try:
            return msgspec.convert(data, cls)
        except msgspec.ValidationError as error:
            raise DescriptionError(
                f"{where}: {error}; expected currency and, for each QPU, task, shot and second", given=data
            ) from None

    def price_of(self, qpu: str) -> Price | None:
        """That of a QPU; None: it has none."""
        return next((price for pattern, price in self.qpus.items() if fnmatchcase(qpu, pattern)), None)
