#include "desktop.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct clipboard {
    struct desktop *desktop;
    struct wl_list devices;        /* wl_data_device resources */
    struct source *source;         /* what was copied last; NULL: nothing */
};

/* Something that a client has copied. */
struct source {
    struct clipboard *clipboard;
    struct wl_resource *resource;  /* wl_data_source */
    struct wl_list types;          /* struct type.link */
    struct wl_list offers;         /* wl_data_offer resources, of this source */
};

struct type {
    struct wl_list link;
    char name[];
};

static void destroy_resource(struct wl_client *client, struct wl_resource *resource) {
    (void)client;
    wl_resource_destroy(resource);
}

static void unlink_resource(struct wl_resource *resource) {
    wl_list_remove(wl_resource_get_link(resource));
}

/* ---- wl_data_offer: something that may be pasted ---- */

static void offer_receive(struct wl_client *client, struct wl_resource *resource, const char *type, int32_t fd) {
    (void)client;
    struct source *source = wl_resource_get_user_data(resource);
    /* The pipe goes from client to client. If there is nothing any more, its end says so. */
    if (source != NULL)
        wl_data_source_send_send(source->resource, type, fd);
    close(fd);
}

/* Only for what is dragged, which nothing is. */
static void offer_accept(struct wl_client *client, struct wl_resource *resource, uint32_t serial, const char *type) {
    (void)client, (void)resource, (void)serial, (void)type;
}

static void offer_finish(struct wl_client *client, struct wl_resource *resource) {
    (void)client;
    wl_resource_post_error(resource, WL_DATA_OFFER_ERROR_INVALID_FINISH, "nothing was dragged");
}

static void offer_set_actions(struct wl_client *client, struct wl_resource *resource, uint32_t actions,
                              uint32_t preferred) {
    (void)client, (void)actions, (void)preferred;
    wl_resource_post_error(resource, WL_DATA_OFFER_ERROR_INVALID_OFFER, "nothing was dragged");
}

static const struct wl_data_offer_interface offer_requests = {
    .accept = offer_accept,
    .receive = offer_receive,
    .destroy = destroy_resource,
    .finish = offer_finish,
    .set_actions = offer_set_actions,
};

/* Tells a device what is in the clipboard. */
static void offer(struct clipboard *clipboard, struct wl_resource *device) {
    struct source *source = clipboard->source;
    if (source == NULL) {
        wl_data_device_send_selection(device, NULL);
        return;
    }
    struct wl_client *client = wl_resource_get_client(device);
    struct wl_resource *resource =
        wl_resource_create(client, &wl_data_offer_interface, wl_resource_get_version(device), 0);
    if (resource == NULL) {
        wl_client_post_no_memory(client);
        return;
    }
    wl_resource_set_implementation(resource, &offer_requests, source, unlink_resource);
    wl_list_insert(&source->offers, wl_resource_get_link(resource));
    wl_data_device_send_data_offer(device, resource);
    struct type *type;
    wl_list_for_each(type, &source->types, link)
        wl_data_offer_send_offer(resource, type->name);
    wl_data_device_send_selection(device, resource);
}

void clipboard_offer(struct clipboard *clipboard, struct wl_client *client) {
    struct wl_resource *device;
    wl_resource_for_each(device, &clipboard->devices) {
        if (wl_resource_get_client(device) == client)
            offer(clipboard, device);
    }
}

/* Tells who has the keyboard. */
static void offer_to_focused(struct clipboard *clipboard) {
    struct wl_client *client = seat_focused(clipboard->desktop->seat);
    if (client != NULL)
        clipboard_offer(clipboard, client);
}

/* ---- wl_data_source: something that was copied ---- */

static void source_offer(struct wl_client *client, struct wl_resource *resource, const char *name) {
    struct source *source = wl_resource_get_user_data(resource);
    size_t size = strlen(name) + 1;
    struct type *type = malloc(sizeof(*type) + size);
    if (type == NULL) {
        wl_client_post_no_memory(client);
        return;
    }
    memcpy(type->name, name, size);
    wl_list_insert(source->types.prev, &type->link);
}

static void source_set_actions(struct wl_client *client, struct wl_resource *resource, uint32_t actions) {
    (void)client, (void)resource, (void)actions;
}

static const struct wl_data_source_interface source_requests = {
    .offer = source_offer,
    .destroy = destroy_resource,
    .set_actions = source_set_actions,
};

static void source_end(struct wl_resource *resource) {
    struct source *source = wl_resource_get_user_data(resource);
    struct wl_resource *offer, *next_offer;
    wl_resource_for_each_safe(offer, next_offer, &source->offers) {
        wl_resource_set_user_data(offer, NULL);
        wl_list_remove(wl_resource_get_link(offer));
        wl_list_init(wl_resource_get_link(offer));
    }
    struct type *type, *next_type;
    wl_list_for_each_safe(type, next_type, &source->types, link)
        free(type);
    if (source->clipboard->source == source) {
        source->clipboard->source = NULL;
        offer_to_focused(source->clipboard);
    }
    free(source);
}

/* ---- wl_data_device ---- */

static void device_start_drag(struct wl_client *client, struct wl_resource *resource, struct wl_resource *source,
                              struct wl_resource *origin, struct wl_resource *icon, uint32_t serial) {
    (void)client, (void)resource, (void)origin, (void)icon, (void)serial;
    /* There is no mouse to drag it with. */
    if (source != NULL)
        wl_data_source_send_cancelled(source);
}

static void device_set_selection(struct wl_client *client, struct wl_resource *resource, struct wl_resource *source,
                                 uint32_t serial) {
    (void)serial;
    struct clipboard *clipboard = wl_resource_get_user_data(resource);
    struct source *next = source != NULL ? wl_resource_get_user_data(source) : NULL;
    /* Only who has the keyboard may. */
    if (seat_focused(clipboard->desktop->seat) != client) {
        if (next != NULL)
            wl_data_source_send_cancelled(source);
        return;
    }
    if (clipboard->source == next)
        return;
    if (clipboard->source != NULL)
        wl_data_source_send_cancelled(clipboard->source->resource);
    clipboard->source = next;
    offer_to_focused(clipboard);
}

static const struct wl_data_device_interface device_requests = {
    .start_drag = device_start_drag,
    .set_selection = device_set_selection,
    .release = destroy_resource,
};

/* ---- wl_data_device_manager ---- */

static void create_source(struct wl_client *client, struct wl_resource *resource, uint32_t id) {
    struct source *source = calloc(1, sizeof(*source));
    if (source != NULL)
        source->resource = wl_resource_create(client, &wl_data_source_interface, wl_resource_get_version(resource), id);
    if (source == NULL || source->resource == NULL) {
        free(source);
        wl_client_post_no_memory(client);
        return;
    }
    source->clipboard = wl_resource_get_user_data(resource);
    wl_list_init(&source->types);
    wl_list_init(&source->offers);
    wl_resource_set_implementation(source->resource, &source_requests, source, source_end);
}

static void get_device(struct wl_client *client, struct wl_resource *resource, uint32_t id, struct wl_resource *seat) {
    (void)seat;
    struct clipboard *clipboard = wl_resource_get_user_data(resource);
    struct wl_resource *device =
        wl_resource_create(client, &wl_data_device_interface, wl_resource_get_version(resource), id);
    if (device == NULL) {
        wl_client_post_no_memory(client);
        return;
    }
    wl_resource_set_implementation(device, &device_requests, clipboard, unlink_resource);
    wl_list_insert(&clipboard->devices, wl_resource_get_link(device));
    if (seat_focused(clipboard->desktop->seat) == client)
        offer(clipboard, device);
}

static const struct wl_data_device_manager_interface manager_requests = {
    .create_data_source = create_source,
    .get_data_device = get_device,
};

static void bind_manager(struct wl_client *client, void *data, uint32_t version, uint32_t id) {
    struct wl_resource *resource = wl_resource_create(client, &wl_data_device_manager_interface, (int)version, id);
    if (resource == NULL)
        wl_client_post_no_memory(client);
    else
        wl_resource_set_implementation(resource, &manager_requests, data, NULL);
}

struct clipboard *clipboard_create(struct desktop *desktop) {
    struct clipboard *clipboard = calloc(1, sizeof(*clipboard));
    if (clipboard == NULL)
        return NULL;
    clipboard->desktop = desktop;
    wl_list_init(&clipboard->devices);
    if (wl_global_create(desktop->display, &wl_data_device_manager_interface, 3, clipboard, bind_manager) == NULL) {
        free(clipboard);
        return NULL;
    }
    return clipboard;
}

void clipboard_destroy(struct clipboard *clipboard) {
    free(clipboard);
}
