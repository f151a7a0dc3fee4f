/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * wlproxy-shim.h: lets a Wayland compositor accept clients of other VMs by itself.
 *
 * A compositor that runs in a VM links libwlproxy_shim rather than have `guest-agent serve` beside it. The least that is
 * to be done, if it is one of libwayland-server:
 *
 *     struct wlproxy_shim *shim;
 *     char why[256];
 *     if (wlproxy_shim_create(NULL, &shim, why, sizeof(why)) < 0)
 *         fprintf(stderr, "%s\n", why);
 *     else
 *         wlproxy_shim_add_to_display(shim, display, NULL, NULL);
 *
 * Errors are those of errno.h, negated. A call that is given NULL for a shim returns -EINVAL, if it returns errors.
 *
 * Nothing is shared by two shims. One shim is for one thread: all calls that are given it are made by the thread that
 * made it, which is the one that runs the display's event loop. It sets no handler of a signal and causes no SIGPIPE,
 * and if a channel has threads of its own, these get no signals.
 *
 * If the shim has a fault of its own it doesn't end the process: the call returns -ENOTRECOVERABLE, as does each later
 * one, all its clients are disconnected, and wlproxy_shim_error() says what it was. It can only be destroyed then.
 *
 * Made by `cargo xtask header`.
 */

#ifndef WLPROXY_SHIM_H
#define WLPROXY_SHIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct wl_client;
struct wl_display;

/**
 * How much a line of the log matters.
 */
enum wlproxy_shim_log_level {
    /**
     * Something is wrong with the shim itself.
     */
    WLPROXY_SHIM_LOG_ERROR = 1,
    /**
     * Somebody notices: clients are disconnected, or one couldn't be accepted.
     */
    WLPROXY_SHIM_LOG_WARNING = 2,
    /**
     * For everybody who looks into a log: the host is there, or it is waited for, and why.
     */
    WLPROXY_SHIM_LOG_INFO = 3,
    /**
     * For who looks for a fault: each client that comes or goes.
     */
    WLPROXY_SHIM_LOG_DEBUG = 4,
};

/**
 * Who a client is, as long as the function runs that it was given to. The host says so, and no client can: it is to be
 * believed.
 */
struct wlproxy_shim_peer;

/**
 * Accepts clients of other VMs for a compositor.
 */
struct wlproxy_shim;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Makes a shim, which accepts clients over a channel of this VM.
 *
 * The channel is named as for `guest-agent serve --channel`: "auto", or NULL, takes the device that the VM has;
 * "virtgpu", "virtgpu:NODE", "virtio_wl" and "virtio_wl:NODE" name one; "process:SOCKET" is for a compositor without a
 * VM, with the vhost-user socket of a VM's worker. Whether the host is there shows later: that is logged, and it is
 * tried again five times a second, now and whenever the host is lost.
 *
 * Returns 0 and sets *shim, or returns a negative error and sets it to NULL: -EINVAL if there is no such channel, or
 * what the system says, as -EMFILE. Then the reason is written to why, of size bytes, ended by a NUL and cut to fit;
 * why may be NULL if size is 0.
 */
int wlproxy_shim_create(const char *channel,
                        struct wlproxy_shim **shim,
                        char *why,
                        size_t size);

/**
 * Returns a file descriptor that becomes readable when wlproxy_shim_dispatch() has something to do, or a negative
 * error.
 *
 * It stays the shim's: it is to be polled and nothing else, and is closed by wlproxy_shim_destroy().
 */
int wlproxy_shim_get_fd(const struct wlproxy_shim *shim);

/**
 * Does what there is to do: carries what clients and compositor have sent, and accepts clients that came. client() is
 * called for each of these, with data.
 *
 * fd is the client's Wayland stream: a connected socket, non-blocking and close-on-exec. From the call on it belongs
 * to the compositor, which is to give it to wl_client_create() or to close it. When it is closed, the client is
 * disconnected. peer lives until client() returns.
 *
 * No client can make it wait. The host can, for as long as it takes to give memory for a keymap or to take the
 * channel.
 *
 * Returns how many clients came, or a negative error, as -EINVAL if client is NULL. If the host is lost that is no
 * error. client() may have been called even if there is one.
 */
int wlproxy_shim_dispatch(struct wlproxy_shim *shim,
                          void (*client)(void *data, int fd, const struct wlproxy_shim_peer *peer),
                          void *data);

/**
 * Has a display accept clients: the shim joins its event loop, and for each client that comes it calls
 * wl_client_create() and then client(), with data. client may be NULL; peer lives until client() returns.
 * wlproxy_shim_dispatch() needn't be called then.
 *
 * What goes wrong later is logged. If libwayland has no memory for a client, that one is disconnected.
 *
 * The shim leaves the display when either of them is destroyed, whichever is first. Its clients are wl_clients like
 * any others, so before it destroys the display the compositor calls wl_display_destroy_clients(). A shim that has
 * left may be added again. client() may destroy the shim or any client, but not the display, whose event loop is
 * running.
 *
 * Returns 0, or a negative error: -EINVAL without a display, -EALREADY if the shim is in one, -ENOMEM if there is no
 * memory.
 */
int wlproxy_shim_add_to_display(struct wlproxy_shim *shim,
                                struct wl_display *display,
                                void (*client)(void *data,
                                               struct wl_client *client,
                                               const struct wlproxy_shim_peer *peer),
                                void *data);

/**
 * Has log() called, with data, for each line that the shim logs: text, in UTF-8, without an end of line, which lives
 * until log() returns. It is called at once for lines that were logged before, while the shim was made. If log is
 * NULL, nobody is told any more.
 *
 * log() is called by functions that are given this shim, before they return, and in the display's event loop. It may
 * call any of them.
 *
 * Returns 0, or a negative error.
 */
int wlproxy_shim_set_log(struct wlproxy_shim *shim,
                         void (*log)(void *data, enum wlproxy_shim_log_level level, const char *text),
                         void *data);

/**
 * Returns why the last call failed that has failed, as a text in UTF-8, which is empty if none has. It lives until the
 * next call that is given this shim.
 */
const char *wlproxy_shim_error(const struct wlproxy_shim *shim);

/**
 * Whether the host is there, so that clients are accepted. No if shim is NULL.
 */
bool wlproxy_shim_is_open(const struct wlproxy_shim *shim);

/**
 * Returns how many clients of other VMs are connected. 0 if shim is NULL.
 */
size_t wlproxy_shim_clients(const struct wlproxy_shim *shim);

/**
 * Disconnects all clients, leaves the display, and frees the shim. Nothing is done if shim is NULL.
 *
 * It may be called in a function that the shim calls; none is called for this shim from then on.
 */
void wlproxy_shim_destroy(struct wlproxy_shim *shim);

/**
 * Returns the client VM's name in the host's configuration, which has no characters but letters, digits, '-' and '_'.
 * It lives as long as peer. NULL if peer is NULL.
 */
const char *wlproxy_shim_peer_vm(const struct wlproxy_shim_peer *peer);

/**
 * Returns the connection's number on the host, as in `wlproxy status`. No other has the same until the host is started
 * again. 0 if peer is NULL.
 */
uint64_t wlproxy_shim_peer_connection(const struct wlproxy_shim_peer *peer);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* WLPROXY_SHIM_H */
