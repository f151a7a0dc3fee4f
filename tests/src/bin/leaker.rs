//! Leaks on command, so that a test can see that the leak check finds it.
//!
//! Reads lines: `fd`, `memfd`, `mapping`, `zombie`; answers `done` when it holds one more of that. Or `?`, for nothing.

#![deny(unsafe_code)]

use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use std::fs::File;
use std::io::{BufRead, Write};
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::process::{Child, Command};
use wlproxy_tests::Mapping;

#[derive(Default)]
struct Held {
    fds: Vec<OwnedFd>,
    mappings: Vec<Mapping>,
    children: Vec<Child>,
}

fn main() -> anyhow::Result<()> {
    const SIZE: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");
    let mut held = Held::default();
    for line in std::io::stdin().lock().lines() {
        match line?.as_str() {
            // Of a kind that nothing else here has open, whatever this process inherited.
            "fd" => held.fds.push(File::open("/dev/zero")?.into()),
            "memfd" => held.fds.push(wlproxy_unix::memory::allocate("leak", 4096)?),
            "mapping" => {
                let memory = wlproxy_unix::memory::allocate("leak", 4096)?;
                held.mappings.push(Mapping::private(memory, SIZE)?);
            }
            "zombie" => {
                let child = Command::new("true").spawn()?;
                let id = Id::Pid(Pid::from_raw(child.id().cast_signed()));
                // Until it has ended, without taking its exit status.
                waitid(id, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT)?;
                held.children.push(child);
            }
            "?" => {}
            other => anyhow::bail!("unknown leak {other}"),
        }
        println!("done");
        std::io::stdout().flush()?;
    }
    Ok(())
}
