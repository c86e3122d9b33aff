"""The CURVE key pair of a session."""

from __future__ import annotations

import zmq


def new_keys() -> tuple[str, str]:
    """A key pair: public, secret."""
    public, secret = zmq.curve_keypair()
    return public.decode(), secret.decode()


def belong_together(public: str, secret: str) -> bool:
    """True for the two keys of one pair."""
    try:
        return zmq.curve_public(secret.encode()) == public.encode()
    except (zmq.ZMQError, ValueError):
        return False
