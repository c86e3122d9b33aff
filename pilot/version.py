"""The version of this library, in one place."""

import sys

__version__ = "0.1.0"


def versions() -> tuple[str, str]:
    """The versions that manager, agents and workers must share: Python (major.minor), and this library."""
    return f"{sys.version_info[0]}.{sys.version_info[1]}", __version__
