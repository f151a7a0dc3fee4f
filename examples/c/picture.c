#include "picture.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void picture_tell_window(int x, int y, int width, int height, const char *vm, const char *title) {
    printf("window %d %d %d %d %s ", x, y, width, height, vm != NULL ? vm : "-");
    /* The title is the client's, and must not be able to say anything of another window. */
    for (; title != NULL && *title != '\0'; title++)
        putchar((unsigned char)*title < ' ' ? ' ' : *title);
    putchar('\n');
}

bool picture_write(cairo_surface_t *screen, const char *file) {
    size_t size = strlen(file) + sizeof(".part");
    char *meanwhile = malloc(size);
    if (meanwhile == NULL)
        return false;
    snprintf(meanwhile, size, "%s.part", file);
    cairo_status_t status = cairo_surface_write_to_png(screen, meanwhile);
    const char *why = status != CAIRO_STATUS_SUCCESS        ? cairo_status_to_string(status)
                      : rename(meanwhile, file) != 0 ? strerror(errno)
                                                     : NULL;
    if (why == NULL) {
        printf("picture %s\n", file);
    } else {
        fprintf(stderr, "can't write %s: %s\n", file, why);
        unlink(meanwhile);
    }
    free(meanwhile);
    fflush(stdout);
    return why == NULL;
}
