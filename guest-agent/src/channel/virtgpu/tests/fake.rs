//! A stand-in for the driver and its device, made of memfds and eventfds.
//!
//! What is submitted is done at once. A fence is an eventfd, and so is what stands for a file's events.

use super::super::device::{Blob, Device, File};
use crate::channel::scenarios::FLOOD;
use crate::memory::Mapping;
use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::cell::{RefCell, RefMut};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::rc::Rc;
use wlproxy_protocol::cross_domain::{
    CHANNEL_WAYLAND, GetImageRequirements, HEARS_ENDS, Hold, Identifier, ImageRequirements, Init,
    PipeTransfer, RING_CHANNEL, STREAM, Transfer, command, identifier, image_size, receive_room,
};
use wlproxy_protocol::limits::{MAX_FDS, MAX_SEND};
use wlproxy_protocol::report;
use wlproxy_protocol::virtio_wl::read;
use wlproxy_unix::memory;

/// A channel type that a record has announced.
pub(super) const ANNOUNCED: u32 = 0x1_0000;

/// A pipe, from the host's side.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    pub(super) kind: u32,
    /// What was written to it.
    pub(super) bytes: Vec<u8>,
    /// The VM is done with it.
    pub(super) closed: bool,
    /// The VM wants no more for now.
    pub(super) held: bool,
}

/// A file, from the device's side.
#[derive(Default)]
pub(super) struct Open {
    /// Resources by handle.
    handles: HashMap<u32, u32>,
    init: Option<Init>,
    polled: bool,
    /// Fences that were signalled and not heard of.
    unheard: usize,
    bell: Option<Rc<EventFd>>,
    events: VecDeque<Vec<u8>>,
    /// Memory that came, by blob id.
    blobs: HashMap<u32, OwnedFd>,
    /// SENDs aren't taken.
    pub(super) held: bool,
    fences: Vec<EventFd>,
    /// What was sent: all bytes, and all resources.
    pub(super) bytes: Vec<u8>,
    pub(super) resources: Vec<u32>,
    pub(super) pipes: BTreeMap<u32, Pipe>,
    /// The VM wants no more of the stream.
    pub(super) hung_up: bool,
}

#[derive(Default)]
struct State {
    files: BTreeMap<u32, Open>,
    closed: BTreeMap<u32, Open>,
    /// All memory, by resource.
    memory: HashMap<u32, OwnedFd>,
    last: u32,
    newest: u32,
    obeys: bool,
    silent: bool,
}

/// See the module's text.
#[derive(Clone)]
pub(super) struct Fake(Rc<RefCell<State>>);

impl Fake {
    /// One that does what [`crate::channel::scenarios`] says.
    pub(super) fn obedient() -> Self {
        let fake = Self::new();
        fake.0.borrow_mut().obeys = true;
        fake
    }

    /// One that does nothing by itself.
    pub(super) fn new() -> Self {
        Self(Rc::default())
    }

    /// The file that was opened last.
    pub(super) fn newest(&self) -> u32 {
        self.0.borrow().newest
    }

    pub(super) fn is_open(&self, file: u32) -> bool {
        self.0.borrow().files.contains_key(&file)
    }

    /// A file, or what it was when it was closed.
    pub(super) fn file(&self, file: u32) -> RefMut<'_, Open> {
        RefMut::map(self.0.borrow_mut(), |state| {
            let State { files, closed, .. } = state;
            files.get_mut(&file).or_else(|| closed.get_mut(&file)).unwrap()
        })
    }

    /// Whether any file has a handle for a resource.
    pub(super) fn has(&self, resource: u32) -> bool {
        self.0.borrow().files.values().any(|file| file.handles.values().any(|&of| of == resource))
    }

    /// The stream sends.
    pub(super) fn deliver(&self, file: u32, bytes: &[u8]) {
        self.0.borrow_mut().receive(file, bytes, Vec::new());
    }

    /// The stream sends bytes, memory, and a pipe that the VM is to write. What that is called.
    pub(super) fn deliver_all(&self, file: u32, bytes: &[u8], memory: OwnedFd) -> u32 {
        let mut state = self.0.borrow_mut();
        let (blob, pipe) = (state.fresh(), state.fresh());
        let size = memory::size_if_sealed(&memory).unwrap() as u32;
        let kind = identifier::WRITE_PIPE;
        let open = state.files.get_mut(&file).unwrap();
        open.blobs.insert(blob, memory);
        open.pipes.insert(pipe, Pipe { kind, ..Pipe::default() });
        let ids = vec![
            Identifier { id: blob, kind: identifier::BLOB, size },
            Identifier { id: pipe, kind, size: 0 },
        ];
        state.receive(file, bytes, ids);
        pipe
    }

    /// A pipe has something, or comes to its end.
    pub(super) fn deliver_pipe(&self, file: u32, id: u32, bytes: &[u8], hang_up: bool) {
        self.0.borrow_mut().read(file, id, bytes, hang_up);
    }

    /// How many events wait for a POLL.
    pub(super) fn waiting(&self, file: u32) -> usize {
        self.0.borrow().files[&file].events.len()
    }

    /// All SENDs are taken that were held.
    pub(super) fn release(&self) {
        self.0.borrow_mut().release();
    }

    /// From now on nothing is answered.
    pub(super) fn fall_silent(&self) {
        self.0.borrow_mut().silent = true;
    }
}

fn eventfd() -> EventFd {
    EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC).unwrap()
}

impl State {
    fn fresh(&mut self) -> u32 {
        self.last += 1;
        self.last
    }

    fn write(&self, resource: u32, bytes: &[u8]) {
        let memory = std::fs::File::from(self.memory[&resource].try_clone().unwrap());
        memory.write_all_at(bytes, 0).unwrap();
    }

    fn signal(&mut self, file: u32) {
        let open = self.files.get_mut(&file).unwrap();
        open.unheard += 1;
        open.bell.as_ref().unwrap().write(1).unwrap();
    }

    fn queue(&mut self, file: u32, event: Vec<u8>) {
        self.files.get_mut(&file).unwrap().events.push_back(event);
        self.pump(file);
    }

    /// Gives the next event to the POLL that waits for it.
    fn pump(&mut self, file: u32) {
        let open = self.files.get_mut(&file).unwrap();
        if open.polled
            && let Some(event) = open.events.pop_front()
        {
            open.polled = false;
            let ring = open.init.unwrap().channel_ring;
            self.write(ring, &event);
            self.signal(file);
        }
    }

    fn receive(&mut self, file: u32, bytes: &[u8], ids: Vec<Identifier>) {
        self.queue(file, Transfer { ids, bytes }.encode(command::RECEIVE));
    }

    fn read(&mut self, file: u32, id: u32, bytes: &[u8], hang_up: bool) {
        self.queue(file, PipeTransfer { id, hang_up, bytes }.encode(command::READ));
    }

    fn release(&mut self) {
        for open in self.files.values_mut() {
            open.held = false;
            for fence in open.fences.drain(..) {
                fence.write(1).unwrap();
            }
        }
    }

    fn submit(&mut self, file: u32, bytes: &[u8]) {
        let open = self.files.get_mut(&file).unwrap();
        match bytes[0] {
            command::INIT => {
                let init: Init = read(bytes).unwrap();
                assert_eq!(
                    init.header.padding, HEARS_ENDS,
                    "or nobody tells of a reader that left"
                );
                // Not every device takes reports.
                let is_known = match init.channel {
                    report::CHANNEL => self.obeys,
                    channel => [CHANNEL_WAYLAND, ANNOUNCED].contains(&channel),
                };
                let open = self.files.get_mut(&file).unwrap();
                if is_known {
                    open.init = Some(init);
                }
            }
            command::POLL if open.init.is_none() => self.signal(file),
            command::POLL => {
                assert!(!std::mem::replace(&mut open.polled, true), "one at a time");
                self.pump(file);
            }
            command::GET_IMAGE_REQUIREMENTS => {
                let query: GetImageRequirements = read(bytes).unwrap();
                let ring = open.init.unwrap().query_ring;
                self.write(ring, bytemuck::bytes_of(&ImageRequirements::of(&query).unwrap()));
            }
            command::SEND => self.send(file, &Transfer::parse(bytes).unwrap()),
            command::WRITE => {
                let part = PipeTransfer::parse(bytes).unwrap();
                if let Some(hold) = Hold::parse(bytes) {
                    return open.pipes.get_mut(&hold.id).unwrap().held = hold.held;
                }
                if part.id == STREAM {
                    assert!(part.hang_up && part.bytes.is_empty());
                    open.hung_up = true;
                } else {
                    let pipe = open.pipes.get_mut(&part.id).unwrap();
                    assert!(!pipe.closed);
                    pipe.bytes.extend(part.bytes);
                    pipe.closed = part.hang_up;
                }
            }
            other => panic!("command {other}"),
        }
    }

    fn send(&mut self, file: u32, transfer: &Transfer<'_>) {
        assert!(transfer.bytes.len() <= MAX_SEND && transfer.ids.len() <= MAX_FDS);
        let open = self.files.get_mut(&file).unwrap();
        open.bytes.extend(transfer.bytes);
        for id in &transfer.ids {
            if id.kind == identifier::BLOB {
                assert!(self.memory.contains_key(&id.id));
                open.resources.push(id.id);
            } else {
                let pipe = Pipe { kind: id.kind, ..Pipe::default() };
                assert!(open.pipes.insert(id.id, pipe).is_none());
            }
        }
        if self.obeys {
            self.obey(file, transfer);
        }
    }

    fn obey(&mut self, file: u32, transfer: &Transfer<'_>) {
        match transfer.bytes {
            b"hold" => {
                self.files.get_mut(&file).unwrap().held = true;
                self.receive(file, b"held", vec![]);
            }
            b"release" => self.release(),
            b"hang up" => {
                self.receive(file, b"bye", vec![]);
                self.receive(file, b"", vec![]);
            }
            b"flood" => (0..FLOOD).for_each(|n| self.receive(file, &n.to_le_bytes(), vec![])),
            b"pipe" => {
                let id = self.fresh();
                let kind = identifier::READ_PIPE;
                let pipe = Pipe { kind, ..Pipe::default() };
                self.files.get_mut(&file).unwrap().pipes.insert(id, pipe);
                self.receive(file, b"here", vec![Identifier { id, kind, size: 0 }]);
                self.read(file, id, b"early", false);
            }
            bytes => {
                let back = transfer.ids.iter().map(|id| self.back(file, id)).collect();
                self.receive(file, bytes, back);
            }
        }
    }

    /// Memory on its way back.
    fn back(&mut self, file: u32, sent: &Identifier) -> Identifier {
        let memory = self.memory[&sent.id].try_clone().unwrap();
        let size = memory::size_if_sealed(&memory).unwrap() as u32;
        let id = self.fresh();
        self.files.get_mut(&file).unwrap().blobs.insert(id, memory);
        Identifier { id, kind: identifier::BLOB, size }
    }

    /// A handle of a new resource.
    fn add(&mut self, file: u32, memory: OwnedFd) -> Blob {
        let resource = self.fresh();
        self.memory.insert(resource, memory);
        self.handle(file, resource)
    }

    fn handle(&mut self, file: u32, resource: u32) -> Blob {
        let handle = self.fresh();
        self.files.get_mut(&file).unwrap().handles.insert(handle, resource);
        Blob { handle, resource }
    }
}

impl Device for Fake {
    fn open(&self) -> nix::Result<Box<dyn File>> {
        let mut state = self.0.borrow_mut();
        let (id, bell) = (state.fresh(), Rc::new(eventfd()));
        state.files.insert(id, Open { bell: Some(bell.clone()), ..Open::default() });
        state.newest = id;
        Ok(Box::new(FakeFile { id, bell, state: self.0.clone() }))
    }
}

struct FakeFile {
    id: u32,
    bell: Rc<EventFd>,
    state: Rc<RefCell<State>>,
}

impl Drop for FakeFile {
    fn drop(&mut self) {
        let mut state = self.state.borrow_mut();
        let open = state.files.remove(&self.id).unwrap();
        state.closed.insert(self.id, open);
    }
}

impl File for FakeFile {
    fn poll_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    fn fences(&self) -> nix::Result<usize> {
        let _ = self.bell.read();
        Ok(std::mem::take(&mut self.state.borrow_mut().files.get_mut(&self.id).unwrap().unheard))
    }

    fn submit(&self, command: &[u8], ring: u32, _: Option<u32>) -> nix::Result<()> {
        assert_eq!(command[0] == command::POLL, ring == u32::from(RING_CHANNEL));
        self.state.borrow_mut().submit(self.id, command);
        Ok(())
    }

    fn submit_fenced(&self, command: &[u8], _: u32) -> nix::Result<OwnedFd> {
        let mut state = self.state.borrow_mut();
        state.submit(self.id, command);
        let fence = eventfd();
        let theirs = fence.as_fd().try_clone_to_owned().unwrap();
        let open = state.files.get_mut(&self.id).unwrap();
        if open.held {
            open.fences.push(fence);
        } else {
            fence.write(1).unwrap();
        }
        Ok(theirs)
    }

    fn wait(&self, _: u32) -> nix::Result<()> {
        if self.state.borrow().silent { Err(Errno::EBUSY) } else { Ok(()) }
    }

    fn ring(&self, size: u64) -> io::Result<(Blob, Mapping)> {
        assert!(receive_room(size as usize).is_some());
        let memory = memory::allocate("ring", size)?;
        let mapping = Mapping::new(&memory, size)?;
        Ok((self.state.borrow_mut().add(self.id, memory), mapping))
    }

    fn blob(&self, id: u32, size: u64) -> nix::Result<Blob> {
        let mut state = self.state.borrow_mut();
        let open = state.files.get_mut(&self.id).unwrap();
        let memory = match open.blobs.remove(&id) {
            Some(memory) => memory,
            None => memory::allocate("fake", image_size(id).ok_or(Errno::EINVAL)?).unwrap(),
        };
        assert_eq!(memory::size_if_sealed(&memory), Some(size));
        Ok(state.add(self.id, memory))
    }

    fn export(&self, handle: u32) -> nix::Result<OwnedFd> {
        let state = self.state.borrow();
        Ok(state.memory[&state.files[&self.id].handles[&handle]].try_clone().unwrap())
    }

    fn import(&self, memory: BorrowedFd<'_>) -> nix::Result<Blob> {
        let mut state = self.state.borrow_mut();
        // The newest: the same memory may have come back as another resource.
        let same = state.memory.iter().filter(|(_, other)| memory::same_file(other, memory));
        let resource = *same.map(|(resource, _)| resource).max().ok_or(Errno::EBADF)?;
        Ok(state.handle(self.id, resource))
    }

    fn close(&self, handle: u32) {
        let mut state = self.state.borrow_mut();
        state.files.get_mut(&self.id).unwrap().handles.remove(&handle).unwrap();
    }
}
