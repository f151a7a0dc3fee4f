#include "desktop.h"

#include "xdg-decoration-unstable-v1-server.h"
#include "xdg-shell-server.h"

#include <stdlib.h>
#include <string.h>

/* No picture is larger, so nothing that a client draws is farther away: see examples/c/options.c. */
enum { FARTHEST = 32767 };

static void destroy_resource(struct wl_client *client, struct wl_resource *resource) {
    (void)client;
    wl_resource_destroy(resource);
}

/* ---- A window's life ---- */

static void hide(struct window *window) {
    if (window->shown)
        desktop_remove(window->desktop, window);
    /* To be shown again it asks again. */
    window->shown = window->configured = window->acknowledged = false;
}

/* Lets it have the size that it wants. */
static void configure(struct window *window) {
    struct wl_array states;
    wl_array_init(&states);
    uint32_t *activated = wl_array_add(&states, sizeof(*activated));
    if (activated != NULL)
        *activated = XDG_TOPLEVEL_STATE_ACTIVATED;
    xdg_toplevel_send_configure(window->toplevel, 0, 0, &states);
    wl_array_release(&states);
    xdg_surface_send_configure(window->resource, wl_display_next_serial(window->desktop->display));
    window->configured = true;
}

void window_committed(struct window *window) {
    window->geometry = window->next;
    bool has_content = window->surface->content != NULL;
    if (has_content && !window->acknowledged) {
        wl_resource_post_error(window->resource, XDG_SURFACE_ERROR_UNCONFIGURED_BUFFER,
                               "a buffer comes before the first configure is acknowledged");
        return;
    }
    if (window->toplevel == NULL)
        return;
    if (has_content && !window->shown) {
        window->shown = true;
        desktop_add(window->desktop, window);
    } else if (!has_content && window->shown) {
        hide(window);
    } else if (!window->configured) {
        configure(window);
    }
}

void window_lose_surface(struct window *window) {
    hide(window);
    window->surface = NULL;
}

void window_rectangle(const struct window *window, int *x, int *y, int *width, int *height) {
    int most_x = surface_width(window->surface), most_y = surface_height(window->surface);
    *x = *y = 0;
    *width = most_x;
    *height = most_y;
    if (window->geometry.width > 0) {
        *x = window->geometry.x;
        *y = window->geometry.y;
        *width = window->geometry.width;
        *height = window->geometry.height;
    }
}

/* ---- xdg_toplevel ---- */

static void toplevel_set_title(struct wl_client *client, struct wl_resource *resource, const char *title) {
    (void)client;
    struct window *window = wl_resource_get_user_data(resource);
    if (window == NULL)
        return;
    free(window->title);
    window->title = strdup(title);
}

static void toplevel_set_app_id(struct wl_client *client, struct wl_resource *resource, const char *app_id) {
    (void)client, (void)resource, (void)app_id;
}

static void toplevel_set_parent(struct wl_client *client, struct wl_resource *resource, struct wl_resource *parent) {
    (void)client, (void)resource, (void)parent;
}

/* What a user would do with a mouse. */
static void toplevel_show_menu(struct wl_client *client, struct wl_resource *resource, struct wl_resource *seat,
                               uint32_t serial, int32_t x, int32_t y) {
    (void)client, (void)resource, (void)seat, (void)serial, (void)x, (void)y;
}

static void toplevel_move(struct wl_client *client, struct wl_resource *resource, struct wl_resource *seat,
                          uint32_t serial) {
    (void)client, (void)resource, (void)seat, (void)serial;
}

static void toplevel_resize(struct wl_client *client, struct wl_resource *resource, struct wl_resource *seat,
                            uint32_t serial, uint32_t edges) {
    (void)client, (void)resource, (void)seat, (void)serial, (void)edges;
}

static void toplevel_set_limit(struct wl_client *client, struct wl_resource *resource, int32_t width, int32_t height) {
    (void)client, (void)resource, (void)width, (void)height;
}

/* It may wish for another state, which then is answered, though by the same one. */
static void toplevel_wish(struct wl_client *client, struct wl_resource *resource) {
    (void)client;
    struct window *window = wl_resource_get_user_data(resource);
    if (window != NULL && window->configured)
        configure(window);
}

static void toplevel_set_fullscreen(struct wl_client *client, struct wl_resource *resource, struct wl_resource *output) {
    (void)output;
    toplevel_wish(client, resource);
}

static void toplevel_set_minimized(struct wl_client *client, struct wl_resource *resource) {
    (void)client, (void)resource;
}

static const struct xdg_toplevel_interface toplevel_requests = {
    .destroy = destroy_resource,
    .set_parent = toplevel_set_parent,
    .set_title = toplevel_set_title,
    .set_app_id = toplevel_set_app_id,
    .show_window_menu = toplevel_show_menu,
    .move = toplevel_move,
    .resize = toplevel_resize,
    .set_max_size = toplevel_set_limit,
    .set_min_size = toplevel_set_limit,
    .set_maximized = toplevel_wish,
    .unset_maximized = toplevel_wish,
    .set_fullscreen = toplevel_set_fullscreen,
    .unset_fullscreen = toplevel_wish,
    .set_minimized = toplevel_set_minimized,
};

static void toplevel_end(struct wl_resource *resource) {
    struct window *window = wl_resource_get_user_data(resource);
    if (window == NULL)
        return;
    hide(window);
    window->toplevel = NULL;
    free(window->title);
    window->title = NULL;
}

/* ---- xdg_popup, which ends at once: without a mouse nobody has asked for one ---- */

static void popup_grab(struct wl_client *client, struct wl_resource *resource, struct wl_resource *seat, uint32_t serial) {
    (void)client, (void)resource, (void)seat, (void)serial;
}

static const struct xdg_popup_interface popup_requests = {
    .destroy = destroy_resource,
    .grab = popup_grab,
};

static void positioner_set_two(struct wl_client *client, struct wl_resource *resource, int32_t x, int32_t y) {
    (void)client, (void)resource, (void)x, (void)y;
}

static void positioner_set_four(struct wl_client *client, struct wl_resource *resource, int32_t x, int32_t y,
                                int32_t width, int32_t height) {
    (void)client, (void)resource, (void)x, (void)y, (void)width, (void)height;
}

static void positioner_set_one(struct wl_client *client, struct wl_resource *resource, uint32_t value) {
    (void)client, (void)resource, (void)value;
}

static const struct xdg_positioner_interface positioner_requests = {
    .destroy = destroy_resource,
    .set_size = positioner_set_two,
    .set_anchor_rect = positioner_set_four,
    .set_anchor = positioner_set_one,
    .set_gravity = positioner_set_one,
    .set_constraint_adjustment = positioner_set_one,
    .set_offset = positioner_set_two,
};

/* ---- xdg_surface ---- */

static void window_get_toplevel(struct wl_client *client, struct wl_resource *resource, uint32_t id) {
    struct window *window = wl_resource_get_user_data(resource);
    if (window->toplevel != NULL) {
        wl_resource_post_error(resource, XDG_SURFACE_ERROR_ALREADY_CONSTRUCTED, "it is a toplevel");
        return;
    }
    window->toplevel =
        wl_resource_create(client, &xdg_toplevel_interface, wl_resource_get_version(resource), id);
    if (window->toplevel == NULL)
        wl_client_post_no_memory(client);
    else
        wl_resource_set_implementation(window->toplevel, &toplevel_requests, window, toplevel_end);
}

static void window_get_popup(struct wl_client *client, struct wl_resource *resource, uint32_t id,
                             struct wl_resource *parent, struct wl_resource *positioner) {
    (void)parent, (void)positioner;
    struct window *window = wl_resource_get_user_data(resource);
    struct wl_resource *popup =
        wl_resource_create(client, &xdg_popup_interface, wl_resource_get_version(resource), id);
    if (popup == NULL) {
        wl_client_post_no_memory(client);
        return;
    }
    wl_resource_set_implementation(popup, &popup_requests, NULL, NULL);
    xdg_popup_send_popup_done(popup);
    /* It may wait for that all the same. */
    xdg_popup_send_configure(popup, 0, 0, 1, 1);
    xdg_surface_send_configure(resource, wl_display_next_serial(window->desktop->display));
    window->configured = true;
}

static int32_t bound(int32_t value) {
    return value < -FARTHEST ? -FARTHEST : value > FARTHEST ? FARTHEST : value;
}

static void window_set_geometry(struct wl_client *client, struct wl_resource *resource, int32_t x, int32_t y,
                                int32_t width, int32_t height) {
    (void)client;
    struct window *window = wl_resource_get_user_data(resource);
    if (width < 1 || height < 1) {
        wl_resource_post_error(resource, XDG_SURFACE_ERROR_INVALID_SIZE, "%d x %d is no size", width, height);
        return;
    }
    window->next.x = bound(x);
    window->next.y = bound(y);
    window->next.width = bound(width);
    window->next.height = bound(height);
}

static void window_ack_configure(struct wl_client *client, struct wl_resource *resource, uint32_t serial) {
    (void)client, (void)serial;
    struct window *window = wl_resource_get_user_data(resource);
    window->acknowledged = window->configured;
}

static const struct xdg_surface_interface window_requests = {
    .destroy = destroy_resource,
    .get_toplevel = window_get_toplevel,
    .get_popup = window_get_popup,
    .set_window_geometry = window_set_geometry,
    .ack_configure = window_ack_configure,
};

static void window_end(struct wl_resource *resource) {
    struct window *window = wl_resource_get_user_data(resource);
    hide(window);
    if (window->surface != NULL)
        window->surface->window = NULL;
    if (window->toplevel != NULL)
        wl_resource_set_user_data(window->toplevel, NULL);
    free(window->title);
    free(window);
}

/* ---- xdg_wm_base ---- */

static void create_positioner(struct wl_client *client, struct wl_resource *resource, uint32_t id) {
    struct wl_resource *positioner =
        wl_resource_create(client, &xdg_positioner_interface, wl_resource_get_version(resource), id);
    if (positioner == NULL)
        wl_client_post_no_memory(client);
    else
        wl_resource_set_implementation(positioner, &positioner_requests, NULL, NULL);
}

static void get_xdg_surface(struct wl_client *client, struct wl_resource *resource, uint32_t id,
                            struct wl_resource *of) {
    struct surface *surface = wl_resource_get_user_data(of);
    if (surface->window != NULL || surface->subsurface != NULL) {
        wl_resource_post_error(resource, XDG_WM_BASE_ERROR_ROLE, "wl_surface@%u has a role", wl_resource_get_id(of));
        return;
    }
    struct window *window = calloc(1, sizeof(*window));
    if (window != NULL)
        window->resource = wl_resource_create(client, &xdg_surface_interface, wl_resource_get_version(resource), id);
    if (window == NULL || window->resource == NULL) {
        free(window);
        wl_client_post_no_memory(client);
        return;
    }
    window->desktop = wl_resource_get_user_data(resource);
    window->surface = surface;
    surface->window = window;
    wl_resource_set_implementation(window->resource, &window_requests, window, window_end);
}

static void pong(struct wl_client *client, struct wl_resource *resource, uint32_t serial) {
    (void)client, (void)resource, (void)serial;
}

static const struct xdg_wm_base_interface base_requests = {
    .destroy = destroy_resource,
    .create_positioner = create_positioner,
    .get_xdg_surface = get_xdg_surface,
    .pong = pong,
};

static void bind_base(struct wl_client *client, void *data, uint32_t version, uint32_t id) {
    struct wl_resource *resource = wl_resource_create(client, &xdg_wm_base_interface, (int)version, id);
    if (resource == NULL)
        wl_client_post_no_memory(client);
    else
        wl_resource_set_implementation(resource, &base_requests, data, NULL);
}

/* ---- zxdg_decoration_manager_v1: borders are drawn here, so clients needn't ---- */

static void decoration_set_mode(struct wl_client *client, struct wl_resource *resource, uint32_t mode) {
    (void)client, (void)mode;
    zxdg_toplevel_decoration_v1_send_configure(resource, ZXDG_TOPLEVEL_DECORATION_V1_MODE_SERVER_SIDE);
}

static void decoration_unset_mode(struct wl_client *client, struct wl_resource *resource) {
    (void)client, (void)resource;
}

static const struct zxdg_toplevel_decoration_v1_interface decoration_requests = {
    .destroy = destroy_resource,
    .set_mode = decoration_set_mode,
    .unset_mode = decoration_unset_mode,
};

static void get_decoration(struct wl_client *client, struct wl_resource *resource, uint32_t id,
                           struct wl_resource *toplevel) {
    (void)toplevel;
    struct wl_resource *decoration = wl_resource_create(client, &zxdg_toplevel_decoration_v1_interface,
                                                        wl_resource_get_version(resource), id);
    if (decoration == NULL) {
        wl_client_post_no_memory(client);
        return;
    }
    wl_resource_set_implementation(decoration, &decoration_requests, NULL, NULL);
    /* The first configure of the window follows it. */
    zxdg_toplevel_decoration_v1_send_configure(decoration, ZXDG_TOPLEVEL_DECORATION_V1_MODE_SERVER_SIDE);
}

static const struct zxdg_decoration_manager_v1_interface decorations_requests = {
    .destroy = destroy_resource,
    .get_toplevel_decoration = get_decoration,
};

static void bind_decorations(struct wl_client *client, void *data, uint32_t version, uint32_t id) {
    struct wl_resource *resource =
        wl_resource_create(client, &zxdg_decoration_manager_v1_interface, (int)version, id);
    if (resource == NULL)
        wl_client_post_no_memory(client);
    else
        wl_resource_set_implementation(resource, &decorations_requests, data, NULL);
}

bool window_add_globals(struct desktop *desktop) {
    struct wl_display *display = desktop->display;
    return wl_global_create(display, &xdg_wm_base_interface, 2, desktop, bind_base) != NULL &&
           wl_global_create(display, &zxdg_decoration_manager_v1_interface, 1, desktop, bind_decorations) != NULL;
}
