"""What the tests of `pilot.quantum` share."""

from concurrent.futures import Future

import pytest


class Here:
    """Runs each call where and when it is submitted."""

    def map(self, fn, /, *iterables):
        return [self._call(fn, arguments) for arguments in zip(*iterables, strict=True)]

    def _call(self, fn, arguments):
        future = Future()
        try:
            future.set_result(fn(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future


@pytest.fixture
def here():
    return Here()
