"""Functions that a service is given: each takes so many tenths of a second, and is measured by itself."""

from __future__ import annotations

import time


def nap_1() -> None:
    time.sleep(0.1)


def nap_2() -> None:
    time.sleep(0.2)


def nap_4() -> None:
    time.sleep(0.4)


def nap_8() -> None:
    time.sleep(0.8)


def nap_16() -> None:
    time.sleep(1.6)
