/*
 * A Wayland compositor of wlroots' that shows windows of several VMs, and has no screen unless WLR_BACKENDS says so: what of
 * it the shim needs is all here.
 */

#include "options.h"
#include "server.h"
#include "vm.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <wlproxy-shim.h>
#include <wlr/backend.h>
#include <wlr/render/allocator.h>
#include <wlr/render/wlr_renderer.h>
#include <wlr/types/wlr_output_layout.h>
#include <wlr/types/wlr_scene.h>
#include <wlr/util/log.h>

/* What the shim has to say, such as that the host isn't there yet. */
static void tell(void *data, enum wlproxy_shim_log_level level, const char *text) {
    (void)data;
    wlr_log(level <= WLPROXY_SHIM_LOG_WARNING ? WLR_ERROR : level == WLPROXY_SHIM_LOG_INFO ? WLR_INFO : WLR_DEBUG, "%s", text);
}

/* A client of a VM has connected. It has asked for nothing yet, so whatever depends on its VM can be decided here. */
static void introduce(void *data, struct wl_client *client, const struct wlproxy_shim_peer *peer) {
    (void)data;
    if (!vm_set(client, wlproxy_shim_peer_vm(peer)))
        wl_client_destroy(client);
}

/* Lets clients of VMs come. NULL, and why in the log, if that can't be. */
static struct wlproxy_shim *link_shim(struct wl_display *display, const char *channel) {
    struct wlproxy_shim *shim;
    char why[512];
    if (wlproxy_shim_create(channel, &shim, why, sizeof(why)) != 0) {
        wlr_log(WLR_ERROR, "no clients of VMs can come: %s", why);
        return NULL;
    }
    wlproxy_shim_set_log(shim, tell, NULL);
    if (wlproxy_shim_add_to_display(shim, display, introduce, NULL) != 0) {
        wlr_log(WLR_ERROR, "no clients of VMs can come: %s", wlproxy_shim_error(shim));
        wlproxy_shim_destroy(shim);
        return NULL;
    }
    return shim;
}

static int end(int signal, void *data) {
    (void)signal;
    wl_display_terminate(((struct server *)data)->display);
    return 0;
}

static int photograph(int signal, void *data) {
    (void)signal;
    struct server *server = data;
    if (server->options->picture != NULL)
        screen_photograph(server);
    return 0;
}

/* The signals are for this thread, so this comes before everything that may have others. */
static bool hear_signals(struct server *server) {
    struct wl_event_loop *loop = wl_display_get_event_loop(server->display);
    server->signals[0] = wl_event_loop_add_signal(loop, SIGTERM, end, server);
    server->signals[1] = wl_event_loop_add_signal(loop, SIGINT, end, server);
    server->signals[2] = wl_event_loop_add_signal(loop, SIGUSR1, photograph, server);
    return server->signals[0] != NULL && server->signals[1] != NULL && server->signals[2] != NULL;
}

/* What every compositor of wlroots' has. */
static bool start(struct server *server) {
    server->backend = wlr_backend_autocreate(server->display);
    server->renderer = server->backend != NULL ? wlr_renderer_autocreate(server->backend) : NULL;
    if (server->renderer == NULL || !wlr_renderer_init_wl_display(server->renderer, server->display))
        return false;
    server->allocator = wlr_allocator_autocreate(server->backend, server->renderer);
    if (server->allocator == NULL || !globals_init(server) || !screen_init(server))
        return false;
    windows_init(server);
    if (!seat_init(server) || !wlr_backend_start(server->backend))
        return false;
    seat_add_keyboard(server);
    return true;
}

int main(int argc, char **argv) {
    struct options options = options_parse(argc, argv);
    /* Without a screen, unless the environment asks for one. */
    setenv("WLR_BACKENDS", "headless", 0);
    setenv("WLR_RENDERER", "pixman", 0);
    wlr_log_init(WLR_INFO, NULL);

    struct server server = {.options = &options, .display = wl_display_create()};
    if (server.display == NULL || !hear_signals(&server) || !start(&server)) {
        wlr_log(WLR_ERROR, "the compositor can't be made");
        return EXIT_FAILURE;
    }
    struct wlproxy_shim *shim = NULL;
    if (options.channel != NULL && (shim = link_shim(server.display, options.channel)) == NULL)
        return EXIT_FAILURE;
    if (wl_display_add_socket(server.display, options.socket) != 0) {
        wlr_log_errno(WLR_ERROR, "can't listen at %s", options.socket);
        return EXIT_FAILURE;
    }

    wl_display_run(server.display);

    /* The shim may also outlive the display. Either way its clients are destroyed like others. */
    wlproxy_shim_destroy(shim);
    wl_display_destroy_clients(server.display);
    for (int i = 0; i < 3; i++)
        wl_event_source_remove(server.signals[i]);
    wlr_scene_node_destroy(&server.scene->node);
    wlr_output_layout_destroy(server.layout);
    /* It takes backend, seat and globals with it, which use the other two. */
    wl_display_destroy(server.display);
    wlr_allocator_destroy(server.allocator);
    wlr_renderer_destroy(server.renderer);
    return EXIT_SUCCESS;
}
