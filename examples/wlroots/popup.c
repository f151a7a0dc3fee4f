#include "frame.h"
#include "options.h"
#include "server.h"
#include "vm.h"

#include <stdlib.h>
#include <wlr/types/wlr_scene.h>
#include <wlr/types/wlr_xdg_shell.h>

/* A menu or the like. */
struct popup {
    struct wlr_xdg_surface *surface;
    struct wlr_scene_node *node; /* where it is */
    struct wl_listener destroy;
    struct wl_list link;
};

/* Its place in the scene is gone, with its surface or with the place of what it belongs to. */
static void destroy(struct wl_listener *listener, void *data) {
    (void)data;
    struct popup *popup = wl_container_of(listener, popup, destroy);
    popup->surface->data = NULL;
    wl_list_remove(&popup->destroy.link);
    wl_list_remove(&popup->link);
    free(popup);
}

bool popup_add(struct server *server, struct wlr_xdg_surface *surface) {
    struct wlr_surface *parent = surface->popup->parent;
    /* Without one that is known it is never shown. */
    if (parent == NULL || !wlr_surface_is_xdg_surface(parent))
        return true;
    struct wlr_xdg_surface *of = wlr_xdg_surface_from_wlr_surface(parent);
    /* What was a window or a popup before, and has no role or another one, has no place any more. */
    struct wlr_scene_node *place = of != NULL && of->added ? of->data : NULL;
    if (place == NULL)
        return true;
    struct popup *popup = calloc(1, sizeof(*popup));
    struct wlr_scene_node *node = popup != NULL ? wlr_scene_xdg_surface_create(place, surface) : NULL;
    if (node == NULL) {
        free(popup);
        return false;
    }
    popup->surface = surface;
    popup->node = surface->data = node;
    popup->destroy.notify = destroy;
    wl_signal_add(&node->events.destroy, &popup->destroy);
    wl_list_insert(server->popups.prev, &popup->link);
    /* With its border on the screen if that is possible. */
    int x, y;
    wlr_scene_node_coords(place, &x, &y);
    struct wlr_box screen = {
        .x = FRAME_BORDER - x,
        .y = FRAME_BORDER - y,
        .width = server->options->width - 2 * FRAME_BORDER,
        .height = server->options->height - 2 * FRAME_BORDER,
    };
    wlr_xdg_popup_unconstrain_from_box(surface->popup, &screen);
    return true;
}

void popups_draw(const struct server *server, const struct canvas *canvas) {
    struct popup *popup;
    wl_list_for_each(popup, &server->popups, link) {
        struct wlr_box box;
        if (!popup->surface->mapped || !wlr_scene_node_coords(popup->node, &box.x, &box.y))
            continue;
        window_measure(popup->surface, &box);
        canvas_draw_content(canvas, popup->surface, &box);
        canvas_draw_border(canvas, &box, vm_of(wl_resource_get_client(popup->surface->resource)));
    }
}
