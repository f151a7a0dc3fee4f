#include "options.h"
#include "picture.h"
#include "server.h"

#include <drm_fourcc.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <wlr/backend.h>
#include <wlr/render/wlr_renderer.h>
#include <wlr/types/wlr_output.h>
#include <wlr/types/wlr_output_damage.h>
#include <wlr/types/wlr_output_layout.h>
#include <wlr/types/wlr_presentation_time.h>
#include <wlr/types/wlr_scene.h>
#include <wlr/types/wlr_xdg_output_v1.h>

struct screen {
    struct server *server;
    struct wlr_output *output;
    struct wl_listener frame, destroy;
    bool is_asked; /* for a picture */
};

/* Draws what of the screen is in a region. */
static void draw(struct server *server, struct wlr_output *output, pixman_region32_t *region,
                 struct wlr_presentation *presentation) {
    struct canvas canvas = {
        .renderer = server->renderer,
        .output = output,
        .presentation = presentation,
        .region = region,
    };
    canvas_clear(&canvas);
    windows_draw(server, &canvas);
    popups_draw(server, &canvas);
}

/* Draws all of the screen into a buffer that isn't shown, and copies it. */
static bool copy(struct server *server, struct wlr_output *output, cairo_surface_t *picture) {
    if (!wlr_output_attach_render(output, NULL))
        return false;
    pixman_region32_t all;
    pixman_region32_init_rect(&all, 0, 0, output->width, output->height);
    wlr_renderer_begin(server->renderer, output->width, output->height);
    draw(server, output, &all, NULL);
    cairo_surface_flush(picture);
    bool is_read = wlr_renderer_read_pixels(server->renderer, DRM_FORMAT_XRGB8888, NULL,
                                            cairo_image_surface_get_stride(picture), output->width, output->height, 0, 0, 0,
                                            0, cairo_image_surface_get_data(picture));
    cairo_surface_mark_dirty(picture);
    wlr_renderer_end(server->renderer);
    pixman_region32_fini(&all);
    wlr_output_rollback(output);
    return is_read;
}

static void photograph(struct server *server, struct wlr_output *output) {
    cairo_surface_t *picture = cairo_image_surface_create(CAIRO_FORMAT_RGB24, output->width, output->height);
    if (cairo_surface_status(picture) == CAIRO_STATUS_SUCCESS && copy(server, output, picture)) {
        windows_tell(server);
        picture_write(picture, server->options->picture);
    } else {
        fprintf(stderr, "the screen can't be photographed\n");
    }
    cairo_surface_destroy(picture);
}

/* Shows the next frame, if something has changed. */
static void show(struct screen *screen, struct wlr_output_damage *damage) {
    struct server *server = screen->server;
    struct wlr_output *output = screen->output;
    bool is_needed;
    pixman_region32_t changed;
    pixman_region32_init(&changed);
    if (wlr_output_damage_attach_render(damage, &is_needed, &changed)) {
        if (is_needed) {
            wlr_renderer_begin(server->renderer, output->width, output->height);
            draw(server, output, &changed, server->presentation);
            wlr_renderer_end(server->renderer);
            wlr_output_set_damage(output, &damage->current);
            wlr_output_commit(output);
        } else {
            wlr_output_rollback(output);
        }
    }
    pixman_region32_fini(&changed);
}

/* The output is ready for the next frame, and clients may draw their next. */
static void frame(struct wl_listener *listener, void *data) {
    (void)data;
    struct screen *screen = wl_container_of(listener, screen, frame);
    struct wlr_scene_output *view = wlr_scene_get_scene_output(screen->server->scene, screen->output);
    if (view == NULL)
        return;
    show(screen, view->damage);
    if (screen->is_asked)
        photograph(screen->server, screen->output);
    screen->is_asked = false;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    wlr_scene_output_send_frame_done(view, &now);
}

static void screen_destroy(struct wl_listener *listener, void *data) {
    (void)data;
    struct screen *screen = wl_container_of(listener, screen, destroy);
    wl_list_remove(&screen->frame.link);
    wl_list_remove(&screen->destroy.link);
    screen->server->screen = NULL;
    free(screen);
}

/* One output is enough. */
static void new_output(struct wl_listener *listener, void *data) {
    struct server *server = wl_container_of(listener, server, new_output);
    struct wlr_output *output = data;
    if (server->screen != NULL || !wlr_output_init_render(output, server->allocator, server->renderer))
        return;
    wlr_output_enable(output, true);
    if (wl_list_empty(&output->modes))
        wlr_output_set_custom_mode(output, server->options->width, server->options->height, 0);
    else
        wlr_output_set_mode(output, wlr_output_preferred_mode(output));
    struct screen *screen = wlr_output_commit(output) ? calloc(1, sizeof(*screen)) : NULL;
    if (screen == NULL)
        return;
    screen->server = server;
    screen->output = output;
    screen->frame.notify = frame;
    wl_signal_add(&output->events.frame, &screen->frame);
    screen->destroy.notify = screen_destroy;
    wl_signal_add(&output->events.destroy, &screen->destroy);
    server->screen = screen;
    wlr_output_layout_add_auto(server->layout, output);
}

void screen_change(struct server *server) {
    struct wlr_scene_output *view =
        server->screen != NULL ? wlr_scene_get_scene_output(server->scene, server->screen->output) : NULL;
    if (view != NULL)
        wlr_output_damage_add_whole(view->damage);
}

void screen_photograph(struct server *server) {
    if (server->screen == NULL) {
        fprintf(stderr, "there is no screen to be photographed\n");
        return;
    }
    server->screen->is_asked = true;
    wlr_output_schedule_frame(server->screen->output);
}

bool screen_init(struct server *server) {
    server->layout = wlr_output_layout_create();
    server->scene = wlr_scene_create();
    if (server->layout == NULL || server->scene == NULL ||
        !wlr_scene_attach_output_layout(server->scene, server->layout) ||
        wlr_xdg_output_manager_v1_create(server->display, server->layout) == NULL)
        return false;
    server->presentation = wlr_presentation_create(server->display, server->backend);
    if (server->presentation == NULL)
        return false;
    server->new_output.notify = new_output;
    wl_signal_add(&server->backend->events.new_output, &server->new_output);
    return true;
}
