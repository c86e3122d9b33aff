"""What is said of a policy that raises, or returns something invalid."""

from __future__ import annotations

from pilot.errors import pass_interrupt, text_of
from pilot.interfaces import Policy


def complaint(policy: Policy, method: str, error: BaseException | None = None) -> str:
    """The policy and its method, with the error that it raised; Ctrl-C, as in a simulation, is raised again."""
    what = f"the policy {type(policy).__name__}: {method}"
    if error is None:
        return what
    pass_interrupt(error)
    return f"{what} raised {type(error).__name__}: {text_of(error)}"
