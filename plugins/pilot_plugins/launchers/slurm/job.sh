#!/bin/bash
# The placeholder job of a pilot: one agent on each of its nodes, all at once.
%{options}

# Which pilot this is: the jobs of an array have one each.
case ${SLURM_ARRAY_TASK_ID:-0} in
%{pilots}
esac
id=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
id=${id:-$SLURM_JOB_ID}
cd "$folder" || exit

tell() { # tell FILE WORDS: the file appears with its content, never empty
    echo "$2" >"$1.$id" && mv -f "$1.$id" "$1"
}

ended() {
    code=$?
    # When Slurm ends the whole job, that reaches the agents before this script, most of all while they start.
    sleep 0.2
    for _ in {1..9}; do
        [ $code != 0 ] && [ -z "$signals" ] && [ $SECONDS -lt 4 ] && sleep 0.2
    done
    tell ended "$id $code$signals"
    exit $code
}

signalled() {
    signals+=" $1"
    interrupted=yes
    tell expiring "$signals"
}

refuse() { # refuse SENTENCE: it cannot run the agent, and will not later
    tell refused "$id $1"
    exit 1
}
%{functions}
signals=
rm -f expiring ended refused
trap ended EXIT
trap 'signalled USR1' USR1
trap 'signalled TERM' TERM
tell started "$id $SLURM_JOB_NODELIST"

%{prepare}
enter
%{look}
# One step that takes nothing of the job away from other steps (--overlap --mem=0), and goes on without a lost node.
srun --overlap --mem=0 %{step} "${agent[@]}" </dev/null &
interrupted=yes code=127
while [ "$interrupted" ]; do # a signal interrupts wait, not the agents
    interrupted=
    wait $!
    last=$?
    [ $last = 127 ] || code=$last
done
exit $code
