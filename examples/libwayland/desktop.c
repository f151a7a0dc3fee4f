#include "desktop.h"

#include "frame.h"
#include "options.h"
#include "picture.h"
#include "vm.h"

#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

/* Milliseconds between two frames: about 60 Hz. */
enum { FRAME_TIME = 16 };

/* ---- wl_output: the only one ---- */

static void output_release(struct wl_client *client, struct wl_resource *resource) {
    (void)client;
    wl_resource_destroy(resource);
}

static const struct wl_output_interface output_requests = {.release = output_release};

static void resource_unlink(struct wl_resource *resource) {
    wl_list_remove(wl_resource_get_link(resource));
}

static void output_bind(struct wl_client *client, void *data, uint32_t version, uint32_t id) {
    struct desktop *desktop = data;
    struct wl_resource *resource = wl_resource_create(client, &wl_output_interface, (int)version, id);
    if (resource == NULL) {
        wl_client_post_no_memory(client);
        return;
    }
    wl_resource_set_implementation(resource, &output_requests, desktop, resource_unlink);
    wl_list_insert(&desktop->outputs, wl_resource_get_link(resource));
    wl_output_send_geometry(resource, 0, 0, 0, 0, WL_OUTPUT_SUBPIXEL_UNKNOWN, "wlproxy", "picture",
                            WL_OUTPUT_TRANSFORM_NORMAL);
    wl_output_send_mode(resource, WL_OUTPUT_MODE_CURRENT | WL_OUTPUT_MODE_PREFERRED, desktop->options->width,
                        desktop->options->height, 60000);
    if (version >= WL_OUTPUT_SCALE_SINCE_VERSION)
        wl_output_send_scale(resource, 1);
    if (version >= WL_OUTPUT_DONE_SINCE_VERSION)
        wl_output_send_done(resource);
}

/* ---- Frames ---- */

static int next_frame(void *data) {
    struct desktop *desktop = data;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    uint32_t milliseconds = (uint32_t)(now.tv_sec * 1000 + now.tv_nsec / 1000000);
    struct wl_resource *frame, *next;
    wl_resource_for_each_safe(frame, next, &desktop->frames) {
        wl_callback_send_done(frame, milliseconds);
        wl_resource_destroy(frame);
    }
    return 0;
}

void desktop_wait_for_frame(struct desktop *desktop, struct wl_list *frames) {
    if (wl_list_empty(frames))
        return;
    if (wl_list_empty(&desktop->frames))
        wl_event_source_timer_update(desktop->timer, FRAME_TIME);
    wl_list_insert_list(desktop->frames.prev, frames);
    wl_list_init(frames);
}

/* ---- Windows ---- */

/* Gives the newest window the keyboard. */
static void focus(struct desktop *desktop) {
    struct window *newest = NULL;
    if (!wl_list_empty(&desktop->windows))
        newest = wl_container_of(desktop->windows.prev, newest, link);
    seat_focus(desktop->seat, newest != NULL ? newest->surface : NULL);
}

void desktop_add(struct desktop *desktop, struct window *window) {
    struct wl_client *client = wl_resource_get_client(window->resource);
    struct wl_resource *output;
    wl_resource_for_each(output, &desktop->outputs) {
        if (wl_resource_get_client(output) == client)
            wl_surface_send_enter(window->surface->resource, output);
    }
    wl_list_insert(desktop->windows.prev, &window->link);
    focus(desktop);
}

void desktop_remove(struct desktop *desktop, struct window *window) {
    wl_list_remove(&window->link);
    focus(desktop);
}

/* ---- Pictures ---- */

static int draw(int signal, void *data) {
    (void)signal;
    struct desktop *desktop = data;
    const struct options *options = desktop->options;
    if (options->picture == NULL)
        return 0;
    cairo_surface_t *screen = cairo_image_surface_create(CAIRO_FORMAT_RGB24, options->width, options->height);
    cairo_t *cairo = cairo_create(screen);
    cairo_set_source_rgb(cairo, 0.125, 0.125, 0.125);
    cairo_paint(cairo);
    struct layout layout = {.width = options->width};
    struct window *window;
    wl_list_for_each(window, &desktop->windows, link) {
        const char *vm = vm_of(wl_resource_get_client(window->resource));
        int left, top, width, height, x, y;
        window_rectangle(window, &left, &top, &width, &height);
        layout_place(&layout, width, height, &x, &y);
        frame_draw(cairo, x, y, width, height, vm);
        cairo_save(cairo);
        cairo_rectangle(cairo, x, y, width, height);
        cairo_clip(cairo);
        cairo_translate(cairo, x - left, y - top);
        surface_draw(window->surface, cairo);
        cairo_restore(cairo);
        picture_tell_window(x, y, width, height, vm, window->title);
    }
    cairo_destroy(cairo);
    picture_write(screen, options->picture);
    cairo_surface_destroy(screen);
    return 0;
}

/* ---- The whole ---- */

static int end(int signal, void *data) {
    (void)signal;
    wl_display_terminate(((struct desktop *)data)->display);
    return 0;
}

struct desktop *desktop_create(struct wl_display *display, const struct options *options) {
    struct desktop *desktop = calloc(1, sizeof(*desktop));
    if (desktop == NULL)
        return NULL;
    desktop->options = options;
    desktop->display = display;
    wl_list_init(&desktop->windows);
    wl_list_init(&desktop->outputs);
    wl_list_init(&desktop->frames);
    struct wl_event_loop *loop = wl_display_get_event_loop(display);
    desktop->timer = wl_event_loop_add_timer(loop, next_frame, desktop);
    desktop->signals[0] = wl_event_loop_add_signal(loop, SIGUSR1, draw, desktop);
    desktop->signals[1] = wl_event_loop_add_signal(loop, SIGTERM, end, desktop);
    desktop->signals[2] = wl_event_loop_add_signal(loop, SIGINT, end, desktop);
    desktop->seat = seat_create(desktop);
    if (desktop->timer == NULL || desktop->signals[0] == NULL || desktop->signals[1] == NULL ||
        desktop->signals[2] == NULL || desktop->seat == NULL || wl_display_init_shm(display) != 0 ||
        wl_global_create(display, &wl_output_interface, 3, desktop, output_bind) == NULL ||
        !surface_add_globals(desktop) || !subsurface_add_globals(desktop) || !window_add_globals(desktop)) {
        return NULL;
    }
    return desktop;
}

void desktop_destroy(struct desktop *desktop) {
    seat_destroy(desktop->seat);
    /* An event loop doesn't free what is in it. */
    wl_event_source_remove(desktop->timer);
    for (int i = 0; i < 3; i++)
        wl_event_source_remove(desktop->signals[i]);
    free(desktop);
}
