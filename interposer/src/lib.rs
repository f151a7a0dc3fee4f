//! A library that `guest-agent run --zero-copy` preloads into an application, so that what the application draws into is
//! memory that the compositor VM sees as well, and nothing has to be copied. The application isn't modified and doesn't
//! know.
//!
//! # How a file becomes an allocation
//!
//! A client makes a memfd, sizes it, maps it, and hands it to libwayland for `wl_shm.create_pool`. libwayland takes it by
//! duplicating the fd (`fcntl(F_DUPFD_CLOEXEC)`). That call is interposed, and that is the moment: the agent is asked for
//! an allocation as large; it gets what is in the file, takes the place of the file's mappings (`MAP_FIXED`), and of its
//! fds (`dup3`). Then libwayland goes on, and sends the allocation's fd. For clients without libwayland the moment is when
//! they send the fd to the agent's Wayland socket (`sendmsg`). So only what is about to become a pool is ever
//! borrowed, whatever else the application uses memfds for: sound, video, its own processes.
//!
//! Only a memfd that this process has made is taken, that nobody else has got, that is mapped and opened in no other way
//! than an allocation can be, and whose size is worth it. If anything is in the way, nothing is done, and the agent copies.
//!
//! # What an allocation can't be asked for
//!
//! In a VM its fd is a dma-buf or a virtwl vfd. It can be mapped, whole; it can be duplicated, closed, and sent. Everything
//! else that a client may do with a file (size it, read or write it, look at it, map a part of it) makes it a file again
//! first: it is *demoted*. A new memfd takes its place, in the same way, and the agent is told to copy from that. Clients
//! that were looked at close their fd as soon as the pool is made, or do nothing with it; only those whose pool grows are
//! demoted.
//!
//! # What it must not do
//!
//! Hooks run in any thread, in signal handlers, within malloc and before main. So nothing is allocated; what is looked for
//! is found by an atomic load, and most calls go on at once; the one lock is taken with all signals blocked, and nothing
//! that is called under it leads back to a hook: system calls are made directly (`raw.rs`). Nothing panics; a library that
//! can't go on does nothing. Children don't inherit what is lent, and don't inherit this library once their parent has
//! connected to the agent: what loads it is taken out of the environment then.
//!
//! | file | what is in it |
//! |---|---|
//! | `hooks.rs` | the functions of the C library that are interposed |
//! | `lend.rs`, `demote.rs` | a file becomes an allocation, and a file again |
//! | `state.rs`, `table.rs` | which files can be, which fds and mappings are allocations |
//! | `lender.rs` | the connection to the agent |
//! | `maps.rs`, `fds.rs` | what the kernel knows of this process's mappings and fds |
//! | `environment.rs`, `caller.rs` | the variables; who calls |
//! | `raw.rs`, `socket.rs`, `lock.rs`, `next.rs` | what unsafe code is needed for |

#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
#![cfg_attr(not(test), no_std)] // std would call the hooks.
#![deny(unsafe_code)]
#![cfg_attr(test, allow(dead_code, unused_imports, unused_macros, reason = "the hooks use it"))]

mod caller;
mod demote;
mod environment;
mod fds;
mod lend;
mod lender;
mod list;
mod lock;
mod maps;
mod next;
mod raw;
mod socket;
mod state;
mod table;

// Not in the tests of this crate, which are a program: it would have our functions instead of the C library's.
#[cfg(not(test))]
mod hooks;

/// Size of a page, in bytes.
const PAGE: usize = wlproxy_protocol::limits::PAGE_SIZE as usize;
