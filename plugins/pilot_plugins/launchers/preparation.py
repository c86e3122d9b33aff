"""What a placeholder job does before its agent starts: it loads modules, activates environments, and looks whether
their Python can run the agent. Lines for bash, the same for all launchers.

Before them a script defines ``refuse SENTENCE``, which reports the sentence and ends the job.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import cloudpickle

from pilot.descriptions import PilotDescription
from pilot.interfaces import Job
from pilot.version import versions

#: Seconds that a shell has to say whether there is a command `module`.
MODULE_SECONDS = 20.0
#: The exit code of `_CHECK` for versions that differ.
_OTHER = 93
#: Says which versions differ from those of the arguments; loads what the agent needs. Python 2 can read it, too.
_CHECK = f"""
import sys
needed = list(zip(("Python", "quantum-pilot", "cloudpickle"), sys.argv[1:]))
here = [("Python", "%d.%d" % sys.version_info[:2])]
if here == needed[:1]:
    import cloudpickle, pilot.agent.agent, pilot.version
    here += [("quantum-pilot", pilot.version.__version__), ("cloudpickle", cloudpickle.__version__)]
other = [one for one in here if one not in needed]
if other:
    sys.stdout.write("has %s; needed, as here: %s" % tuple(", ".join(map(" ".join, some)) for some in (other, needed)))
    sys.exit({_OTHER})
"""
_ADVICE = "set venv or conda_environment to one"

#: ``attempt FIELD COMMAND...`` runs a command in this shell; ``look_at NAME COMMAND...`` runs a Python that checks
#: itself. When it fails, the job is refused with what it wrote. Version 3 of Environment Modules reports errors with
#: code 0.
FUNCTIONS = f"""
[ -w "${{TMPDIR:-/tmp}}" ] || unset TMPDIR # of the submitting host, and not on this one
attempt() {{
    local file code said
    file=$(mktemp) || refuse "no temporary file can be made in ${{TMPDIR:-/tmp}} on $(uname -n)"
    "${{@:2}}" >"$file" 2>&1
    code=$?
    cat "$file"
    said=$(grep -v '^[[:space:]]*$' "$file" | tail -n 8 | tr -s '[:space:]' ' ') # Lmod's error has 7 lines
    rm -f "$file"
    if [ "$code" != 0 ] || [[ "$said" == *:ERROR:* ]]; then
        refuse "PilotDescription.$1: \\`${{*:2}}\\` ended with code $code: $said"
    fi
}}
look_at() {{
    local code said
    said=$("${{@:2}}" 2>&1 </dev/null)
    code=$?
    said=$(tail -n 1 <<<"$said")
    case $code in
    0) ;;
    126 | 127) refuse "there is no Python $1 on $(uname -n): {_ADVICE} that is there" ;;
    {_OTHER}) refuse "$1 on $(uname -n) $said: {_ADVICE} with these versions" ;;
    *) refuse "$1 on $(uname -n) cannot load quantum-pilot: $said: install it there, or {_ADVICE} that has it" ;;
    esac
}}
conda_hook() {{
    local hook
    hook=$("${{CONDA_EXE:-conda}}" shell.bash hook) && eval "$hook"
}}
"""

#: A shell that is no login shell may lack the function; these files define it.
_MODULES = """
if ! type module >/dev/null 2>&1; then
    for file in /etc/profile.d/{modules,lmod,z00_lmod}.sh /usr/share/{modules,lmod/lmod}/init/bash; do
        if [ -r "$file" ]; then . "$file"; break; fi
    done
fi
"""


def has_own_python(wanted: PilotDescription) -> bool:
    """True when the agent may run with another Python than this process."""
    return bool(wanted.venv or wanted.conda_environment or wanted.container)


def lines(job: Job) -> list[str]:
    """All that has to be done before the agent starts; none where the description asks for nothing."""
    wanted = job.description
    own = has_own_python(wanted) and job.command[0] == sys.executable
    return [*prepare(wanted), *(look_at_python(wanted) if own else [])]


def prepare(wanted: PilotDescription) -> list[str]:
    """The lines that load and activate what the description names; `FUNCTIONS` come before them."""
    done = [_MODULES] if wanted.modules else []
    done += [shlex.join(("attempt", "modules", "module", "load", module)) for module in wanted.modules]
    if wanted.conda_environment:
        done.append("attempt conda_environment conda_hook")
        name = wanted.conda_environment
        name = _absolute(name) if "/" in name else name  # as conda itself tells a folder from a name
        done.append(shlex.join(("attempt", "conda_environment", "conda", "activate", name)))
    if wanted.venv:  # what its script "activate" does
        done += [f"export VIRTUAL_ENV={shlex.quote(_absolute(wanted.venv))}", 'export PATH="$VIRTUAL_ENV/bin:$PATH"']
        done.append("unset PYTHONHOME")
    return done


def look_at_python(wanted: PilotDescription) -> list[str]:
    """The lines that refuse the job when its Python cannot run the agent, or has other versions than this process;
    `FUNCTIONS` come before them."""
    words = (*wanted.container, python_of(wanted))
    needed = (*versions(), cloudpickle.__version__)
    return [shlex.join(("look_at", " ".join(words), *words, "-c", _CHECK, *needed))]


def python_of(wanted: PilotDescription) -> str:
    """The Python that the agent runs with, where it runs."""
    if wanted.venv:
        return f"{_absolute(wanted.venv)}/bin/python"
    return "python" if wanted.conda_environment else sys.executable


def _absolute(folder: str) -> str:
    """A folder as this process means it; the job works in another one."""
    return str(Path(folder).expanduser().absolute())


def command(job: Job) -> tuple[str, ...]:
    """The agent's command line, with the Python of the environment that the description names, in its container."""
    program, *arguments = job.command
    if program == sys.executable:
        program = python_of(job.description)
    return (*job.description.container, program, *arguments)


def has_modules() -> bool:
    """True when a shell of this host has a command `module`. Blocks for `MODULE_SECONDS` at most."""
    if shutil.which("bash") is None:
        return False
    words = ["bash", "-c", f"{_MODULES}\ntype module"]
    try:
        return not subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, timeout=MODULE_SECONDS
        ).returncode
    except subprocess.TimeoutExpired:
        return False
