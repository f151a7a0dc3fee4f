/*
 * Makes a pool, and while the agent is asked for an allocation another thread does something with the file. The display
 * is the first argument, a folder with two FIFOs the second: `asked` ends when the agent was asked, and it waits for the
 * end of `done`. The third is what is done.
 */

#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

int take_file(int fd);

enum { SIZE = 100000 };

static const char *folder, *deed;
static unsigned char *at;
static int file, second;

static void check(int right, const char *what) {
    if (!right) {
        perror(what);
        _exit(1);
    }
}

static int open_in_folder(const char *name, int flags) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, flags);
    check(fd >= 0, name);
    return fd;
}

static void *other_thread(void *nothing) {
    char byte;
    int asked = open_in_folder("asked", O_RDONLY);
    check(read(asked, &byte, 1) == 0, "read");
    close(asked);
    if (!strcmp(deed, "map")) { /* Memory of its own, where the file was mapped. */
        check(munmap(at, SIZE) == 0, "munmap");
        int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
        check(mmap(at, SIZE, PROT_READ | PROT_WRITE, flags, -1, 0) == at, "mmap");
        memset(at, 'X', SIZE);
    } else if (!strcmp(deed, "open")) { /* Another file, whose number was the file's. */
        check(close(second) == 0, "close");
        check(open("/dev/null", O_RDWR) == second, "open");
    } else if (!strcmp(deed, "shrink")) {
        check(ftruncate(file, 4096) == 0, "ftruncate");
    }
    close(open_in_folder("done", O_WRONLY));
    return nothing;
}

int main(int count, char **arguments) {
    check(count == 4, "arguments");
    alarm(30);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, arguments[1], sizeof address.sun_path - 1);
    int display = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    check(connect(display, (struct sockaddr *)&address, sizeof address) == 0, "connect");
    folder = arguments[2], deed = arguments[3];
    file = memfd_create("meanwhile", MFD_CLOEXEC);
    check(ftruncate(file, SIZE) == 0, "ftruncate");
    at = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    memset(at, 'a', SIZE);
    second = fcntl(file, F_DUPFD_CLOEXEC, 0);
    pthread_t thread;
    check(pthread_create(&thread, NULL, other_thread, NULL) == 0, "pthread_create");
    check(take_file(file) >= 0, "take_file");
    pthread_join(thread, NULL);
    struct stat of_file, of_second;
    check(fstat(file, &of_file) == 0 && fstat(second, &of_second) == 0, "fstat");
    printf("%c, %ld bytes, %s\n", at[100], (long)of_file.st_size, S_ISREG(of_second.st_mode) ? "a file" : "another");
    return 0;
}
