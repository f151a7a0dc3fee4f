#!/bin/sh
# In a client VM: the socket for all applications of the VM.
exec guest-agent run --no-export --socket /run/user/1000/wayland-1
