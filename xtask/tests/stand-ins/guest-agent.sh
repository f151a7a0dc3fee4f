#!/bin/sh
# Stands in for guest-agent: its applications go to sway directly. Called as
# `serve|run --channel CHANNEL --stats FILE ...`.
mode=$1 stats=$5
trap 'echo "{\"frames\": 5, \"damaged_bytes\": 2048, \"copied_bytes\": 1024}" > "$stats"' USR1
trap 'exit 0' TERM
if [ "$mode" = run ]; then
    shift 6
    WAYLAND_DISPLAY=$PWD/../gui/wayland-1 "$@" &
else
    sleep 1000 &
fi
while kill -0 $! 2>/dev/null; do wait $!; status=$?; done
exit "$status"
