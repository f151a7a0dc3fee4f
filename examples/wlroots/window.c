#include "frame.h"
#include "options.h"
#include "picture.h"
#include "server.h"
#include "vm.h"

#include <stdlib.h>
#include <string.h>
#include <wlr/types/wlr_buffer.h>
#include <wlr/types/wlr_scene.h>
#include <wlr/types/wlr_xdg_shell.h>
#include <wlr/util/log.h>

/* The longest side of a frame that is drawn; that of an image of cairo's is 32767. */
enum { MOST = 32000 };

/* The borders but for the upper one, which is drawn with the title bar. */
enum { LEFT, RIGHT, LOWER, BORDERS };

struct window {
    struct server *server;
    struct wlr_xdg_surface *surface;
    struct wl_listener map, unmap, commit, destroy;
    char *vm; /* a name of its own: when a client ends, its VM is forgotten before its windows are; NULL: it is local */
    struct wlr_scene_node *content;
    struct wlr_scene_tree *popups;

    /* ---- While it is shown ---- */
    struct wl_list link;
    struct wlr_scene_tree *frame;
    struct wlr_scene_buffer *title; /* NULL: there was no memory */
    struct wlr_scene_rect *borders[BORDERS];
    int x, y, width, height; /* where its content is */
};

/* Finds the size of what the client draws. */
static void measure(const struct window *window, int *width, int *height) {
    struct wlr_box box;
    wlr_xdg_surface_get_geometry(window->surface, &box);
    *width = box.width < 1 ? 1 : box.width < MOST ? box.width : MOST;
    *height = box.height < 1 ? 1 : box.height < MOST ? box.height : MOST;
}

/* Draws the frame anew, as its size has changed. */
static void draw_frame(struct window *window) {
    int width = window->width, height = window->height;
    if (window->title != NULL)
        wlr_scene_node_destroy(&window->title->node);
    struct wlr_buffer *image = title_create(width, window->vm);
    window->title = image != NULL ? wlr_scene_buffer_create(&window->frame->node, image) : NULL;
    if (window->title != NULL)
        wlr_scene_node_set_position(&window->title->node, -FRAME_BORDER, -FRAME_BORDER - FRAME_TITLE);
    /* The scene holds it from now on. */
    if (image != NULL)
        wlr_buffer_drop(image);

    struct wlr_scene_rect *left = window->borders[LEFT], *right = window->borders[RIGHT], *lower = window->borders[LOWER];
    wlr_scene_rect_set_size(left, FRAME_BORDER, height);
    wlr_scene_node_set_position(&left->node, -FRAME_BORDER, 0);
    wlr_scene_rect_set_size(right, FRAME_BORDER, height);
    wlr_scene_node_set_position(&right->node, width, 0);
    wlr_scene_rect_set_size(lower, width + 2 * FRAME_BORDER, FRAME_BORDER);
    wlr_scene_node_set_position(&lower->node, -FRAME_BORDER, height);
}

static bool make_frame(struct window *window) {
    uint32_t colour = vm_colour(window->vm);
    const float rgba[4] = {(colour >> 16) / 255.0f, (colour >> 8 & 0xff) / 255.0f, (colour & 0xff) / 255.0f, 1};
    window->frame = wlr_scene_tree_create(&window->server->frames->node);
    if (window->frame == NULL)
        return false;
    window->title = NULL;
    for (int i = 0; i < BORDERS; i++) {
        window->borders[i] = wlr_scene_rect_create(&window->frame->node, 0, 0, rgba);
        if (window->borders[i] == NULL) {
            wlr_scene_node_destroy(&window->frame->node);
            window->frame = NULL;
            return false;
        }
    }
    draw_frame(window);
    return true;
}

/* Gives all windows their places. */
static void arrange(struct server *server) {
    struct layout layout = {.width = server->options->width};
    struct window *window;
    wl_list_for_each(window, &server->windows, link) {
        layout_place(&layout, window->width, window->height, &window->x, &window->y);
        wlr_scene_node_set_position(window->content, window->x, window->y);
        wlr_scene_node_set_position(&window->frame->node, window->x, window->y);
        wlr_scene_node_set_position(&window->popups->node, window->x, window->y);
    }
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

static void commit(struct wl_listener *listener, void *data) {
    (void)data;
    struct window *window = wl_container_of(listener, window, commit);
    int width, height;
    measure(window, &width, &height);
    if (window->frame == NULL || (width == window->width && height == window->height))
        return;
    window->width = width;
    window->height = height;
    draw_frame(window);
    arrange(window->server);
}

static void map(struct wl_listener *listener, void *data) {
    (void)data;
    struct window *window = wl_container_of(listener, window, map);
    measure(window, &window->width, &window->height);
    if (!make_frame(window)) {
        wl_resource_post_no_memory(window->surface->resource);
        return;
    }
    wl_list_insert(window->server->windows.prev, &window->link);
    arrange(window->server);
    focus(window->server);
}

static void unmap(struct wl_listener *listener, void *data) {
    (void)data;
    struct window *window = wl_container_of(listener, window, unmap);
    if (window->frame == NULL)
        return;
    wl_list_remove(&window->link);
    wlr_scene_node_destroy(&window->frame->node);
    window->frame = NULL;
    arrange(window->server);
    focus(window->server);
}

/* Its content is gone from the scene by itself. */
static void destroy(struct wl_listener *listener, void *data) {
    (void)data;
    struct window *window = wl_container_of(listener, window, destroy);
    wl_list_remove(&window->map.link);
    wl_list_remove(&window->unmap.link);
    wl_list_remove(&window->commit.link);
    wl_list_remove(&window->destroy.link);
    wlr_scene_node_destroy(&window->popups->node);
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
    window->popups = vm == NULL || window->vm != NULL ? wlr_scene_tree_create(&server->popups->node) : NULL;
    window->content = window->popups != NULL ? wlr_scene_xdg_surface_create(&server->contents->node, surface) : NULL;
    if (window->content == NULL) {
        if (window->popups != NULL)
            wlr_scene_node_destroy(&window->popups->node);
        free(window->vm);
        free(window);
        return false;
    }
    surface->data = &window->popups->node;
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

/* A menu or the like: above all windows, and on the screen if that is possible. */
static bool add_popup(struct server *server, struct wlr_xdg_surface *surface) {
    struct wlr_surface *parent = surface->popup->parent;
    /* Without one that is known it is never shown. */
    if (parent == NULL || !wlr_surface_is_xdg_surface(parent))
        return true;
    struct wlr_xdg_surface *of = wlr_xdg_surface_from_wlr_surface(parent);
    /* What was a window or a popup before, and has no role or another one, has no place any more. */
    struct wlr_scene_node *place = of != NULL && of->added ? of->data : NULL;
    if (place == NULL)
        return true;
    struct wlr_scene_node *node = wlr_scene_xdg_surface_create(place, surface);
    if (node == NULL)
        return false;
    surface->data = node;
    struct wlr_scene_node *window = place;
    while (window->parent != &server->popups->node)
        window = window->parent;
    struct wlr_box screen = {
        .x = -window->state.x,
        .y = -window->state.y,
        .width = server->options->width,
        .height = server->options->height,
    };
    wlr_xdg_popup_unconstrain_from_box(surface->popup, &screen);
    return true;
}

static void new_surface(struct wl_listener *listener, void *data) {
    struct server *server = wl_container_of(listener, server, new_surface);
    struct wlr_xdg_surface *surface = data;
    surface->data = NULL;
    bool is_added = surface->role == WLR_XDG_SURFACE_ROLE_TOPLEVEL ? add_window(server, surface)
                    : surface->role == WLR_XDG_SURFACE_ROLE_POPUP  ? add_popup(server, surface)
                                                                   : true;
    if (!is_added)
        wl_resource_post_no_memory(surface->resource);
}

void windows_tell(const struct server *server) {
    struct window *window;
    wl_list_for_each(window, &server->windows, link)
        picture_tell_window(window->x, window->y, window->width, window->height, window->vm,
                            window->surface->toplevel->title);
}

bool windows_init(struct server *server) {
    wl_list_init(&server->windows);
    server->contents = wlr_scene_tree_create(&server->scene->node);
    server->frames = wlr_scene_tree_create(&server->scene->node);
    server->popups = wlr_scene_tree_create(&server->scene->node);
    server->new_surface.notify = new_surface;
    wl_signal_add(&server->shell->events.new_surface, &server->new_surface);
    return server->contents != NULL && server->frames != NULL && server->popups != NULL;
}
