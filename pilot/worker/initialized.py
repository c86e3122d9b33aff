"""What stays in a worker from one task to the next: a dictionary, and functions with an initializer."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pilot.interfaces import WorkFunction
from pilot.wire import payload
from pilot.wire.callables import name_of
from pilot.worker import task_process

#: Functions with an initializer that a worker keeps, with all that their initializers have set: those that ran last.
MOST_READY = 32

_state: dict[str, Any] = {}
#: Functions whose initializer has run in this process, by `Initialized.key`; the one that ran last is the last.
_ready: dict[bytes, Callable[..., Any]] = {}


def worker_state() -> dict[str, Any]:
    """A dictionary that stays in the process, for what is expensive to make. A task finds what earlier tasks of the
    same worker have put there. Each worker of a pilot has its own; which one runs a task is not known before.

    ::

        def predict(x):
            state = pilot.worker_state()
            if "model" not in state:
                state["model"] = load_model()
            return state["model"](x)
    """
    return _state


@dataclass(frozen=True)
class Initialized(WorkFunction):
    """A function before whose first call in each worker another one is called; what that sets in the globals of their
    script, the function finds. It is loaded once in each worker, so that tasks of a worker see each other's changes."""

    #: The initializer, its arguments and the function, pickled together: they have one dictionary of globals.
    code: bytes = field(repr=False)
    name: str
    #: A digest of the code.
    key: bytes = field(repr=False)

    @classmethod
    def of(cls, function: Callable[..., Any], initializer: Callable[..., Any], initargs: Sequence[Any]) -> Initialized:
        """Make it of these as they are now.

        Raises:
            NotPicklable: one cannot be pickled.
        """
        code = payload.dump_function((initializer, tuple(initargs), function))
        return cls(code, name_of(function), hashlib.blake2b(code, digest_size=16).digest())

    @property
    def __name__(self) -> str:
        return self.name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """``function(*args, **kwargs)``.

        Raises:
            Exception: what the function raises, or the initializer, which the next task calls again then.
        """
        if (function := _ready.pop(self.key, None)) is None:
            initializer, initargs, function = payload.load(self.code)
            try:
                task_process.call(initializer, initargs, {})
            except Exception as error:
                with contextlib.suppress(Exception):  # code of its class
                    error.add_note(
                        f"the initializer {name_of(initializer)} raised this, before the task's function ran"
                    )
                raise
        _ready[self.key] = function
        while len(_ready) > MOST_READY:
            del _ready[next(iter(_ready))]
        return task_process.call(function, args, kwargs)
