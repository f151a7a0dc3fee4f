#include "frame.h"
#include "server.h"

#include <cairo.h>
#include <drm_fourcc.h>
#include <stdlib.h>
#include <wlr/interfaces/wlr_output.h>
#include <wlr/types/wlr_buffer.h>

/* An image of cairo's that wlroots draws. */
struct title {
    struct wlr_buffer buffer;
    cairo_surface_t *image;
};

static void title_destroy(struct wlr_buffer *buffer) {
    struct title *title = wl_container_of(buffer, title, buffer);
    cairo_surface_destroy(title->image);
    free(title);
}

static bool begin_access(struct wlr_buffer *buffer, uint32_t flags, void **data, uint32_t *format, size_t *stride) {
    struct title *title = wl_container_of(buffer, title, buffer);
    if (flags & WLR_BUFFER_DATA_PTR_ACCESS_WRITE)
        return false;
    *data = cairo_image_surface_get_data(title->image);
    *format = DRM_FORMAT_XRGB8888;
    *stride = cairo_image_surface_get_stride(title->image);
    return true;
}

static void end_access(struct wlr_buffer *buffer) {
    (void)buffer;
}

static const struct wlr_buffer_impl title_impl = {
    .destroy = title_destroy,
    .begin_data_ptr_access = begin_access,
    .end_data_ptr_access = end_access,
};

struct wlr_buffer *title_create(int width, const char *vm) {
    struct title *title = calloc(1, sizeof(*title));
    if (title == NULL)
        return NULL;
    int whole = width + 2 * FRAME_BORDER, height = FRAME_TITLE + FRAME_BORDER;
    title->image = cairo_image_surface_create(CAIRO_FORMAT_RGB24, whole, height);
    /* All of the frame is drawn, and what is beside and below the content is beside the image. */
    cairo_t *cairo = cairo_create(title->image);
    frame_draw(cairo, FRAME_BORDER, height, width, 1, vm);
    cairo_destroy(cairo);
    cairo_surface_flush(title->image);
    if (cairo_surface_status(title->image) != CAIRO_STATUS_SUCCESS) {
        cairo_surface_destroy(title->image);
        free(title);
        return NULL;
    }
    wlr_buffer_init(&title->buffer, &title_impl, whole, height);
    return &title->buffer;
}
