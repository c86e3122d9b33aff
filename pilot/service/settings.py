"""Settings of the service: a TOML file, each table a struct below. ``pilot serve --check`` reads it only."""

from __future__ import annotations

import os
import re
import ssl
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from pilot import registry
from pilot.descriptions import PilotDescription
from pilot.errors import DescriptionError, PilotError, did_you_mean, invalid
from pilot.fields import AtLeastOne, Count, Description, Text, Time, TimeOrZero, checked_path
from pilot.service.database import checked_url
from pilot.times import seconds_of
from pilot.toml_files import read_toml

_D = TypeVar("_D", bound=Description)

_MOST_BYTES = 1 << 30
Bytes = Annotated[int, Meta(ge=1024, le=_MOST_BYTES, description=f"a whole number of bytes, 1024 to {_MOST_BYTES}")]
_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


class Server(Description, frozen=True, kw_only=True):
    """The table ``[server]``."""

    _readers = {  # noqa: RUF012
        **dict.fromkeys(("tls_cert", "tls_key", "session_dir"), checked_path),
        **dict.fromkeys(("drain", "retention"), seconds_of),
    }

    #: Where it listens.
    host: Text = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="a port from 1 to 65535, or 0 for any")] = 8470
    #: Where tasks and results are: ``sqlite:////folder/service.db`` or ``postgresql://user:password@host/name``.
    #: Default: a file in a private folder of the account.
    store: Text | None = None
    #: The manager's session folder, which pilots must see. Default: beside the store's default.
    session_dir: Text | None = None
    #: A certificate and its key (PEM): it then speaks TLS only.
    tls_cert: Text | None = None
    tls_key: Text | None = None
    #: The path that a proxy puts before all routes, such as "/pilot".
    root_path: str = ""
    #: On SIGTERM: how long to wait for the tasks that run.
    drain: TimeOrZero = 30.0
    #: Tasks that ended so long ago are removed, and sessions that were closed then. Default: never.
    retention: Time | None = None
    #: Which task is next, and which QPU gets it: a name such as "fcfs" or "hrrn" (entry points ``pilot.policies``),
    #: "package.module:Class", or a TOML file with the tables [cores] and [qpus].
    policy: Text = "balanced"
    #: A page at `/` with pilots, QPUs and all tasks, for administrators. Default: where the extra ``dashboard`` is
    #: installed.
    dashboard: bool | None = None

    @property
    def drain_seconds(self) -> float:
        """Of `drain`."""
        return self.drain  # type: ignore[return-value]  # seconds since it was built

    @property
    def retention_seconds(self) -> float | None:
        """Of `retention`."""
        return self.retention  # type: ignore[return-value]

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.tls_cert is None) is not (self.tls_key is None):
            raise self.wrong("tls_key" if self.tls_cert else "tls_cert", "both tls_cert and tls_key, or neither")
        for field in ("tls_cert", "tls_key"):
            path = getattr(self, field)
            if path is not None and not (Path(path).is_file() and os.access(path, os.R_OK)):
                raise self.wrong(field, "a file that can be read")
        if self.tls_cert is not None:
            self._check_certificate()
        if self.root_path and (not self.root_path.startswith("/") or self.root_path.endswith("/")):
            raise self.wrong("root_path", 'a path such as "/pilot": with / before it, and none behind it')
        if self.store is not None:
            checked_url(self.store)

    def _check_certificate(self) -> None:
        assert self.tls_cert is not None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(self.tls_cert, self.tls_key, password=lambda: "")
        except OSError as error:
            expected = f"the key (PEM, without a passphrase) of the certificate in {self.tls_cert}: {error}"
            raise self.wrong("tls_key", expected) from None


class Limits(Description, frozen=True, kw_only=True):
    """The table ``[limits]``."""

    #: Of a request.
    body_bytes: Bytes = 16 << 20
    #: Of the text of a program.
    program_bytes: Bytes = 1 << 20
    tasks_per_request: AtLeastOne = 1000
    #: Tasks of one user that are not over.
    tasks_per_user: AtLeastOne = 100_000
    #: Sessions of one user that are open.
    sessions_per_user: AtLeastOne = 1000
    #: Samples of one circuit.
    shots: AtLeastOne = 1_000_000
    #: How long a task may run at most.
    timeout: Time = 3600.0
    #: Estimates, and wrong logins, of one user in a minute.
    estimates_per_minute: AtLeastOne = 30
    logins_per_minute: AtLeastOne = 10
    #: Connections for events of one user.
    event_streams: AtLeastOne = 10
    #: Tasks that the manager has at once; the others wait in the store. Users take turns.
    window: AtLeastOne = 1000

    _readers = {"timeout": seconds_of}  # noqa: RUF012

    @property
    def seconds(self) -> float:
        """Of `timeout`."""
        return self.timeout  # type: ignore[return-value]  # seconds since it was built


class Cache(Description, frozen=True, kw_only=True):
    """The table ``[cache]``."""

    #: Results of equal deterministic tasks are taken instead of running them again.
    results: bool = True


class Origin(Description, frozen=True, kw_only=True):
    """The table ``[origin]``: the interface that Origin's clients use."""

    enabled: bool = True
    #: Who knows a task's id may read its result without a token.
    results_without_token: bool = False
    #: The QPU that is meant by a ``ChipID``, such as ``72 = "fake:kolkata"``. QPUs are chips by their names, too.
    chips: dict[str, Text] = {}  # noqa: RUF012  # a struct's defaults are its own

    def check_chips(self, qpus: Collection[str]) -> None:
        """Raise DescriptionError for a chip that is none of these QPUs: its tasks would all be refused."""
        for chip, name in self.chips.items():
            if name not in qpus:
                known = ", ".join(dict.fromkeys(qpus)) or "none"
                expected = f"a QPU of a pilot, and no simulator{did_you_mean(name, qpus)}; there are: {known}"
                raise invalid(f"[origin] chips {chip}", name, expected)


class Autoscale(Description, frozen=True, kw_only=True):
    """A table ``[[autoscale]]``: as `PilotManager.autoscale`; its pilot is ``[autoscale.pilot]``."""

    pilot: dict[str, Any]
    minimum: Count = 0
    maximum: AtLeastOne = 4
    idle: Time = 60.0
    backlog: Time = 30.0
    delay: TimeOrZero = 5.0

    _pilot = frozenset({"pilot"})
    _pickled = frozenset({"pilot"})
    _readers = dict.fromkeys(("idle", "backlog", "delay"), seconds_of)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.minimum > self.maximum:
            raise self.wrong("minimum", f"at most maximum ({self.maximum})")

    @property
    def name(self) -> str:
        """Of its pilots, before a dot and a number."""
        name: str = self.pilot.get("name") or "service"
        return name


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All that a service is told."""

    server: Server = Server()
    limits: Limits = Limits()
    cache: Cache = Cache()
    origin: Origin = Origin()
    pilots: tuple[PilotDescription, ...] = ()
    autoscale: tuple[Autoscale, ...] = ()
    #: Python functions that users may call, by name: "package.module:function".
    functions: dict[str, str] = {}

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str]) -> Settings:
        """The settings of a file.

        Raises:
            DescriptionError: it cannot be read, a table or a key is unknown, or a value is not valid: the message has
                file, table and field, what was given, and what is valid.
        """
        where = os.fspath(path)
        try:
            return cls.build(read_toml(path))
        except PilotError as error:
            text = str(error)
            raise DescriptionError(text if text.startswith(where) else f"{where}: {text}", **error.data) from None

    @classmethod
    def build(cls, given: Mapping[str, Any]) -> Settings:
        """The settings of a mapping with the same keys; without pilots those of a laptop.

        Raises:
            DescriptionError: as `from_toml`.
        """
        known = cls.__struct_fields__
        for key in given:
            if key not in known:
                raise DescriptionError(
                    f"[{key}]: there is no such table{did_you_mean(key, known)}; there are {', '.join(known)}",
                    field=key,
                )
        tables: dict[str, type[Description]] = {"server": Server, "limits": Limits, "cache": Cache, "origin": Origin}
        found: dict[str, Any] = {name: _table(kind, given.get(name, {}), name) for name, kind in tables.items()}
        pilots = [_table(PilotDescription, one, "[pilots]") for one in _several(given, "pilots")]
        scaled = [_table(Autoscale, one, "[autoscale]") for one in _several(given, "autoscale")]
        if not pilots and not scaled:
            pilots = [laptop()]
        qpus: list[str] = []
        for pilot in (*pilots, *(_table(PilotDescription, one.pilot, "autoscale.pilot") for one in scaled)):
            registry.check("pilot.launchers", pilot.resource.partition("://")[0])
            registry.check("pilot.engines", pilot.engine)
            qpus += registry.devices(pilot)
        found["origin"].check_chips(qpus)
        names = Counter([*(one.name for one in pilots if one.name), *(one.name for one in scaled)])
        for name, count in names.items():
            if count > 1:
                raise invalid("name", name, "a name of its own for each of [[pilots]] and [[autoscale]]")
        functions = given.get("functions", {})
        settings = cls(**found, pilots=tuple(pilots), autoscale=tuple(scaled), functions=functions)
        settings.callables()
        registry.policies(settings.server.policy)
        return settings

    def callables(self) -> dict[str, Callable[..., Any]]:
        """The registered functions.

        Raises:
            DescriptionError: there is no such function.
        """
        found: dict[str, Callable[..., Any]] = {}
        if not isinstance(self.functions, Mapping):
            raise invalid("[functions]", self.functions, 'names and functions, such as square = "module:square"')
        for name, target in self.functions.items():
            if not isinstance(target, str) or _FUNCTION.fullmatch(target) is None:
                raise invalid(f"[functions] {name}", target, 'a text such as "package.module:function"')
            module, _, attribute = target.partition(":")
            try:
                function = _imported(module, attribute)
            except Exception as error:  # whatever the module does when it is imported
                why = (
                    str(error)
                    if isinstance(error, ImportError | AttributeError)
                    else f"{type(error).__name__}: {error}"
                )
                raise DescriptionError(
                    f"[functions] {name}: {target!r} cannot be imported: {why}", field=name
                ) from None
            if not callable(function):
                raise invalid(f"[functions] {name}", target, "a callable")
            found[name] = function
        return found


def laptop() -> PilotDescription:
    """The pilot of a service without a configuration."""
    cores = len(os.sched_getaffinity(0))
    return PilotDescription(name="laptop", engine="process", cores_per_node=cores, qpus=("fake:kolkata", "fake:manila"))


def home() -> Path:
    """The folder of the account's service: ``$QUANTUM_PILOT_SERVICE``, or below the home directory. Made private."""
    folder = Path(os.environ.get("QUANTUM_PILOT_SERVICE") or Path.home() / ".quantum-pilot" / "service")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    return folder


def _imported(module: str, attribute: str) -> Any:
    from importlib import import_module

    found: Any = import_module(module)
    for name in attribute.split("."):
        found = getattr(found, name)
    return found


def _table(kind: type[_D], given: Any, name: str) -> _D:
    shown = name if name.startswith("[") else f"[{name}]"
    if not isinstance(given, Mapping):
        raise invalid(shown, given, "a table")
    try:
        return kind.build(given)
    except DescriptionError as error:
        raise DescriptionError(f"{shown}: {error}", **error.data) from None
    except TypeError as error:  # a key that must be there
        raise DescriptionError(f"{shown}: {error}") from None


def _several(given: Mapping[str, Any], name: str) -> list[Any]:
    found = given.get(name, [])
    if not isinstance(found, list):
        raise invalid(f"[[{name}]]", found, f"tables that begin with [[{name}]]")
    return found
