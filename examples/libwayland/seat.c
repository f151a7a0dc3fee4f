/* _GNU_SOURCE: memfd_create */
#define _GNU_SOURCE

#include "desktop.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xkbcommon/xkbcommon.h>

/* Nobody types: the seat has a keyboard so that clients know who has it, which is who may copy and paste. */
struct seat {
    struct desktop *desktop;
    struct clipboard *clipboard;
    struct wl_list keyboards;      /* wl_keyboard resources */
    struct surface *focus;         /* NULL: nobody has it */
    int keymap;                    /* a file that can't be written to */
    uint32_t keymap_size;          /* in bytes */
};

static void destroy_resource(struct wl_client *client, struct wl_resource *resource) {
    (void)client;
    wl_resource_destroy(resource);
}

/* ---- The keymap ---- */

/* Makes a file of a text, ended by a NUL, and opens it for reading alone: all clients get the same one. */
static int make_file(const char *text, size_t size) {
    int file = memfd_create("keymap", MFD_CLOEXEC), reader = -1;
    if (file < 0)
        return -1;
    if (write(file, text, size) == (ssize_t)size) {
        char path[64];
        snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
        reader = open(path, O_RDONLY | O_CLOEXEC);
    }
    close(file);
    return reader;
}

/* The keymap of a system where nothing was configured. */
static bool make_keymap(struct seat *seat) {
    struct xkb_context *context = xkb_context_new(XKB_CONTEXT_NO_FLAGS);
    if (context == NULL)
        return false;
    struct xkb_keymap *keymap = xkb_keymap_new_from_names(context, NULL, XKB_KEYMAP_COMPILE_NO_FLAGS);
    char *text = keymap != NULL ? xkb_keymap_get_as_string(keymap, XKB_KEYMAP_FORMAT_TEXT_V1) : NULL;
    if (text != NULL) {
        seat->keymap_size = (uint32_t)strlen(text) + 1;
        seat->keymap = make_file(text, seat->keymap_size);
    }
    free(text);
    xkb_keymap_unref(keymap);
    xkb_context_unref(context);
    return seat->keymap >= 0;
}

/* ---- The keyboard ---- */

static void enter(struct seat *seat, struct wl_resource *keyboard) {
    struct wl_array keys;
    wl_array_init(&keys);
    uint32_t serial = wl_display_next_serial(seat->desktop->display);
    wl_keyboard_send_enter(keyboard, serial, seat->focus->resource, &keys);
    wl_keyboard_send_modifiers(keyboard, serial, 0, 0, 0, 0);
    wl_array_release(&keys);
}

void seat_focus(struct seat *seat, struct surface *surface) {
    if (seat->focus == surface)
        return;
    struct wl_client *before = seat_focused(seat);
    struct wl_resource *keyboard;
    if (before != NULL) {
        uint32_t serial = wl_display_next_serial(seat->desktop->display);
        wl_resource_for_each(keyboard, &seat->keyboards) {
            if (wl_resource_get_client(keyboard) == before)
                wl_keyboard_send_leave(keyboard, serial, seat->focus->resource);
        }
    }
    seat->focus = surface;
    struct wl_client *now = seat_focused(seat);
    if (now == NULL)
        return;
    if (now != before)
        clipboard_offer(seat->clipboard, now);
    wl_resource_for_each(keyboard, &seat->keyboards) {
        if (wl_resource_get_client(keyboard) == now)
            enter(seat, keyboard);
    }
}

struct wl_client *seat_focused(const struct seat *seat) {
    return seat->focus != NULL ? wl_resource_get_client(seat->focus->resource) : NULL;
}

static void unlink_resource(struct wl_resource *resource) {
    wl_list_remove(wl_resource_get_link(resource));
}

static const struct wl_keyboard_interface keyboard_requests = {.release = destroy_resource};

static void get_keyboard(struct wl_client *client, struct wl_resource *resource, uint32_t id) {
    struct seat *seat = wl_resource_get_user_data(resource);
    struct wl_resource *keyboard =
        wl_resource_create(client, &wl_keyboard_interface, wl_resource_get_version(resource), id);
    if (keyboard == NULL) {
        wl_client_post_no_memory(client);
        return;
    }
    wl_resource_set_implementation(keyboard, &keyboard_requests, seat, unlink_resource);
    wl_list_insert(&seat->keyboards, wl_resource_get_link(keyboard));
    wl_keyboard_send_keymap(keyboard, WL_KEYBOARD_KEYMAP_FORMAT_XKB_V1, seat->keymap, seat->keymap_size);
    if (wl_resource_get_version(keyboard) >= WL_KEYBOARD_REPEAT_INFO_SINCE_VERSION)
        wl_keyboard_send_repeat_info(keyboard, 25, 600);
    if (seat_focused(seat) == client)
        enter(seat, keyboard);
}

/* ---- wl_seat ---- */

static void get_what_is_missing(struct wl_client *client, struct wl_resource *resource, uint32_t id) {
    (void)client, (void)id;
    wl_resource_post_error(resource, WL_SEAT_ERROR_MISSING_CAPABILITY, "the seat has a keyboard and nothing else");
}

static const struct wl_seat_interface seat_requests = {
    .get_pointer = get_what_is_missing,
    .get_keyboard = get_keyboard,
    .get_touch = get_what_is_missing,
    .release = destroy_resource,
};

static void bind_seat(struct wl_client *client, void *data, uint32_t version, uint32_t id) {
    struct wl_resource *resource = wl_resource_create(client, &wl_seat_interface, (int)version, id);
    if (resource == NULL) {
        wl_client_post_no_memory(client);
        return;
    }
    wl_resource_set_implementation(resource, &seat_requests, data, NULL);
    wl_seat_send_capabilities(resource, WL_SEAT_CAPABILITY_KEYBOARD);
    if (version >= WL_SEAT_NAME_SINCE_VERSION)
        wl_seat_send_name(resource, "seat0");
}

struct seat *seat_create(struct desktop *desktop) {
    struct seat *seat = calloc(1, sizeof(*seat));
    if (seat == NULL)
        return NULL;
    seat->desktop = desktop;
    wl_list_init(&seat->keyboards);
    seat->keymap = -1;
    seat->clipboard = clipboard_create(desktop);
    if (!make_keymap(seat) || seat->clipboard == NULL ||
        wl_global_create(desktop->display, &wl_seat_interface, 5, seat, bind_seat) == NULL)
        return NULL;
    return seat;
}

void seat_destroy(struct seat *seat) {
    clipboard_destroy(seat->clipboard);
    close(seat->keymap);
    free(seat);
}
