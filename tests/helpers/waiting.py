"""Waiting for what happens, never for a time: a machine may be slow, or stand still for a while."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
PATIENCE = 300.0  # seconds, after which something never happens


def until(condition: Callable[[], T], seconds: float = PATIENCE) -> T:
    """The value of a condition, once it is true."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
    return value
