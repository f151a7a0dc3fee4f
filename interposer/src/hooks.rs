//! The functions of the C library that ours stand before, by what they are about. Each has the C library's declaration.
//!
//! Where that has a variable number of arguments, ours has as many as there can be: on x86_64 and aarch64 Linux, integers
//! and pointers are passed in the same registers either way, and the callee doesn't need to know how many there are.
//!
//! Ours only look, most of the time, and call the next function. So does every call from a process that isn't connected to
//! the agent's Wayland socket, or has nothing that is lent.

mod connect;
mod fcntl;
mod fd;
mod file;
mod fork;
mod map;
mod memfd;

/// Called when this library is loaded: finds the functions behind ours.
#[used]
#[unsafe(link_section = ".init_array")]
#[allow(unsafe_code, reason = "the dynamic linker finds it here")]
static INIT: extern "C" fn() = init;

extern "C" fn init() {
    connect::find();
    fcntl::find();
    fd::find();
    file::find();
    map::find();
    memfd::find();
    fork::watch();
    connect::prepare();
}
