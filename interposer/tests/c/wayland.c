/* What matters of libwayland's client side: how it takes the file of a request, before it sends it. */

#define _GNU_SOURCE
#include <fcntl.h>

int take_file(int fd) { return fcntl(fd, F_DUPFD_CLOEXEC, 0); }
