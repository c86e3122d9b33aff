"""What is said of a policy that raises, or returns something invalid."""

from __future__ import annotations

from pilot.interfaces import Policy


def complaint(policy: Policy, method: str, error: BaseException | None = None) -> str:
    """The policy and its method, with the error that it raised."""
    what = f"the policy {type(policy).__name__}: {method}"
    return what if error is None else f"{what} raised {type(error).__name__}: {error}"
