"""The session folder, through which a manager, its agents, and a manager that attaches later find each other.

::

    session/                 0700
      connection.json        0600: addresses, CURVE keys
      journal.sqlite         pilots, tasks, results
      journal.commits        how often the journal was written, to notice a loss
      lock                   held by the manager
      socket                 where agents on the manager's host connect to
      spool/                 large values
      pilots/<id>/           agent.log, agent.json, the engine's files, the workers' output
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import tempfile
import time
from pathlib import Path

import msgspec
import psutil

from pilot import registry
from pilot.descriptions import PilotDescription
from pilot.errors import SessionError, invalid
from pilot.wire.folders import MARK_LENGTH
from pilot.wire.locks import SessionLock
from pilot.wire.marks import MARK

#: Public and secret CURVE key of a session.
Keys = tuple[bytes, bytes]


class Connection(msgspec.Struct, frozen=True):
    """What is needed to connect to the manager. Whoever can read it is trusted."""

    #: Where it listens by TCP (``tcp://host:port``), best first, loopback last; none where no pilot needs that.
    addresses: tuple[str, ...]
    #: The name of its host: by loopback it can be reached from there only.
    host: str
    public_key: str
    secret_key: str
    #: Where processes of its host connect to (`sockets.py`); "": at one of the addresses, as others do.
    near: str = ""

    @property
    def keys(self) -> Keys:
        """Public and secret CURVE key of the session."""
        return self.public_key.encode(), self.secret_key.encode()


class AgentSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent reads when it starts: ``pilots/<id>/agent.json``."""

    pilot: str
    mark: str
    engine: str
    #: It runs on another host than the manager, or may have nodes there.
    remote: bool
    nodes: int
    #: Of each node.
    cores: int
    gpus: int
    memory: int
    #: Its QPUs that one worker at a time has.
    devices: tuple[str, ...] = ()
    environment: dict[str, str]
    working_directory: str
    #: Folder for temporary files, and network interface, as in the description; "": the job's, and any.
    scratch: str = ""
    interface: str = ""
    orphan_timeout: float
    #: The command that connects to the manager's host.
    tunnel: tuple[str, ...] = ()
    #: Seconds; None: no end is known.
    walltime: float | None
    #: It starts nothing new in the last seconds before that: so many.
    drain: float
    ports: tuple[int, int] | None
    sys_path: tuple[str, ...]


#: Environment variable: the folder for sessions without a folder of their own.
SESSIONS = "QUANTUM_PILOT_SESSIONS"
#: The same on a cluster, below the home directory: each host has a temporary directory of its own.
_SHARED = Path(".quantum-pilot/sessions")
#: Commands that submit to resource managers that have no `JobEnvironment` (PBS, LSF, Flux).
_SUBMIT_COMMANDS = ("qsub", "bsub", "flux")


def default_parent(*, make: bool = True) -> Path:
    """The folder for sessions without a folder of their own: QUANTUM_PILOT_SESSIONS; else, on a cluster,
    ``~/.quantum-pilot/sessions``, since compute nodes see the home directory; else the temporary directory.

    Args:
        make: make the folder if it is not there.

    Raises:
        SessionError: the folder cannot be made.
    """
    named = os.environ.get(SESSIONS)
    if not named and not _on_cluster():
        return Path(tempfile.gettempdir())
    try:
        parent = own_parent()
        for folder in (parent.parent, parent) if make else ():  # `parents` has no mode for all but the last
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:
        where = f"{SESSIONS} names" if named else "jobs on other hosts need"
        hint = f"give PilotManager a session_dir that the compute nodes see, or set {SESSIONS}"
        raise SessionError(f"{where} a folder that cannot be made: {error}; {hint}", path=named) from error
    return parent


def own_parent() -> Path:
    """QUANTUM_PILOT_SESSIONS; else ``~/.quantum-pilot/sessions``, wherever sessions are made.

    Raises:
        RuntimeError: there is no home directory.
    """
    named = os.environ.get(SESSIONS)
    return Path(named).expanduser().absolute() if named else Path.home() / _SHARED


def _on_cluster() -> bool:
    """True where pilots may run on other hosts: in a job, or where one can be submitted."""
    environments = registry.job_environments()
    commands = (*(one.submit_command for one in environments if one.submit_command), *_SUBMIT_COMMANDS)
    return any(one.is_here() for one in environments) or any(map(shutil.which, commands))


#: The name of a folder that `SessionFolder.create` has made up.
PRIVATE = re.compile(r"pilot-\d{8}-\d{6}-\w+")
#: An address in `Connection`.
_ADDRESS = re.compile(r"tcp://\S+:\d{1,5}")


class SessionFolder:
    """Paths of one session, and its lock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.connection_path = path / "connection.json"
        self.journal_path = path / "journal.sqlite"
        self.spool = path / "spool"
        #: Of the manager's Unix socket.
        self.socket_path = path / "socket"
        self.lock = SessionLock(path)

    @classmethod
    def create(cls, path: str | os.PathLike[str] | None) -> SessionFolder:
        """A new session: in ``path``, or in a new private folder below `default_parent`.

        Raises:
            SessionError: it cannot be made, or holds a session already.
        """
        try:
            if path is None:
                name = f"pilot-{time.strftime('%Y%m%d-%H%M%S')}-"  # as `PRIVATE` has it
                folder = cls(Path(tempfile.mkdtemp(prefix=name, dir=default_parent())))
            else:
                folder = cls(folder_path(path))
            folder.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if folder.connection_path.exists():
                raise SessionError(
                    f"{folder.path} holds a session already: PilotManager.attach({str(folder.path)!r}) opens it "
                    "again; or name another folder",
                    path=str(folder.path),
                )
            if folder.path.stat().st_mode & 0o077 and any(folder.path.iterdir()):  # /tmp, or a folder of a group's
                shown = f"{folder.path}, which has files in it and is open to other users,"
                raise invalid(
                    "session_dir",
                    path,
                    "a folder that is new, empty, or private (chmod 700)",
                    SessionError,
                    shown=shown,
                )
            folder.path.chmod(0o700)
            folder.spool.mkdir(mode=0o700, exist_ok=True)
            (folder.path / "pilots").mkdir(exist_ok=True)
            folder.lock.take()
        except OSError as error:
            where = error.filename or path
            raise SessionError(f"the session folder {where} cannot be used: {error}", path=str(where)) from error
        return folder

    @classmethod
    def find(cls, path: str | os.PathLike[str]) -> SessionFolder:
        """The session in ``path``, without its lock.

        Raises:
            SessionError: there is none, or the folder cannot be read.
        """
        folder = cls(folder_path(path))
        for file in (folder.connection_path, folder.journal_path):
            try:
                file.stat()
            except (FileNotFoundError, NotADirectoryError):
                raise SessionError(f"{folder.path} holds no session (no {file.name})", path=str(folder.path)) from None
            except OSError as error:
                raise SessionError(f"{folder.path} cannot be read: {error.strerror}", path=str(folder.path)) from error
        return folder

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> SessionFolder:
        """The session in ``path``, for this manager alone.

        Raises:
            SessionError: there is none, the folder cannot be read, or a manager that still runs has it.
        """
        folder = cls.find(path)
        folder.check_private()
        try:
            folder.lock.take()
        except OSError as error:
            raise SessionError(
                f"the session {folder.path} cannot be written ({error.strerror}), as a manager must: "
                "PilotManager.read opens it for reading alone",
                path=str(folder.path),
            ) from error
        return folder

    def check_private(self) -> None:
        """Raise SessionError when others can have put into the folder what runs here when it is read: pickles."""
        found = self.path.stat()
        if found.st_uid != os.geteuid():
            raise SessionError(
                f"the session {self.path} belongs to user {found.st_uid}: only its owner can open it, since to read "
                "its tasks and results runs code of theirs",
                path=str(self.path),
            )
        if found.st_mode & 0o022:
            raise SessionError(
                f"other users can write into the session {self.path} (mode {found.st_mode & 0o777:o}), and to read its "
                f"tasks and results would run their code: if none of them has, chmod 700 {self.path} and try again",
                path=str(self.path),
            )

    def remove(self) -> None:
        """Remove it with all that is in it; the folder of the sessions too, when it was made for them and is empty."""
        shutil.rmtree(self.path, ignore_errors=True)
        shared = Path.home() / _SHARED
        if self.path.parent == shared:
            with contextlib.suppress(OSError):  # others have sessions there
                shared.rmdir()
                shared.parent.rmdir()

    def pilot(self, id: str) -> Path:
        """The folder of a pilot, made when needed."""
        path = self.path / "pilots" / id
        path.mkdir(parents=True, exist_ok=True)
        return path

    def write_connection(self, connection: Connection) -> None:
        """For the agents; complete or not there."""
        write_private(self.connection_path, msgspec.json.encode(connection))

    def read_connection(self) -> Connection:
        """What `write_connection` wrote.

        Raises:
            OSError: the file cannot be read.
            SessionError: the file has other content.
        """
        data = self.connection_path.read_bytes()
        try:
            found = msgspec.json.decode(data, type=Connection)
            if not (found.addresses or found.near) or not all(map(_ADDRESS.fullmatch, found.addresses)):
                raise ValueError("its addresses are none")
        except (msgspec.DecodeError, ValueError) as error:
            raise self.damaged_connection(str(error)) from error
        return found

    def damaged_connection(self, why: str) -> SessionError:
        """The error about the content of the file."""
        path = str(self.connection_path)
        text = f"{path} is not what a manager has written ({why}): put it back from a copy, or begin a new session"
        return SessionError(text, path=path)


def folder_path(path: str | os.PathLike[str]) -> Path:
    """The absolute path of a session folder.

    Raises:
        SessionError: it is not a path.
    """
    try:
        if (name := os.fspath(path)) and isinstance(name, str) and "\0" not in name:
            return Path(name).expanduser().absolute()
    except (TypeError, RuntimeError):  # RuntimeError: no such user's home directory
        pass
    raise invalid("session_dir", path, "the path of a folder, as a text or a Path", SessionError)


def write_private(path: Path, data: bytes) -> None:
    """Write a 0600 file that is complete under its name or not there.

    Raises:
        SessionError: it cannot be written.
    """
    part = path.parent / f".{secrets.token_hex(8)}.part"
    try:
        try:
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(data)
            part.rename(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise SessionError(f"{path} cannot be written: {error.strerror or error}", path=str(path)) from error


def new_mark() -> str:
    """A unique token for the processes of one pilot; in a task below the mark of the processes that the task starts, so
    that pilots of a manager in a task end with the task."""
    own = secrets.token_hex(MARK_LENGTH // 2)
    return f"{os.environ[MARK]}.{own}" if MARK in os.environ else own


def memory_of(description: PilotDescription) -> int:
    """Bytes of main memory that a pilot may use on each of its nodes; by default all of this host's."""
    memory = description.memory or psutil.virtual_memory().total
    assert isinstance(memory, int)
    return memory


#: In the environment of nodes that were added later: the number of their job.
JOB = "PILOT_NODES"


class AgentAddress(msgspec.Struct, frozen=True):
    """The address of a pilot's agent, for its nodes: a 0600 file in the pilot's folder."""

    mark: str
    connection: Connection


def agent_path(pilot_folder: Path) -> Path:
    """The file that says where the agent is."""
    return pilot_folder / "connection.json"
