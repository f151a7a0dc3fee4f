//! A hostile VM: says everything wrong to its wlproxy device, over the kernel's driver or in place of it.
//!
//! Everything comes from a seed, which it prints. It fails if the device doesn't answer any more.

#![deny(unsafe_code)]

mod memory;
mod node;
mod pci;
mod queue;

use anyhow::Result;
use clap::{Parser, Subcommand};
use wlproxy_hostile::Random;

#[derive(Debug, Parser)]
#[command(about, disable_help_subcommand = true)]
struct Options {
    /// What all of it comes from; without, anything
    #[arg(long)]
    seed: Option<u64>,
    /// How many commands to say
    #[arg(long, default_value_t = 20_000)]
    commands: u64,
    #[command(subcommand)]
    way: Way,
}

#[derive(Debug, Subcommand)]
enum Way {
    /// As any program of the VM can: over the render node
    Ioctls,
    /// As the kernel can: in place of its driver, whose device it takes away and gives back. Root only
    Queue {
        /// Also reset the device while it has not answered everything
        #[arg(long)]
        reset_at_any_time: bool,
    },
}

fn main() -> Result<()> {
    let options = Options::parse();
    let seed = match options.seed {
        Some(seed) => seed,
        None => getrandom::u64().map_err(|error| anyhow::anyhow!("no random bits: {error}"))?,
    };
    println!("seed {seed}");
    let mut random = Random::new(seed);
    match options.way {
        Way::Ioctls => node::run(&mut random, options.commands),
        Way::Queue { reset_at_any_time } => {
            queue::run(&mut random, options.commands, reset_at_any_time)
        }
    }
}
