import pytest

from pilot.testing import EngineContract


class TestSubprocessEngine(EngineContract):
    engine = "subprocess"

    def test_it_has_no_native_client(self, pilot):
        with pytest.raises(NotImplementedError, match="SubprocessEngine has no native client"):
            pilot.get_client()
