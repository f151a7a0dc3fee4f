//! The virtgpu dialect: virtio-gpu with the cross-domain capset alone, as mainline Linux drives it.
//!
//! | part | what it does |
//! |---|---|
//! | this file | one turn of the device: takes chains, answers them; contexts |
//! | [`resources`] | what a driver names by number: guest memory, allocations |
//! | [`channel`] | commands of a context: its stream and its pipes, from the guest |
//! | [`outgoing`] | what a stream or pipe doesn't take at once |
//! | [`events`] | what goes to the guest |
//! | [`fences`] | answers that are held back |
//!
//! Nothing is ever shown: there is one scanout with nothing connected, since older drivers refuse a device without, and
//! commands about it are answered as if they were done.

mod channel;
mod events;
mod fences;
mod outgoing;
mod resources;

use super::dialect::Device;
use super::neighbours::Host;
use super::opener::{Answers, Opener};
use super::poller::{Poller, RETRY, Waker};
use super::ring::{Chain, Memory, Reply, Ring};
use super::trace::{self, Traces};
use super::vfd_error::VfdError;
use super::vfds::Vfds;
use super::window::MapError;
use super::{Options, Side};
use bytemuck::Pod;
use channel::Context;
use nix::sys::epoll::EpollFlags;
use outgoing::Flow;
use resources::{Resource, Resources};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use wlproxy_protocol::cross_domain::{self, CHANNEL_WAYLAND, Capset, image_size};
use wlproxy_protocol::limits::MAX_SEND_ACCEPTED;
use wlproxy_protocol::virtio_gpu::{
    CAPSET_CROSS_DOMAIN, CONTEXT_INIT_CAPSET_MASK, CapsetInfo, CreateBlob, CtxCreate, DisplayInfo,
    GetCapset, GetCapsetInfo, Header, MAP_CACHED, MapBlob, MapInfo, QUEUE_CONTROL, QUEUE_CURSOR,
    ResourceUuid, Submit, blob_mem, flags, message,
};
use wlproxy_protocol::virtio_wl::read;

/// Longest command that is taken: a SEND with everything in it. So a blob of guest memory has at most some 4,100 pieces.
const MAX_COMMAND: usize =
    size_of::<Submit>() + size_of::<cross_domain::SendReceive>() + MAX_SEND_ACCEPTED;

/// Most contexts of a device, connected or not. A guest makes one whenever a program opens the device; each costs some
/// hundred bytes here.
const MAX_CONTEXTS: usize = 4096;

/// How UUIDs of resources begin; the resource's number is the rest. Linux wants one to export memory, and asks nobody
/// else about it.
const UUID: [u8; 12] = *b"wlproxy-gpu:";

/// A code of [`message`] that says why a command failed.
#[derive(Debug)]
struct Refusal(u32);

impl From<VfdError> for Refusal {
    fn from(error: VfdError) -> Self {
        Self(match error {
            VfdError::TooMany(_)
            | VfdError::Memory(_)
            | VfdError::Hog { .. }
            | VfdError::Share { .. }
            | VfdError::TooLong(_)
            | VfdError::Io(_) => message::RESP_ERR_OUT_OF_MEMORY,
            VfdError::Unknown
            | VfdError::NotSendable
            | VfdError::Kind(_)
            | VfdError::Size
            | VfdError::Map(MapError::Place(_)) => message::RESP_ERR_INVALID_PARAMETER,
            VfdError::Map(_) => message::RESP_ERR_UNSPEC,
        })
    }
}

const MALFORMED: Refusal = Refusal(message::RESP_ERR_INVALID_PARAMETER);

/// The device in one run of its rings.
pub(super) struct Virtgpu {
    vm: String,
    side: Side,
    opener: Arc<dyn Opener>,
    counters: Arc<crate::counters::Counters>,
    control: Ring,
    cursor: Ring,
    vfds: Vfds,
    resources: Resources,
    contexts: BTreeMap<u32, Context>,
    /// Streams and pipes: whose they are, and what that context calls them.
    owners: HashMap<u32, (u32, u32)>,
    /// What waits to be written, by vfd. Most have no entry.
    flows: HashMap<u32, Flow>,
    answers: Arc<Answers>,
    /// Names the last request for a stream.
    opening: u32,
    trace_requests: Arc<trace::Requests>,
    traces: Traces,
    waker: Waker,
}

impl Virtgpu {
    /// A device that just started. `memory` is the guest's.
    pub(super) fn new(
        options: &Options,
        vfds: Vfds,
        memory: Memory,
        rings: [Ring; 2],
        poller: Poller,
    ) -> Self {
        let [control, cursor] = rings;
        const { assert!(QUEUE_CONTROL == 0 && QUEUE_CURSOR == 1) };
        let waker = poller.waker();
        options.traces.attach(waker.clone());
        Self {
            vm: options.vm.clone(),
            side: options.side,
            opener: options.opener.clone(),
            counters: options.counters.clone(),
            control,
            cursor,
            vfds,
            resources: Resources::new(memory),
            contexts: BTreeMap::new(),
            owners: HashMap::new(),
            flows: HashMap::new(),
            answers: Answers::new(waker.clone()),
            opening: 0,
            trace_requests: options.traces.clone(),
            traces: Traces::new(&options.vm, poller),
            waker,
        }
    }

    /// Takes commands, but no more than a ring can hold: the streams have to get their turn.
    fn commands(&mut self) {
        self.control.refuse_kicks();
        let mut budget = self.control.size();
        loop {
            let before = budget;
            while budget > 0 {
                let Some(chain) = self.control.pop(MAX_COMMAND, size_of::<DisplayInfo>()) else {
                    break;
                };
                budget -= 1;
                self.command(chain);
            }
            if !self.control.want_kicks() {
                return;
            }
            if budget == 0 {
                return self.waker.wake();
            }
            if budget == before {
                // There is something that can't be taken; the next turn tries again.
                return;
            }
        }
    }

    /// Nothing has a cursor.
    fn cursor_commands(&mut self) {
        for _ in 0..self.cursor.size() {
            match self.cursor.pop(size_of::<Header>(), size_of::<Header>()) {
                Some(Chain { reply, .. }) => {
                    let done = Header { kind: message::RESP_OK_NODATA, ..Default::default() };
                    self.cursor.complete(reply, bytemuck::bytes_of(&done));
                }
                None if self.cursor.want_kicks() => {}
                None => return,
            }
        }
        self.waker.wake();
    }

    fn command(&mut self, chain: Chain) {
        let Chain { message: bytes, reply } = chain;
        // Whose it is isn't known.
        let unknown = |code| Header::default().response(code);
        let Some(bytes) = bytes else {
            let response = unknown(message::RESP_ERR_OUT_OF_MEMORY);
            return self.control.complete(reply, bytemuck::bytes_of(&response));
        };
        let Some(header) = read::<Header>(&bytes) else {
            let response = unknown(message::RESP_ERR_UNSPEC);
            return self.control.complete(reply, bytemuck::bytes_of(&response));
        };
        let result = match header.kind {
            message::SUBMIT_3D => return self.submit(header, &bytes, reply),
            message::CTX_DESTROY => return self.destroy(header, reply),
            message::GET_DISPLAY_INFO => {
                let header = header.response(message::RESP_OK_DISPLAY_INFO);
                Ok(bytes_of(&DisplayInfo { header, ..Default::default() }))
            }
            message::GET_CAPSET_INFO => capset_info(header, &bytes),
            message::GET_CAPSET => capset(header, &bytes),
            message::CTX_CREATE => self.create_context(&bytes).map(|()| ok(header)),
            message::RESOURCE_CREATE_BLOB => self.create_blob(&bytes).map(|()| ok(header)),
            message::RESOURCE_CREATE_2D | message::RESOURCE_CREATE_3D => {
                self.create_blank(&bytes).map(|()| ok(header))
            }
            message::RESOURCE_MAP_BLOB => self.map(header, &bytes),
            message::RESOURCE_ASSIGN_UUID => self.assign_uuid(header, &bytes),
            message::RESOURCE_UNMAP_BLOB => resource(&bytes)
                .and_then(|id| self.resources.unmap(&mut self.vfds, id))
                .map(|()| ok(header)),
            message::RESOURCE_UNREF => resource(&bytes)
                .and_then(|id| self.resources.remove(&mut self.vfds, id))
                .map(|()| ok(header)),
            message::CTX_ATTACH_RESOURCE | message::CTX_DETACH_RESOURCE => {
                resource(&bytes).and_then(|id| self.resources.get(id)).map(|_| ok(header))
            }
            message::SET_SCANOUT
            | message::SET_SCANOUT_BLOB
            | message::RESOURCE_FLUSH
            | message::RESOURCE_ATTACH_BACKING
            | message::RESOURCE_DETACH_BACKING
            | message::TRANSFER_TO_HOST_2D
            | message::TRANSFER_TO_HOST_3D
            | message::TRANSFER_FROM_HOST_3D => Ok(ok(header)),
            _ => Err(Refusal(message::RESP_ERR_UNSPEC)),
        };
        self.answer(header, result, reply);
    }

    /// Answers a command, after those on its ring that are held back.
    fn answer(&mut self, header: Header, result: Result<Vec<u8>, Refusal>, reply: Reply) {
        let response = result.unwrap_or_else(|Refusal(code)| {
            tracing::debug!(vm = self.vm, command = header.kind, code, "a command is refused");
            bytes_of(&header.response(code))
        });
        let answer = match self.contexts.get_mut(&header.context) {
            Some(context) if is_of_ring(header) => {
                context.fences.follow(header.ring, (reply, response))
            }
            _ => Some((reply, response)),
        };
        if let Some((reply, response)) = answer {
            self.control.complete(reply, &response);
        }
    }

    fn create_context(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let command: CtxCreate = read(bytes).ok_or(MALFORMED)?;
        let id = command.header.context;
        if id == 0 || self.contexts.contains_key(&id) {
            return Err(Refusal(message::RESP_ERR_INVALID_CONTEXT_ID));
        }
        if self.contexts.len() >= MAX_CONTEXTS {
            return Err(Refusal(message::RESP_ERR_OUT_OF_MEMORY));
        }
        let capset = command.context_init & CONTEXT_INIT_CAPSET_MASK;
        // Linux makes one of no capset for programs that don't say what they want.
        let cross_domain = match capset {
            0 => false,
            CAPSET_CROSS_DOMAIN => true,
            _ => return Err(MALFORMED),
        };
        self.contexts.insert(id, Context::new(cross_domain));
        Ok(())
    }

    fn create_blank(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let id = resource(bytes)?;
        self.resources.check_new(id)?;
        self.resources.insert(id, Resource::Blank);
        Ok(())
    }

    fn create_blob(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let (command, entries) = CreateBlob::entries(bytes).ok_or(MALFORMED)?;
        self.resources.check_new(command.resource)?;
        let resource = match command.memory {
            blob_mem::GUEST => self.resources.guest(&entries)?,
            blob_mem::HOST3D => Resource::Host(self.take_memory(&command)?, None),
            _ => return Err(MALFORMED),
        };
        self.resources.insert(command.resource, resource);
        Ok(())
    }

    /// The allocation that a blob is made of: a new one for an image, or one that came over the stream, once.
    fn take_memory(&mut self, command: &CreateBlob) -> Result<u32, Refusal> {
        let (id, size) = (u32::try_from(command.blob_id), command.pages());
        let (Ok(id), Some(size)) = (id, size) else { return Err(MALFORMED) };
        if let Some(image) = image_size(id) {
            if image != size {
                return Err(MALFORMED);
            }
            self.vfds.check_room()?;
            let vfd = self.vfds.fresh_id();
            self.vfds.add_allocation(vfd, size)?;
            return Ok(vfd);
        }
        let context = self.contexts.get_mut(&command.header.context);
        let context = context.ok_or(Refusal(message::RESP_ERR_INVALID_CONTEXT_ID))?;
        let &vfd = context.ids.get(&id).ok_or(MALFORMED)?;
        // Not a pipe.
        if self.vfds.length(vfd)? != size {
            return Err(MALFORMED);
        }
        context.ids.remove(&id);
        Ok(vfd)
    }

    fn map(&mut self, header: Header, bytes: &[u8]) -> Result<Vec<u8>, Refusal> {
        let command: MapBlob = read(bytes).ok_or(MALFORMED)?;
        self.resources.map(&mut self.vfds, command.resource, command.offset)?;
        let header = header.response(message::RESP_OK_MAP_INFO);
        Ok(bytes_of(&MapInfo { header, info: MAP_CACHED, padding: 0 }))
    }

    fn assign_uuid(&self, header: Header, bytes: &[u8]) -> Result<Vec<u8>, Refusal> {
        let id = resource(bytes)?;
        self.resources.get(id)?;
        let mut uuid = [0; 16];
        uuid[..12].copy_from_slice(&UUID);
        uuid[12..].copy_from_slice(&id.to_be_bytes());
        let header = header.response(message::RESP_OK_RESOURCE_UUID);
        Ok(bytes_of(&ResourceUuid { header, uuid }))
    }
}

impl Device for Virtgpu {
    fn turn(&mut self, events: &[(u64, EpollFlags)]) {
        for &(key, flags) in events {
            if key == RETRY {
                let stuck = self.vfds.retry();
                let both = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT;
                stuck.into_iter().for_each(|id| self.polled(id, both));
            } else if self.traces.has(key) {
                self.traces.polled(&mut self.vfds, key, flags);
            } else if let Some(id) = self.vfds.polled(key) {
                self.polled(id, flags);
            }
        }
        for (connection, reader) in self.trace_requests.take() {
            self.traces.start(&mut self.vfds, connection, reader);
        }
        self.commands();
        self.cursor_commands();
        for (request, result) in self.answers.take() {
            self.opened(request, result);
        }
        self.control.signal();
        self.cursor.signal();
    }

    /// Memory that comes is mapped when the driver says so, later: nothing here asks the frontend.
    fn visited(&mut self, events: &[(u64, EpollFlags)]) {
        for &(key, flags) in events {
            if let Ok(id) = u32::try_from(key) {
                self.polled(id, flags);
            }
        }
        self.control.signal();
    }

    fn calls(&mut self) -> Vec<Arc<dyn Host>> {
        self.vfds.calls()
    }
}

impl Drop for Virtgpu {
    fn drop(&mut self) {
        self.trace_requests.detach();
    }
}

/// Whether the command's fence is one of its context's rings.
fn is_of_ring(header: Header) -> bool {
    header.flags & (flags::FENCE | flags::RING) == flags::FENCE | flags::RING
}

fn bytes_of(response: &impl Pod) -> Vec<u8> {
    bytemuck::bytes_of(response).to_vec()
}

/// That it is done.
fn ok(header: Header) -> Vec<u8> {
    bytes_of(&header.response(message::RESP_OK_NODATA))
}

/// The resource that a command begins with.
fn resource(bytes: &[u8]) -> Result<u32, Refusal> {
    let prefix = bytes.get(size_of::<Header>()..size_of::<Header>() + 4).ok_or(MALFORMED)?;
    Ok(bytemuck::pod_read_unaligned(prefix))
}

fn capset_info(header: Header, bytes: &[u8]) -> Result<Vec<u8>, Refusal> {
    let command: GetCapsetInfo = read(bytes).ok_or(MALFORMED)?;
    if command.index != 0 {
        return Err(MALFORMED);
    }
    Ok(bytes_of(&CapsetInfo {
        header: header.response(message::RESP_OK_CAPSET_INFO),
        id: CAPSET_CROSS_DOMAIN,
        max_version: CAPSET.version,
        max_size: size_of::<Capset>() as u32,
        padding: 0,
    }))
}

/// What is said to every program. Channel types that records announce are too large for its bits.
const CAPSET: Capset =
    Capset { version: 1, channels: 1 << CHANNEL_WAYLAND, dmabuf: 0, external_memory: 0 };

fn capset(header: Header, bytes: &[u8]) -> Result<Vec<u8>, Refusal> {
    let command: GetCapset = read(bytes).ok_or(MALFORMED)?;
    if command.id != CAPSET_CROSS_DOMAIN {
        return Err(MALFORMED);
    }
    let header = header.response(message::RESP_OK_CAPSET);
    Ok([bytemuck::bytes_of(&header), bytemuck::bytes_of(&CAPSET)].concat())
}

#[cfg(test)]
mod tests;
