#!/bin/sh
# In the compositor VM: sway, without a screen.
unset WAYLAND_DISPLAY
export SWAYSOCK=/run/user/1000/sway.sock
export WLR_BACKENDS=headless WLR_RENDERER=pixman WLR_LIBINPUT_NO_DEVICES=1
# While windows make room for another one, sway keeps what each of them showed before, until all have answered. A client
# that draws at every frame callback and has two buffers, as weston-simple-shm, then finds both busy and aborts, with or
# without anything between it and sway: whenever a window of a slow VM is among them.
exec sway -D noatomic -c /usr/local/etc/sway.conf
