#!/usr/bin/env bash
# The accounting of a SLURM of one's own: MariaDB and slurmdbd, as tests/slurm.sh starts them in a folder of its own.
#
#   bash tests/slurm_accounting.sh start FOLDER CLUSTER PORT HOST    # prints nothing; slurmdbd listens at PORT
#   bash tests/slurm_accounting.sh fill FOLDER                       # accounts, users, qualities of service
#   bash tests/slurm_accounting.sh stop FOLDER
set -euo pipefail
export PATH="$PATH:/usr/sbin:/sbin"
action=$1
folder=$2
database="$folder/database"

fail() { echo "slurm_accounting.sh: $*" >&2; exit 1; }

start() {
    mkdir -p "$database"
    [ -d "$database/data" ] || mariadb-install-db --no-defaults --user="$(id -un)" --datadir="$database/data" \
        --skip-test-db --auth-root-authentication-method=normal >"$database/install.out" 2>&1 ||
        fail "no database: $(tail -1 "$database/install.out")"
    mariadbd --no-defaults --user="$(id -un)" --datadir="$database/data" --socket="$database/socket" \
        --pid-file="$database/pid" --skip-networking --innodb-flush-method=nosync --innodb-buffer-pool-size=32M \
        --innodb-log-file-size=16M >"$database/log" 2>&1 &
    for _ in $(seq 300); do
        [ ! -S "$database/socket" ] || break
        sleep 0.1
    done
    cat >"$folder/slurmdbd.conf" <<CONF
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket
DbdHost=$3
DbdAddr=127.0.0.1
DbdPort=$2
SlurmUser=$(id -un)
LogFile=$folder/slurmdbd.log
PidFile=$folder/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=$1
CONF
    chmod 600 "$folder/slurmdbd.conf"
    # The client library takes the socket's place from its environment.
    MYSQL_UNIX_PORT="$database/socket" SLURM_CONF="$folder/slurmdbd.conf" slurmdbd 2>"$folder/slurmdbd.out" ||
        fail "slurmdbd does not start: $(tail -1 "$folder/slurmdbd.out")"
}

fill() {
    export SLURM_CONF="$folder/slurm.conf"
    sacctmgr --immediate --quiet add account lab Description=lab Organization=lab >/dev/null
    sacctmgr --immediate --quiet add qos short MaxSubmitJobsPerUser=30 >/dev/null
    sacctmgr --immediate --quiet add qos narrow MaxSubmitJobsPerUser=2 >/dev/null
    sacctmgr --immediate --quiet add user "$(id -un)" Account=lab QOS=normal,short,narrow DefaultQOS=normal >/dev/null
}

end() {
    local pid
    [ -s "$1" ] || return 0
    pid=$(cat "$1")
    kill -TERM "$pid" 2>/dev/null || true
    for _ in $(seq 200); do
        [ -e "/proc/$pid" ] || break
        sleep 0.1
    done
    rm -f "$1"
}

case $action in
start) start "$3" "$4" "$5" ;;
fill) fill ;;
stop)
    end "$folder/slurmdbd.pid"
    end "$database/pid"
    ;;
*) fail "start, fill or stop" ;;
esac
