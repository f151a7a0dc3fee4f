#include "desktop.h"

/* How deep subsurfaces may be nested: they are drawn recursively. Toolkits nest two or three. */
enum { DEEPEST = 16 };

bool subsurface_is_synchronised(const struct surface *surface) {
    for (; surface != NULL && surface->subsurface != NULL; surface = surface->parent) {
        if (surface->sync)
            return true;
    }
    return false;
}

void subsurface_leave(struct surface *surface) {
    if (surface->parent != NULL)
        wl_list_remove(&surface->in_parent.link);
    surface->parent = NULL;
}

static void destroy_resource(struct wl_client *client, struct wl_resource *resource) {
    (void)client;
    wl_resource_destroy(resource);
}

/* ---- wl_subsurface ---- */

static void subsurface_set_position(struct wl_client *client, struct wl_resource *resource, int32_t x, int32_t y) {
    (void)client;
    struct surface *surface = wl_resource_get_user_data(resource);
    if (surface != NULL) {
        surface->next_x = x;
        surface->next_y = y;
    }
}

/* At once, and not with the parent's next commit as others do it. */
static void restack(struct wl_resource *resource, struct wl_resource *other, bool above) {
    struct surface *surface = wl_resource_get_user_data(resource), *beside = wl_resource_get_user_data(other);
    if (surface == NULL || surface->parent == NULL)
        return;
    struct place *place = beside == surface->parent ? &beside->self : &beside->in_parent;
    if (beside == surface || (beside != surface->parent && beside->parent != surface->parent)) {
        wl_resource_post_error(resource, WL_SUBSURFACE_ERROR_BAD_SURFACE, "it has another parent");
        return;
    }
    wl_list_remove(&surface->in_parent.link);
    wl_list_insert(above ? &place->link : place->link.prev, &surface->in_parent.link);
}

static void subsurface_place_above(struct wl_client *client, struct wl_resource *resource, struct wl_resource *sibling) {
    (void)client;
    restack(resource, sibling, true);
}

static void subsurface_place_below(struct wl_client *client, struct wl_resource *resource, struct wl_resource *sibling) {
    (void)client;
    restack(resource, sibling, false);
}

static void subsurface_set_sync(struct wl_client *client, struct wl_resource *resource) {
    (void)client;
    struct surface *surface = wl_resource_get_user_data(resource);
    if (surface != NULL)
        surface->sync = true;
}

static void subsurface_set_desync(struct wl_client *client, struct wl_resource *resource) {
    (void)client;
    struct surface *surface = wl_resource_get_user_data(resource);
    if (surface == NULL)
        return;
    surface->sync = false;
    if (!subsurface_is_synchronised(surface))
        surface_apply(surface);
}

static const struct wl_subsurface_interface subsurface_requests = {
    .destroy = destroy_resource,
    .set_position = subsurface_set_position,
    .place_above = subsurface_place_above,
    .place_below = subsurface_place_below,
    .set_sync = subsurface_set_sync,
    .set_desync = subsurface_set_desync,
};

static void subsurface_end(struct wl_resource *resource) {
    struct surface *surface = wl_resource_get_user_data(resource);
    if (surface != NULL) {
        subsurface_leave(surface);
        surface->subsurface = NULL;
    }
}

/* ---- wl_subcompositor ---- */

/* How many surfaces lie on each other below this one, itself included. */
static int depth_below(const struct surface *surface) {
    int deepest = 0;
    const struct place *place;
    wl_list_for_each(place, &surface->stack, link) {
        int depth = place->surface == surface ? 0 : depth_below(place->surface);
        deepest = depth > deepest ? depth : deepest;
    }
    return deepest + 1;
}

static void get_subsurface(struct wl_client *client, struct wl_resource *resource, uint32_t id,
                           struct wl_resource *child, struct wl_resource *parent) {
    struct surface *surface = wl_resource_get_user_data(child), *above = wl_resource_get_user_data(parent);
    int depth = depth_below(surface);
    bool is_above_itself = false;
    for (const struct surface *at = above; at != NULL; at = at->parent, depth++)
        is_above_itself |= at == surface;
    if (is_above_itself || surface->subsurface != NULL || surface->window != NULL) {
        wl_resource_post_error(resource, WL_SUBCOMPOSITOR_ERROR_BAD_SURFACE, "wl_surface@%u can't be a subsurface of it",
                               wl_resource_get_id(child));
        return;
    }
    if (depth > DEEPEST) {
        wl_resource_post_error(resource, WL_SUBCOMPOSITOR_ERROR_BAD_SURFACE, "no more than %d surfaces are nested here",
                               DEEPEST);
        return;
    }
    surface->subsurface = wl_resource_create(client, &wl_subsurface_interface, wl_resource_get_version(resource), id);
    if (surface->subsurface == NULL) {
        wl_client_post_no_memory(client);
        return;
    }
    wl_resource_set_implementation(surface->subsurface, &subsurface_requests, surface, subsurface_end);
    surface->parent = above;
    surface->sync = true;
    surface->x = surface->y = surface->next_x = surface->next_y = 0;
    wl_list_insert(above->stack.prev, &surface->in_parent.link);
}

static const struct wl_subcompositor_interface subcompositor_requests = {
    .destroy = destroy_resource,
    .get_subsurface = get_subsurface,
};

static void bind_subcompositor(struct wl_client *client, void *data, uint32_t version, uint32_t id) {
    struct wl_resource *resource = wl_resource_create(client, &wl_subcompositor_interface, (int)version, id);
    if (resource == NULL)
        wl_client_post_no_memory(client);
    else
        wl_resource_set_implementation(resource, &subcompositor_requests, data, NULL);
}

bool subsurface_add_globals(struct desktop *desktop) {
    return wl_global_create(desktop->display, &wl_subcompositor_interface, 1, desktop, bind_subcompositor) != NULL;
}
