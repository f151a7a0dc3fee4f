#!/bin/sh
# In the compositor VM: sway, without a screen.
unset WAYLAND_DISPLAY
export SWAYSOCK=/run/user/1000/sway.sock
export WLR_BACKENDS=headless WLR_RENDERER=pixman WLR_LIBINPUT_NO_DEVICES=1
exec sway -c /usr/local/etc/sway.conf
