#!/usr/bin/env bash
# A SLURM of one's own on this machine, for tests and for trying things out: one controller and four virtual nodes.
#
#   bash tests/slurm.sh start FOLDER [site]     # then: export SLURM_CONF=FOLDER/slurm.conf; site: as clusters often are
#   bash tests/slurm.sh stop FOLDER             # ends what it started, and removes nothing
#   bash tests/slurm.sh controller FOLDER start|stop|kill    # only slurmctld; its state stays in FOLDER
#   bash tests/slurm.sh node FOLDER NAME start|kill          # only one node, with all that it runs
#
# Everything (keys, sockets, ports, state, logs) lies in FOLDER, so that it never meets another SLURM of the machine.
# Partitions: cpu (default; n1, n2), low and high (the same nodes; high preempts low), gpu (g1, g2: pretended A100s).
# A site also has accounting with limits (tests/slurm_accounting.sh), a preemption that leaves no time, a partition for one
# quality of service, and MIG slices.
set -euo pipefail
export PATH="$PATH:/usr/sbin:/sbin"

fail() { echo "slurm.sh: $*" >&2; exit 1; }

usage="usage: slurm.sh start|stop FOLDER, controller FOLDER start|stop|kill, or node FOLDER NAME start|kill"
[ $# -ge 2 ] || fail "$usage"
action=$1
mkdir -p "$2"
folder=$(cd "$2" && pwd)
export SLURM_CONF="$folder/slurm.conf"
nodes="n1 n2 g1 g2"

# Free ports, all different, and below the range that connections take theirs from: a daemon comes back to its own.
free_ports() {
    python3 - "$1" <<'PYTHON'
import random, socket, sys
held = []
while len(held) < int(sys.argv[1]):
    listener = socket.socket()
    try:
        listener.bind(("", random.randrange(17000, 32000)))
    except OSError:
        continue
    held.append(listener)
print(*(listener.getsockname()[1] for listener in held))
PYTHON
}

write_configuration() {
    local host ports controller
    host=$(hostname -s)
    read -r -a ports <<<"$(free_ports 6)"
    controller=${ports[0]}
    cat >"$folder/slurm.conf" <<CONF
ClusterName=ablate$controller
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$controller
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$folder/munge/socket,cred_expire=5
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool/%n
SlurmctldPidFile=$folder/controller.pid
SlurmdPidFile=$folder/%n.pid
SlurmctldLogFile=$folder/controller.log
SlurmdLogFile=$folder/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_min_interval=100000,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmctldParameters=preempt_send_user_signal
SlurmdParameters=config_overrides
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait=5
MinJobAge=300
MaxArraySize=201
ReturnToService=2
SlurmdTimeout=20
SlurmctldTimeout=10
MessageTimeout=5
InactiveLimit=0
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
GresTypes=gpu
NodeName=n1 NodeAddr=127.0.0.1 NodeHostname=$host Port=${ports[1]} CPUs=2 RealMemory=4000 State=UNKNOWN
NodeName=n2 NodeAddr=127.0.0.1 NodeHostname=$host Port=${ports[2]} CPUs=2 RealMemory=4000 State=UNKNOWN
NodeName=g1 NodeAddr=127.0.0.1 NodeHostname=$host Port=${ports[3]} CPUs=4 RealMemory=8000 Gres=gpu:a100:2 Feature=fast State=UNKNOWN
NodeName=g2 NodeAddr=127.0.0.1 NodeHostname=$host Port=${ports[4]} CPUs=4 RealMemory=8000 Gres=gpu:a100:2 State=UNKNOWN
PartitionName=cpu Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP PriorityTier=5 PreemptMode=OFF
PartitionName=low Nodes=n1,n2 MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=20
PartitionName=high Nodes=n1,n2 MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
PartitionName=gpu Nodes=g1,g2 MaxTime=2-00:00:00 DefaultTime=01:00:00 State=UP
CONF
    touch "$folder/gpu0" "$folder/gpu1"
    echo "NodeName=g1,g2 Name=gpu Type=a100 File=$folder/gpu[0-1]" >"$folder/gres.conf"
    [ "$kind" != site ] || make_a_site "${ports[5]}"
}

make_a_site() {
    sed -i -e "s|^AccountingStorageType=.*|AccountingStorageType=accounting_storage/slurmdbd|" \
        -e "s|^KillWait=.*|KillWait=8|" -e "s|^\(PartitionName=low .*\) GraceTime=20|\1 GraceTime=0|" \
        -e "s|^\(NodeName=g2 .*\)Gres=gpu:a100:2|\1Gres=gpu:1g.10gb:2|" "$SLURM_CONF"
    cat >>"$SLURM_CONF" <<CONF
AccountingStorageHost=127.0.0.1
AccountingStoragePort=$1
AccountingStorageEnforce=associations,limits,qos
AccountingStoragePass=$folder/munge/socket
PartitionName=quick Nodes=n1,n2 MaxTime=INFINITE State=UP PriorityTier=5 PreemptMode=OFF AllowQos=short,narrow
CONF
    cat >"$folder/gres.conf" <<CONF
NodeName=g1 Name=gpu Type=a100 File=$folder/gpu[0-1]
NodeName=g2 Name=gpu Type=1g.10gb File=$folder/gpu[0-1]
CONF
}

accounting() { bash "$(dirname "$0")/slurm_accounting.sh" "$@"; }

start_munge() {
    local munge="$folder/munge"
    mkdir -p "$munge"
    chmod 711 "$munge"
    [ -e "$munge/key" ] || { head -c 128 /dev/urandom >"$munge/key"; chmod 600 "$munge/key"; }
    # --force: the folders above may be writable to others (/tmp); who can change them here can change the tests too.
    munged --force --socket="$munge/socket" --key-file="$munge/key" --pid-file="$munge/pid" \
        --log-file="$munge/log" --seed-file="$munge/seed" --num-threads=2 2>"$folder/munge.out" ||
        fail "munged does not start: $(tail -1 "$folder/munge.out")"
}

start_controller() {
    slurmctld 2>>"$folder/controller.out" || fail "slurmctld does not start: $(tail -1 "$folder/controller.out")"
    wait_for "slurmctld" scontrol ping
}

start_nodes() {
    for node in $nodes; do start_node "$node"; done
    wait_for "nodes" nodes_idle
}

start_node() {
    mkdir -p "$folder/spool/$1"
    slurmd -N "$1" 2>>"$folder/$1.out" || fail "slurmd $1 does not start: $(tail -1 "$folder/$1.out")"
}

# As when the machine goes down: slurmd, the jobs and what watches them end at once, and nobody hears of it.
kill_node() {
    local process parent victims=()
    end KILL "$folder/$1.pid"
    for process in /proc/[0-9]*; do
        grep -zqx "SLURMD_NODENAME=$1" "$process/environ" 2>/dev/null || continue
        grep -zqx "SLURM_CONF=$SLURM_CONF" "$process/environ" 2>/dev/null || continue
        victims+=("${process#/proc/}")
        parent=$(awk '/^PPid:/ {print $2}' "$process/status" 2>/dev/null) || continue
        if grep -q '^slurmstepd' "/proc/$parent/comm" 2>/dev/null; then victims=("$parent" "${victims[@]}"); fi
    done
    if [ ${#victims[@]} -gt 0 ]; then kill -KILL "${victims[@]}" 2>/dev/null || true; fi
}

nodes_idle() { [ "$(sinfo --noheader --Node --format='%N %T' | sort -u | grep -c ' idle$')" = 4 ]; }

wait_for() {
    local what=$1
    shift
    for _ in $(seq 300); do
        # A ping exits with 0 whether the controller answers or not.
        if text=$("$@" 2>&1) && ! grep -q DOWN <<<"$text"; then return 0; fi
        sleep 0.1
    done
    fail "$what did not come up within 30 s; see the logs in $folder"
}

# End the process of a pid file, which may be stale: only if it is one of ours, that is, was started with our folder.
end() {
    local signal=$1 file=$2 pid
    [ -s "$file" ] || return 0
    pid=$(cat "$file")
    if { tr '\0' '\n' <"/proc/$pid/environ"; } 2>/dev/null | grep -qx "SLURM_CONF=$SLURM_CONF"; then
        kill "-$signal" "$pid" 2>/dev/null || true
        for _ in $(seq 100); do
            [ -e "/proc/$pid" ] && ! grep -q '^State:.Z' "/proc/$pid/status" 2>/dev/null || break
            sleep 0.1
        done
    fi
    rm -f "$file"
}

case $action in
start)
    for program in munged slurmctld slurmd sbatch; do
        command -v $program >/dev/null || fail "$program is not installed: bash tests/install-services.sh"
    done
    mkdir -p "$folder/state" "$folder/spool"
    trap '[ $? = 0 ] || "$0" stop "$folder"' EXIT
    kind=${3:-}
    write_configuration
    start_munge
    if [ "$kind" = site ]; then
        cluster=$(sed -n 's/^ClusterName=//p' "$SLURM_CONF")
        accounting start "$folder" "$cluster" "$(sed -n 's/^AccountingStoragePort=//p' "$SLURM_CONF")" "$(hostname -s)"
        wait_for "slurmdbd" sacctmgr --noheader show cluster
    fi
    start_controller
    [ "$kind" != site ] || accounting fill "$folder"
    start_nodes
    ;;
stop)
    [ -e "$SLURM_CONF" ] || exit 0
    timeout 20 scancel --full --signal=KILL --user="$(id -un)" 2>/dev/null || true
    timeout 20 scancel --user="$(id -un)" 2>/dev/null || true
    for node in $nodes; do end TERM "$folder/$node.pid"; done
    end TERM "$folder/controller.pid"
    accounting stop "$folder"
    end TERM "$folder/munge/pid"
    ;;
node)
    case ${4:-} in
    start) start_node "$3" ;;
    kill) kill_node "$3" ;;
    *) fail "$usage" ;;
    esac
    ;;
controller)
    case ${3:-} in
    start) start_controller ;;
    stop) end TERM "$folder/controller.pid" ;;
    kill) end KILL "$folder/controller.pid" ;;
    *) fail "$usage" ;;
    esac
    ;;
*) fail "$usage" ;;
esac
