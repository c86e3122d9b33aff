"""Makes the process that runs tasks look like a plain Python process, also in the children that a task forks.

The agent ignores Ctrl-C; the fork server and the engines have handlers, connections and settings of their own. A task
and the processes that it starts must not see them.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import contextlib
import functools
import multiprocessing
import os
import pickle
import resource
import signal
import stat
import sys
import threading
import traceback
import types
from collections.abc import Iterator
from multiprocessing import process, reduction
from pathlib import Path
from typing import Any, NoReturn

from pilot.wire import pickles
from pilot.wire.folders import use_socket_folder
from pilot.wire.marks import MARK, children_record, identify, worker_mark
from pilot.worker import coroutines

#: Signals for which engines have handlers, and what a plain Python program has.
_PLAIN: dict[signal.Signals, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
#: What multiprocessing pickles as a name.
_BY_NAME = (type, types.FunctionType, type(functools.lru_cache(abs)))
#: The handlers that were there when the process became a worker.
_engines_handlers: dict[signal.Signals, Any] = {}
#: In each thread: its mask of signals before a fork.
_masks = threading.local()
#: The callable that runs, and its arguments; None: nothing runs.
_in_hand: list[tuple[Any, Any, Any] | None] = [None]
#: The connections of the engine: descriptor → inode.
_engines_sockets: dict[int, int] = {}
#: True when tasks run in the main thread, where alone handlers can be set.
_in_main_thread = [False]
#: ``signal.signal`` without its look for a name of the handler, which takes ten times as long.
_set_handler = _signal.signal
#: Page faults of the children that were waited for: more when another one was.
_faults = [0]
#: Where the children of this worker write down that they are there.
_record: list[Path] = []


def prepare(name: str) -> None:
    """Make this process a task's. The engine's worker calls it before anything of the user's is imported, in the thread
    that runs tasks.

    Args:
        name: of the worker.
    """
    main = sys.modules["__main__"] = types.ModuleType("__main__")  # what a script defines travels by value
    vars(main)["__getattr__"] = _of_script
    sys.modules.pop("__mp_main__", None)
    with contextlib.suppress(PermissionError):  # it leads a process group already
        os.setsid()
    _prepare_signals()
    _prepare_multiprocessing()
    _engines_sockets.update(_sockets())
    if MARK in os.environ:
        os.environ[MARK] = worker_mark(os.environ[MARK], name)
        _record.append(children_record(name))
    os.register_at_fork(before=_block, after_in_parent=_unblock, after_in_child=_became_child)


def activate() -> None:
    """Programs find what is installed beside this Python first, as in an activated virtual environment."""
    if sys.prefix != sys.base_prefix:
        here, path = str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)
        if here not in path.split(os.pathsep):
            os.environ["PATH"] = os.pathsep.join((here, path))


def end_below(pid: int) -> int:
    """End all processes below this one; how many there were."""
    from pilot.wire.processes import end_below  # only here: it loads psutil, 1 MiB in each worker

    return end_below(pid)


def may_have_left() -> bool:
    """True when the tasks since the last call may have left a process running that writes to their streams. Those of
    multiprocessing do not count: they are often a pool that later tasks use. Costs 2 µs."""
    before = _faults[0]
    _faults[0] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_minflt
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return _faults[0] != before  # a child that has ended may have had children
    return not multiprocessing.active_children()


def _prepare_signals() -> None:
    """The mask and the handler of SIGINT are inherited, also through exec."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    _in_main_thread[0] = threading.current_thread() is threading.main_thread()
    if _in_main_thread[0]:
        signal.signal(signal.SIGINT, _not_now)
    _engines_handlers.update({number: signal.getsignal(number) for number in _PLAIN})


def _not_now(number: int, frame: object) -> None:
    """Between batches SIGINT finds no task: an exception would lose the batch that arrives just then."""


class running:  # noqa: N801 - reads as a statement: with running()
    """While tasks run, SIGINT raises KeyboardInterrupt, as in a plain Python program. Dask runs tasks beside the main
    thread, and has a handler of its own."""

    def __enter__(self) -> None:
        if _in_main_thread[0]:
            _set_handler(signal.SIGINT, signal.default_int_handler)

    def __exit__(self, *exc: object) -> None:
        if _in_main_thread[0]:
            _set_handler(signal.SIGINT, _not_now)


def call(function: Any, args: Any, kwargs: Any) -> Any:
    """``function(*args, **kwargs)``. While it runs, what came along of the script is found by name in the empty
    ``__main__``: pickle and what is built on it (shelve, joblib, pools with a pickler of their own) write functions and
    classes as names."""
    _in_hand[0] = function, args, kwargs
    try:
        return coroutines.call(function, args, kwargs)
    finally:
        _in_hand[0] = None


def _of_script(name: str) -> Any:
    """The ``__getattr__`` of ``__main__``."""
    if not name.startswith("__"):
        for function in _functions():
            if function.__qualname__ == name:
                return function
            if name in function.__globals__:
                return function.__globals__[name]
        for kind in pickles.loaded_classes():
            if kind.__module__ in pickles.MAINS and kind.__qualname__ == name:
                return kind
    raise AttributeError(f"module '__main__' has no attribute {name!r}: a worker has what a task's function reads")


def _functions() -> Iterator[types.FunctionType]:
    """The script's functions in what is in hand, and in its classes."""
    seen: list[Any] = []
    function, args, kwargs = _in_hand[0] or (None, (), {})
    given = [
        value
        for one in (function, *args, *kwargs.values())
        for value in ((one, *one.args, *one.keywords.values()) if isinstance(one, functools.partial) else (one,))
    ]
    for work in (*given, *(value for kind in pickles.loaded_classes() for value in vars(kind).values())):
        while work is not None and not any(work is one for one in seen):
            seen.append(work)
            if isinstance(work, types.FunctionType) and work.__globals__.get("__name__") in pickles.MAINS:
                yield work
            work = _within(work)


def _within(work: Any) -> Any:
    """The callable that this one calls, for Python's own wrappers; None: none."""
    if isinstance(work, types.FunctionType | type(functools.lru_cache(abs))):
        return vars(work).get("__wrapped__")
    if isinstance(work, types.MethodType | classmethod | staticmethod):
        return work.__func__
    return work.func if isinstance(work, functools.partial) else None


def _prepare_multiprocessing() -> None:
    """As in a main process: the platform's start method, which a child of the fork server has changed; and functions
    of the user's script reach a child by value, for they are not in this process's ``__main__``."""
    multiprocessing.set_start_method(None, force=True)
    use_socket_folder()
    multiprocessing.current_process().name = "MainProcess"
    process._parent_process = None  # type: ignore[attr-defined] # programs take one without a parent for the first
    reduction.ForkingPickler.reducer_override = _reduce  # type: ignore[method-assign]


def _reduce(pickler: Any, value: Any) -> Any:
    if isinstance(value, _BY_NAME) and value.__module__ in pickles.MAINS:
        return _load, (pickles.dumps(value),)
    return NotImplemented


def _load(data: bytes) -> Any:
    """In a child, which may be a new interpreter: it sends such objects back the same way."""
    reduction.ForkingPickler.reducer_override = _reduce  # type: ignore[method-assign]
    return pickle.loads(data)


def _sockets() -> dict[int, int]:
    found = {}
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            about = path.stat()
            if stat.S_ISSOCK(about.st_mode):
                found[int(path.name)] = about.st_ino
    return found


# ---- children ---------------------------------------------------------------------------------------------------


def _block() -> None:
    """Before a fork: a signal that reaches the child early waits until the engine's handlers are gone."""
    _masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, _PLAIN)


def _unblock() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _masks.before)


def _became_child() -> None:
    """In a child that a task has forked: it is on record, so that it ends with its worker wherever it goes; no
    connection of the engine's is held, so that the engine sees its worker's end; and no signal goes to the engine's
    handlers, which would take it for their own process's."""
    for path in _record:
        with contextlib.suppress(OSError), path.open("a") as file:
            file.write(f"{identify(os.getpid())}\n")
    signal.set_wakeup_fd(-1)
    for number, handler in _engines_handlers.items():
        if signal.getsignal(number) is handler:  # else it is the task's own
            signal.signal(number, _PLAIN[number])
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor, inode in _engines_sockets.items():
        with contextlib.suppress(OSError):
            if os.fstat(descriptor).st_ino == inode:
                os.dup2(nothing, descriptor, inheritable=False)
    os.close(nothing)
    _unblock()


def end_child(error: BaseException | None) -> NoReturn:
    """End a forked child that comes out of its task's function, as plain Python ends: with the code of sys.exit, or a
    traceback and 1. What is to happen at the worker's exit does not happen."""
    code = 0
    if isinstance(error, SystemExit):
        code = _code(error.code)
    elif error is not None:
        traceback.print_exception(error)
        code = 1
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    if isinstance(error, KeyboardInterrupt):
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(code & 0xFF)


def _code(given: Any) -> int:
    if given is None or isinstance(given, int):
        return given or 0
    sys.stderr.write(f"{given}\n")
    return 1
