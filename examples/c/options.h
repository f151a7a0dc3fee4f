/* The command line of the compositors in C. */
#ifndef OPTIONS_H
#define OPTIONS_H

struct options {
    const char *socket;  /* where local clients connect: a name in XDG_RUNTIME_DIR, or a path */
    const char *channel; /* over which clients of VMs come; NULL: there are none */
    const char *picture; /* what is written at SIGUSR1; NULL: nothing */
    int width, height;   /* of the screen, in pixels */
};

/* Reads the command line, or tells what is wrong with it and ends the program. */
struct options options_parse(int argc, char **argv);

#endif
