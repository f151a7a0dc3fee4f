//! One of two who exchange something: a client with a window, that copies, pastes, drags and is dropped on.

use crate::exchange::{Exchange, Selection, Source, ext, gtk, primary, wlr};
use crate::{Client, Desk, Display, PATIENCE, Toplevel};
use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{pipe2, read, write};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;
use wayland_client::Proxy;
use wayland_client::protocol::wl_data_device::WlDataDevice;
use wayland_client::protocol::wl_data_device_manager::{DndAction, WlDataDeviceManager};
use wayland_client::protocol::wl_data_source::WlDataSource;
use wayland_client::protocol::wl_keyboard::WlKeyboard;
use wayland_client::protocol::wl_pointer::WlPointer;
use wayland_client::protocol::wl_seat::WlSeat;

/// Size of a party's window, in pixels.
const SIDE: i32 = 100;

/// A client that exchanges things.
#[derive(Debug)]
pub struct Party {
    /// The connection.
    pub client: Client,
    title: String,
    window: Option<Toplevel>,
    seat: WlSeat,
    sources: HashMap<Selection, Box<dyn Source>>,
    devices: HashMap<Selection, Device>,
}

/// A device of a selection's protocol, and what makes sources for it.
#[derive(Debug)]
enum Device {
    Clipboard(WlDataDeviceManager, WlDataDevice),
    Primary(
        primary::ZwpPrimarySelectionDeviceManagerV1,
        primary::zwp_primary_selection_device_v1::ZwpPrimarySelectionDeviceV1,
    ),
    Gtk(
        gtk::GtkPrimarySelectionDeviceManager,
        gtk::gtk_primary_selection_device::GtkPrimarySelectionDevice,
    ),
    Wlr(wlr::ZwlrDataControlManagerV1, wlr::zwlr_data_control_device_v1::ZwlrDataControlDeviceV1),
    Ext(ext::ExtDataControlManagerV1, ext::ext_data_control_device_v1::ExtDataControlDeviceV1),
}

impl Party {
    /// A client without a window: for protocols that ask for no focus.
    pub fn connect(display: &Display) -> Result<Self> {
        let client = Client::connect(display)?;
        let seat: WlSeat = client.bind(7)?;
        Ok(Self {
            client,
            title: String::new(),
            window: None,
            seat,
            sources: HashMap::new(),
            devices: HashMap::new(),
        })
    }

    /// A client with a window of 100 times 100 pixels at `x`, `y`, on a seat with a keyboard and a pointer.
    pub fn with_window(
        desk: &Desk,
        display: &Display,
        title: &str,
        (x, y): (i64, i64),
    ) -> Result<Self> {
        let mut party = Self::connect(display)?;
        let client = &mut party.client;
        client.roundtrip()?;
        let _: WlKeyboard = party.seat.get_keyboard(&client.handle(), ());
        let _: WlPointer = party.seat.get_pointer(&client.handle(), ());
        let window = client.toplevel(title)?;
        window.show(&client.buffer(SIDE, SIDE));
        client.roundtrip()?;
        let mut sway = desk.sway();
        let id = sway.window(title).id;
        sway.place(id, x, y);
        client.roundtrip()?;
        party.window = Some(window);
        party.title = title.to_owned();
        Ok(party)
    }

    /// Whether the compositor offers what `selection` takes.
    pub fn can(&self, selection: Selection) -> bool {
        let (name, least) = selection.global();
        let globals = &self.client.state.globals;
        globals.iter().any(|(_, global, version)| global == name && *version >= least)
    }

    /// What the compositor has told of exchanges.
    pub fn exchange(&mut self) -> &mut Exchange {
        &mut self.client.state.exchange
    }

    /// Gets the keyboard's focus, if there is a window.
    pub fn focus(&mut self, desk: &Desk) -> Result<()> {
        if self.window.is_none() {
            return Ok(());
        }
        desk.sway().command(&format!("[title=\"{}$\"] focus", self.title));
        self.client.until("the focus", |state| state.focused)
    }

    /// Listens to what is copied, if it doesn't yet.
    fn device(&mut self, selection: Selection) -> Result<&Device> {
        use Selection::{
            Clipboard, ControlledClipboard, ControlledPrimary, ExtClipboard, ExtPrimary,
            GtkPrimary, Primary,
        };
        // One device serves both selections.
        let first = match selection {
            ControlledPrimary => ControlledClipboard,
            ExtPrimary => ExtClipboard,
            selection => selection,
        };
        if !self.devices.contains_key(&first) {
            let (client, seat) = (&mut self.client, &self.seat);
            let handle = client.handle();
            let device = match first {
                Clipboard => {
                    let manager: WlDataDeviceManager = client.bind(3)?;
                    let device = manager.get_data_device(seat, &handle, first);
                    Device::Clipboard(manager, device)
                }
                Primary => {
                    let manager: primary::ZwpPrimarySelectionDeviceManagerV1 = client.bind(1)?;
                    let device = manager.get_device(seat, &handle, first);
                    Device::Primary(manager, device)
                }
                GtkPrimary => {
                    let manager: gtk::GtkPrimarySelectionDeviceManager = client.bind(1)?;
                    let device = manager.get_device(seat, &handle, first);
                    Device::Gtk(manager, device)
                }
                ControlledClipboard | ControlledPrimary => {
                    let manager: wlr::ZwlrDataControlManagerV1 = client.bind(2)?;
                    let device = manager.get_data_device(seat, &handle, first);
                    Device::Wlr(manager, device)
                }
                ExtClipboard | ExtPrimary => {
                    let manager: ext::ExtDataControlManagerV1 = client.bind(1)?;
                    let device = manager.get_data_device(seat, &handle, first);
                    Device::Ext(manager, device)
                }
            };
            self.client.roundtrip()?;
            self.devices.insert(first, device);
        }
        Ok(&self.devices[&first])
    }

    /// Listens to what is copied or dragged, if it doesn't yet.
    pub fn listen(&mut self, selection: Selection) -> Result<()> {
        self.device(selection).map(drop)
    }

    /// Offers something to be pasted as `kind`. With a protocol that asks for it, the focus must be here.
    pub fn copy(&mut self, selection: Selection, kind: &str) -> Result<()> {
        self.copy_as(selection, &[kind])
    }

    /// The same, as any of `kinds`.
    pub fn copy_as(&mut self, selection: Selection, kinds: &[&str]) -> Result<()> {
        self.device(selection)?;
        let (handle, serial) = (self.client.handle(), self.client.state.serial);
        let second = matches!(selection, Selection::ControlledPrimary | Selection::ExtPrimary);
        let source: Box<dyn Source> = match self.device(selection)? {
            Device::Clipboard(manager, device) => {
                let source = manager.create_data_source(&handle, ());
                kinds.iter().for_each(|&kind| source.offer(kind.to_owned()));
                device.set_selection(Some(&source), serial);
                Box::new(source)
            }
            Device::Primary(manager, device) => {
                let source = manager.create_source(&handle, ());
                kinds.iter().for_each(|&kind| source.offer(kind.to_owned()));
                device.set_selection(Some(&source), serial);
                Box::new(source)
            }
            Device::Gtk(manager, device) => {
                let source = manager.create_source(&handle, ());
                kinds.iter().for_each(|&kind| source.offer(kind.to_owned()));
                device.set_selection(Some(&source), serial);
                Box::new(source)
            }
            Device::Wlr(manager, device) => {
                let source = manager.create_data_source(&handle, ());
                kinds.iter().for_each(|&kind| source.offer(kind.to_owned()));
                match second {
                    false => device.set_selection(Some(&source)),
                    true => device.set_primary_selection(Some(&source)),
                }
                Box::new(source)
            }
            Device::Ext(manager, device) => {
                let source = manager.create_data_source(&handle, ());
                kinds.iter().for_each(|&kind| source.offer(kind.to_owned()));
                match second {
                    false => device.set_selection(Some(&source)),
                    true => device.set_primary_selection(Some(&source)),
                }
                Box::new(source)
            }
        };
        if let Some(before) = self.sources.insert(selection, source) {
            before.destroy();
        }
        self.client.roundtrip()
    }

    /// Asks for what is offered as `kind`, as soon as it is.
    pub fn paste(&mut self, selection: Selection, kind: &str) -> Result<Paste> {
        let (ours, theirs) = Paste::pipe()?;
        self.paste_into(selection, kind, theirs)?;
        Ok(ours)
    }

    /// The same, to be written to `target`.
    pub fn paste_into(&mut self, selection: Selection, kind: &str, target: OwnedFd) -> Result<()> {
        self.device(selection)?;
        let offered = |exchange: &Exchange| {
            exchange.offers.get(&selection).is_some_and(|offer| offer.has(kind))
        };
        self.client.until("something to paste", |state| offered(&state.exchange))?;
        self.client.state.exchange.offers[&selection].receive(kind, target.as_fd());
        self.client.flush()?;
        // From here on the target is only the compositor's, or nobody would ever see an end.
        drop(target);
        Ok(())
    }

    /// What is wanted next of what it has copied or drags: the pipe to write to, which doesn't block.
    pub fn asked(&mut self, kind: &str) -> Result<Paste> {
        self.client.until("a paste", |state| !state.exchange.asked.is_empty())?;
        let (wanted, fd) = self.exchange().asked.pop_front().context("just seen")?;
        ensure!(wanted == kind, "{wanted} is wanted, and {kind} was expected");
        Ok(Paste::new(fd)?)
    }

    /// Begins to drag something from its window, on which a button is held down.
    pub fn drag(&mut self, kind: &str, actions: DndAction) -> Result<WlDataSource> {
        self.device(Selection::Clipboard)?;
        let window = self.window.as_ref().context("a drag begins on a window")?;
        let (handle, serial) = (self.client.handle(), self.client.state.serial);
        let Some(Device::Clipboard(manager, device)) = self.devices.get(&Selection::Clipboard)
        else {
            unreachable!("just made");
        };
        let source = manager.create_data_source(&handle, ());
        source.offer(kind.to_owned());
        source.set_actions(actions);
        device.start_drag(Some(&source), &window.surface, None, serial);
        self.client.roundtrip()?;
        ensure!(source.is_alive(), "the drag has ended at once");
        Ok(source)
    }

    /// Is ready to be dropped on.
    pub fn take_drags(&mut self) -> Result<()> {
        self.device(Selection::Clipboard).map(drop)
    }

    /// Asks for what was dropped on it.
    pub fn take_dropped(&mut self, kind: &str) -> Result<Paste> {
        let (ours, theirs) = Paste::pipe()?;
        let (_, offer) = self.exchange().drag.over.as_ref().context("something was dropped")?;
        offer.receive(kind.to_owned(), theirs.as_fd());
        self.client.flush()?;
        drop(theirs);
        Ok(ours)
    }
}

/// One end of the pipe of a paste. Nothing here blocks for longer than [`PATIENCE`].
#[derive(Debug)]
pub struct Paste(OwnedFd);

impl Paste {
    /// One end, from now on non-blocking.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL)?);
        fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        Ok(Self(fd))
    }

    /// A new pipe: the reading end, and what is to be given away.
    pub fn pipe() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = pipe2(OFlag::O_CLOEXEC)?;
        Ok((Self::new(ours)?, theirs))
    }

    /// Writes what fits in now, if anything does.
    pub fn write_now(&self, bytes: &[u8]) -> io::Result<usize> {
        match write(&self.0, bytes) {
            Err(Errno::EAGAIN) => Ok(0),
            result => Ok(result?),
        }
    }

    /// Writes what fits in, at least one byte. Fails with [`io::ErrorKind::BrokenPipe`] if nobody reads.
    pub fn write_some(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match write(&self.0, bytes) {
                Err(Errno::EAGAIN) => self.wait(PollFlags::POLLOUT)?,
                result => return Ok(result?),
            }
        }
    }

    /// Writes all of it.
    pub fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            bytes = &bytes[self.write_some(bytes)?..];
        }
        Ok(())
    }

    /// Reads what is there, at least one byte; 0 at the end.
    pub fn read_some(&self, bytes: &mut [u8]) -> io::Result<usize> {
        loop {
            match read(&self.0, bytes) {
                Err(Errno::EAGAIN) => self.wait(PollFlags::POLLIN)?,
                result => return Ok(result?),
            }
        }
    }

    /// Reads so many bytes.
    pub fn read(&self, size: usize) -> io::Result<Vec<u8>> {
        let (mut bytes, mut got) = (vec![0; size], 0);
        while got < size {
            match self.read_some(&mut bytes[got..])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                more => got += more,
            }
        }
        Ok(bytes)
    }

    /// Reads until the end.
    pub fn read_to_end(&self) -> io::Result<Vec<u8>> {
        let (mut bytes, mut piece) = (Vec::new(), [0; 65_536]);
        loop {
            match self.read_some(&mut piece)? {
                0 => return Ok(bytes),
                more => bytes.extend(&piece[..more]),
            }
        }
    }

    /// Waits until nobody reads what is written here, without writing.
    pub fn unread(&self) -> io::Result<()> {
        self.wait(PollFlags::empty())
    }

    fn wait(&self, events: PollFlags) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).map_err(io::Error::other)?;
            match poll(&mut [PollFd::new(self.0.as_fd(), events)], timeout) {
                Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}
