#include "options.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

/* The longest side of a picture that cairo can draw. */
enum { MOST = 32767 };

static _Noreturn void usage(const char *program, int status) {
    fprintf(status == 0 ? stdout : stderr,
            "usage: %s --socket NAME_OR_PATH [--channel CHANNEL] [--size WIDTHxHEIGHT] [--picture FILE]\n"
            "\n"
            "A compositor without a screen. Clients of VMs come over CHANNEL, as `guest-agent serve` has it: auto,\n"
            "virtgpu, virtio_wl, process:SOCKET. At SIGUSR1 it draws the screen into FILE, and tells what is on it.\n",
            program);
    exit(status);
}

struct options options_parse(int argc, char **argv) {
    static const struct option known[] = {
        {"socket", required_argument, NULL, 's'}, {"channel", required_argument, NULL, 'c'},
        {"size", required_argument, NULL, 'S'},   {"picture", required_argument, NULL, 'p'},
        {"help", no_argument, NULL, 'h'},         {NULL, 0, NULL, 0},
    };
    struct options options = {.width = 1280, .height = 720};
    int option, end = 0;
    while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
        switch (option) {
        case 's': options.socket = optarg; break;
        case 'c': options.channel = optarg; break;
        case 'p': options.picture = optarg; break;
        case 'S':
            if (sscanf(optarg, "%5dx%5d%n", &options.width, &options.height, &end) != 2 || optarg[end] != '\0' ||
                options.width < 1 || options.width > MOST || options.height < 1 || options.height > MOST) {
                fprintf(stderr, "%s: a size is WIDTHxHEIGHT, in pixels, such as 1280x720\n", argv[0]);
                exit(EXIT_FAILURE);
            }
            break;
        case 'h': usage(argv[0], EXIT_SUCCESS);
        default: usage(argv[0], EXIT_FAILURE);
        }
    }
    if (options.socket == NULL || optind != argc)
        usage(argv[0], EXIT_FAILURE);
    return options;
}
