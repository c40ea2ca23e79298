"""What every process opens for itself: interpreters, sessions, thread pools, connections.

None of it survives a fork: its threads are missing in the child, where using it waits for ever, and so
does closing it. None of it can be pickled.
"""

from __future__ import annotations

import ctypes
import os
import weakref
from typing import Any, Self

_alive: weakref.WeakSet[PerProcess] = weakref.WeakSet()


class PerProcess:
    """An object whose copies, pickles and forked children open their own of what `_own` names.

    Subclasses say in `_own` which attributes these are, and in `_forget` set them as they are before
    anything is opened; they open them when they are used.
    """

    _own: tuple[str, ...] = ()

    def __new__(cls, *args: Any, **options: Any) -> Self:
        self = super().__new__(cls)
        _alive.add(self)
        return self

    def _forget(self) -> None:
        raise NotImplementedError

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in self._own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._forget()


def _begin_in_child() -> None:
    for one in list(_alive):
        for name in one._own:
            # Never freed: that would wait for threads which are not here.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(vars(one).get(name)))
        one._forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_in_child)
