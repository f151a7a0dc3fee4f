//! The role of a compositor VM, whoever its compositor is reached by.

use crate::channel::Arrived;
use crate::connection::{End, Link, Role};
use crate::turns::Account;
use crate::world::{Peer, World};
use std::collections::VecDeque;
use std::os::fd::OwnedFd;

/// Carries a client's stream to a compositor and back: bytes as they are (the host has checked them), vfds as fds.
#[derive(Debug)]
pub struct Passage {
    /// Name of the client VM, whose clients have one account.
    vm: Account,
}

impl Passage {
    /// Of a client of this VM.
    pub fn new(vm: &str) -> Self {
        Self { vm: vm.into() }
    }

    fn peer(&self) -> Peer<'_> {
        Peer { vm: &self.vm, account: &self.vm }
    }
}

impl Role for Passage {
    fn account(&self) -> &Account {
        &self.vm
    }

    fn take_local(
        &mut self,
        bytes: &[u8],
        fds: &mut VecDeque<OwnedFd>,
        link: &mut Link,
        world: &mut World,
    ) -> Result<(), End> {
        for fd in fds.drain(..) {
            link.out.queue(&[], [world.carry_out(fd, self.peer())?]);
        }
        link.out.queue(bytes, []);
        Ok(())
    }

    fn take_remote(
        &mut self,
        bytes: &[u8],
        vfds: Vec<Arrived>,
        link: &mut Link,
        world: &mut World,
    ) -> Result<(), End> {
        let mut vfds = vfds.into_iter();
        let fds: Result<Vec<OwnedFd>, _> = vfds
            .by_ref()
            .map(|vfd| match vfd {
                Arrived::Allocation(allocation) => {
                    // The compositor keeps what it maps; this end of it isn't needed any more.
                    world.channel.close(allocation.vfd);
                    Ok(allocation.fd)
                }
                Arrived::Pipe(vfd, end) => world.carry_pipe_in(vfd, end, self.peer()),
            })
            .collect();
        // If one couldn't be carried, nobody will ask for those after it.
        vfds.for_each(|vfd| world.discard(&vfd));
        link.local.queue(bytes, fds?);
        Ok(())
    }

    /// A compositor isn't told anything: its client just leaves.
    fn farewell(&self, _end: &End) -> Vec<u8> {
        Vec::new()
    }

    fn close(self: Box<Self>, _world: &mut World) {}
}
