//! `cargo xtask vm`: virtual machines with Debian's kernel and userland, for tests and to work in.
//!
//! All that they are made of comes from the mirror that the machine's own apt uses, and lies in `target/vm`: three trees
//! of packages (QEMU, a kernel, a userland), a file system made of the last, and the part of the initial RAM disk that
//! doesn't change. What is ours gets in at each start, by the other part of that.
//!
//! A [`lab::Lab`] is wlproxy with a compositor VM and two client VMs. It is what the demo shows, what scenarios test, and
//! what a shell is opened in.

mod cpio;
mod demo;
mod examples;
mod image;
mod lab;
mod machine;
mod modules;
mod programs;
mod scenarios;
mod setup;
mod shell;
mod test;
mod trees;

use crate::progress::Progress;
use anyhow::Result;
use clap::{Args, Subcommand};
use image::Images;

/// Options of `cargo xtask vm`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes all that VMs are started with, if it is missing, and tells where it is
    Make,
    /// Boots one VM, and gives a root shell on its console, with the current build in /usr/local/bin
    Shell(shell::Options),
    /// Boots three VMs with wlproxy's virtio-gpu, shows windows of two on the screen of the third, and takes a picture
    Demo(demo::Options),
    /// Boots three VMs with wlproxy's virtio-gpu, and tests what wlproxy does with them
    Test(test::Options),
}

/// Runs the command.
pub(crate) fn run(options: &Options) -> Result<()> {
    match &options.command {
        Command::Make => {
            let images = Images::ensure(&mut Progress::new())?;
            for path in [&images.qemu, &images.kernel, &images.initrd, &images.userland] {
                println!("{}", path.display());
            }
            Ok(())
        }
        Command::Shell(options) => shell::run(options),
        Command::Demo(options) => demo::run(options),
        Command::Test(options) => test::run(options),
    }
}
