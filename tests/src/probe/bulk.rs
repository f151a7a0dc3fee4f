//! Something large is copied by one client and pasted by another, in another VM or where the compositor is.

use crate::{Display, Flood, Party, Selection};
use anyhow::{Result, ensure};
use std::time::Instant;

/// How much, in bytes.
const SIZE: usize = 20_000_000;

/// Bytes that are written and read at a time.
const PIECE: usize = 64 * 1024;

/// The seed of it.
const SEED: u64 = 20;

const KIND: &str = "application/x-probe";

/// The recorder tells everybody of it, so nobody needs the focus.
const SELECTION: Selection = Selection::Clipboard;

/// Copies, and writes what is pasted, so many times.
pub(super) fn copy(display: &Display, times: usize) -> Result<()> {
    let mut party = Party::connect(display)?;
    party.copy(SELECTION, KIND)?;
    println!("{SIZE} bytes are copied");
    for _ in 0..times {
        let pipe = party.asked(KIND)?;
        let (mut flood, mut piece, mut left) = (Flood::new(SEED), vec![0; PIECE], SIZE);
        while left > 0 {
            let piece = &mut piece[..left.min(PIECE)];
            flood.fill(piece);
            pipe.write(piece)?;
            left -= piece.len();
        }
    }
    party.client.roundtrip()
}

/// Pastes, and makes sure that it is what was copied, and all of it.
pub(super) fn paste(display: &Display) -> Result<()> {
    let mut party = Party::connect(display)?;
    let begin = Instant::now();
    let pipe = party.paste(SELECTION, KIND)?;
    let (mut flood, mut read) = (Flood::new(SEED), 0);
    let (mut piece, mut expected) = (vec![0; PIECE], vec![0; PIECE]);
    loop {
        let got = pipe.read_some(&mut piece)?;
        if got == 0 {
            break;
        }
        flood.fill(&mut expected[..got]);
        ensure!(piece[..got] == expected[..got], "other bytes came after {read}");
        read += got;
    }
    ensure!(read == SIZE, "{read} of {SIZE} bytes came");
    println!("figure: {read} bytes are pasted in {:.2} s", begin.elapsed().as_secs_f32());
    party.client.roundtrip()
}
