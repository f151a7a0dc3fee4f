/*
 * A Wayland compositor of libwayland-server's that shows windows of several VMs: what of it the shim needs is all here.
 *
 * It draws windows side by side, in the colour of their VM, into a picture: it has no screen.
 */

#include "desktop.h"
#include "options.h"
#include "vm.h"

#include <stdio.h>
#include <stdlib.h>
#include <wlproxy-shim.h>

/* What the shim has to say, such as that the host isn't there yet. */
static void tell(void *data, enum wlproxy_shim_log_level level, const char *text) {
    (void)data;
    if (level <= WLPROXY_SHIM_LOG_INFO)
        fprintf(stderr, "%s\n", text);
}

/* A client of a VM has connected. It has sent nothing yet, so whatever depends on its VM can be decided here. */
static void introduce(void *data, struct wl_client *client, const struct wlproxy_shim_peer *peer) {
    (void)data;
    if (!vm_set(client, wlproxy_shim_peer_vm(peer)))
        wl_client_destroy(client);
}

int main(int argc, char **argv) {
    struct options options = options_parse(argc, argv);
    struct wl_display *display = wl_display_create();
    struct desktop *desktop = display != NULL ? desktop_create(display, &options) : NULL;
    if (desktop == NULL) {
        fprintf(stderr, "there is no memory\n");
        return EXIT_FAILURE;
    }

    struct wlproxy_shim *shim = NULL;
    if (options.channel != NULL) {
        char why[512];
        if (wlproxy_shim_create(options.channel, &shim, why, sizeof(why)) != 0) {
            fprintf(stderr, "no clients of VMs can come: %s\n", why);
            return EXIT_FAILURE;
        }
        wlproxy_shim_set_log(shim, tell, NULL);
        if (wlproxy_shim_add_to_display(shim, display, introduce, NULL) != 0) {
            fprintf(stderr, "no clients of VMs can come: %s\n", wlproxy_shim_error(shim));
            return EXIT_FAILURE;
        }
    }

    if (wl_display_add_socket(display, options.socket) != 0) {
        fprintf(stderr, "%s can't be made\n", options.socket);
        return EXIT_FAILURE;
    }
    wl_display_run(display);

    /* The shim may also outlive the display. Either way its clients are destroyed like others. */
    wlproxy_shim_destroy(shim);
    wl_display_destroy_clients(display);
    desktop_destroy(desktop);
    wl_display_destroy(display);
    return EXIT_SUCCESS;
}
