"""Fixtures of the suites of QPUs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from qpu_server import QuantumService


@pytest.fixture(scope="module")
def service() -> Iterator[QuantumService]:
    from qpu_cases import environment
    from qpu_server import QuantumService

    service = QuantumService()
    with pytest.MonkeyPatch.context() as patch:
        for key, value in environment(service.address).items():
            patch.setenv(key, value)
        yield service
    service.close()
