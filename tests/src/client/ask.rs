//! What the compositor tells a client that asks: a keymap, and of a [`recorder`](crate::recorder), what it sees.

use super::{Buffer, Client, State};
use crate::{Digest, Display, Mapping};
use anyhow::{Result, ensure};
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, OnceLock};
use wayland_client::protocol::wl_callback::{self, WlCallback};
use wayland_client::protocol::wl_seat::WlSeat;
use wayland_client::protocol::wl_surface::WlSurface;
use wayland_client::{Connection, Dispatch, QueueHandle};

/// What a client reads that maps its keymap, as clients of that version of wl_seat do.
pub fn keymap(display: &Display, version: u32) -> Result<Vec<u8>> {
    let mut client = Client::connect(display)?;
    let seat: WlSeat = client.bind(version)?;
    client.until("a keyboard", |state| state.keyboard)?;
    seat.get_keyboard(&client.handle(), ());
    client.until("a keymap", |state| state.keymap.is_some())?;
    let (file, size) = client.state.keymap.take().expect("there is one");
    let size = NonZeroUsize::new(size as usize).expect("a keymap isn't empty");
    // Clients map shared until version 6 of wl_seat, and may only map privately from 7 on.
    let mapping =
        if version < 7 { Mapping::shared(&file, size)? } else { Mapping::private(&file, size)? };
    Ok(mapping.bytes())
}

impl Client {
    /// Makes sure that a recorder sees on `surface` what is in `buffer`.
    pub fn check(&mut self, surface: &WlSurface, buffer: &Buffer) -> Result<()> {
        let seen = self.seen(surface)?;
        let drawn = buffer.digest()?;
        ensure!(seen == drawn, "the compositor sees {seen:#x}, and {drawn:#x} was drawn");
        Ok(())
    }

    /// What a recorder sees on `surface`.
    fn seen(&mut self, surface: &WlSurface) -> Result<u32> {
        let told = Arc::new(OnceLock::new());
        surface.frame(&self.handle(), told.clone());
        surface.commit();
        self.until("what the compositor sees", |_| told.get().is_some())?;
        Ok(*told.get().expect("just seen"))
    }
}

impl Buffer {
    /// The [`Digest`] of what is in it, with four bytes per pixel.
    fn digest(&self) -> Result<u32> {
        let (mut digest, mut row) = (Digest::default(), vec![0; self.width as usize * 4]);
        for y in 0..self.height as u64 {
            self.file.read_exact_at(&mut row, self.offset + y * self.stride)?;
            digest.add(&row);
        }
        Ok(digest.finish())
    }
}

impl Dispatch<WlCallback, Arc<OnceLock<u32>>> for State {
    fn event(
        _: &mut Self,
        _: &WlCallback,
        event: wl_callback::Event,
        told: &Arc<OnceLock<u32>>,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let wl_callback::Event::Done { callback_data } = event {
            let _ = told.set(callback_data);
        }
    }
}
