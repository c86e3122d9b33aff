"""What the tests of `pilot.quantum` share."""

import pytest
from here import Here


@pytest.fixture
def here():
    return Here()
