#!/usr/bin/env bash
# Tries packages: on a copy of this machine, which systemd boots in namespaces of its own, check.sh installs them, uses
# what they bring, and removes them. Called as root with the packages. Ends with how many checks passed.
set -Eeuo pipefail

here=$(dirname "${BASH_SOURCE[0]}")
trial=$(mktemp -d "${TMPDIR:-/tmp}/wlproxy-trial.XXXXXX")
system='' cgroup=''

cleanup() {
    if [[ $system ]]; then
        kill -KILL "$system" || true
        wait "$system" || true
    fi 2>/dev/null
    # Ended processes may still be on their way out of their groups.
    for _ in {1..100}; do
        [[ -d $cgroup ]] || break
        find "$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null || sleep 0.05
    done
    rm -rf "$trial"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

cp "$here/boot.sh" "$here/check.sh" "$@" "$trial"
: >"$trial/out"
: >"$trial/log"

# systemd makes groups below the one that it begins in, and takes that for the root.
groups=$(findmnt --first-only --noheadings --raw --output TARGET --types cgroup2 || true)
if [[ ! $groups ]]; then
    echo "no cgroup2 is mounted, and systemd needs it"
    exit 1
fi
cgroup=$groups$(sed -n 's/^0:://p' /proc/self/cgroup)/wlproxy-trial.$$
mkdir "$cgroup"

(
    echo 0 >"$cgroup/cgroup.procs"
    # In a session of its own, so that Ctrl-C is for this script alone; and it ends with this script, however that ends.
    exec setsid setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child --cgroup --ipc --uts --net \
        bash "$trial/boot.sh" "$trial" >"$trial/boot.log" 2>&1
) &
system=$!
tail --silent --pid="$system" --lines=+1 --follow "$trial/out" &
wait "$system" || true
wait
system=

if ! [[ $(tail -1 "$trial/out") =~ ^[0-9]+\ passed,\ 0\ failed ]]; then
    for log in boot.log log; do
        echo "---- $log"
        tail -50 "$trial/$log"
    done
    exit 1
fi
