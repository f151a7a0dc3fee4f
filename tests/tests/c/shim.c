/*
 * Uses compositor-shim as a compositor in C does, and checks what its header promises. It says on stdout how far it is, and
 * ends with 0 if all held.
 *
 *     shim nobody             there is no host
 *     shim streams CHANNEL    two clients, without libwayland
 *     shim display CHANNEL    four clients, in the event loop of a wl_display
 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <wayland-server-core.h>
#include <wlproxy-shim.h>

/* Milliseconds until a test that waits has failed. Generous: it may run where each instruction is watched. */
enum { PATIENCE = 60000 };

static void check(bool holds, int line, const char *what) {
    if (!holds) {
        fprintf(stderr, "line %d: not %s (errno: %s)\n", line, what, strerror(errno));
        exit(EXIT_FAILURE);
    }
}

#define CHECK(condition) check(condition, __LINE__, #condition)

static void say(const char *what) {
    printf("%s\n", what);
    fflush(stdout);
}

static void wait_for(int fd) {
    struct pollfd polled = {.fd = fd, .events = POLLIN};
    CHECK(poll(&polled, 1, PATIENCE) == 1);
    /* Also at the end of a stream. */
    CHECK((polled.revents & POLLIN) != 0);
}

static bool is_open(int fd) {
    return fcntl(fd, F_GETFD) >= 0;
}

/* Hears until there is a line that begins like this. */
struct ear {
    const char *begin;
    bool heard;
};

static void listen_for(void *data, enum wlproxy_shim_log_level level, const char *text) {
    struct ear *ear = data;
    CHECK(level >= WLPROXY_SHIM_LOG_ERROR && level <= WLPROXY_SHIM_LOG_DEBUG);
    ear->heard |= strncmp(text, ear->begin, strlen(ear->begin)) == 0;
}

static struct wlproxy_shim *make(const char *channel) {
    char why[256] = "";
    struct wlproxy_shim *shim;
    int done = wlproxy_shim_create(channel, &shim, why, sizeof(why));
    if (done != 0)
        fprintf(stderr, "%s\n", why);
    CHECK(done == 0 && shim != NULL);
    return shim;
}

/* ---- nobody ---- */

static void nobody_comes(void *data, int fd, const struct wlproxy_shim_peer *peer) {
    (void)data, (void)fd, (void)peer;
    CHECK(!"anybody comes");
}

static void test_nobody(void) {
    char why[16];
    struct wlproxy_shim *shim = (struct wlproxy_shim *)&why;
    CHECK(wlproxy_shim_create("ether", &shim, why, sizeof(why)) == -EINVAL);
    CHECK(shim == NULL && strcmp(why, "there is no suc") == 0);
    CHECK(wlproxy_shim_create("ether", &shim, NULL, 0) == -EINVAL);
    wlproxy_shim_destroy(NULL);
    CHECK(wlproxy_shim_get_fd(NULL) == -EINVAL);

    shim = make("process:/nowhere/gui.sock");
    struct ear ear = {.begin = "waiting for the host: "};
    CHECK(wlproxy_shim_set_log(shim, listen_for, &ear) == 0);
    CHECK(ear.heard);
    int fd = wlproxy_shim_get_fd(shim);
    CHECK(fd >= 0 && is_open(fd) && wlproxy_shim_get_fd(shim) == fd);
    /* It looks for the host now and then. */
    for (int times = 0; times < 3; times++) {
        wait_for(fd);
        CHECK(wlproxy_shim_dispatch(shim, nobody_comes, NULL) == 0);
    }
    CHECK(!wlproxy_shim_is_open(shim) && wlproxy_shim_clients(shim) == 0);
    CHECK(wlproxy_shim_dispatch(shim, NULL, NULL) == -EINVAL);
    CHECK(strcmp(wlproxy_shim_error(shim), "there is no function to call") == 0);
    wlproxy_shim_destroy(shim);
    CHECK(!is_open(fd));
}

/* ---- streams ---- */

struct streams {
    struct wlproxy_shim *shim;
    int count, fd;
    bool destroys;
};

static void take(void *data, int fd, const struct wlproxy_shim_peer *peer) {
    struct streams *streams = data;
    CHECK(strcmp(wlproxy_shim_peer_vm(peer), "work") == 0);
    CHECK(wlproxy_shim_peer_connection(peer) > 0);
    CHECK((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    CHECK((fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
    CHECK(wlproxy_shim_clients(streams->shim) > 0);
    streams->fd = fd;
    streams->count++;
    if (streams->destroys)
        wlproxy_shim_destroy(streams->shim);
}

static void test_streams(const char *channel) {
    struct wlproxy_shim *shim = make(channel);
    struct streams streams = {.shim = shim, .fd = -1};
    int fd = wlproxy_shim_get_fd(shim), came;
    while (!wlproxy_shim_is_open(shim)) {
        wait_for(fd);
        CHECK(wlproxy_shim_dispatch(shim, take, &streams) == 0);
    }
    say("ready");
    do {
        wait_for(fd);
        came = wlproxy_shim_dispatch(shim, take, &streams);
    } while (came == 0);
    CHECK(came == 1 && streams.count == 1);

    /* Its first request: 12 bytes, wl_display.get_registry. */
    char bytes[4096];
    ssize_t read;
    while ((read = recv(streams.fd, bytes, sizeof(bytes), 0)) < 0) {
        CHECK(errno == EAGAIN);
        wait_for(fd);
        CHECK(wlproxy_shim_dispatch(shim, take, &streams) == 0);
    }
    CHECK(read >= 12 && bytes[0] == 1);
    CHECK(wlproxy_shim_clients(shim) == 1);
    /* Closing it is what disconnects the client. */
    close(streams.fd);
    while (wlproxy_shim_clients(shim) > 0) {
        wait_for(fd);
        CHECK(wlproxy_shim_dispatch(shim, take, &streams) == 0);
    }
    say("disconnected");

    /* The next one makes the shim end, in the middle of its work. */
    streams.destroys = true;
    do {
        wait_for(fd);
        came = wlproxy_shim_dispatch(shim, take, &streams);
    } while (came == 0);
    CHECK(came == 1 && streams.count == 2);
    CHECK(!is_open(fd));
    /* The stream is ours, and is over. It may have said something before. */
    CHECK(is_open(streams.fd));
    do {
        wait_for(streams.fd);
        read = recv(streams.fd, bytes, sizeof(bytes), 0);
    } while (read > 0);
    CHECK(read == 0);
    close(streams.fd);
}

/* ---- display ---- */

struct server {
    struct wlproxy_shim *shim;
    struct wl_display *display;
    struct wl_listener gone;
    int came, left;
    bool destroys;
};

static void count_left(struct wl_listener *gone, void *client) {
    (void)client;
    struct server *server = wl_container_of(gone, server, gone);
    wl_list_remove(&gone->link);
    server->left++;
}

static void count_came(void *data, struct wl_client *client, const struct wlproxy_shim_peer *peer) {
    struct server *server = data;
    CHECK(strcmp(wlproxy_shim_peer_vm(peer), "work") == 0);
    server->came++;
    server->gone.notify = count_left;
    wl_client_add_destroy_listener(client, &server->gone);
    if (server->destroys) {
        wlproxy_shim_destroy(server->shim);
        server->shim = NULL;
    }
}

/* Runs the event loop until so many have come and left. */
static void run(struct server *server, int came, int left) {
    struct wl_event_loop *loop = wl_display_get_event_loop(server->display);
    while (server->came < came || server->left < left) {
        CHECK(wl_event_loop_dispatch(loop, PATIENCE) == 0);
        wl_display_flush_clients(server->display);
    }
    CHECK(server->came == came && server->left == left);
}

static void test_display(const char *channel) {
    struct server server = {.shim = make(channel), .display = wl_display_create()};
    struct ear ear = {.begin = "clients of other VMs are accepted"};
    CHECK(wlproxy_shim_set_log(server.shim, listen_for, &ear) == 0);
    CHECK(wlproxy_shim_add_to_display(server.shim, NULL, count_came, &server) == -EINVAL);
    CHECK(wlproxy_shim_add_to_display(server.shim, server.display, count_came, &server) == 0);
    CHECK(wlproxy_shim_add_to_display(server.shim, server.display, NULL, NULL) == -EALREADY);
    while (!ear.heard)
        CHECK(wl_event_loop_dispatch(wl_display_get_event_loop(server.display), PATIENCE) == 0);
    say("ready");
    /* One comes, is served, and leaves. */
    run(&server, 1, 1);
    CHECK(wlproxy_shim_clients(server.shim) == 0);
    say("left");

    /* With the next one connected, the display is another. */
    run(&server, 2, 1);
    wl_display_destroy_clients(server.display);
    CHECK(server.left == 2);
    wl_display_destroy(server.display);
    server.display = wl_display_create();
    CHECK(wlproxy_shim_add_to_display(server.shim, server.display, count_came, &server) == 0);
    say("another display");

    /* The third one sees the shim end while it is introduced, and is disconnected by that. */
    server.destroys = true;
    run(&server, 3, 3);
    CHECK(server.shim == NULL);
    say("no shim");

    /* A shim that has clients ends before the display, and one without a function. */
    server.destroys = false;
    server.shim = make(channel);
    CHECK(wlproxy_shim_add_to_display(server.shim, server.display, NULL, NULL) == 0);
    while (wlproxy_shim_clients(server.shim) == 0)
        CHECK(wl_event_loop_dispatch(wl_display_get_event_loop(server.display), PATIENCE) == 0);
    wlproxy_shim_destroy(server.shim);
    while (!wl_list_empty(wl_display_get_client_list(server.display)))
        CHECK(wl_event_loop_dispatch(wl_display_get_event_loop(server.display), PATIENCE) == 0);
    wl_display_destroy(server.display);
}

int main(int argc, char **argv) {
    const char *test = argc > 1 ? argv[1] : "", *channel = argc > 2 ? argv[2] : NULL;
    if (strcmp(test, "nobody") == 0)
        test_nobody();
    else if (strcmp(test, "streams") == 0)
        test_streams(channel);
    else if (strcmp(test, "display") == 0)
        test_display(channel);
    else
        return EXIT_FAILURE;
    say("done");
    return EXIT_SUCCESS;
}
