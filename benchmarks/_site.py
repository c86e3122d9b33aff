"""A site whose ``squeue`` and ``sbatch`` are scripts of its own: what they do to the answers is drawn from a seed.

`Site` writes the commands into a folder for PATH. Each is this file, called as ``_site.py FOLDER NAME ARGUMENTS``: it
calls the real command and changes its answer. `calls` is the record of the calls, for the table.
"""

from __future__ import annotations

import collections
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Sequence
from pathlib import Path

COMMANDS = ("sbatch", "squeue", "scancel", "scontrol", "sacct")
#: Of the cluster that the jobs of some schedules go to, and which the private Slurm itself does not know.
OTHER = "cluster2"
#: Seconds for which squeue keeps to one of its ways.
WINDOW = 1.5

SQUEUE = ("right", "right", "empty", "invalid id", "fails", "garbage", "half", "stale", "slow", "no controller")
SBATCH = (
    "right", "text behind", "number behind", "number alone behind", "number alone before", "banner before", "words",
    "silent", "fails behind", "fails silently", "killed", "slow", "timed out",
)  # fmt: skip
#: Without a word of the cluster, a job that sbatch sent to another one by itself cannot be found.
SAY_NOTHING = ("silent", "fails silently", "killed", "timed out")
BANNER = "*" * 40 + "\n* Welcome to cluster 25. Users: 1234 *\n" + "*" * 40 + "\n"


class Site:
    """One schedule: the commands, and what they have done."""

    def __init__(self, folder: Path, seed: int, foreign: list[str]) -> None:
        """Write the commands.

        Args:
            folder: for them; goes in front of PATH.
            seed: of what they do.
            foreign: numbers of jobs that are not ours.
        """
        self.folder = folder
        #: How the jobs get to the other cluster, if they do: sbatch's own choice, the environment or the description.
        self.cluster_by = ("", "", "sbatch", "environment", "description")[seed % 5]
        real = {name: shutil.which(name) for name in COMMANDS}
        settings = {"seed": seed, "real": real, "foreign": foreign, "cluster": OTHER if self.cluster_by else ""}
        settings["sbatch"] = [way for way in SBATCH if self.cluster_by != "sbatch" or way not in SAY_NOTHING]
        settings |= {"begun": time.time(), "always": "empty" if seed % 4 == 3 else ""}
        (folder / "site.json").write_text(json.dumps(settings))
        for name in COMMANDS:
            path = folder / name
            path.write_text(f'#!/bin/sh\nexec {sys.executable} -S -E {Path(__file__).resolve()} {folder} {name} "$@"\n')
            path.chmod(0o700)

    def calls(self) -> dict[str, int]:
        """How often each command did what."""
        lines = (self.folder / "calls").read_text().splitlines()
        return dict(sorted(collections.Counter(line.partition("|")[0] for line in lines).items()))

    def astray(self) -> list[str]:
        """Orders to cancel that went to the wrong cluster, where such a number may be another user's."""
        return [line for line in (self.folder / "calls").read_text().splitlines() if line.startswith("scancel astray")]


class Command:
    """One call of one of the site's commands."""

    def __init__(self, folder: Path, name: str, words: list[str]) -> None:
        self._folder, self._name = folder, name
        settings = json.loads((folder / "site.json").read_text())
        self._settings, self._real = settings, settings["real"][name]
        self._is_there = not settings["cluster"] or f"--clusters={OTHER}" in words
        self._words = [word for word in words if not word.startswith("--clusters=")]

    def run(self) -> int:
        if self._name == "sbatch":
            return self._sbatch()
        if not self._is_there:  # another cluster, with other jobs
            self._note("astray")
            self._say("", "" if self._name == "sacct" else "slurm_load_jobs error: Invalid job id specified\n")
            return 1
        if self._name == "squeue":
            return self._squeue()
        self._note("right")
        return subprocess.run([self._real, *self._words], check=False).returncode

    def _draw(self, ways: Sequence[str], number: int) -> str:
        return random.Random(f"{self._settings['seed']} {self._name} {number}").choice(ways)

    def _note(self, way: str) -> None:
        with (self._folder / "calls").open("a") as file:
            file.write(f"{self._name} {way}|{' '.join(self._words)}\n")

    def _answer(self) -> tuple[int, str, str]:
        done = subprocess.run([self._real, *self._words], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    def _say(self, output: str, errors: str = "") -> None:
        sys.stdout.write(output)
        sys.stderr.write(errors)

    # ---- squeue -------------------------------------------------------------------------------------------------

    def _squeue(self) -> int:
        window = int((time.time() - self._settings["begun"]) / WINDOW)
        way = self._settings["always"] or self._draw(SQUEUE, window)
        self._note(way)
        if way == "slow":
            time.sleep(3)
        code, output, errors = self._answer()
        cache = self._folder / f"cache-{zlib.crc32(chr(0).join(self._words).encode())}"
        if way == "stale" and cache.exists():
            self._say(cache.read_text())
            return 0
        if way == "right" and not code:
            cache.write_text(output)
        answers = {
            "empty": (0, "", ""),
            "invalid id": (1, "", "slurm_load_jobs error: Invalid job id specified\n"),
            "fails": (1, "", ""),
            "garbage": (0, "502|Bad|Gateway\n<html>|||||</html>\n17|17\n", ""),
            "half": (code, output[: len(output) // 2], errors),
            "no controller": (1, "", "slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n"),
        }
        code, output, errors = answers.get(way, (code, output, errors))
        self._say(output, errors)
        return code

    # ---- sbatch -------------------------------------------------------------------------------------------------

    def _sbatch(self) -> int:
        calls = self._folder / "calls"
        number = calls.read_text().count("sbatch ") if calls.exists() else 0
        way = self._draw(self._settings["sbatch"], number)
        self._note(way)
        if self._settings["cluster"]:
            self._leave_out_the_cluster()
        if way == "slow":
            time.sleep(4)
        code, output, errors = self._answer()
        if not code and self._settings["cluster"]:
            output = f"{output.strip()};{OTHER}\n"
        foreign_number = random.Random(f"{self._settings['seed']} foreign {number}").choice(self._settings["foreign"])
        answers = {
            "text behind": (0, f"{output} *** Remaining balance: low ***\n", ""),
            "number behind": (0, f"{output}Core hours left in project demo: {foreign_number}\n", ""),
            "number alone behind": (0, f"{output}{foreign_number}\n", ""),
            "number alone before": (0, f"{foreign_number}\n{output}", ""),
            "banner before": (0, BANNER + output, ""),
            "words": (0, f"Submitted batch job {output.strip().replace(';', ' on cluster ')}\n", ""),
            "silent": (0, "", ""),
            "fails behind": (1, output, "accounting.sh: no such project\n"),
            "fails silently": (1, "", ""),
            "timed out": (1, "", "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"),
        }
        if code:
            self._say(output, errors)
            return code
        if way == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        code, output, errors = answers.get(way, (code, output, errors))
        self._say(output, errors)
        return code

    def _leave_out_the_cluster(self) -> None:
        """The private Slurm cannot read its own cluster's name in the script."""
        path = Path(self._words[-1])
        text = re.sub(r"^#SBATCH --clusters=.*\n", "", path.read_text(), flags=re.MULTILINE)
        copy = path.with_name(f"{path.name}.plain")
        copy.write_text(text)
        self._words[-1] = str(copy)


if __name__ == "__main__":
    sys.exit(Command(Path(sys.argv[1]), sys.argv[2], sys.argv[3:]).run())
