"""PBS Pro, TORQUE and LSF as far as PSI/J uses them: reads the directives of a job's script as their manuals say,
refuses what is not in them, and runs the script on this host.

Called by the names of their commands; BATCH_FOLDER is where the jobs are kept. Sources: qsub(1B), pbs_resources(7B) of
OpenPBS, qsub(1) of TORQUE, the page "bsub" of IBM Spectrum LSF 10.1.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

PREFIXES = {"qsub": "#PBS", "bsub": "#BSUB"}
#: Options with a value, and those without.
OPTIONS = {
    "qsub": ("A C J M N P S W a c e j k l m o p q r u v", "I V X h n z"),
    "bsub": ("G J M P R U W alloc_flags app cwd e env gpu m n nnodes o q", "x"),
}
#: Resources of ``qsub -l``, of PBS Pro and of TORQUE.
RESOURCES = ("select", "place", "walltime", "nodes", "filesystems")


def directives(program: str, script: str) -> list[str]:
    """The words of the directives, which end at the first line that is a command."""
    words: list[str] = []
    for line in script.splitlines():
        if line.startswith(f"{PREFIXES[program]} "):
            words += shlex.split(line.removeprefix(PREFIXES[program]))
        elif line.strip() and not line.startswith("#"):
            break
    return words


def parsed(program: str, words: list[str]) -> dict[str, list[str]]:
    """The values of each option that was given; of ``-l`` those of each resource."""
    parser = argparse.ArgumentParser(prog=program, allow_abbrev=False, add_help=False)
    valued, flags = OPTIONS[program]
    for name in valued.split():
        parser.add_argument(f"-{name}", action="append", dest=name)
    for name in flags.split():
        parser.add_argument(f"-{name}", action="append_const", const="", dest=name)
    found = {name: values for name, values in vars(parser.parse_args(words)).items() if values}
    for resource in found.pop("l", []):
        name, _, value = resource.partition("=")
        if name not in RESOURCES or name in found:
            sys.exit(f"{program}: error: -l {resource}")
        found[name] = [value]
    return found


def submit(program: str, folder: Path, path: str) -> str:
    options = parsed(program, directives(program, Path(path).read_text()))
    number = str(len(list(folder.glob("*.json"))) + 1)
    id = f"{number}.here" if program == "qsub" else number
    variables = {"qsub": {"PBS_JOBID": id, "PBS_NODEFILE": "/dev/null"}, "bsub": {"LSB_JOBID": id, "LSB_HOSTS": "here"}}
    run = f"bash {shlex.quote(path)}; echo $? >{shlex.quote(str(folder / id))}.code"
    job = subprocess.Popen(
        ["sh", "-c", run],
        env=os.environ | variables[program],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    (folder / f"{id}.json").write_text(json.dumps({"options": options, "pid": job.pid}))
    return id if program == "qsub" else f"Job <{id}> is submitted to default queue <normal>."


def code(folder: Path, id: str) -> int | None:
    file = folder / f"{id}.code"
    return int(file.read_text()) if file.exists() and file.read_text() else None


def qstat(folder: Path, ids: list[str]) -> str:
    jobs = {}
    for id in ids:
        ended = code(folder, id)
        jobs[id] = {"job_state": "R"} if ended is None else {"job_state": "F", "Exit_status": ended}
    return json.dumps({"Jobs": jobs})


def bjobs(folder: Path, ids: list[str]) -> str:
    states = {None: "RUN", 0: "DONE"}
    reasons = dict.fromkeys(("EXIT_REASON", "KILL_REASON", "SUSPEND_REASON"), "")
    return json.dumps(
        {"RECORDS": [{"JOBID": id, "STAT": states.get(code(folder, id), "EXIT"), **reasons} for id in ids]}
    )


def kill(folder: Path, id: str, ended: int) -> str:
    if code(folder, id) is None:
        os.killpg(json.loads((folder / f"{id}.json").read_text())["pid"], signal.SIGKILL)
        (folder / f"{id}.code").write_text(str(ended))
    return ""


def main() -> None:
    program, *words = sys.argv
    program, folder = Path(program).name, Path(os.environ["BATCH_FOLDER"])
    ids = [word for word in words if word[0].isdigit()]
    if program in PREFIXES:
        print(submit(program, folder, words[-1]))
    elif program == "qstat":
        print(qstat(folder, ids))
    elif program == "bjobs":
        print(bjobs(folder, ids))
    else:
        print(kill(folder, ids[0], 265 if program == "qdel" else 130))


if __name__ == "__main__":
    main()
