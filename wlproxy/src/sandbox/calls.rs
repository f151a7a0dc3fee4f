//! The system calls that a process may make once it is shut in, each with its reason.

use libc::{
    AT_EMPTY_PATH, CLONE_THREAD, EACCES, ENOSYS, F_ADD_SEALS, F_DUPFD_CLOEXEC, F_GET_SEALS,
    F_GETFD, F_GETFL, F_SETFD, F_SETFL, FIONBIO, FIONREAD, PR_SET_NAME, PR_SET_VMA, PROT_EXEC,
};

/// One of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    /// Its number on this architecture.
    pub(super) number: i64,
    /// With which arguments.
    pub(super) only: Only,
}

/// With which arguments a call may be made. Arguments count from 0, and are compared as 32 bits: all of them are ints.
#[derive(Debug, Clone, Copy)]
pub(super) enum Only {
    /// With any.
    Always,
    /// This argument is one of these.
    OneOf(u8, &'static [u64]),
    /// None of these bits is in that argument.
    Without(u8, u64),
    /// All of these are.
    With(u8, u64),
    /// It is the number of this process.
    Itself(u8),
}

const fn any(number: i64) -> Call {
    Call { number, only: Only::Always }
}

const fn only(number: i64, only: Only) -> Call {
    Call { number, only }
}

/// What a worker does.
pub(super) const WORKER: &[Call] = &[
    // Streams, vhost-user, wlproxy's control socket, pipes, eventfds; and the log.
    any(libc::SYS_read),
    any(libc::SYS_write),
    any(libc::SYS_readv),
    any(libc::SYS_writev),
    any(libc::SYS_recvmsg),
    any(libc::SYS_sendmsg),
    any(libc::SYS_recvfrom),
    any(libc::SYS_sendto),
    any(libc::SYS_shutdown),
    any(libc::SYS_close),
    // The VM's monitor connects to a socket that was made before. No other can be made, but pairs.
    any(libc::SYS_accept4),
    only(libc::SYS_socketpair, Only::OneOf(0, &[libc::AF_UNIX as u64])),
    any(libc::SYS_getsockopt),
    any(libc::SYS_getsockname),
    any(libc::SYS_getpeername),
    any(libc::SYS_pipe2),
    any(libc::SYS_eventfd2),
    only(
        libc::SYS_fcntl,
        Only::OneOf(
            1,
            &[
                F_DUPFD_CLOEXEC as u64,
                F_GETFD as u64,
                F_SETFD as u64,
                F_GETFL as u64,
                F_SETFL as u64,
                F_ADD_SEALS as u64,
                F_GET_SEALS as u64,
            ],
        ),
    ),
    // A stream is set non-blocking so by Rust's library; FIONREAD tells what a pipe holds.
    only(libc::SYS_ioctl, Only::OneOf(1, &[FIONBIO, FIONREAD])),
    // Waiting.
    any(libc::SYS_ppoll),
    any(libc::SYS_epoll_create1),
    any(libc::SYS_epoll_ctl),
    any(libc::SYS_epoll_pwait),
    any(libc::SYS_epoll_pwait2),
    any(libc::SYS_timerfd_create),
    any(libc::SYS_timerfd_settime),
    any(libc::SYS_timerfd_gettime),
    any(libc::SYS_clock_nanosleep),
    any(libc::SYS_restart_syscall),
    // Usually no system call at all, but it is one in VMs whose clock can't be read otherwise.
    any(libc::SYS_clock_gettime),
    any(libc::SYS_clock_getres),
    any(libc::SYS_gettimeofday),
    // Allocations: memfds with a size and seals, emptied before they are used again.
    any(libc::SYS_memfd_create),
    any(libc::SYS_ftruncate),
    any(libc::SYS_fallocate),
    // A keymap of a compositor on the host is copied into one.
    any(libc::SYS_pread64),
    any(libc::SYS_pwrite64),
    any(libc::SYS_lseek),
    any(libc::SYS_fstat),
    // How glibc and Rust ask for an fd. With a path it would tell whether files are there.
    only(libc::SYS_newfstatat, Only::With(3, AT_EMPTY_PATH as u64)),
    only(libc::SYS_statx, Only::With(2, AT_EMPTY_PATH as u64)),
    // Memory: the VM's, allocations, and the process's own, none of which is code.
    only(libc::SYS_mmap, Only::Without(2, PROT_EXEC as u64)),
    only(libc::SYS_mprotect, Only::Without(2, PROT_EXEC as u64)),
    any(libc::SYS_munmap),
    any(libc::SYS_mremap),
    any(libc::SYS_madvise),
    any(libc::SYS_brk),
    // Threads: the device's, and one for each VM that connects. No process.
    only(libc::SYS_clone, Only::With(0, CLONE_THREAD as u64)),
    any(libc::SYS_set_robust_list),
    any(libc::SYS_rseq),
    any(libc::SYS_futex),
    any(libc::SYS_sched_yield),
    any(libc::SYS_sched_getaffinity),
    // Their names; and those of memory, if glibc is told to give them (glibc.mem.decorate_maps).
    only(libc::SYS_prctl, Only::OneOf(0, &[PR_SET_NAME as u64, PR_SET_VMA as u64])),
    any(libc::SYS_gettid),
    any(libc::SYS_getpid),
    any(libc::SYS_exit),
    any(libc::SYS_exit_group),
    // A fault in it ends it, with a message: signals are its own alone.
    any(libc::SYS_rt_sigaction),
    any(libc::SYS_rt_sigprocmask),
    any(libc::SYS_rt_sigreturn),
    any(libc::SYS_sigaltstack),
    only(libc::SYS_tgkill, Only::Itself(0)),
    // Hash tables are seeded.
    any(libc::SYS_getrandom),
];

/// The same under their older names, which glibc and Rust's library still use where there are any.
#[cfg(target_arch = "x86_64")]
pub(super) const LEGACY: &[Call] =
    &[any(libc::SYS_poll), any(libc::SYS_epoll_wait), any(libc::SYS_nanosleep)];
/// Newer architectures have none.
#[cfg(not(target_arch = "x86_64"))]
pub(super) const LEGACY: &[Call] = &[any(libc::SYS_nanosleep)];

/// What fails, so that it is done otherwise or left, rather than end the process.
pub(super) const REFUSED: &[(i32, &[i64])] = &[
    // glibc goes on with `clone` then, whose flags can be looked at.
    (ENOSYS, &[libc::SYS_clone3]),
    // A panic looks for files to name the lines of its backtrace.
    #[cfg(target_arch = "x86_64")]
    (
        EACCES,
        &[
            libc::SYS_openat,
            libc::SYS_readlinkat,
            libc::SYS_getcwd,
            libc::SYS_open,
            libc::SYS_readlink,
        ],
    ),
    #[cfg(not(target_arch = "x86_64"))]
    (EACCES, &[libc::SYS_openat, libc::SYS_readlinkat, libc::SYS_getcwd]),
];

/// What wlproxy does besides: it starts workers, each of which is shut in further, and makes and removes sockets.
pub(super) const WLPROXY: &[Call] = &[
    // Sockets of VMs' monitors, of `wlproxy status`, of metrics; a compositor on the host. No other kind.
    only(libc::SYS_socket, Only::OneOf(0, &[libc::AF_UNIX as u64])),
    any(libc::SYS_bind),
    any(libc::SYS_listen),
    any(libc::SYS_connect),
    any(libc::SYS_setsockopt),
    any(libc::SYS_flock),
    any(libc::SYS_unlinkat),
    any(libc::SYS_mkdirat),
    any(libc::SYS_umask),
    // Its configuration, also when that is read again; its program.
    any(libc::SYS_openat),
    any(libc::SYS_newfstatat),
    any(libc::SYS_statx),
    any(libc::SYS_faccessat),
    any(libc::SYS_faccessat2),
    any(libc::SYS_getdents64),
    any(libc::SYS_readlinkat),
    any(libc::SYS_getcwd),
    any(libc::SYS_getuid),
    any(libc::SYS_geteuid),
    any(libc::SYS_getgid),
    any(libc::SYS_getegid),
    any(libc::SYS_getppid),
    any(libc::SYS_uname),
    any(libc::SYS_sysinfo),
    any(libc::SYS_fcntl),
    any(libc::SYS_ioctl),
    // Workers: started, waited for, ended.
    any(libc::SYS_clone),
    any(libc::SYS_clone3),
    any(libc::SYS_execve),
    any(libc::SYS_wait4),
    any(libc::SYS_waitid),
    any(libc::SYS_pidfd_open),
    any(libc::SYS_pidfd_send_signal),
    any(libc::SYS_kill),
    any(libc::SYS_tgkill),
    any(libc::SYS_setpgid),
    any(libc::SYS_dup),
    any(libc::SYS_dup3),
    any(libc::SYS_signalfd4),
    // A worker's start: libraries are mapped, limits set, and it is shut in.
    any(libc::SYS_mmap),
    any(libc::SYS_mprotect),
    any(libc::SYS_set_tid_address),
    any(libc::SYS_prlimit64),
    any(libc::SYS_prctl),
    any(libc::SYS_seccomp),
    any(libc::SYS_landlock_create_ruleset),
    any(libc::SYS_landlock_add_rule),
    any(libc::SYS_landlock_restrict_self),
];

/// The same under older names.
#[cfg(target_arch = "x86_64")]
pub(super) const WLPROXY_LEGACY: &[Call] = &[
    any(libc::SYS_open),
    any(libc::SYS_access),
    any(libc::SYS_stat),
    any(libc::SYS_lstat),
    any(libc::SYS_readlink),
    any(libc::SYS_unlink),
    any(libc::SYS_mkdir),
    any(libc::SYS_dup2),
    any(libc::SYS_vfork),
    any(libc::SYS_arch_prctl),
];
/// Newer architectures have none.
#[cfg(not(target_arch = "x86_64"))]
pub(super) const WLPROXY_LEGACY: &[Call] = &[];
