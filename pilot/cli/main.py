"""The command `pilot`.

    pilot run --list               the mini-apps there are
    pilot run NAME --help          a mini-app's settings, as flags
    pilot run NAME [--flag VALUE]  run it
    pilot report DIR ...           compare runs of mini-apps
    pilot submit FILE --shots N    run circuits: OpenQASM 2 and 3, OriginIR, QIR
    pilot sessions ls|show|attach|migrate   sessions: list, look into, go on with, bring up to date
    pilot qpus [NAME ...]          properties and status of QPUs
    pilot sites ls|show|check      profiles of sites: list, show and check them
    pilot simulate                 what a policy does to waits, on a virtual clock
    pilot serve [--config FILE]    the service: circuits of many users, over HTTP
    pilot token new|list|revoke    tokens of the service's users
    pilot task status|result|cancel ID --server URL   tasks of a service
    pilot doctor [--json]          what works here, and what to do where it does not

Each command is a module of this package.
"""

from __future__ import annotations

import argparse
import signal
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING

from pilot.cli import streams
from pilot.cli.interruption import Interrupted, taken
from pilot.cli.parsers import Parser
from pilot.errors import DescriptionError, NoPilotError, PilotError, PluginError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pilot.cli.interruption import Interruption

_EPILOG = "`pilot COMMAND --help` shows the arguments of a command."
#: Exit status when the output is no longer read: 128 and SIGPIPE's number, as in shells.
_UNREAD = 128 + signal.SIGPIPE


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        The exit status: 0 done, 1 failed, 2 wrong input or a plugin that is not there, 128 and the signal's number
        when a signal ended it: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP; 141 when its output is no longer read,
        as of ``yes | head``.
    """
    streams.prepare()
    with taken(for_good=argv is None) as interruption:
        try:
            code = _coded(list(sys.argv[1:] if argv is None else argv), interruption)
            streams.end()
        except SystemExit as ended:  # argparse's, and rich's when the output is not read
            if not isinstance(ended.__context__, BrokenPipeError):
                try:
                    streams.end()
                except OSError:
                    streams.give_up_output()
                raise
            code = _UNREAD
        except BrokenPipeError:
            code = _UNREAD
        except OSError as error:
            what = f"{error.filename}: " if error.filename else ""
            streams.say(f"pilot: {what}{error.strerror or error}")
            code = 1
        else:
            return code
        streams.give_up_output()
        return code if interruption.number is None else 128 + interruption.number


def _coded(argv: list[str], interruption: Interruption) -> int:
    """The exit status, after a line that says what went wrong."""
    number = 0
    try:
        return _run(argv, interruption)
    except (KeyboardInterrupt, Interrupted):
        number = interruption.number or signal.SIGINT
    except Exception as error:
        number = interruption.number or 0  # then it came of the signal, as where an import was broken off
        if not number:
            if not isinstance(error, PilotError):
                raise
            streams.say(f"pilot: {error}")
            return 2 if isinstance(error, DescriptionError | NoPilotError | PluginError) else 1
    streams.say("\npilot: stopped")
    return 128 + number


def _run(argv: list[str], interruption: Interruption) -> int:
    options = _parser(interruption).parse_args(argv)
    code: int = options.call(options)
    return code


def _parser(interruption: Interruption) -> argparse.ArgumentParser:
    """The command line: each command has a parser of its own, which sets ``call(options) -> exit status``."""
    # Here, since they take most of a second: a Ctrl-C meanwhile is one line.
    from pilot.cli import completion, fields, qpus, remote, report, run, serve, sessions, simulate, sites, submit

    parser = Parser(prog="pilot", description="Pilot jobs for quantum-HPC.", epilog=_EPILOG, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"quantum-pilot {version('quantum-pilot')}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, text: str) -> argparse.ArgumentParser:
        made: Parser = commands.add_parser(
            name, help=text, description=f"{text[0].upper()}{text[1:]}.", allow_abbrev=False
        )
        return made

    run.add_flags(add("run", "run a mini-app"))
    report.add_flags(add("report", "compare runs of mini-apps"))
    sending = add("submit", "run circuits that are in files")
    submit.add_flags(sending)
    sending.set_defaults(call=lambda options: submit.submit(options, interruption))
    sessions.add_flags(add("sessions", "list, show, end and remove sessions, and go on with them"), interruption)
    qpus.add_flags(add("qpus", "show properties and status of QPUs"))
    sites.add_flags(add("sites", "list, show and check the profiles of sites"))
    simulate.add_flags(add("simulate", "show what a policy does to waits, on a virtual clock"))
    serve.add_serve_flags(add("serve", "run the service: circuits of many users, over HTTP"))
    serve.add_token_flags(add("token", "make, list and revoke tokens of the service's users"))
    remote.add_task_flags(add("task", "show, wait for and end tasks of a service"))
    checking = add("doctor", "check this installation, or a cluster, and suggest fixes")
    checking.add_argument("--json", action="store_true", help="print the findings as a JSON list")
    subject = checking.add_mutually_exclusive_group()
    subject.add_argument(
        "--site", metavar="FILE", help="check a profile against this cluster instead; see `pilot sites check` too"
    )
    subject.add_argument("--session", metavar="DIR", help="show the errors of a session's manager instead")
    subject.add_argument(
        "--fields", action="store_true", help="show what each launcher does with each field of a PilotDescription"
    )
    completing = add("completion", "print a script with which TAB completes commands in a shell")
    completing.add_argument("shell", choices=completion.SHELLS)
    completing.set_defaults(call=lambda options: completion.show(parser, options.shell))
    checking.set_defaults(
        call=lambda options: (
            fields.show(options.json) if options.fields else examine(options.json, options.site, options.session)
        )
    )
    return parser


def examine(as_json: bool, site: str | None, session: str | None) -> int:
    """`pilot doctor`: 0 when everything is there that ``local://`` needs, or that the site profile asks for, or when
    the session's manager had no error of its own."""
    from pilot.cli import doctor
    from pilot.cli.findings import show_findings
    from pilot.cli.session_errors import examine_session

    findings = examine_session(session) if session else doctor.examine_site(site) if site else doctor.examine()
    good = doctor.works_locally(findings)
    show_findings(findings, as_json)
    return 0 if good else 1
