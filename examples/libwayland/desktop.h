/* A small desktop: what every compositor has, and none of it has to do with VMs. */
#ifndef DESKTOP_H
#define DESKTOP_H

#include <cairo.h>
#include <stdbool.h>
#include <wayland-server.h>

struct options;
struct seat;
struct window;

/* ---- The whole: desktop.c ---- */

struct desktop {
    const struct options *options;
    struct wl_display *display;
    struct seat *seat;
    struct wl_list windows;         /* struct window.link, those that are shown, in the order in which they came */
    struct wl_list outputs;         /* wl_output resources */
    struct wl_list frames;          /* wl_callback resources that wait for the next frame */
    struct wl_event_source *timer;  /* comes with the next frame */
    struct wl_event_source *signals[3];
};

/* Adds all globals to a display. NULL if there is no memory. */
struct desktop *desktop_create(struct wl_display *display, const struct options *options);

/* Frees it, when no clients are left. The display is to be destroyed next. */
void desktop_destroy(struct desktop *desktop);

/* Takes wl_callback resources off a list, to be answered at the next frame. */
void desktop_wait_for_frame(struct desktop *desktop, struct wl_list *frames);

/* A window is shown now, or no longer. */
void desktop_add(struct desktop *desktop, struct window *window);
void desktop_remove(struct desktop *desktop, struct window *window);

/* ---- wl_surface: surface.c ---- */

/* What the next commit brings. */
struct state {
    bool attached;                 /* whether there is another buffer, or none from now on */
    struct wl_resource *buffer;    /* NULL: none */
    struct wl_listener buffer_gone;
    int32_t scale;                 /* 0: as before */
    int x1, y1, x2, y2;            /* what changed, in pixels of the buffer; nothing if x1 >= x2 */
    struct wl_list frames;         /* wl_callback resources */
};

/* A surface's place among others. */
struct place {
    struct wl_list link;
    struct surface *surface;
};

struct surface {
    struct wl_resource *resource;
    struct desktop *desktop;
    struct state pending, cached;  /* what isn't committed; what is, but waits for the parent */
    cairo_surface_t *content;      /* a copy of the last buffer; NULL: there is none */
    int32_t scale;
    struct window *window;         /* NULL: it isn't a window */
    struct wl_list stack;          /* struct place.link, bottom to top: itself, and those on or under it */
    struct place self, in_parent;

    struct wl_resource *subsurface; /* NULL: it isn't one */
    struct surface *parent;        /* NULL as well if the parent is gone */
    bool sync;
    int x, y, next_x, next_y;
};

bool surface_add_globals(struct desktop *desktop);

/* Its size on the screen; 0 without content. */
int surface_width(const struct surface *surface);
int surface_height(const struct surface *surface);

/* Draws it, with what is on and under it. */
void surface_draw(const struct surface *surface, cairo_t *cairo);

/* What was committed is shown from now on, and what of its subsurfaces waited for that. */
void surface_apply(struct surface *surface);

/* ---- wl_subsurface: subsurface.c ---- */

bool subsurface_add_globals(struct desktop *desktop);

/* Whether what it commits waits for a surface that it lies on. */
bool subsurface_is_synchronised(const struct surface *surface);

/* Takes it off its parent, if it has one. */
void subsurface_leave(struct surface *surface);

/* ---- xdg_surface and xdg_toplevel: window.c ---- */

struct window {
    struct desktop *desktop;
    struct wl_resource *resource;  /* xdg_surface */
    struct wl_resource *toplevel;  /* NULL: it is none */
    struct surface *surface;       /* NULL: it is gone */
    char *title;                   /* NULL: it has none */
    bool configured, acknowledged, shown;
    struct { int x, y, width, height; } next, geometry; /* what of the surface it is; all of it if the width is 0 */
    struct wl_list link;
};

bool window_add_globals(struct desktop *desktop);

/* Its surface was committed, and may have another content now. */
void window_committed(struct window *window);

/* Its surface is gone. */
void window_lose_surface(struct window *window);

/* What of its surface is the window. */
void window_rectangle(const struct window *window, int *x, int *y, int *width, int *height);

/* ---- wl_seat: seat.c ---- */

struct seat *seat_create(struct desktop *desktop);
void seat_destroy(struct seat *seat);

/* Gives a surface the keyboard; NULL: nobody has it. */
void seat_focus(struct seat *seat, struct surface *surface);

/* The client that has the keyboard; NULL: none. */
struct wl_client *seat_focused(const struct seat *seat);

/* ---- wl_data_device: clipboard.c ---- */

struct clipboard;

struct clipboard *clipboard_create(struct desktop *desktop);
void clipboard_destroy(struct clipboard *clipboard);

/* Tells a client that got the keyboard what is in the clipboard. */
void clipboard_offer(struct clipboard *clipboard, struct wl_client *client);

#endif
