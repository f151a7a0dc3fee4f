/* What is told at SIGUSR1. */
#ifndef PICTURE_H
#define PICTURE_H

#include <cairo.h>
#include <stdbool.h>

/* Prints `window X Y WIDTH HEIGHT VM TITLE`: where a window's content is. NULL: it has no title, or no VM. */
void picture_tell_window(int x, int y, int width, int height, const char *vm, const char *title);

/* Writes a PNG, never half of it, and then prints `picture FILE`. False, and why on stderr, if it can't. */
bool picture_write(cairo_surface_t *screen, const char *file);

#endif
