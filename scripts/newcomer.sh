#!/usr/bin/env bash
# A newcomer, in an empty folder and an empty environment: from the README to an own circuit on a QPU.
#
#     scripts/newcomer.sh [--json FILE]
#
# Builds the wheel, installs it with the extras that the README names, runs the README's programs and an own circuit on
# `fake:manila`, makes a mistake, and presses Ctrl-C. Prints `seconds`, all of that together, and exits 1 when anything
# is not as a newcomer should find it. Needs .venv (make check) for the wheel, and a package index.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
json=
[ "${1:-}" != --json ] || json=$(realpath -m "$2")

began=$EPOCHREALTIME
folder=$(mktemp -d -t newcomer-XXXXXX)
trap 'rm -rf "$folder"' EXIT
unset PYTHONPATH VIRTUAL_ENV
as=(env NEWCOMER="$folder") # what the newcomer starts has this in its environment

say() {
    printf '== %3d s: %s\n' $((EPOCHSECONDS - ${began%.*})) "$1"
}

fail() {
    printf 'newcomer: %s\n' "$1" >&2
    exit 1
}

left() { # the commands of the newcomer's processes that still run
    local file
    for file in $(grep -lszx "NEWCOMER=$folder" /proc/[0-9]*/environ || true); do
        tr '\0' ' ' 2>/dev/null <"${file%environ}cmdline" || true
    done
}

expect_nothing_left() { # a process that was told to end needs a moment
    local try
    for try in {1..300}; do
        [ -n "$(left)" ] || return 0
        sleep 0.1
    done
    fail "after $1 these processes run: $(left)"
}

extras=$(sed -n "s/^ *pip install '\.\[\([a-z,]*\)\]'.*/\1/p" README.md | head -n 1)
[ -n "$extras" ] || fail "the README does not say how it is installed"

say "build the wheel, and install it with [$extras]"
.venv/bin/python -m build --no-isolation --wheel --outdir "$folder" . >"$folder/build.log" 2>&1 || fail "$(tail "$folder/build.log")"
cd "$folder"
"$(readlink -f "$root/.venv/bin/python")" -m venv environment
wheel=$(echo "$folder"/*.whl)
environment/bin/pip install --quiet --quiet -c "$root/constraints.txt" "$wheel[$extras]"
PATH=$folder/environment/bin:$PATH

say "the README's programs"
sed -n '/^```python/,/^```/{/^```/d;p}' "$root/README.md" >readme.py
"${as[@]}" python readme.py >readme.out || fail "they ended with code $?"
cat readme.out
head -n 1 readme.out | grep -qx '1024 332833500' || fail "2^10 and the sum of the squares below 1000 are 1024 and 332833500"
expect_nothing_left "the README's programs"

say "an own circuit on a QPU"
cat >own.qasm <<'END'
OPENQASM 2.0;
include "qelib1.inc";
qreg q[3];
creg c[3];
h q[0];
cx q[0], q[1];
cx q[1], q[2];
measure q -> c;
END
"${as[@]}" pilot submit own.qasm --shots 1000 --qpu fake:manila --json own.json || fail "it ended with code $?"
python - <<'END' || fail "a GHZ state on a noisy QPU gives 000 and 111 most often"
import json
counts = json.load(open("own.json"))[0]["counts"]
assert sum(counts.values()) == 1000 and counts["000"] > 300 and counts["111"] > 300, counts
END

say "a wrong name"
code=0
"${as[@]}" pilot submit own.qasm --shots 1000 --qpu fake:manilla 2>wrong.err || code=$?
cat wrong.err
[ $code = 2 ] || fail "wrong input ended with code $code; 2 was expected"
grep -q "did you mean 'manila'" wrong.err && ! grep -q Traceback wrong.err || fail "the message does not say what was meant"

say "Ctrl-C while it runs"
cat >long.py <<'END'
import time
from pilot import PilotDescription, PilotManager

with PilotManager() as manager:
    manager.submit_pilot(PilotDescription(cores_per_node=2))
    manager.submit_task(pow, 2, 10).result()
    tasks = manager.map(time.sleep, [600] * 4)
    print("runs", flush=True)
END
# a shell starts what is in the background with SIGINT ignored
as_in_a_terminal='import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execvp(sys.argv[1], sys.argv[1:])'
for command in "python long.py" "pilot submit own.qasm --shots 100000000 --qpu fake:manila"; do
    code=0
    "${as[@]}" python -c "$as_in_a_terminal" $command >long.out 2>&1 &
    pid=$!
    for try in {1..1200}; do
        if [ "$(cat long.out)" = runs ] || [[ $command == pilot* && $(left) == *pilot.agent* ]]; then break; fi
        sleep 0.1
    done
    kill -INT $pid
    wait $pid || code=$?
    [ $code = 130 ] || fail "$command: Ctrl-C ended it with code $code, not 130: $(cat long.out)"
    expect_nothing_left "Ctrl-C of $command"
done

cd "$root"
.venv/bin/python - "$began" "$json" "$extras" <<'END'
import sys
import time
from pathlib import Path

sys.path.insert(0, "benchmarks")
import _bench

began, json, extras = sys.argv[1:]
sys.argv[1:] = []  # what is written down as arguments: this script has no others
_bench.report(
    "newcomer",
    {"seconds": (time.time() - float(began), _bench.Bar("<=", 300))},  # downloads, which a fast machine has no sooner
    rows=[],
    configuration={"extras": extras},
    file=Path(json) if json else None,
)
END
