"""Whether this process is a notebook, or somebody types into it."""

from __future__ import annotations

import sys


def is_notebook() -> bool:
    """True in the kernel of a Jupyter notebook, whose cells show HTML."""
    shell = _shell()
    return shell is not None and hasattr(shell, "kernel")


def is_interactive() -> bool:
    """True where the next command comes from a person: after an interrupt the process goes on."""
    return hasattr(sys, "ps1") or _shell() is not None


def _shell() -> object | None:
    """IPython's, when it runs; IPython is not imported for this."""
    ipython = sys.modules.get("IPython")
    shell: object | None = ipython.get_ipython() if ipython is not None else None
    return shell
