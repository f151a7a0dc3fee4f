#include "frame.h"

#include "vm.h"

#include <stddef.h>

/* Windows that would be farther down lie upon each other: no picture is so large. */
enum { LOWEST = 1 << 20 };

/* Between two contents there are the borders of both, and one title bar if they stand above each other. */
enum { GAP = FRAME_BORDER + FRAME_TITLE + FRAME_BORDER };

void layout_place(struct layout *layout, int width, int height, int *x, int *y) {
    if (layout->x > 0 && layout->x + GAP + width + FRAME_BORDER > layout->width) {
        if (layout->y < LOWEST)
            layout->y += GAP + layout->row;
        layout->x = layout->row = 0;
    }
    *x = layout->x + GAP;
    *y = layout->y + GAP;
    layout->x = *x + width;
    if (height > layout->row)
        layout->row = height;
}

void frame_draw(cairo_t *cairo, int x, int y, int width, int height, const char *vm) {
    int left = x - FRAME_BORDER, top = y - FRAME_BORDER - FRAME_TITLE, whole = width + 2 * FRAME_BORDER;
    uint32_t colour = vm_colour(vm);
    cairo_save(cairo);
    cairo_rectangle(cairo, left, top, whole, height + 2 * FRAME_BORDER + FRAME_TITLE);
    cairo_rectangle(cairo, x, y, width, height);
    /* Nothing where both overlap. */
    cairo_set_fill_rule(cairo, CAIRO_FILL_RULE_EVEN_ODD);
    cairo_set_source_rgb(cairo, (colour >> 16) / 255.0, (colour >> 8 & 0xff) / 255.0, (colour & 0xff) / 255.0);
    cairo_fill(cairo);

    cairo_rectangle(cairo, left, top, whole, FRAME_TITLE);
    cairo_clip(cairo);
    cairo_select_font_face(cairo, "sans-serif", CAIRO_FONT_SLANT_NORMAL, CAIRO_FONT_WEIGHT_BOLD);
    cairo_set_font_size(cairo, FRAME_TITLE / 2);
    cairo_set_source_rgb(cairo, 1, 1, 1);
    cairo_move_to(cairo, x + FRAME_BORDER, top + FRAME_TITLE * 2 / 3);
    cairo_show_text(cairo, vm != NULL ? vm : "local");
    cairo_restore(cairo);
}
