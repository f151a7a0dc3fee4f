/*
 * Many threads that make pools, draw and destroy them, and a signal handler that uses fds and mappings in the middle of it.
 * The display is the first argument.
 */

#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

int take_file(int fd);

enum { THREADS = 4, ROUNDS = 150, SIZE = 100000 };

static int display;

static void check(int right, const char *what) {
    if (!right) {
        perror(what);
        _exit(1);
    }
}

static void on_alarm(int signal) {
    (void)signal;
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC), other = dup(fd);
    void *at = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(at, 4096);
    close(other);
    close(fd);
}

static void send_file(int fd) {
    char byte = 'x';
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(sizeof fd)];
    } control = {{0}};
    struct iovec part = {&byte, 1};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    control.head.cmsg_level = SOL_SOCKET;
    control.head.cmsg_type = SCM_RIGHTS;
    control.head.cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(&control.head), &fd, sizeof fd);
    check(sendmsg(display, &message, 0) == 1, "sendmsg");
}

static void *work(void *number) {
    long id = (long)number;
    for (int round = 0; round < ROUNDS; round++) {
        int fd = memfd_create("stress", MFD_CLOEXEC);
        check(fd >= 0, "memfd_create");
        check(ftruncate(fd, SIZE) == 0, "ftruncate");
        unsigned char *at = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        check(at != MAP_FAILED, "mmap");
        int taken = take_file(fd);
        check(taken >= 0, "fcntl");
        memset(at, round + id, SIZE);
        send_file(taken);
        check(close(taken) == 0, "close");
        if (round % 3 == id % 3) { /* A file again. */
            check(ftruncate(fd, 2 * SIZE) == 0, "ftruncate");
            unsigned char byte;
            check(pread(fd, &byte, 1, SIZE - 1) == 1 && byte == (unsigned char)(round + id), "pread");
        }
        if (round % 50 == 10) { /* A child that starts something. */
            pid_t child = fork();
            check(child >= 0, "fork");
            if (child == 0) {
                closefrom(3);
                execl("/bin/true", "true", NULL);
                _exit(1);
            }
            int status;
            while (waitpid(child, &status, 0) < 0)
                ;
            check(status == 0, "a child");
        }
        check(close(fd) == 0, "close");
        for (int i = 0; i < SIZE; i++)
            check(at[i] == (unsigned char)(round + id), "what was drawn");
        check(munmap(at, SIZE) == 0, "munmap");
    }
    return NULL;
}

int main(int count, char **arguments) {
    check(count == 2, "arguments");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, arguments[1], sizeof address.sun_path - 1);
    display = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    check(connect(display, (struct sockaddr *)&address, sizeof address) == 0, "connect");
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    struct itimerval often = {{0, 500}, {0, 500}};
    setitimer(ITIMER_REAL, &often, NULL);
    pthread_t threads[THREADS];
    for (long i = 0; i < THREADS; i++)
        check(pthread_create(&threads[i], NULL, work, (void *)i) == 0, "pthread_create");
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    /* All numbers are free again. */
    printf("%d\n", dup(0));
    return 0;
}
