//! What clients request. Where the handlers of a smithay compositor don't ask who the client is, they are the same for
//! clients of other VMs and local ones.

mod compositor;
mod seat;
mod xdg_shell;
