#include "frame.h"
#include "server.h"
#include "vm.h"

#include <wlr/render/wlr_renderer.h>
#include <wlr/types/wlr_matrix.h>
#include <wlr/types/wlr_output.h>
#include <wlr/types/wlr_presentation_time.h>
#include <wlr/types/wlr_surface.h>
#include <wlr/types/wlr_xdg_shell.h>

/* What is behind windows. */
static const float BACKGROUND[4] = {0, 0, 0, 1};

/* What a client draws into a place. */
struct content {
    const struct canvas *canvas;
    int64_t x, y;            /* where its surface is: anywhere, as geometries begin where the client says */
    pixman_region32_t place; /* what of it is drawn */
};

/* Has what is drawn next change nothing but this. */
static void limit(const struct canvas *canvas, const pixman_box32_t *box) {
    struct wlr_box scissor = {.x = box->x1, .y = box->y1, .width = box->x2 - box->x1, .height = box->y2 - box->y1};
    wlr_renderer_scissor(canvas->renderer, &scissor);
}

void canvas_clear(const struct canvas *canvas) {
    int count;
    const pixman_box32_t *boxes = pixman_region32_rectangles(canvas->region, &count);
    for (int i = 0; i < count; i++) {
        limit(canvas, &boxes[i]);
        wlr_renderer_clear(canvas->renderer, BACKGROUND);
    }
    wlr_renderer_scissor(canvas->renderer, NULL);
}

static void draw_surface(struct wlr_surface *surface, int x, int y, void *data) {
    const struct content *content = data;
    const struct canvas *canvas = content->canvas;
    int64_t left = content->x + x, top = content->y + y;
    int width = surface->current.width, height = surface->current.height;
    const pixman_box32_t *place = pixman_region32_extents(&content->place);
    struct wlr_texture *texture = wlr_surface_get_texture(surface);
    if (texture == NULL || left >= place->x2 || top >= place->y2 || left + width <= place->x1 || top + height <= place->y1)
        return;
    struct wlr_box box = {.x = left, .y = top, .width = width, .height = height};
    struct wlr_fbox source;
    wlr_surface_get_buffer_source_box(surface, &source);
    float matrix[9];
    enum wl_output_transform transform = wlr_output_transform_invert(surface->current.transform);
    wlr_matrix_project_box(matrix, &box, transform, 0, canvas->output->transform_matrix);
    int count;
    const pixman_box32_t *boxes = pixman_region32_rectangles(&content->place, &count);
    for (int i = 0; i < count; i++) {
        limit(canvas, &boxes[i]);
        wlr_render_subtexture_with_matrix(canvas->renderer, texture, &source, matrix, 1);
    }
    if (canvas->presentation != NULL)
        wlr_presentation_surface_sampled_on_output(canvas->presentation, surface, canvas->output);
}

void canvas_draw_content(const struct canvas *canvas, struct wlr_xdg_surface *surface, const struct wlr_box *box) {
    struct wlr_box geometry;
    wlr_xdg_surface_get_geometry(surface, &geometry);
    struct content content = {
        .canvas = canvas,
        .x = (int64_t)box->x - geometry.x,
        .y = (int64_t)box->y - geometry.y,
    };
    pixman_region32_init_rect(&content.place, box->x, box->y, box->width, box->height);
    pixman_region32_intersect(&content.place, &content.place, canvas->region);
    if (pixman_region32_not_empty(&content.place))
        wlr_surface_for_each_surface(surface->surface, draw_surface, &content);
    pixman_region32_fini(&content.place);
    wlr_renderer_scissor(canvas->renderer, NULL);
}

void canvas_draw_border(const struct canvas *canvas, const struct wlr_box *box, const char *vm) {
    uint32_t colour = vm_colour(vm);
    const float rgba[4] = {(colour >> 16) / 255.0f, (colour >> 8 & 0xff) / 255.0f, (colour & 0xff) / 255.0f, 1};
    int left = box->x - FRAME_BORDER, top = box->y - FRAME_BORDER, whole = box->width + 2 * FRAME_BORDER;
    const struct wlr_box sides[] = {
        {.x = left, .y = top, .width = whole, .height = FRAME_BORDER},
        {.x = left, .y = box->y + box->height, .width = whole, .height = FRAME_BORDER},
        {.x = left, .y = box->y, .width = FRAME_BORDER, .height = box->height},
        {.x = box->x + box->width, .y = box->y, .width = FRAME_BORDER, .height = box->height},
    };
    int count;
    const pixman_box32_t *boxes = pixman_region32_rectangles(canvas->region, &count);
    for (int i = 0; i < count; i++) {
        limit(canvas, &boxes[i]);
        for (size_t side = 0; side < sizeof(sides) / sizeof(*sides); side++)
            wlr_render_rect(canvas->renderer, &sides[side], rgba, canvas->output->transform_matrix);
    }
    wlr_renderer_scissor(canvas->renderer, NULL);
}

void canvas_draw_title(const struct canvas *canvas, const struct wlr_box *box, struct wlr_texture *title) {
    int count;
    const pixman_box32_t *boxes = pixman_region32_rectangles(canvas->region, &count);
    for (int i = 0; i < count; i++) {
        limit(canvas, &boxes[i]);
        wlr_render_texture(canvas->renderer, title, canvas->output->transform_matrix, box->x - FRAME_BORDER,
                           box->y - FRAME_BORDER - FRAME_TITLE, 1);
    }
    wlr_renderer_scissor(canvas->renderer, NULL);
}
