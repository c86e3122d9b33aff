"""What runs on a host: scripts for bash, which ssh gives it on its standard input.

A job is a bash in a session of its own, which starts the agent, waits for it and writes its exit code into the pilot's
folder. It is known by the id of the host's start (proc_sys_kernel(5), ``random/boot_id``), its process id, and when it
was started (proc_pid_stat(5), field 22).
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from pilot.descriptions import PilotDescription
from pilot.interfaces import Job
from pilot.wire.folders import scratch
from pilot.wire.marks import MARK
from pilot_plugins.launchers import preparation

#: Exit codes of `start`: why nothing was started. Where the job is refused, the last line of the output says why.
NO_FOLDER, REFUSED = 90, 91

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: Said by the job itself, before the agent starts: its process id and the time of its start.
_STARTED = re.compile(r"^pilot-started (\S+) (\d+) (\d+)$", re.MULTILINE)
_SEEN = re.compile(r"^pilot-job (\d+) (running|rebooted|gone|code (\d+))$", re.MULTILINE)

#: The job: it keeps the way back to ssh (descriptor 3) until it has said who it is.
_JOB = """
read -ra field <<<"$(s=$(</proc/$$/stat); echo "${s##*) }")"
echo "pilot-started $(</proc/sys/kernel/random/boot_id) $$ ${field[19]}" >&3
exec 3>&-
"$@"
echo $? >"ssh-$$-${field[19]}.code"
"""

#: Whether a process runs: is_there BOOT PID START.
_IS_THERE = """
is_there() {
    local s field
    [ "$1" = "$(</proc/sys/kernel/random/boot_id)" ] || return 1
    s=$(cat "/proc/$2/stat" 2>/dev/null) || return 1
    read -ra field <<<"${s##*) }"
    [ "${field[19]}" = "$3" ] && [ "${field[0]}" != Z ]
}
"""

_LOOK = """
look() {
    if is_there "$2" "$3" "$4"; then echo "pilot-job $1 running"
    elif [ "$2" != "$(</proc/sys/kernel/random/boot_id)" ]; then echo "pilot-job $1 rebooted"
    elif [ -r "$5/ssh-$3-$4.code" ]; then echo "pilot-job $1 code $(<"$5/ssh-$3-$4.code")"
    else echo "pilot-job $1 gone"; fi
}
"""

#: end BOOT PID START MARK: kill the job and all processes with the mark; says so when some are left.
_END = """
end() {
    if is_there "$1" "$2" "$3"; then kill -9 -- "-$2"; fi
    for try in {1..100}; do
        found=$(grep -lzE "^@MARK@=$4(\\.|$)" /proc/[0-9]*/environ 2>/dev/null)
        [ -n "$found" ] || is_there "$1" "$2" "$3" || return 0
        for one in $found; do one=${one#/proc/}; kill -9 "${one%/environ}" 2>/dev/null; done
        sleep 0.05
    done
    echo "pilot-left $found"
}
""".replace("@MARK@", MARK)

#: find MARK: say which job the agent with this mark is in the session of. Workers have the mark, too, and lead
#: sessions of their own.
_FIND = """
find() {
    local s field
    for one in $(grep -lzE "^@MARK@=$1$" /proc/[0-9]*/environ 2>/dev/null); do
        s=$(cat "${one%environ}stat" 2>/dev/null) && read -ra field <<<"${s##*) }" || continue
        local job=${field[3]}
        grep -qzE "^@MARK@=$1$" "/proc/$job/environ" 2>/dev/null && continue
        s=$(cat "/proc/$job/stat" 2>/dev/null) && read -ra field <<<"${s##*) }" || continue
        echo "pilot-started $(</proc/sys/kernel/random/boot_id) $job ${field[19]}"
        return
    done
}
""".replace("@MARK@", MARK)

_REFUSE = f"""
refuse() {{ printf '%s\\n' "$1"; exit {REFUSED}; }}
{preparation.FUNCTIONS}
"""


class SshId(NamedTuple):
    """A job: on which host, and which process there."""

    host: str
    boot: str
    pid: str
    start: str

    @classmethod
    def parse(cls, native_id: str) -> SshId:
        """The id that `str` has written."""
        return cls(*native_id.rsplit("#", 3))

    def __str__(self) -> str:
        return "#".join(self)


def start(job: Job, python_path: str | None) -> str:
    """The script that starts a job.

    Args:
        job: what to start.
        python_path: PYTHONPATH of this process; None: it has none.
    """
    wanted = job.description
    environment = dict(job.environment)
    mark = environment.pop(MARK, None)
    if python_path:
        environment.setdefault("PYTHONPATH", python_path)
    lines = [f"cd -- {shlex.quote(str(job.folder))} || exit {NO_FOLDER}", _REFUSE, *preparation.prepare(wanted)]
    odd = [f"{name}={value}" for name, value in environment.items() if not _NAME.fullmatch(name)]  # bash refuses these
    lines += [f"export {name}={shlex.quote(value)}" for name, value in environment.items() if _NAME.fullmatch(name)]
    if job.command[0] == sys.executable:
        lines += preparation.look_at_python(wanted)
    words = ["env", *([f"{MARK}={mark}"] if mark else []), *odd, *preparation.command(job)]
    log = shlex.quote(str(job.log_path))
    lines.append(f"setsid bash -c {shlex.quote(_JOB)} pilot {shlex.join(words)} 3>&1 </dev/null >>{log} 2>&1 &")
    return "\n".join([*lines, ""])


def check(wanted: PilotDescription) -> str:
    """The script that says with its exit code why the agent could not be started, and how many cores there are."""
    lines = [_REFUSE, *preparation.prepare(wanted), *preparation.look_at_python(wanted)]
    return "\n".join([*lines, 'echo "pilot-cores $(nproc)"', ""])


def cores(output: str) -> int | None:
    """What `check` has said of the cores; None: nothing."""
    match = re.search(r"^pilot-cores (\d+)$", output, re.MULTILINE)
    return int(match[1]) if match else None


def started(output: str, host: str) -> SshId | None:
    """The job that `start` has started, or `find` has found, by the script's output; None: there is none."""
    match = _STARTED.search(output)
    return None if match is None else SshId(host, *match.groups())


def look(jobs: Iterable[tuple[SshId, Path]]) -> str:
    """The script that says what has become of jobs: their ids and folders."""
    lines = [
        shlex.join(["look", str(number), id.boot, id.pid, id.start, str(folder)])
        for number, (id, folder) in enumerate(jobs)
    ]
    return "\n".join([_IS_THERE, _LOOK, *lines, ""])


def seen(output: str, jobs: Sequence[SshId]) -> dict[SshId, tuple[bool, str]]:
    """What `look` has said: whether each job runs, and how it ended."""
    found = {}
    for number, what, code in _SEEN.findall(output):
        ends = {"running": "", "gone": "the agent is gone", "rebooted": "the host was started anew"}
        found[jobs[int(number)]] = (what == "running", ends.get(what, f"the agent ended with code {code}"))
    return found


def find(mark: str) -> str:
    """The script that says which job the agent with this mark is."""
    return "\n".join([_FIND, shlex.join(["find", re.escape(mark)]), ""])


def end(id: SshId, mark: str) -> str:
    """The script that ends a job with all processes that have the mark, and removes their temporary files."""
    name = shlex.quote(scratch(mark).name)
    folders = [f'"{parent}/"{name}{end}' for parent in ("${TMPDIR:-/tmp}", "/tmp") for end in ("", ".*")]
    lines = [shlex.join(["end", id.boot, id.pid, id.start, re.escape(mark)]), f"rm -rf -- {' '.join(folders)}"]
    return "\n".join([_IS_THERE, _END, *lines, ""])


def left(output: str) -> bool:
    """True when `end` could not end all of them."""
    return "pilot-left" in output
