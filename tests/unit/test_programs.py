"""Programs as tasks run them, with `subprocess` as the oracle."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from pilot.errors import ExecutableFailed
from pilot.worker import programs
from pilot.worker.capture import OUTPUT_KEPT
from pilot.worker.programs import run_executable

Eventually = Callable[..., Any]


def python(code: str, *words: str) -> list[str]:
    return [sys.executable, "-c", code, *words]


#: Commands whose result is what `subprocess.run` says.
ALIKE = {
    "empty words": ["printf", "[%s]", "a", "", "b"],
    "both streams": ["sh", "-c", "echo out; echo err >&2"],
    "many at once": python("import os, sys; [os.write(1 + place % 2, b'%d\\n' % place) for place in range(9999)]"),
    "one long line": python("print('x' * 900_000)"),
    "no newline at the end": ["printf", "end"],
    "no UTF-8": ["printf", r"\377\376ok"],
    "nothing": ["true"],
    "standard input": ["cat"],
    "reads a line": ["sh", "-c", "read line || echo none"],
    "closes its streams and goes on": ["sh", "-c", "echo first; exec 1>&-; echo second >&2; exec 2>&-; exec sleep .05"],
    "a pipe": ["bash", "-c", "seq 100000 | tail -1"],
    "a broken pipe": ["bash", "-c", "set -o pipefail; yes | head -1 || echo $?"],
    "a process behind it": ["bash", "-c", "echo word > >(cat)"],
    "a child that has finished": ["sh", "-c", "echo one & echo two; wait"],
}


@pytest.mark.parametrize("command", ALIKE.values(), ids=ALIKE)
def test_it_is_what_subprocess_says(command: list[str]) -> None:
    expected = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True)
    done = run_executable(command, {}, None)
    assert (done.args, done.returncode) == (command, 0)
    assert sorted(done.stdout) == sorted(expected.stdout.decode("utf-8", "replace"))  # children write as they come
    assert done.stderr == expected.stderr.decode("utf-8", "replace")


@pytest.mark.parametrize(
    ("command", "code"), [(["sh", "-c", "echo why >&2; exit 3"], 3), (["sh", "-c", "echo why >&2; kill -9 $$"], -9)]
)
def test_a_code_is_told(command: list[str], code: int) -> None:
    with pytest.raises(ExecutableFailed, match=f"sh returned {code}: why") as raised:
        run_executable(command, {}, None)
    assert (raised.value.returncode, raised.value.stderr) == (code, "why\n")


def test_what_cannot_be_started(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        run_executable(["nonesuch"], {}, None)
    with pytest.raises(FileNotFoundError):
        run_executable(["true"], {}, str(tmp_path / "nowhere"))
    with pytest.raises(PermissionError):
        run_executable([str(tmp_path)], {}, None)


def test_variables_and_folder(tmp_path: Path) -> None:
    done = run_executable(["sh", "-c", 'echo "$WORD $PWD"'], {"WORD": "x"}, str(tmp_path))
    assert done.stdout == f"x {tmp_path}\n"


def test_it_is_started_as_subprocess_starts_it(tmp_path: Path) -> None:
    """In a process group of its own, with standard signals, and with no open file but its three streams."""
    told = "echo /proc/$$/fd/*; read -r about < /proc/$$/stat; set -- $about; echo $5"
    # exec, as a shell blocks signals while it starts another process
    command = ["sh", "-c", f"{told}; exec grep -E 'Sig(Ign|Blk|Cgt)' /proc/self/status"]
    with (tmp_path / "open").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        expected = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        files, group, *signals = run_executable(command, {}, None).stdout.splitlines()
    files_expected, _, *signals_expected = expected.stdout.splitlines()
    names = [[path.rpartition("/")[2] for path in paths.split()] for paths in (files, files_expected)]
    assert names[0] == names[1]
    own = 3 << 31  # 32 and 33, which are glibc's, and which its posix_spawn ignores
    masks = [[int(line.split()[1], 16) & ~own for line in lines] for lines in (signals, signals_expected)]
    assert len(masks[0]) == 3 and masks[0] == masks[1]
    assert int(group) == int(files.split("/")[2]) != os.getpgid(0)


def test_a_program_is_found_in_its_own_path(tmp_path: Path) -> None:
    for name, mode, text in (("first", 0o644, "no program"), ("second", 0o755, "#!/bin/sh\necho $0 here")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tool").write_text(text)
        (tmp_path / name / "tool").chmod(mode)
    path = f"{tmp_path / 'none'}:{tmp_path / 'first'}:{tmp_path / 'second'}"
    assert run_executable(["tool"], {"PATH": path}, None).stdout == f"{tmp_path / 'second' / 'tool'} here\n"
    with pytest.raises(PermissionError):
        run_executable(["tool"], {"PATH": str(tmp_path / "first")}, None)
    with pytest.raises(FileNotFoundError, match="tool"):
        run_executable(["tool"], {"PATH": str(tmp_path)}, None)


def test_only_the_end_of_the_output_is_kept_in_memory() -> None:
    """In a process of its own: the kernel tells the most memory that one ever had."""
    code = (
        "import resource, sys\n"
        "from pilot.worker.programs import run_executable\n"
        "most = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = most()\n"
        "done = run_executable(['sh', '-c', 'head -c 200000000 /dev/zero; echo end; echo last >&2'], {}, None)\n"
        "print(len(done.stdout), done.stdout[-4:].strip(), done.stderr.strip(), (most() - before) // 1024)\n"
    )
    size, end, error, mebibytes = subprocess.run(
        python(code), capture_output=True, text=True, check=True
    ).stdout.split()
    assert (int(size), end, error) == (OUTPUT_KEPT, "end", "last")
    assert int(mebibytes) < 20


@pytest.mark.parametrize("pidfd", [True, False], ids=["a descriptor tells the end", "an old kernel"])
def test_it_ends_when_the_program_ends(monkeypatch: pytest.MonkeyPatch, eventually: Eventually, pidfd: bool) -> None:
    monkeypatch.setattr(programs, "GRACE_SECONDS", 0.05)
    if not pidfd:
        monkeypatch.setattr(os, "pidfd_open", lambda pid: (_ for _ in ()).throw(OSError(38, "not here")))
    done = run_executable(["sh", "-c", "sleep 600 & echo $!"], {}, None)
    child = int(done.stdout)
    eventually(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == "zombie", timeout=60)


def test_a_child_that_writes_for_ever_does_not_keep_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, eventually: Eventually
) -> None:
    monkeypatch.setattr(programs, "GRACE_SECONDS", 0.05)
    apart = "setsid sh -c 'echo $$ > child; exec yes' & until [ -s child ]; do :; done"
    done = run_executable(["sh", "-c", apart], {}, str(tmp_path))
    assert set(done.stdout) <= set("y\n")
    child = int((tmp_path / "child").read_text())  # nobody reads what it writes any more
    eventually(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == "zombie", timeout=60)


def test_it_is_ended_from_another_thread(eventually: Eventually) -> None:
    caught: list[Any] = []

    def run() -> None:
        try:
            run_executable(["sh", "-c", "sleep 600 & sleep 600"], {}, None)
        except ExecutableFailed as error:
            caught.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    eventually(lambda: programs._groups, timeout=60)
    while thread.is_alive():
        programs.end_all()
        thread.join(0.05)
    assert caught[0].returncode == -9
    assert not programs._groups


def test_no_descriptor_is_left_open() -> None:
    opened = Path("/proc/self/fd")
    before = len(list(opened.iterdir()))
    for _ in range(5):
        run_executable(["true"], {}, None)
        with pytest.raises(FileNotFoundError):
            run_executable(["nonesuch"], {}, None)
    assert len(list(opened.iterdir())) == before
