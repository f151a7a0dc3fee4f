//! The command line.

use clap::Parser;
use compositor_shim::ChannelSpec;
use smithay::utils::{Logical, Size};
use std::path::PathBuf;

/// Most pixels that the screen has on a side, as in wlroots and X11: what fits into 16 bits with a sign.
const MOST: i32 = i16::MAX as i32;

/// A small compositor without a screen, which accepts clients of other VMs by itself.
#[derive(Debug, Parser)]
pub(crate) struct Options {
    /// Where local clients connect: a name in XDG_RUNTIME_DIR, or a path
    #[arg(long, value_name = "NAME_OR_PATH")]
    pub(crate) socket: String,
    /// Over which channel clients of other VMs come, such as `auto`. Without it there are only local ones
    #[arg(long)]
    pub(crate) channel: Option<ChannelSpec>,
    /// The screen's size in pixels
    #[arg(long, value_name = "WIDTHxHEIGHT", default_value = "1280x720", value_parser = size)]
    pub(crate) size: Size<i32, Logical>,
    /// Where a PNG of the screen is written at SIGUSR1
    #[arg(long, value_name = "FILE")]
    pub(crate) picture: Option<PathBuf>,
}

fn size(text: &str) -> Result<Size<i32, Logical>, String> {
    let number = |text: &str| text.parse().ok().filter(|number| (1..=MOST).contains(number));
    let sizes = text.split_once('x').and_then(|(w, h)| Some((number(w)?, number(h)?)));
    sizes.map(Into::into).ok_or_else(|| format!("it is like 1280x720, each from 1 to {MOST}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_has_two_numbers() {
        assert_eq!(size("1280x720"), Ok((1280, 720).into()));
        for wrong in ["", "1280", "1280x", "0x720", "1280x-1", "1280x720x1", "32768x1"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
