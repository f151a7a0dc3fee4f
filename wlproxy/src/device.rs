//! The devices: vhost-user backends that give a VM contexts, allocations and pipes.

pub mod opener;
