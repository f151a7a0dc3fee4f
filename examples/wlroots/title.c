#include "frame.h"
#include "server.h"

#include <cairo.h>
#include <drm_fourcc.h>
#include <wlr/render/wlr_texture.h>

struct wlr_texture *title_create(struct wlr_renderer *renderer, int width, const char *vm) {
    int whole = width + 2 * FRAME_BORDER, height = FRAME_TITLE + FRAME_BORDER;
    cairo_surface_t *image = cairo_image_surface_create(CAIRO_FORMAT_RGB24, whole, height);
    /* All of the frame is drawn, and what is beside and below the content is beside the image. */
    cairo_t *cairo = cairo_create(image);
    frame_draw(cairo, FRAME_BORDER, height, width, 1, vm);
    cairo_destroy(cairo);
    cairo_surface_flush(image);
    struct wlr_texture *title = NULL;
    if (cairo_surface_status(image) == CAIRO_STATUS_SUCCESS)
        title = wlr_texture_from_pixels(renderer, DRM_FORMAT_XRGB8888, cairo_image_surface_get_stride(image), whole, height,
                                        cairo_image_surface_get_data(image));
    cairo_surface_destroy(image);
    return title;
}
