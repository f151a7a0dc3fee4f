/*
 * Does what it is told on standard input, a line each, and tells what came of it: results, errno, and what is in memory.
 * Files stand in slots, and so do mappings. What it says has to be the same with the interposer and without.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

int take_file(int fd);

/* What is called instead, with _FORTIFY_SOURCE. */
ssize_t __read_chk(int fd, void *to, size_t len, size_t room);
ssize_t __pread_chk(int fd, void *to, size_t len, off_t at, size_t room);
int __open_2(const char *path, int flags);
int __openat_2(int folder, const char *path, int flags);

enum { SLOTS = 16 };

static int files[SLOTS], display = -1, other = -1, own[2], pair[2];
static struct {
    unsigned char *at;
    size_t len;
} maps[SLOTS];
static sigjmp_buf fault;

static void on_fault(int signal) { siglongjmp(fault, signal); }

static void say(const char *what, long result) {
    int error = errno;
    if (result == -1)
        printf("%s: %s\n", what, strerrorname_np(error));
    else
        printf("%s: %ld\n", what, result);
}

/* Sends a byte and a file. */
static long send_file(int socket, int fd) {
    char byte = 'x';
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(sizeof fd)];
    } control = {{0}};
    struct iovec part = {&byte, 1};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(head), &fd, sizeof fd);
    return sendmsg(socket, &message, MSG_NOSIGNAL);
}

/* Receives them, perhaps as one of many. */
static int receive_file(int socket, int how_many) {
    char byte;
    int fd = -1;
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(sizeof fd)];
    } control = {{0}};
    struct iovec part = {&byte, 1};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    struct mmsghdr many = {.msg_hdr = message};
    if (how_many ? recvmmsg(socket, &many, 1, MSG_CMSG_CLOEXEC, NULL) < 0
                 : recvmsg(socket, &many.msg_hdr, MSG_CMSG_CLOEXEC) < 0)
        return -1;
    struct cmsghdr *head = CMSG_FIRSTHDR(&many.msg_hdr);
    if (head && head->cmsg_type == SCM_RIGHTS)
        memcpy(&fd, CMSG_DATA(head), sizeof fd);
    return fd;
}

/* FNV-1a of a mapping; a fault is part of it. */
static void look(const char *what, unsigned char *at, size_t len) {
    volatile uint64_t hash = 14695981039346656037u;
    int signal = sigsetjmp(fault, 1);
    if (signal) {
        printf("%s: signal %d after %lx\n", what, signal, hash);
        return;
    }
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ at[i]) * 1099511628211u;
    printf("%s: %lx\n", what, hash);
}

static void poke(unsigned char *at, size_t len, int byte) {
    int signal = sigsetjmp(fault, 1);
    if (signal) {
        printf("poke: signal %d\n", signal);
        return;
    }
    memset(at, byte, len);
    printf("poke: done\n");
}

static void tell_stat(const char *what, int result, const struct stat *stat) {
    if (result)
        say(what, result);
    else
        printf("%s: %ld bytes, mode %o\n", what, (long)stat->st_size, stat->st_mode);
}

/* As a client does it: libwayland takes the file, and sends it later. */
static void pool(int fd) {
    int taken = take_file(fd);
    say("taken", taken);
    if (taken < 0)
        return;
    if (display >= 0)
        say("sent", send_file(display, taken));
    close(taken);
}

static int connect_to(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    say("connect", connect(fd, (struct sockaddr *)&address, sizeof address));
    return fd;
}

/* As Firefox does it, whose proxy listens at a path of its own. */
static int connect_to_itself(void) {
    char folder[] = "/tmp/wlproxy-test-XXXXXX";
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (!mkdtemp(folder))
        return -1;
    snprintf(address.sun_path, sizeof address.sun_path, "%s/own", folder);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    own[0] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 1) ||
        connect(own[0], (struct sockaddr *)&address, sizeof address))
        return -1;
    int accepted = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    own[1] = dup3(accepted, listener, O_CLOEXEC);
    close(accepted);
    unlink(address.sun_path);
    return rmdir(folder);
}

static void children(const char *command) {
    fflush(stdout);
    int status = system(command);
    printf("status: %d\n", status);
}

static void *wait_for_ever(void *unused) {
    for (;;)
        pause();
    return unused;
}

static void do_line(char *line) {
    char word[32], path[256], buffer[64];
    long a = 0, b = 0, c = 0, d = 0, e = 0;
    struct stat stat;
    if (sscanf(line, "%31s %ld %ld %ld %ld %ld", word, &a, &b, &c, &d, &e) < 1)
        return;
    int *file = &files[a % SLOTS], fd = *file;
    size_t m = a % SLOTS;
#define IS(name) (!strcmp(word, name))
    /* What reaches beyond a mapping would hit others. */
    if ((IS("unmap") || IS("protect") || IS("cover")) && maps[m].at) {
        if ((size_t)b >= maps[m].len)
            return;
        if ((size_t)(b + c) > maps[m].len)
            c = maps[m].len - b;
    }
    if (IS("connect")) { /* To the display. */
        display = connect_to(strchr(line, ' ') + 1);
    } else if (IS("connect-other")) { /* To somebody else. */
        other = connect_to(strchr(line, ' ') + 1);
    } else if (IS("thread")) {
        pthread_t thread;
        pthread_create(&thread, NULL, wait_for_ever, NULL);
    } else if (IS("system")) {
        children(strchr(line, ' ') + 1);
    } else if (IS("put-constant")) { /* Into the environment, from memory that can't be written to. */
        char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        strncpy(page, strchr(line, ' ') + 1, 4095);
        mprotect(page, 4096, PROT_READ);
        say("put-constant", putenv(page));
    } else if (IS("create")) {
        say("create", *file = memfd_create("test file", b));
    } else if (IS("create-by-number")) {
        say("create", *file = syscall(SYS_memfd_create, "test file", (unsigned)b));
    } else if (IS("create-named")) {
        snprintf(path, sizeof path, "/wlproxy-test-%d", getpid());
        say("create-named", *file = shm_open(path, O_RDWR | O_CREAT | O_EXCL, 0600));
        if (!b)
            say("unlink", shm_unlink(path));
    } else if (IS("unlink")) {
        snprintf(path, sizeof path, "/wlproxy-test-%d", getpid());
        say("unlink", shm_unlink(path));
    } else if (IS("truncate")) {
        say("truncate", ftruncate(fd, b));
    } else if (IS("allocate")) {
        say("allocate", fallocate(fd, b, c, d));
    } else if (IS("posix-allocate")) {
        printf("posix-allocate: %d\n", posix_fallocate(fd, b, c));
    } else if (IS("map")) { /* mapping, file, length, offset, private or protection */
        int flags = e & 1 ? MAP_PRIVATE : MAP_SHARED, protection = PROT_READ | (e & 2 ? 0 : PROT_WRITE);
        void *at = mmap(NULL, c, protection, flags, files[b % SLOTS], d);
        say("map", at == MAP_FAILED ? -1 : 0);
        if (at != MAP_FAILED)
            maps[m].at = at, maps[m].len = c;
    } else if (IS("map-again")) { /* Another file, where one was. */
        munmap(maps[m].at, maps[m].len);
        void *at = mmap(maps[m].at, maps[m].len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED_NOREPLACE,
                        files[b % SLOTS], 0);
        say("map-again", at == maps[m].at ? 0 : -1);
    } else if (IS("unmap")) { /* mapping, offset, length */
        if (maps[m].at)
            say("unmap", munmap(maps[m].at + b, c));
        if (b == 0)
            maps[m].at = NULL; /* What is left is nobody's. */
        else
            maps[m].len = b;
    } else if (IS("protect")) { /* mapping, offset, length, read only */
        if (maps[m].at)
            say("protect", mprotect(maps[m].at + b, c, PROT_READ | (d ? 0 : PROT_WRITE)));
    } else if (IS("remap")) {
        if (maps[m].at) {
            void *at = mremap(maps[m].at, maps[m].len, b, MREMAP_MAYMOVE);
            say("remap", at == MAP_FAILED ? -1 : 0);
            if (at != MAP_FAILED)
                maps[m].at = at, maps[m].len = b;
        }
    } else if (IS("move") && maps[m].at) { /* Somewhere else, as large as it is. */
        void *to = mmap(NULL, maps[m].len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        void *at = mremap(maps[m].at, maps[m].len, maps[m].len, MREMAP_MAYMOVE | MREMAP_FIXED, to);
        say("move", at == MAP_FAILED ? -1 : 0);
        if (at != MAP_FAILED)
            maps[m].at = at;
    } else if (IS("move-and-stay")) { /* To another slot, and what is left is mapped still. */
        void *at = mremap(maps[m].at, maps[m].len, maps[m].len, MREMAP_MAYMOVE | MREMAP_DONTUNMAP);
        say("move-and-stay", at == MAP_FAILED ? -1 : 0);
        if (at != MAP_FAILED)
            maps[b].at = at, maps[b].len = maps[m].len;
    } else if (IS("cover-badly")) { /* What the kernel refuses. */
        void *at = mmap(maps[m].at, maps[m].len, PROT_READ, MAP_SHARED | MAP_FIXED, -1, 0);
        say("cover-badly", at == MAP_FAILED ? -1 : 0);
    } else if (IS("cover")) { /* Anonymous memory in the place of a part. */
        if (maps[m].at)
            say("cover", mmap(maps[m].at + b, c, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
                              0) == MAP_FAILED
                             ? -1
                             : 0);
    } else if (IS("poke")) { /* mapping, offset, length, byte */
        if (maps[m].at && (size_t)(b + c) <= maps[m].len)
            poke(maps[m].at + b, c, d);
    } else if (IS("look")) {
        if (maps[m].at)
            look("look", maps[m].at, maps[m].len);
    } else if (IS("pool")) {
        pool(fd);
    } else if (IS("pool-without")) { /* Without libwayland. */
        say("sent", send_file(display, fd));
    } else if (IS("dup")) {
        say("dup", files[b % SLOTS] = dup(fd));
    } else if (IS("dup2")) {
        say("dup2", dup2(fd, b));
    } else if (IS("dup3")) {
        say("dup3", dup3(fd, b, O_CLOEXEC));
    } else if (IS("number")) { /* Puts a number into a slot. */
        *file = b;
    } else if (IS("dupfd")) {
        say("dupfd", files[b % SLOTS] = fcntl(fd, F_DUPFD, c));
    } else if (IS("close")) {
        say("close", close(fd));
    } else if (IS("close-behind")) { /* As a library does it that makes system calls itself. */
        say("close", syscall(SYS_close, fd));
    } else if (IS("close-range")) {
        say("close-range", close_range(a, b, 0));
    } else if (IS("close-from")) {
        closefrom(a);
    } else if (IS("stat")) {
        tell_stat("stat", fstat(fd, &stat), &stat);
    } else if (IS("stat-at")) {
        tell_stat("stat", fstatat(fd, "", &stat, AT_EMPTY_PATH), &stat);
    } else if (IS("seek")) {
        say("seek", lseek(fd, b, c));
    } else if (IS("read")) {
        memset(buffer, 0, sizeof buffer);
        say("read", read(fd, buffer, sizeof buffer));
        look("got", (unsigned char *)buffer, sizeof buffer);
    } else if (IS("pread")) {
        memset(buffer, 0, sizeof buffer);
        say("pread", pread(fd, buffer, sizeof buffer, b));
        look("got", (unsigned char *)buffer, sizeof buffer);
    } else if (IS("read-checked")) {
        memset(buffer, 0, sizeof buffer);
        say("read", __read_chk(fd, buffer, sizeof buffer, sizeof buffer));
        look("got", (unsigned char *)buffer, sizeof buffer);
    } else if (IS("pread-checked")) {
        memset(buffer, 0, sizeof buffer);
        say("pread", __pread_chk(fd, buffer, sizeof buffer, b, sizeof buffer));
        look("got", (unsigned char *)buffer, sizeof buffer);
    } else if (IS("readv2")) {
        memset(buffer, 0, sizeof buffer);
        struct iovec part = {buffer, sizeof buffer};
        say("readv2", preadv2(fd, &part, 1, b, 0));
        look("got", (unsigned char *)buffer, sizeof buffer);
    } else if (IS("writev2")) {
        memset(buffer, c, sizeof buffer);
        struct iovec part = {buffer, sizeof buffer};
        say("writev2", pwritev2(fd, &part, 1, b, 0));
    } else if (IS("touch")) {
        say("touch", futimens(fd, NULL));
    } else if (IS("readv")) {
        memset(buffer, 0, sizeof buffer);
        struct iovec part = {buffer, sizeof buffer};
        say("readv", readv(fd, &part, 1));
        look("got", (unsigned char *)buffer, sizeof buffer);
    } else if (IS("write")) {
        memset(buffer, b, sizeof buffer);
        say("write", write(fd, buffer, sizeof buffer));
    } else if (IS("pwrite")) {
        memset(buffer, c, sizeof buffer);
        say("pwrite", pwrite(fd, buffer, sizeof buffer, b));
    } else if (IS("send-file")) {
        say("send-file", sendfile(files[b % SLOTS], fd, NULL, c));
    } else if (IS("bytes-left")) {
        int left = -1;
        say("bytes-left", ioctl(fd, FIONREAD, &left));
        printf("left: %d\n", left);
    } else if (IS("get-seals")) {
        say("get-seals", fcntl(fd, F_GET_SEALS));
    } else if (IS("add-seals")) {
        say("add-seals", fcntl(fd, F_ADD_SEALS, b));
    } else if (IS("get-flags")) {
        /* shm_open leaves O_NOFOLLOW, which no memfd has. */
        int flags = fcntl(fd, F_GETFL);
        say("get-flags", flags < 0 ? flags : flags & ~O_NOFOLLOW);
    } else if (IS("set-flags")) {
        say("set-flags", fcntl(fd, F_SETFL, b));
    } else if (IS("get-closing")) {
        say("get-closing", fcntl(fd, F_GETFD));
    } else if (IS("set-closing")) {
        say("set-closing", fcntl(fd, F_SETFD, b));
    } else if (IS("reopen")) {
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        say("reopen", files[b % SLOTS] = open(path, c ? O_RDONLY : O_RDWR));
    } else if (IS("reopen-checked")) {
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        say("reopen", files[b % SLOTS] = c ? __open_2(path, O_RDWR) : __openat_2(AT_FDCWD, path, O_RDWR));
    } else if (IS("send-other")) {
        say("send", send_file(other, fd));
    } else if (IS("send")) { /* To itself. */
        say("send", send_file(own[0], fd));
    } else if (IS("send-pair")) {
        say("send", send_file(pair[0], fd));
    } else if (IS("receive")) {
        say("receive", *file = receive_file(own[1], b));
    } else if (IS("receive-pair")) {
        say("receive", *file = receive_file(pair[1], b));
    } else if (IS("null")) {
        say("null", *file = open("/dev/null", O_RDWR));
    } else if (IS("fork")) { /* A child uses what it has, and then so does its parent. */
        fflush(stdout);
        pid_t child = b ? vfork() : fork();
        if (child == 0) {
            if (!b) {
                tell_stat("stat in the child", fstat(fd, &stat), &stat);
                fflush(stdout);
            }
            close(fd);
            _exit(7);
        }
        int status = 0;
        say("wait", waitpid(child, &status, 0) == child ? status : -1);
    } else {
        printf("unknown: %s\n", word);
    }
}

int main(void) {
    struct sigaction action = {.sa_handler = on_fault};
    sigaction(SIGBUS, &action, NULL);
    sigaction(SIGSEGV, &action, NULL);
    /* What hangs, ends. */
    alarm(30);
    /* So that numbers don't depend on what was inherited. */
    closefrom(3);
    for (int i = 0; i < SLOTS; i++)
        files[i] = -1;
    if (connect_to_itself() || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
        return 1;
    for (int i = 0; i < 2; i++) {
        int high = fcntl(pair[i], F_DUPFD_CLOEXEC, 700);
        close(pair[i]);
        pair[i] = high;
    }
    char *line = NULL;
    size_t size = 0;
    while (getline(&line, &size, stdin) > 0) {
        line[strcspn(line, "\n")] = 0;
        do_line(line);
        fflush(stdout);
    }
    return 0;
}
