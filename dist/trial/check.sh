#!/usr/bin/env bash
# Installs the packages in /trial, uses what they bring, and removes them. Runs in what boot.sh makes.
set -Eeuo pipefail
cd /trial

# Longest that anything here may take, in seconds, on a machine that does much else.
PATIENCE=30

passed=0 failed=0 skipped=0

# Runs a function with its lines as steps: the first that fails ends it, and fails the check. What it says is shown only
# then. No `grep -q` behind a pipe: it ends what it reads from by a signal, and so fails the step, if it is fast.
check() {
    local said=/tmp/said
    # Not as a condition: there, `set -e` has no effect.
    (
        set -Eeuo pipefail
        trap 'echo "in line $LINENO: $BASH_COMMAND" >&2' ERR
        "$1"
    ) >"$said" 2>&1 &
    if wait $!; then
        echo "ok      ${1//_/ }"
        passed=$((passed + 1))
    else
        echo "FAILED  ${1//_/ }"
        sed 's/^/        /' "$said"
        failed=$((failed + 1))
    fi
}

skip() {
    echo "skipped ${1//_/ }: $2"
    skipped=$((skipped + 1))
}

# Waits until a command succeeds.
until_true() {
    local deadline=$((SECONDS + PATIENCE))
    until "$@" >/tmp/last 2>&1; do
        if ((SECONDS > deadline)); then
            echo "not within $PATIENCE s: $*"
            cat /tmp/last
            return 1
        fi
        sleep 0.05
    done
}

same() {
    [[ $1 == "$2" ]] || { echo "$1 is not $2" && return 1; }
}

# The session of a user, who plays the VMs, and whose systemd runs the user units.
SESSION=/run/session

session() {
    setpriv --reuid=wlproxy --regid=wlproxy --clear-groups env -i PATH="$PATH" HOME=$SESSION \
        XDG_RUNTIME_DIR=$SESSION "$@"
}

# Whether something holds in the document of `wlproxy status`.
holds() {
    wlproxy status --config "${CONFIG:-/etc/wlproxy.toml}" --json | jq -e "$1"
}

main_pid() {
    systemctl show --value -p MainPID wlproxy | grep -v '^0$'
}

workers() {
    pgrep -P "$(main_pid)"
}

packages_can_be_installed() {
    # Some machines leave out documentation.
    dpkg --path-include='/usr/*' -i ./*.deb
    dpkg -s wlproxy wlproxy-guest-agent | grep -c 'ok installed' | grep -x 2
}

programs_tell_their_version() {
    local version
    version=$(dpkg-query -W -f '${Version}' wlproxy)
    same "$(wlproxy --version)" "wlproxy ${version%-*}"
    same "$(guest-agent --version)" "guest-agent ${version%-*}"
}

every_command_has_a_manual_page() {
    local page
    for page in wlproxy wlproxy-run wlproxy-status wlproxy-check wlproxy.toml guest-agent guest-agent-run \
        guest-agent-serve; do
        man --warnings "$page" >/tmp/page 2>/tmp/warnings
        same "$(cat /tmp/warnings)" ""
        grep -q "^SEE ALSO" /tmp/page
    done
}

bash_completes() {
    # As the shell's own completion loads it: by the program's name.
    local COMPREPLY=() COMP_WORDS=(wlproxy sta) COMP_CWORD=1 file=/usr/share/bash-completion/completions
    source $file/wlproxy
    _wlproxy wlproxy sta wlproxy
    same "${COMPREPLY[*]}" status
    bash -n $file/guest-agent
}

zsh_completes() {
    local program
    for program in wlproxy guest-agent; do
        zsh -fc "autoload -U compinit && compinit -u && (( \$+_comps[$program] )) && autoload +X _$program"
    done
}

fish_completes() {
    same "$(HOME=/tmp fish -c 'complete -C "wlproxy sta"' | cut -f1)" status
    HOME=/tmp fish -c 'complete -C "guest-agent run --"' | grep -- '^--channel'
}

a_user_is_made_who_can_not_log_in() {
    getent passwd wlproxy | grep ':/usr/sbin/nologin$'
}

nothing_starts_by_itself() {
    same "$(systemctl is-enabled wlproxy)" disabled
    same "$(systemctl is-active wlproxy)" inactive
}

the_example_is_a_good_configuration() {
    cp /usr/share/doc/wlproxy/examples/wlproxy.toml /etc/wlproxy.toml
    wlproxy check | grep -x '/etc/wlproxy.toml: good; 3 VMs, compositor VM gui'
}

systemd_finds_nothing_wrong() {
    same "$(systemd-analyze verify wlproxy.service 2>&1)" ""
    local unit
    for unit in wlproxy.service wlproxy-run.socket wlproxy-run.service wlproxy-serve.service; do
        same "$(XDG_RUNTIME_DIR=/tmp systemd-analyze --user verify $unit 2>&1)" ""
    done
}

# What the filter doesn't let through ends the process from here on, so that nothing is denied without being seen.
strict() {
    mkdir -p "$1.d"
    printf '[Service]\nSystemCallErrorNumber=kill\n' >"$1.d/strict.conf"
}

the_service_starts() {
    strict /etc/systemd/system/wlproxy.service
    systemctl daemon-reload
    systemctl enable --now wlproxy
    same "$(systemctl is-active wlproxy)" active
    same "$(ls /run/wlproxy | xargs)" "control.sock gui.sock untrusted.sock work.sock"
    same "$(stat -c '%U %a' /run/wlproxy)" "wlproxy 700"
    until_true has_workers 3
}

has_workers() {
    same "$(workers | wc -l)" "$1"
}

the_service_is_confined() {
    local pid uid
    uid=$(id -u wlproxy)
    for pid in $(main_pid) $(workers); do
        # Mode 2 is a filter.
        grep -Pq '^Seccomp:\t2$' "/proc/$pid/status"
        grep -Pq '^NoNewPrivs:\t1$' "/proc/$pid/status"
        grep -Pq '^CapBnd:\t0*$' "/proc/$pid/status"
        grep -Pq "^Uid:\t$uid\t$uid\t$uid\t$uid\$" "/proc/$pid/status"
        same "$(ls "/proc/$pid/root/root" "/proc/$pid/root/home" 2>/dev/null | grep -v : | xargs)" ""
        same "$(grep -c : "/proc/$pid/net/dev")" 1
        if touch "/proc/$pid/root/etc/made-by-wlproxy"; then return 1; fi
        if ls "/proc/$pid/root/dev/tty0" "/proc/$pid/root/proc/sys"; then return 1; fi
    done
}

the_session_starts() {
    cat >/etc/systemd/system/session.service <<EOF
[Service]
Type=notify
User=wlproxy
RuntimeDirectory=session
RuntimeDirectoryMode=0700
Environment=HOME=$SESSION XDG_RUNTIME_DIR=$SESSION
Delegate=yes
ExecStart=/lib/systemd/systemd --user --unit=basic.target
EOF
    cat >/etc/systemd/system/weston.service <<EOF
[Service]
User=wlproxy
Environment=XDG_RUNTIME_DIR=$SESSION
ExecStart=/usr/bin/weston --backend=headless-backend.so --socket=wayland-1 --idle-time=0
EOF
    systemctl daemon-reload
    systemctl start session weston
    until_true test -S $SESSION/wayland-1
}

serve_runs_as_a_user_unit() {
    local config=$SESSION/.config
    session mkdir -p $config/systemd/user
    echo "CHANNEL=process:/run/wlproxy/gui.sock" >$config/guest-agent
    strict $config/systemd/user/wlproxy-serve.service
    session systemctl --user daemon-reload
    session systemctl --user set-environment WAYLAND_DISPLAY=wayland-1
    session systemctl --user start wlproxy-serve 
    same "$(session systemctl --user is-active wlproxy-serve)" active
    until_true holds .compositor.ready
}

# Runs an application in the VM "work", with these options of `guest-agent run`, until it has drawn a little.
draw_in_work() {
    local before enough=$SESSION/enough
    rm -f $enough
    before=$(holds .vms.work.commits)
    session guest-agent run --channel process:/run/wlproxy/work.sock "$@" -- \
        sh -c "weston-simple-shm & until test -e $enough; do sleep 0.1; done; kill \$!" &
    until_true holds ".vms.work.commits > $before + 10"
    touch $enough
    wait %1
}

an_application_reaches_the_compositor() {
    draw_in_work
}

an_application_has_nothing_copied() {
    draw_in_work --zero-copy --stats $SESSION/stats.json
    jq -e '.seen_frames > 5 and .copied_bytes == 0' $SESSION/stats.json
}

run_serves_a_session_as_a_user_unit() {
    strict $SESSION/.config/systemd/user/wlproxy-run.service
    echo "CHANNEL=process:/run/wlproxy/untrusted.sock" >$SESSION/.config/run
    printf '[Service]\nEnvironmentFile=%%E/run\n' \
        >$SESSION/.config/systemd/user/wlproxy-run.service.d/channel.conf
    session systemctl --user daemon-reload
    session systemctl --user start wlproxy-run.socket
    session systemctl --user show-environment | grep -x WAYLAND_DISPLAY=wayland-vm
    session WAYLAND_DISPLAY=wayland-vm weston-simple-shm &
    until_true holds ".vms.untrusted.commits > 10"
    same "$(session systemctl --user is-active wlproxy-run)" active
    kill %1
    wait %1 || true
    session systemctl --user stop wlproxy-run.socket wlproxy-run.service
    if session systemctl --user show-environment | grep WAYLAND_DISPLAY=wayland-vm; then return 1; fi
}

an_upgrade_disconnects_nobody() {
    local before
    before=$(main_pid)
    dpkg --path-include='/usr/*' -i ./*.deb
    same "$(main_pid)" "$before"
    same "$(systemctl is-enabled wlproxy)" enabled
    until_true holds .compositor.ready
}

a_killed_worker_comes_back() {
    kill -KILL "$(workers | head -1)"
    until_true has_workers 3
    holds '[.vms[].restarts] | add == 1'
}

a_killed_wlproxy_comes_back() {
    local before
    before=$(main_pid)
    kill -KILL "$before"
    until_true is_another "$before"
    until_true has_workers 3
    until_true holds .compositor.ready
}

is_another() {
    [[ $(systemctl is-active wlproxy) == active && $(main_pid) != "$1" ]]
}

the_service_stops() {
    systemctl stop wlproxy
    same "$(systemctl show --value -p Result wlproxy)" success
    if test -e /run/wlproxy; then return 1; fi
}

a_wrong_configuration_is_told_and_not_started() {
    echo 'isolaton = "none"' >/etc/wlproxy.toml
    if systemctl start wlproxy; then return 1; fi
    grep -q '/etc/wlproxy.toml:1: isolaton: unknown key' /trial/log
    systemctl reset-failed wlproxy
}

wlproxy_runs_as_a_user_unit() {
    strict $SESSION/.config/systemd/user/wlproxy.service
    printf '[compositor]\nsocket = "%s"\n[vm.work]\n' $SESSION/wayland-1 >$SESSION/.config/wlproxy.toml
    session systemctl --user daemon-reload
    session systemctl --user start wlproxy
    session guest-agent run --channel process:$SESSION/wlproxy/work.sock -- weston-simple-shm &
    export XDG_RUNTIME_DIR=$SESSION CONFIG=$SESSION/.config/wlproxy.toml
    until_true holds ".vms.work.commits > 10"
    kill %1
    wait %1 || true
    session systemctl --user stop wlproxy
}

packages_can_be_removed() {
    systemctl stop session
    dpkg -r wlproxy wlproxy-guest-agent
    same "$(command -v wlproxy guest-agent)" ""
    dpkg -P wlproxy wlproxy-guest-agent
    local file
    for file in $(cat /tmp/files); do
        if test -f "$file"; then echo "$file is left" && return 1; fi
    done
}

check packages_can_be_installed
if ((failed)); then
    echo "$passed passed, $failed failed"
    exit 1
fi
dpkg -L wlproxy wlproxy-guest-agent >/tmp/files
check programs_tell_their_version
check every_command_has_a_manual_page
check bash_completes
check zsh_completes
check fish_completes
check a_user_is_made_who_can_not_log_in
check nothing_starts_by_itself
check the_example_is_a_good_configuration
check systemd_finds_nothing_wrong
check the_service_starts
check the_service_is_confined
check the_session_starts
check serve_runs_as_a_user_unit
check an_application_reaches_the_compositor
check an_application_has_nothing_copied
check run_serves_a_session_as_a_user_unit
check an_upgrade_disconnects_nobody
check a_killed_worker_comes_back
check a_killed_wlproxy_comes_back
check the_service_stops
check a_wrong_configuration_is_told_and_not_started
check wlproxy_runs_as_a_user_unit
check packages_can_be_removed
echo "$passed passed, $failed failed, $skipped skipped"
((failed == 0))
