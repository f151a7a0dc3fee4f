/* Which VM a client is of. */
#ifndef VM_H
#define VM_H

#include <stdbool.h>
#include <stdint.h>

struct wl_client;

/* Notes that a client is of a VM. To be called once, as soon as it is there. False if there is no memory. */
bool vm_set(struct wl_client *client, const char *vm);

/* The name of a client's VM; NULL if it is local. */
const char *vm_of(struct wl_client *client);

/* A VM's colour, as 0xRRGGBB; that of local clients if it is NULL. */
uint32_t vm_colour(const char *vm);

#endif
