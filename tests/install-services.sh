#!/bin/sh
# Install what the tests use in addition to Python: PostgreSQL (a tracking store), Chromium (the report's page), pdflatex (its
# tables) and SLURM (the cluster) with MariaDB (its accounting).
# For Debian and its children, as root; elsewhere it says what is missing and changes nothing. Idempotent.
set -eu

missing=""
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing="$missing postgresql"
command -v chromium >/dev/null 2>&1 || missing="$missing chromium"
command -v pdflatex >/dev/null 2>&1 || missing="$missing texlive-latex-recommended"
PATH="$PATH:/usr/sbin:/sbin"
command -v slurmctld >/dev/null 2>&1 || missing="$missing slurm-wlm"
command -v munged >/dev/null 2>&1 || missing="$missing munge"
command -v slurmdbd >/dev/null 2>&1 || missing="$missing slurmdbd"
command -v mariadbd >/dev/null 2>&1 || missing="$missing mariadb-server"

if [ -z "$missing" ]; then
    echo "install-services: postgresql, chromium, pdflatex and slurm are here"
    exit 0
fi
if ! command -v apt-get >/dev/null 2>&1 || [ "$(id -u)" -ne 0 ]; then
    echo "install-services: missing:$missing; install them (as root, apt-get install$missing), else their tests skip"
    exit 0
fi

echo "install-services: apt-get install$missing"
export DEBIAN_FRONTEND=noninteractive
# A server started by the package would be of no use: the tests start their own, on free ports.
if [ ! -e /usr/sbin/policy-rc.d ]; then
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod +x /usr/sbin/policy-rc.d
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
fi
apt-get update -qq
# Nobody reads manuals here, and what a power cut would lose is installed again: dpkg need not wait for the disk.
# shellcheck disable=SC2086 # a list of package names
apt-get install -y -qq --no-install-recommends \
    -o Dpkg::Options::=--force-unsafe-io \
    -o Dpkg::Options::=--path-exclude='/usr/share/doc/*' \
    -o Dpkg::Options::=--path-exclude='/usr/share/man/*' \
    -o Dpkg::Options::=--path-exclude='/usr/share/locale/*' \
    $missing >/dev/null
echo "install-services: done"
