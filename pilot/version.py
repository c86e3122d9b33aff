"""The version of this library: the one place where it stands."""

import sys

__version__ = "0.1.0"


def versions() -> tuple[str, str]:
    """What manager, agents and workers must agree on: Python (major.minor), and this library."""
    return f"{sys.version_info[0]}.{sys.version_info[1]}", __version__
