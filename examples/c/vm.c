#include "vm.h"

#include <stdlib.h>
#include <string.h>
#include <wayland-server-core.h>

/* Hangs on a client, and ends with it. */
struct note {
    struct wl_listener gone;
    char vm[];
};

static void forget(struct wl_listener *gone, void *client) {
    (void)client;
    struct note *note = wl_container_of(gone, note, gone);
    wl_list_remove(&note->gone.link);
    free(note);
}

bool vm_set(struct wl_client *client, const char *vm) {
    size_t size = strlen(vm) + 1;
    struct note *note = malloc(sizeof(*note) + size);
    if (note == NULL)
        return false;
    memcpy(note->vm, vm, size);
    note->gone.notify = forget;
    wl_client_add_destroy_listener(client, &note->gone);
    return true;
}

const char *vm_of(struct wl_client *client) {
    struct wl_listener *gone = wl_client_get_destroy_listener(client, forget);
    if (gone == NULL)
        return NULL;
    struct note *note = wl_container_of(gone, note, gone);
    return note->vm;
}

/* Part of a way from one to the other, which is 60 degrees long. Without fractions, so that all get the same colour. */
static uint32_t part(uint32_t from, uint32_t to, uint32_t degrees) {
    return from + (to - from) * degrees / 60;
}

/*
 * The hue, in degrees, is the name's FNV-1a hash of 32 bits, modulo 360. Of red, green and blue the largest is 208 and
 * the smallest 64.
 */
uint32_t vm_colour(const char *vm) {
    enum { LOCAL = 0x808080, LEAST = 64, MOST = 208 };
    if (vm == NULL)
        return LOCAL;
    uint32_t hash = 0x811c9dc5;
    for (; *vm != '\0'; vm++)
        hash = (hash ^ (unsigned char)*vm) * 0x01000193;
    uint32_t hue = hash % 360;
    uint32_t rising = part(LEAST, MOST, hue % 60), falling = part(LEAST, MOST, 60 - hue % 60);
    switch (hue / 60) {
    case 0: return MOST << 16 | rising << 8 | LEAST;
    case 1: return falling << 16 | MOST << 8 | LEAST;
    case 2: return LEAST << 16 | MOST << 8 | rising;
    case 3: return LEAST << 16 | falling << 8 | MOST;
    case 4: return rising << 16 | LEAST << 8 | MOST;
    default: return MOST << 16 | LEAST << 8 | falling;
    }
}
