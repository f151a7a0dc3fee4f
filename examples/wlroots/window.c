#include "frame.h"
#include "options.h"
#include "picture.h"
#include "server.h"
#include "vm.h"

#include <stdlib.h>
#include <string.h>
#include <wlr/render/wlr_texture.h>
#include <wlr/types/wlr_scene.h>
#include <wlr/types/wlr_xdg_shell.h>
#include <wlr/util/log.h>

/* The longest side of a frame that is drawn; that of an image of cairo's is 32767. */
enum { MOST = 32000 };

struct window {
    struct server *server;
    struct wlr_xdg_surface *surface;
    struct wl_listener map, unmap, commit, destroy;
    char *vm; /* a name of its own: when a client ends, its VM is forgotten before its windows are; NULL: it is local */
    struct wlr_scene_tree *place; /* its surfaces and popups are in it */
    bool is_taken_off; /* the client is just taking it off the screen */

    /* ---- While it is shown ---- */
    bool is_shown;
    struct wl_list link;
    struct wlr_texture *title; /* NULL: there was no memory */
    struct wlr_box box; /* where its content is */
};

void window_measure(struct wlr_xdg_surface *surface, struct wlr_box *box) {
    struct wlr_box geometry;
    wlr_xdg_surface_get_geometry(surface, &geometry);
    box->width = geometry.width < 1 ? 1 : geometry.width < MOST ? geometry.width : MOST;
    box->height = geometry.height < 1 ? 1 : geometry.height < MOST ? geometry.height : MOST;
}

/* Draws the title anew, as its width has changed. */
static void draw_title(struct window *window) {
    wlr_texture_destroy(window->title);
    window->title = title_create(window->server->renderer, window->box.width, window->vm);
}

/* Gives all windows their places. */
static void arrange(struct server *server) {
    struct layout layout = {.width = server->options->width};
    struct window *window;
    wl_list_for_each(window, &server->windows, link) {
        struct wlr_box *box = &window->box;
        layout_place(&layout, box->width, box->height, &box->x, &box->y);
        wlr_scene_node_set_position(&window->place->node, box->x, box->y);
    }
    /* The scene doesn't know of frames. */
    screen_change(server);
}

/* Gives the newest window the keyboard. */
static void focus(struct server *server) {
    struct window *newest = NULL, *window;
    if (!wl_list_empty(&server->windows))
        newest = wl_container_of(server->windows.prev, newest, link);
    wl_list_for_each(window, &server->windows, link)
        wlr_xdg_toplevel_set_activated(window->surface, window == newest);
    seat_focus(server, newest != NULL ? newest->surface->surface : NULL);
}

/*
 * A window that was taken off the screen begins anew: its next commit, which is without a buffer, asks for a configure.
 * wlroots 0.15 sends one by itself only at the very first commit.
 */
static void begin_again(struct window *window) {
    const struct wlr_xdg_surface *surface = window->surface;
    if (window->is_taken_off)
        window->is_taken_off = false;
    else if (!surface->configured && wl_list_empty(&surface->configure_list))
        wlr_xdg_surface_schedule_configure(window->surface);
}

static void commit(struct wl_listener *listener, void *data) {
    (void)data;
    struct window *window = wl_container_of(listener, window, commit);
    if (!window->is_shown) {
        begin_again(window);
        return;
    }
    struct wlr_box *box = &window->box, before = *box;
    window_measure(window->surface, box);
    if (box->width == before.width && box->height == before.height)
        return;
    draw_title(window);
    arrange(window->server);
}

static void map(struct wl_listener *listener, void *data) {
    (void)data;
    struct window *window = wl_container_of(listener, window, map);
    window->is_shown = true;
    window_measure(window->surface, &window->box);
    draw_title(window);
    wl_list_insert(window->server->windows.prev, &window->link);
    arrange(window->server);
    focus(window->server);
}

static void unmap(struct wl_listener *listener, void *data) {
    (void)data;
    struct window *window = wl_container_of(listener, window, unmap);
    window->is_taken_off = true;
    window->is_shown = false;
    wl_list_remove(&window->link);
    wlr_texture_destroy(window->title);
    window->title = NULL;
    arrange(window->server);
    focus(window->server);
}

static void destroy(struct wl_listener *listener, void *data) {
    (void)data;
    struct window *window = wl_container_of(listener, window, destroy);
    wl_list_remove(&window->map.link);
    wl_list_remove(&window->unmap.link);
    wl_list_remove(&window->commit.link);
    wl_list_remove(&window->destroy.link);
    wlr_scene_node_destroy(&window->place->node);
    free(window->vm);
    free(window);
}

/* A window, which isn't shown yet. What is in the surface's data is where its popups are put. */
static bool add_window(struct server *server, struct wlr_xdg_surface *surface) {
    const char *vm = vm_of(wl_resource_get_client(surface->resource));
    struct window *window = calloc(1, sizeof(*window));
    if (window == NULL)
        return false;
    window->server = server;
    window->surface = surface;
    window->vm = vm != NULL ? strdup(vm) : NULL;
    window->place = vm == NULL || window->vm != NULL ? wlr_scene_tree_create(&server->scene->node) : NULL;
    if (window->place == NULL || wlr_scene_xdg_surface_create(&window->place->node, surface) == NULL) {
        if (window->place != NULL)
            wlr_scene_node_destroy(&window->place->node);
        free(window->vm);
        free(window);
        return false;
    }
    surface->data = &window->place->node;
    window->map.notify = map;
    wl_signal_add(&surface->events.map, &window->map);
    window->unmap.notify = unmap;
    wl_signal_add(&surface->events.unmap, &window->unmap);
    window->destroy.notify = destroy;
    wl_signal_add(&surface->events.destroy, &window->destroy);
    window->commit.notify = commit;
    wl_signal_add(&surface->surface->events.commit, &window->commit);
    return true;
}

static void new_surface(struct wl_listener *listener, void *data) {
    struct server *server = wl_container_of(listener, server, new_surface);
    struct wlr_xdg_surface *surface = data;
    surface->data = NULL;
    bool is_added = surface->role == WLR_XDG_SURFACE_ROLE_TOPLEVEL ? add_window(server, surface)
                    : surface->role == WLR_XDG_SURFACE_ROLE_POPUP  ? popup_add(server, surface)
                                                                   : true;
    if (!is_added)
        wl_resource_post_no_memory(surface->resource);
}

void windows_tell(const struct server *server) {
    struct window *window;
    wl_list_for_each(window, &server->windows, link)
        picture_tell_window(window->box.x, window->box.y, window->box.width, window->box.height, window->vm,
                            window->surface->toplevel->title);
}

void windows_draw(const struct server *server, const struct canvas *canvas) {
    struct window *window;
    wl_list_for_each(window, &server->windows, link)
        canvas_draw_content(canvas, window->surface, &window->box);
    /* Where there is no room windows lie upon each other, and then no content is on a frame. */
    wl_list_for_each(window, &server->windows, link) {
        canvas_draw_border(canvas, &window->box, window->vm);
        if (window->title != NULL)
            canvas_draw_title(canvas, &window->box, window->title);
    }
}

void windows_init(struct server *server) {
    wl_list_init(&server->windows);
    wl_list_init(&server->popups);
    server->new_surface.notify = new_surface;
    wl_signal_add(&server->shell->events.new_surface, &server->new_surface);
}
