"""`pilot serve`: the service, until a signal comes; `pilot token`: who may use it."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib.util
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from pilot.cli import streams
from pilot.errors import PluginError, invalid

if TYPE_CHECKING:
    from pilot.service.access import Access
    from pilot.service.settings import Settings

_SECONDS_PER_DAY = 86400.0
#: Of a token: what is more has no date.
_MOST_DAYS = 36_500
#: Flags of `pilot serve` that are fields of the table [server].
_FIELDS = ("host", "port", "store", "session_dir", "policy", "tls_cert", "tls_key")


def add_serve_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of `pilot serve`."""
    parser.add_argument("--config", metavar="FILE", help="TOML file with the settings (default: those of a laptop)")
    parser.add_argument("--check", action="store_true", help="read the settings, say whether they are valid, and end")
    parser.add_argument("--host", help="address to listen at (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen at; 0: any (default: 8470)")
    parser.add_argument("--store", metavar="URL", help="sqlite:////folder/service.db or postgresql://user@host/name")
    parser.add_argument("--session-dir", metavar="DIR", help="the manager's session folder, which pilots must see")
    parser.add_argument("--policy", help="which task is next, such as fcfs or hrrn (default: balanced)")
    parser.add_argument("--tls-cert", metavar="FILE", help="certificate (PEM)")
    parser.add_argument("--tls-key", metavar="FILE", help="its key (PEM)")
    parser.add_argument(
        "--log-level", default="info", choices=("debug", "info", "warning", "error"), help="default: info"
    )
    parser.set_defaults(call=serve)


def add_token_flags(parser: argparse.ArgumentParser) -> None:
    """The commands of `pilot token`."""
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    new = commands.add_parser("new", help="make a token, and show it this once")
    new.add_argument("--user", required=True, help="whom it stands for")
    new.add_argument("--admin", action="store_true", help="this user may see and cancel everybody's tasks")
    new.add_argument("--days", type=float, help="how long it may be used (default: until it is revoked)")
    listed = commands.add_parser("list", help="list the tokens, without their secrets")
    revoke = commands.add_parser("revoke", help="make a token useless, within 2 s where a service runs")
    revoke.add_argument("id", help="as `pilot token list` shows it")
    for one, call in ((new, new_token), (listed, list_tokens), (revoke, revoke_token)):
        one.add_argument("--config", metavar="FILE", help="settings of the service")
        one.add_argument("--store", metavar="URL", help="the store of the service")
        one.set_defaults(call=call)


def serve(options: argparse.Namespace) -> int:
    """Run the service.

    Returns:
        0 when a signal has ended it while it answered requests, or the settings are valid.

    Raises:
        DescriptionError: a setting is not valid.
        Interrupted: a signal came before it answered requests, or a second one while it ended.
        SessionError: the store, the session or the address cannot be used.
        PluginError: the extra ``service`` is not installed.
    """
    settings = _settings(options)
    if options.check:
        print("the settings are valid")
        return 0
    from pilot.service import logs, running

    logs.begin(options.log_level)
    running.serve(settings, lambda line: print(line, flush=True))
    return 0


def _settings(options: argparse.Namespace) -> Settings:
    if importlib.util.find_spec("fastapi") is None or importlib.util.find_spec("sqlalchemy") is None:
        raise PluginError("the service needs more packages: pip install 'quantum-pilot[service]'")
    from pilot import registry
    from pilot.service.settings import Server, Settings

    settings = Settings.from_toml(options.config) if options.config else Settings.build({})
    given = {name: getattr(options, name, None) for name in _FIELDS}
    given = {name: value for name, value in given.items() if value is not None}
    server = Server.build({**msgspec.structs.asdict(settings.server), **given})
    registry.policies(server.policy)
    return msgspec.structs.replace(settings, server=server)


@contextlib.contextmanager
def _access(options: argparse.Namespace) -> Iterator[Access]:
    """The tokens of a service's store; nothing of the settings but its place is looked at."""
    settings = _settings(options)
    from pilot.service.access import Access
    from pilot.service.running import store_url
    from pilot.service.store import Store

    with contextlib.closing(Store(store_url(settings))) as store:
        yield Access(store)


def new_token(options: argparse.Namespace) -> int:
    """`pilot token new`: makes a token, and prints it."""
    if options.days is not None and not 0 < options.days <= _MOST_DAYS:
        raise invalid("--days", options.days, f"a number above 0, at most {_MOST_DAYS}", shown=f"{options.days:g}")
    seconds = None if options.days is None else _SECONDS_PER_DAY * options.days
    with _access(options) as access:
        print(access.new(options.user, is_admin=options.admin, seconds=seconds))
    return 0


def list_tokens(options: argparse.Namespace) -> int:
    """`pilot token list`: prints what is kept of each token."""
    with _access(options) as access:
        tokens = access.tokens()
        if not tokens:
            streams.say("there are no tokens in this store: is it that of the service (--config, --store)?")
        for one in tokens:
            state = "in use" if one.expires is None else f"until {_day(one.expires)}"
            if one.revoked is not None:
                state = f"revoked {_day(one.revoked)}"
            role = "administrator" if one.is_admin else "user"
            print(f"{one.id}  {one.user}  {role}  made {_day(one.created)}  {state}")
    return 0


def revoke_token(options: argparse.Namespace) -> int:
    """`pilot token revoke`: makes a token useless."""
    with _access(options) as access:
        access.revoke(options.id)
    streams.say(f"token {options.id} is revoked")
    return 0


def _day(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds).astimezone().isoformat(" ", "minutes")
