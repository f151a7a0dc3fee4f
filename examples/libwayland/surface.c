#include "desktop.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

static void destroy_resource(struct wl_client *client, struct wl_resource *resource) {
    (void)client;
    wl_resource_destroy(resource);
}

/* ---- What a commit brings ---- */

static void forget_buffer(struct state *state) {
    if (state->buffer != NULL)
        wl_list_remove(&state->buffer_gone.link);
    state->buffer = NULL;
}

static void buffer_gone(struct wl_listener *gone, void *buffer) {
    (void)buffer;
    struct state *state = wl_container_of(gone, state, buffer_gone);
    forget_buffer(state);
}

static void set_buffer(struct state *state, struct wl_resource *buffer) {
    forget_buffer(state);
    state->attached = true;
    state->buffer = buffer;
    if (buffer != NULL) {
        state->buffer_gone.notify = buffer_gone;
        wl_resource_add_destroy_listener(buffer, &state->buffer_gone);
    }
}

static void add_damage(struct state *state, int x1, int y1, int x2, int y2) {
    if (x1 >= x2 || y1 >= y2)
        return;
    bool none = state->x1 >= state->x2;
    state->x1 = none || x1 < state->x1 ? x1 : state->x1;
    state->y1 = none || y1 < state->y1 ? y1 : state->y1;
    state->x2 = none || x2 > state->x2 ? x2 : state->x2;
    state->y2 = none || y2 > state->y2 ? y2 : state->y2;
}

/* Moves all of one into another that may have something already. */
static void merge(struct state *into, struct state *from) {
    if (from->attached) {
        if (into->buffer != NULL && into->buffer != from->buffer)
            wl_buffer_send_release(into->buffer);
        set_buffer(into, from->buffer);
        forget_buffer(from);
        from->attached = false;
    }
    if (from->scale != 0)
        into->scale = from->scale;
    from->scale = 0;
    add_damage(into, from->x1, from->y1, from->x2, from->y2);
    from->x1 = from->y1 = from->x2 = from->y2 = 0;
    wl_list_insert_list(into->frames.prev, &from->frames);
    wl_list_init(&from->frames);
}

static void end_state(struct state *state) {
    struct wl_resource *frame, *next;
    wl_resource_for_each_safe(frame, next, &state->frames)
        wl_resource_destroy(frame);
    forget_buffer(state);
}

/* ---- Content ---- */

static void forget_content(struct surface *surface) {
    if (surface->content != NULL)
        cairo_surface_destroy(surface->content);
    surface->content = NULL;
}

static int clamp(int value, int most) {
    return value < 0 ? 0 : value > most ? most : value;
}

/* Copies what changed of a buffer, or all if there is nothing to change. The client then has it back. */
static void copy(struct surface *surface, const struct state *state) {
    struct wl_shm_buffer *shm = state->buffer != NULL ? wl_shm_buffer_get(state->buffer) : NULL;
    if (shm == NULL) {
        forget_content(surface);
        return;
    }
    int width = wl_shm_buffer_get_width(shm), height = wl_shm_buffer_get_height(shm);
    bool has_alpha = wl_shm_buffer_get_format(shm) == WL_SHM_FORMAT_ARGB8888;
    cairo_format_t format = has_alpha ? CAIRO_FORMAT_ARGB32 : CAIRO_FORMAT_RGB24;
    int x1 = clamp(state->x1, width), x2 = clamp(state->x2, width);
    int y1 = clamp(state->y1, height), y2 = clamp(state->y2, height);
    if (surface->content == NULL || cairo_image_surface_get_width(surface->content) != width ||
        cairo_image_surface_get_height(surface->content) != height ||
        cairo_image_surface_get_format(surface->content) != format) {
        forget_content(surface);
        surface->content = cairo_image_surface_create(format, width, height);
        if (cairo_surface_status(surface->content) != CAIRO_STATUS_SUCCESS) {
            /* Too large, or no memory. */
            forget_content(surface);
            wl_resource_post_no_memory(surface->resource);
            return;
        }
        x1 = y1 = 0;
        x2 = width;
        y2 = height;
    }
    if (x1 < x2) {
        size_t from_stride = (size_t)wl_shm_buffer_get_stride(shm);
        /* libwayland checks that a row has as many bytes as the buffer has pixels, whatever a pixel needs. */
        if (from_stride < (size_t)width * 4) {
            wl_resource_post_error(state->buffer, WL_SHM_ERROR_INVALID_STRIDE, "the stride is less than a row");
            forget_content(surface);
            return;
        }
        size_t to_stride = (size_t)cairo_image_surface_get_stride(surface->content);
        cairo_surface_flush(surface->content);
        unsigned char *to = cairo_image_surface_get_data(surface->content);
        wl_shm_buffer_begin_access(shm);
        const unsigned char *from = wl_shm_buffer_get_data(shm);
        for (size_t y = (size_t)y1, x = (size_t)x1 * 4; y < (size_t)y2; y++)
            memcpy(to + y * to_stride + x, from + y * from_stride + x, (size_t)(x2 - x1) * 4);
        wl_shm_buffer_end_access(shm);
        cairo_surface_mark_dirty(surface->content);
    }
    wl_buffer_send_release(state->buffer);
}

int surface_width(const struct surface *surface) {
    return surface->content == NULL ? 0 : cairo_image_surface_get_width(surface->content) / surface->scale;
}

int surface_height(const struct surface *surface) {
    return surface->content == NULL ? 0 : cairo_image_surface_get_height(surface->content) / surface->scale;
}

void surface_draw(const struct surface *surface, cairo_t *cairo) {
    /* Who has no content shows nothing of what is on it. */
    if (surface->content == NULL)
        return;
    const struct place *place;
    wl_list_for_each(place, &surface->stack, link) {
        const struct surface *child = place->surface;
        cairo_save(cairo);
        if (child != surface) {
            cairo_translate(cairo, child->x, child->y);
            surface_draw(child, cairo);
        } else {
            cairo_scale(cairo, 1.0 / surface->scale, 1.0 / surface->scale);
            cairo_set_source_surface(cairo, surface->content, 0, 0);
            cairo_paint(cairo);
        }
        cairo_restore(cairo);
    }
}

/* ---- Commits ---- */

void surface_apply(struct surface *surface) {
    struct state *state = &surface->cached;
    if (state->scale != 0)
        surface->scale = state->scale;
    if (state->attached)
        copy(surface, state);
    forget_buffer(state);
    state->attached = false;
    state->scale = state->x1 = state->y1 = state->x2 = state->y2 = 0;
    desktop_wait_for_frame(surface->desktop, &state->frames);
    struct place *place;
    wl_list_for_each(place, &surface->stack, link) {
        struct surface *child = place->surface;
        if (child == surface)
            continue;
        child->x = child->next_x;
        child->y = child->next_y;
        if (subsurface_is_synchronised(child))
            surface_apply(child);
    }
}

static void surface_commit(struct wl_client *client, struct wl_resource *resource) {
    (void)client;
    struct surface *surface = wl_resource_get_user_data(resource);
    merge(&surface->cached, &surface->pending);
    if (subsurface_is_synchronised(surface))
        return;
    surface_apply(surface);
    if (surface->window != NULL)
        window_committed(surface->window);
}

/* ---- wl_surface ---- */

static void surface_attach(struct wl_client *client, struct wl_resource *resource, struct wl_resource *buffer, int32_t x,
                           int32_t y) {
    (void)client, (void)x, (void)y;
    struct surface *surface = wl_resource_get_user_data(resource);
    set_buffer(&surface->pending, buffer);
}

/* In pixels of the buffer, which may be larger by the scale; what is beyond all buffers doesn't matter. */
static void damage(struct wl_resource *resource, int64_t x, int64_t y, int64_t width, int64_t height, int64_t scale) {
    struct surface *surface = wl_resource_get_user_data(resource);
    int64_t ends[] = {x * scale, y * scale, (x + width) * scale, (y + height) * scale};
    for (int i = 0; i < 4; i++)
        ends[i] = ends[i] < 0 ? 0 : ends[i] > INT_MAX ? INT_MAX : ends[i];
    add_damage(&surface->pending, (int)ends[0], (int)ends[1], (int)ends[2], (int)ends[3]);
}

static void surface_damage(struct wl_client *client, struct wl_resource *resource, int32_t x, int32_t y, int32_t width,
                           int32_t height) {
    (void)client;
    struct surface *surface = wl_resource_get_user_data(resource);
    int32_t scale = surface->pending.scale != 0 ? surface->pending.scale : surface->scale;
    damage(resource, x, y, width, height, scale);
}

static void surface_damage_buffer(struct wl_client *client, struct wl_resource *resource, int32_t x, int32_t y,
                                  int32_t width, int32_t height) {
    (void)client;
    damage(resource, x, y, width, height, 1);
}

static void unlink_resource(struct wl_resource *resource) {
    wl_list_remove(wl_resource_get_link(resource));
}

static void surface_frame(struct wl_client *client, struct wl_resource *resource, uint32_t id) {
    struct surface *surface = wl_resource_get_user_data(resource);
    struct wl_resource *frame = wl_resource_create(client, &wl_callback_interface, 1, id);
    if (frame == NULL) {
        wl_client_post_no_memory(client);
        return;
    }
    wl_resource_set_implementation(frame, NULL, NULL, unlink_resource);
    wl_list_insert(surface->pending.frames.prev, wl_resource_get_link(frame));
}

static void surface_set_region(struct wl_client *client, struct wl_resource *resource, struct wl_resource *region) {
    /* Nothing is optimised by them, and there is no mouse. */
    (void)client, (void)resource, (void)region;
}

static void surface_set_transform(struct wl_client *client, struct wl_resource *resource, int32_t transform) {
    (void)client;
    /* The output isn't turned, so nobody has a reason to. */
    if (transform != WL_OUTPUT_TRANSFORM_NORMAL)
        wl_resource_post_error(resource, WL_SURFACE_ERROR_INVALID_TRANSFORM, "transform %d isn't known here", transform);
}

static void surface_set_scale(struct wl_client *client, struct wl_resource *resource, int32_t scale) {
    (void)client;
    struct surface *surface = wl_resource_get_user_data(resource);
    if (scale < 1)
        wl_resource_post_error(resource, WL_SURFACE_ERROR_INVALID_SCALE, "%d is no scale", scale);
    else
        surface->pending.scale = scale;
}

static const struct wl_surface_interface surface_requests = {
    .destroy = destroy_resource,
    .attach = surface_attach,
    .damage = surface_damage,
    .frame = surface_frame,
    .set_opaque_region = surface_set_region,
    .set_input_region = surface_set_region,
    .commit = surface_commit,
    .set_buffer_transform = surface_set_transform,
    .set_buffer_scale = surface_set_scale,
    .damage_buffer = surface_damage_buffer,
};

static void surface_end(struct wl_resource *resource) {
    struct surface *surface = wl_resource_get_user_data(resource);
    if (surface->window != NULL)
        window_lose_surface(surface->window);
    subsurface_leave(surface);
    if (surface->subsurface != NULL)
        wl_resource_set_user_data(surface->subsurface, NULL);
    struct place *place, *next;
    wl_list_for_each_safe(place, next, &surface->stack, link) {
        if (place != &surface->self)
            subsurface_leave(place->surface);
    }
    end_state(&surface->pending);
    end_state(&surface->cached);
    forget_content(surface);
    free(surface);
}

/* ---- wl_compositor and wl_region ---- */

static void create_surface(struct wl_client *client, struct wl_resource *resource, uint32_t id) {
    struct surface *surface = calloc(1, sizeof(*surface));
    if (surface != NULL)
        surface->resource = wl_resource_create(client, &wl_surface_interface, wl_resource_get_version(resource), id);
    if (surface == NULL || surface->resource == NULL) {
        free(surface);
        wl_client_post_no_memory(client);
        return;
    }
    surface->desktop = wl_resource_get_user_data(resource);
    surface->scale = 1;
    wl_list_init(&surface->pending.frames);
    wl_list_init(&surface->cached.frames);
    wl_list_init(&surface->stack);
    surface->self.surface = surface->in_parent.surface = surface;
    wl_list_insert(&surface->stack, &surface->self.link);
    wl_resource_set_implementation(surface->resource, &surface_requests, surface, surface_end);
}

static void change_region(struct wl_client *client, struct wl_resource *resource, int32_t x, int32_t y, int32_t width,
                          int32_t height) {
    (void)client, (void)resource, (void)x, (void)y, (void)width, (void)height;
}

static const struct wl_region_interface region_requests = {
    .destroy = destroy_resource,
    .add = change_region,
    .subtract = change_region,
};

static void create_region(struct wl_client *client, struct wl_resource *resource, uint32_t id) {
    struct wl_resource *region = wl_resource_create(client, &wl_region_interface, wl_resource_get_version(resource), id);
    if (region == NULL)
        wl_client_post_no_memory(client);
    else
        wl_resource_set_implementation(region, &region_requests, NULL, NULL);
}

static const struct wl_compositor_interface compositor_requests = {
    .create_surface = create_surface,
    .create_region = create_region,
};

static void bind_compositor(struct wl_client *client, void *data, uint32_t version, uint32_t id) {
    struct wl_resource *resource = wl_resource_create(client, &wl_compositor_interface, (int)version, id);
    if (resource == NULL)
        wl_client_post_no_memory(client);
    else
        wl_resource_set_implementation(resource, &compositor_requests, data, NULL);
}

bool surface_add_globals(struct desktop *desktop) {
    return wl_global_create(desktop->display, &wl_compositor_interface, 4, desktop, bind_compositor) != NULL;
}
