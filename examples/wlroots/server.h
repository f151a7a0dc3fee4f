/* A small compositor of wlroots'. What has to do with VMs is in main.c, and in globals.c what their clients don't see. */
#ifndef SERVER_H
#define SERVER_H

#include <pixman.h>
#include <stdbool.h>
#include <wayland-server-core.h>

struct options;
struct wlr_box;
struct wlr_surface;
struct wlr_texture;
struct wlr_xdg_surface;

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
    struct wlr_scene *scene; /* knows where surfaces are, and when they change; what they show is drawn by canvas.c */
    struct wlr_presentation *presentation;
    struct wl_listener new_output;
    struct screen *screen; /* NULL: there is none */

    /* ---- Windows: window.c ---- */
    struct wl_list windows; /* struct window.link, those that are shown, in the order in which they came */
    struct wl_list popups;  /* struct popup.link, bottom to top: popup.c */
    struct wl_listener new_surface;

    /* ---- The keyboard: seat.c ---- */
    struct wlr_seat *seat;
    struct wl_list keyboards; /* struct keyboard.link */
    struct wl_listener new_input, set_selection, set_primary_selection, start_drag;
};

/*
 * What is drawn into. Contents are clipped here: the scene clips nothing before wlroots 0.17, and a client may have
 * subsurfaces anywhere.
 */
struct canvas {
    struct wlr_renderer *renderer; /* which has begun */
    struct wlr_output *output;
    struct wlr_presentation *presentation; /* is told what is drawn; NULL: nobody will see it */
    pixman_region32_t *region;             /* what may change, in the output's pixels */
};

/* Each of these adds something to a server whose fields above it are set; false: there is no memory. */
bool globals_init(struct server *server);
bool screen_init(struct server *server);
void windows_init(struct server *server);
bool seat_init(struct server *server);

/* Gives the server a keyboard that nobody has, if its backend has no screen: clients copy and paste only with one. */
void seat_add_keyboard(struct server *server);

/* Gives a surface the keyboard; NULL: nobody has it. */
void seat_focus(struct server *server, struct wlr_surface *surface);

/* Tells which windows there are, bottom to top. */
void windows_tell(const struct server *server);

/* Draws all windows, each with its frame. */
void windows_draw(const struct server *server, const struct canvas *canvas);

/* Finds the size of a window or popup, without what is drawn beside it, such as shadows. The box's place stays. */
void window_measure(struct wlr_xdg_surface *surface, struct wlr_box *box);

/* Shows a popup from now on. False: there is no memory. */
bool popup_add(struct server *server, struct wlr_xdg_surface *surface);

/* Draws all popups, each with a border. */
void popups_draw(const struct server *server, const struct canvas *canvas);

/* Has all of the screen drawn again. */
void screen_change(struct server *server);

/* Writes the next frame into the picture's file, and tells it and the windows. */
void screen_photograph(struct server *server);

/* The part of a window's frame that is above its content: the upper border with the title bar. NULL: there is no memory. */
struct wlr_texture *title_create(struct wlr_renderer *renderer, int width, const char *vm);

/* Draws what is behind windows. */
void canvas_clear(const struct canvas *canvas);

/* Draws what a window or popup shows into a box, and nothing of it beside. */
void canvas_draw_content(const struct canvas *canvas, struct wlr_xdg_surface *surface, const struct wlr_box *box);

/* Draws a border in the VM's colour around a box. */
void canvas_draw_border(const struct canvas *canvas, const struct wlr_box *box, const char *vm);

/* Draws a title above a box. */
void canvas_draw_title(const struct canvas *canvas, const struct wlr_box *box, struct wlr_texture *title);

#endif
