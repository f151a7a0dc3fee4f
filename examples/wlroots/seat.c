#include "server.h"

#include <stdlib.h>
#include <wlr/backend/headless.h>
#include <wlr/backend/multi.h>
#include <wlr/types/wlr_data_device.h>
#include <wlr/types/wlr_input_device.h>
#include <wlr/types/wlr_keyboard.h>
#include <wlr/types/wlr_primary_selection.h>
#include <wlr/types/wlr_seat.h>
#include <xkbcommon/xkbcommon.h>

struct keyboard {
    struct server *server;
    struct wlr_input_device *device;
    struct wl_listener key, modifiers, destroy;
    struct wl_list link;
};

static void key(struct wl_listener *listener, void *data) {
    struct keyboard *keyboard = wl_container_of(listener, keyboard, key);
    struct wlr_event_keyboard_key *event = data;
    wlr_seat_set_keyboard(keyboard->server->seat, keyboard->device);
    wlr_seat_keyboard_notify_key(keyboard->server->seat, event->time_msec, event->keycode, event->state);
}

static void modifiers(struct wl_listener *listener, void *data) {
    (void)data;
    struct keyboard *keyboard = wl_container_of(listener, keyboard, modifiers);
    wlr_seat_set_keyboard(keyboard->server->seat, keyboard->device);
    wlr_seat_keyboard_notify_modifiers(keyboard->server->seat, &keyboard->device->keyboard->modifiers);
}

static void tell_capabilities(struct server *server) {
    wlr_seat_set_capabilities(server->seat, wl_list_empty(&server->keyboards) ? 0 : WL_SEAT_CAPABILITY_KEYBOARD);
}

static void keyboard_destroy(struct wl_listener *listener, void *data) {
    (void)data;
    struct keyboard *keyboard = wl_container_of(listener, keyboard, destroy);
    wl_list_remove(&keyboard->key.link);
    wl_list_remove(&keyboard->modifiers.link);
    wl_list_remove(&keyboard->destroy.link);
    wl_list_remove(&keyboard->link);
    tell_capabilities(keyboard->server);
    free(keyboard);
}

/* Other devices are of no use here. */
static void new_input(struct wl_listener *listener, void *data) {
    struct server *server = wl_container_of(listener, server, new_input);
    struct wlr_input_device *device = data;
    if (device->type != WLR_INPUT_DEVICE_KEYBOARD)
        return;
    struct xkb_context *context = xkb_context_new(XKB_CONTEXT_NO_FLAGS);
    struct xkb_keymap *keymap = context != NULL ? xkb_keymap_new_from_names(context, NULL, XKB_KEYMAP_COMPILE_NO_FLAGS) : NULL;
    struct keyboard *keyboard = keymap != NULL ? calloc(1, sizeof(*keyboard)) : NULL;
    if (keyboard != NULL && wlr_keyboard_set_keymap(device->keyboard, keymap)) {
        keyboard->server = server;
        keyboard->device = device;
        keyboard->key.notify = key;
        wl_signal_add(&device->keyboard->events.key, &keyboard->key);
        keyboard->modifiers.notify = modifiers;
        wl_signal_add(&device->keyboard->events.modifiers, &keyboard->modifiers);
        keyboard->destroy.notify = keyboard_destroy;
        wl_signal_add(&device->keyboard->events.destroy, &keyboard->destroy);
        wl_list_insert(&server->keyboards, &keyboard->link);
        wlr_seat_set_keyboard(server->seat, device);
        tell_capabilities(server);
    } else {
        free(keyboard);
    }
    xkb_keymap_unref(keymap);
    xkb_context_unref(context);
}

/* Who has the keyboard may copy: wlroots has looked at the serial number. */
static void set_selection(struct wl_listener *listener, void *data) {
    struct server *server = wl_container_of(listener, server, set_selection);
    struct wlr_seat_request_set_selection_event *event = data;
    wlr_seat_set_selection(server->seat, event->source, event->serial);
}

static void set_primary_selection(struct wl_listener *listener, void *data) {
    struct server *server = wl_container_of(listener, server, set_primary_selection);
    struct wlr_seat_request_set_primary_selection_event *event = data;
    wlr_seat_set_primary_selection(server->seat, event->source, event->serial);
}

/* Without a pointer nothing can be dragged. */
static void start_drag(struct wl_listener *listener, void *data) {
    (void)listener;
    struct wlr_seat_request_start_drag_event *event = data;
    wlr_data_source_destroy(event->drag->source);
}

void seat_focus(struct server *server, struct wlr_surface *surface) {
    if (surface == NULL) {
        wlr_seat_keyboard_notify_clear_focus(server->seat);
        return;
    }
    struct wlr_keyboard *keyboard = wlr_seat_get_keyboard(server->seat);
    if (keyboard != NULL)
        wlr_seat_keyboard_notify_enter(server->seat, surface, keyboard->keycodes, keyboard->num_keycodes,
                                       &keyboard->modifiers);
}

static void add_keyboard(struct wlr_backend *backend, void *data) {
    (void)data;
    if (wlr_backend_is_headless(backend))
        wlr_headless_add_input_device(backend, WLR_INPUT_DEVICE_KEYBOARD);
}

void seat_add_keyboard(struct server *server) {
    wlr_multi_for_each_backend(server->backend, add_keyboard, NULL);
}

bool seat_init(struct server *server) {
    wl_list_init(&server->keyboards);
    server->seat = wlr_seat_create(server->display, "seat0");
    if (server->seat == NULL)
        return false;
    server->new_input.notify = new_input;
    wl_signal_add(&server->backend->events.new_input, &server->new_input);
    server->set_selection.notify = set_selection;
    wl_signal_add(&server->seat->events.request_set_selection, &server->set_selection);
    server->set_primary_selection.notify = set_primary_selection;
    wl_signal_add(&server->seat->events.request_set_primary_selection, &server->set_primary_selection);
    server->start_drag.notify = start_drag;
    wl_signal_add(&server->seat->events.request_start_drag, &server->start_drag);
    return true;
}
