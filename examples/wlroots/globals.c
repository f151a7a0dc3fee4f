#include "server.h"
#include "vm.h"

#include <stdlib.h>
#include <wlr/types/wlr_compositor.h>
#include <wlr/types/wlr_data_control_v1.h>
#include <wlr/types/wlr_data_device.h>
#include <wlr/types/wlr_primary_selection_v1.h>
#include <wlr/types/wlr_screencopy_v1.h>
#include <wlr/types/wlr_server_decoration.h>
#include <wlr/types/wlr_viewporter.h>
#include <wlr/types/wlr_xdg_decoration_v1.h>
#include <wlr/types/wlr_xdg_shell.h>

/*
 * Who may see a global: a client that it hides one from can't bind it either, even by a number that it guesses. What shows
 * others' windows, or what they have copied, is for local clients only.
 */
static bool is_visible(const struct wl_client *client, const struct wl_global *global, void *data) {
    const struct server *server = data;
    bool is_private = global == server->screencopy->global || global == server->data_control->global;
    /* A VM's name may also be looked at here, to let one of them have more than others. */
    return !is_private || vm_of((struct wl_client *)client) == NULL;
}

/* A client's wish as to who draws its frame. */
struct decoration {
    struct wlr_xdg_toplevel_decoration_v1 *wish;
    struct wl_listener request_mode, destroy;
};

/* Whatever it asks for. */
static void request_mode(struct wl_listener *listener, void *data) {
    (void)data;
    struct decoration *decoration = wl_container_of(listener, decoration, request_mode);
    wlr_xdg_toplevel_decoration_v1_set_mode(decoration->wish, WLR_XDG_TOPLEVEL_DECORATION_V1_MODE_SERVER_SIDE);
}

static void decoration_destroy(struct wl_listener *listener, void *data) {
    (void)data;
    struct decoration *decoration = wl_container_of(listener, decoration, destroy);
    wl_list_remove(&decoration->request_mode.link);
    wl_list_remove(&decoration->destroy.link);
    free(decoration);
}

static void new_decoration(struct wl_listener *listener, void *data) {
    (void)listener;
    struct decoration *decoration = calloc(1, sizeof(*decoration));
    if (decoration == NULL)
        return;
    decoration->wish = data;
    decoration->request_mode.notify = request_mode;
    wl_signal_add(&decoration->wish->events.request_mode, &decoration->request_mode);
    decoration->destroy.notify = decoration_destroy;
    wl_signal_add(&decoration->wish->events.destroy, &decoration->destroy);
    request_mode(&decoration->request_mode, NULL);
}

bool globals_init(struct server *server) {
    struct wl_display *display = server->display;
    struct wlr_server_decoration_manager *older = wlr_server_decoration_manager_create(display);
    server->shell = wlr_xdg_shell_create(display);
    server->decorations = wlr_xdg_decoration_manager_v1_create(display);
    server->screencopy = wlr_screencopy_manager_v1_create(display);
    server->data_control = wlr_data_control_manager_v1_create(display);
    if (wlr_compositor_create(display, server->renderer) == NULL || wlr_data_device_manager_create(display) == NULL ||
        wlr_primary_selection_v1_device_manager_create(display) == NULL || wlr_viewporter_create(display) == NULL ||
        older == NULL || server->shell == NULL || server->decorations == NULL || server->screencopy == NULL ||
        server->data_control == NULL)
        return false;
    wlr_server_decoration_manager_set_default_mode(older, WLR_SERVER_DECORATION_MANAGER_MODE_SERVER);
    server->new_decoration.notify = new_decoration;
    wl_signal_add(&server->decorations->events.new_toplevel_decoration, &server->new_decoration);
    wl_display_set_global_filter(display, is_visible, server);
    return true;
}
