/* A small compositor of wlroots'. What has to do with VMs is in main.c, and in globals.c what their clients don't see. */
#ifndef SERVER_H
#define SERVER_H

#include <stdbool.h>
#include <wayland-server-core.h>

struct options;
struct wlr_buffer;
struct wlr_surface;

struct server {
    const struct options *options;
    struct wl_display *display;
    struct wl_event_source *signals[3];
    struct wlr_backend *backend;
    struct wlr_renderer *renderer;
    struct wlr_allocator *allocator;

    /* ---- Globals: globals.c ---- */
    struct wlr_xdg_shell *shell;
    struct wlr_screencopy_manager_v1 *screencopy;
    struct wlr_data_control_manager_v1 *data_control;
    struct wlr_xdg_decoration_manager_v1 *decorations;
    struct wl_listener new_decoration;

    /* ---- The screen: screen.c ---- */
    struct wlr_output_layout *layout;
    struct wlr_scene *scene;
    struct wl_listener new_output;
    struct screen *screen; /* NULL: there is none */

    /* ---- Windows: window.c ---- */
    struct wl_list windows; /* struct window.link, those that are shown, in the order in which they came */
    /*
     * Bottom to top: so that no window's content is on the frame of another. Popups may be, and what a client draws beside
     * its window is on the background: the scene clips nothing before wlroots 0.17.
     */
    struct wlr_scene_tree *contents, *frames, *popups;
    struct wl_listener new_surface;

    /* ---- The keyboard: seat.c ---- */
    struct wlr_seat *seat;
    struct wl_list keyboards; /* struct keyboard.link */
    struct wl_listener new_input, set_selection, set_primary_selection, start_drag;
};

/* Each of these adds something to a server whose fields above it are set; false: there is no memory. */
bool globals_init(struct server *server);
bool screen_init(struct server *server);
bool windows_init(struct server *server);
bool seat_init(struct server *server);

/* Gives the server a keyboard that nobody has, if its backend has no screen: clients copy and paste only with one. */
void seat_add_keyboard(struct server *server);

/* Gives a surface the keyboard; NULL: nobody has it. */
void seat_focus(struct server *server, struct wlr_surface *surface);

/* Tells which windows there are, bottom to top. */
void windows_tell(const struct server *server);

/* Writes the next frame into the picture's file, and tells it and the windows. */
void screen_photograph(struct server *server);

/* The part of a window's frame that is above its content: the upper border with the title bar. NULL: there is no memory. */
struct wlr_buffer *title_create(int width, const char *vm);

#endif
