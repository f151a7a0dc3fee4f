/* Where windows are, and what is drawn around them. */
#ifndef FRAME_H
#define FRAME_H

#include <cairo.h>

/* Pixels around a window's content: the border on all sides, and above that the title bar. */
enum { FRAME_BORDER = 4, FRAME_TITLE = 32 };

/* Where the next window comes: on the right, or below if there is no room. Zeroed but for the width it begins. */
struct layout {
    int width; /* of the screen */
    int x, y, row;
};

/* Finds a place for the content of a window, in pixels of the screen. */
void layout_place(struct layout *layout, int width, int height, int *x, int *y);

/* Draws border and title bar in the VM's colour, with the VM's name or "local". The rectangle is the content's. */
void frame_draw(cairo_t *cairo, int x, int y, int width, int height, const char *vm);

#endif
