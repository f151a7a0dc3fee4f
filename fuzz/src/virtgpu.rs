//! The virtgpu device: whatever its driver says, nothing is lost, changed or left behind.

mod memory;

use crate::device::{PLACES, RAM, Told, Vm, open_fds};
use crate::input::Input;
use crate::stream::Far;
use bytemuck::{bytes_of, cast_slice};
use std::collections::BTreeMap;
use wlproxy::device::opener::Answer;
use wlproxy::device::{Dialect, Side};
use wlproxy_hostile::{Places, Random};
use wlproxy_protocol::accept::CHANNEL_TYPES;
use wlproxy_protocol::cross_domain::{
    self as wire, CHANNEL_WAYLAND, GUEST_PIPE, GetImageRequirements, ImageRequirements, Init,
    PipeTransfer, RING_CHANNEL, Transfer, command,
};
use wlproxy_protocol::limits::MAX_FDS;
use wlproxy_protocol::report;
use wlproxy_protocol::virtio_gpu::{
    CAPSET_CROSS_DOMAIN, CreateBlob, CtxCreate, Header, MemEntry, OfResource, QUEUE_CONTROL,
    Submit, blob_mem, flags, message,
};
use wlproxy_protocol::virtio_wl::read;

/// Contexts that a driver mostly uses: 1 to this.
const CONTEXTS: u32 = 4;
/// Resources that it mostly uses. The first are the contexts' rings.
const RESOURCES: u32 = 20;
/// Stands for a context that was destroyed. No driver here uses it.
const GONE: u32 = u32::MAX;
/// Size of a place in guest memory.
const PLACE: u64 = 8192;

const _: () = assert!(PLACES + PLACE * (RESOURCES as u64 + 1) <= RAM);

/// Bytes, and the files that go with them, where these are known.
type Sent = (Vec<u8>, Vec<Option<u64>>);

struct Target {
    vm: Vm,
    is_client: bool,
    /// By the context.
    far: BTreeMap<u32, Far>,
    opening: Vec<(u32, Answer)>,
    /// What was sent over contexts whose stream isn't there yet, and which files.
    early: BTreeMap<u32, Vec<Sent>>,
    /// Slots of the POLLs that wait, by context.
    polls: BTreeMap<u32, u16>,
    /// By context and ring: the slot of the last SEND that waited there.
    waits: BTreeMap<(u32, u8), u16>,
    /// Images that could be made.
    images: Vec<(u32, u64)>,
    /// By resource: the inode of what it is, as was seen when it was mapped.
    files: BTreeMap<u32, u64>,
    fences: u64,
}

/// One input.
pub fn run(data: &[u8]) {
    let fds = open_fds();
    let mut input = Input::new(data);
    let is_client = !input.one_in(4);
    let side = if is_client { Side::Client } else { Side::Compositor };
    let vm = Vm::new(&mut input, Dialect::Virtgpu, side, QUEUE_CONTROL, false);
    let counters = vm.counters();
    let mut target = Target {
        vm,
        is_client,
        far: BTreeMap::new(),
        opening: Vec::new(),
        early: BTreeMap::new(),
        polls: BTreeMap::new(),
        waits: BTreeMap::new(),
        images: Vec::new(),
        files: BTreeMap::new(),
        fences: 0,
    };
    while !input.is_empty() {
        target.step(&mut input);
        target.listen();
    }
    target.far.values_mut().for_each(Far::read);
    target.far.values().for_each(|far| far.check(target.vm.wild));
    drop(target);
    let left = counters.snapshot();
    assert_eq!(
        (left.vfds, left.contexts, left.allocation_bytes, left.window_bytes),
        (0, 0, 0, 0),
        "something is left"
    );
    assert_eq!(open_fds(), fds, "fds are left open");
}

const fn query_ring(context: u32) -> u32 {
    context.wrapping_mul(2)
}

const fn channel_ring(context: u32) -> u32 {
    context.wrapping_mul(2).wrapping_add(1)
}

fn place(resource: u32) -> u64 {
    PLACES + PLACE * u64::from(resource % (RESOURCES + 1))
}

impl Target {
    fn step(&mut self, input: &mut Input<'_>) {
        let context = if input.one_in(32) {
            input.number()
        } else {
            1 + input.below(CONTEXTS as usize) as u32
        };
        match input.below(20) {
            0 | 1 => self.open(input, context),
            2 => {
                let header = Header { kind: message::CTX_DESTROY, context, ..Default::default() };
                if self.vm.command(input, bytes_of(&header)).code() == message::RESP_OK_NODATA {
                    self.close(context);
                    self.early.remove(&context);
                    // Whoever is connected for it comes too late.
                    let late = self.opening.iter_mut().filter(|(of, _)| *of == context);
                    late.for_each(|(of, _)| *of = GONE);
                }
            }
            3 => self.image(input, context),
            4 => self.allocate(input, context),
            5 => {
                let offset =
                    if input.one_in(8) { input.long() } else { 4096 * input.below(64) as u64 };
                let resource = resource(input);
                self.map(input, resource, offset);
            }
            6 => {
                let header = Header { kind: message::RESOURCE_UNMAP_BLOB, ..Default::default() };
                let resource = resource(input);
                self.vm.command(input, bytes_of(&OfResource { header, resource, padding: 0 }));
            }
            7 => {
                let resource = resource(input);
                self.unref(input, resource);
            }
            8 if !self.vm.right => {
                let pieces: Vec<_> = (0..=input.below(3)).map(|_| piece(input)).collect();
                let (memory, resource) = (blob_mem::GUEST, resource(input));
                // Rings may be anywhere from now on.
                self.vm.wild = true;
                self.blob(input, context, CreateBlob { memory, resource, ..blob() }, &pieces);
            }
            9 if !self.vm.right => self.garbage(input),
            10 if !self.opening.is_empty() => {
                let (context, answer) = self.opening.remove(0);
                self.connect(input, context, answer);
            }
            11 | 12 => {
                if let Some(far) = self.far.get_mut(&context) {
                    far.say(input);
                    self.vm.device.turn();
                }
            }
            13 => {
                if let Some(far) = self.far.get_mut(&context) {
                    far.hang_up();
                    self.vm.device.turn();
                }
            }
            14 | 15 => self.poll(input, context),
            16 => {
                let id = pipe(input);
                let bytes = PipeTransfer { id, hang_up: input.one_in(4), bytes: input.bytes(200) };
                self.execute(input, context, &bytes.encode(command::WRITE), None);
            }
            _ => self.send(input, context),
        }
    }

    /// What somebody else makes up, about any context and any memory that is nobody's mind.
    fn garbage(&mut self, input: &mut Input<'_>) {
        self.vm.wild = true;
        let places =
            Places { arena: PLACES..RAM, elsewhere: vec![RAM..2 * RAM, 1 << 40..u64::MAX] };
        let bytes = wlproxy_hostile::command(&mut Random::new(input.word().into()), &places);
        self.vm.command(input, &bytes);
        while let Some((_, answer)) = self.vm.device.asked() {
            drop(Far::answer(input, self.is_client, answer));
        }
        self.vm.device.turn();
    }

    /// All that it takes to connect a context.
    fn open(&mut self, input: &mut Input<'_>, context: u32) {
        let header = Header { kind: message::CTX_CREATE, context, ..Default::default() };
        let context_init = if input.one_in(16) { input.number() } else { CAPSET_CROSS_DOMAIN };
        let create = CtxCreate { header, name_length: 0, context_init, name: [0; 64] };
        self.vm.command(input, bytes_of(&create));
        let rings = [query_ring(context), channel_ring(context)];
        for resource in rings {
            let entry = MemEntry { address: place(resource), length: 4096, padding: 0 };
            let memory = blob_mem::GUEST;
            self.blob(
                input,
                context,
                CreateBlob { memory, resource, size: 4096, ..blob() },
                &[entry],
            );
        }
        let channel = match input.byte() {
            0..16 => input.number(),
            16..32 => report::CHANNEL,
            32..96 => CHANNEL_TYPES.start,
            _ => CHANNEL_WAYLAND,
        };
        let init = Init {
            header: wire::Header {
                command: command::INIT,
                ring: 0,
                size: 20,
                padding: input.below(2) as u32,
            },
            query_ring: rings[0],
            channel_ring: rings[1],
            channel,
        };
        self.execute(input, context, bytes_of(&init), None);
        while let Some((_, answer)) = self.vm.device.asked() {
            if input.one_in(4) {
                self.opening.push((context, answer));
            } else {
                self.connect(input, context, answer);
            }
        }
    }

    fn connect(&mut self, input: &mut Input<'_>, context: u32, answer: Answer) {
        if let Some(mut far) = Far::answer(input, self.is_client, answer) {
            for (bytes, files) in self.early.remove(&context).unwrap_or_default() {
                far.send(&bytes, files);
            }
            // A POLL may wait already.
            if let Some(mut before) = self.far.insert(context, far) {
                before.read();
                before.check(self.vm.wild);
            }
        }
        self.vm.device.turn();
    }

    fn close(&mut self, context: u32) {
        self.polls.remove(&context);
        if let Some(mut far) = self.far.remove(&context) {
            far.read();
            far.check(self.vm.wild);
        }
    }

    fn execute(
        &mut self,
        input: &mut Input<'_>,
        context: u32,
        bytes: &[u8],
        ring: Option<u8>,
    ) -> Told {
        let mut header = Header { kind: message::SUBMIT_3D, context, ..Default::default() };
        if let Some(ring) = ring {
            self.fences += 1;
            (header.flags, header.ring, header.fence) =
                (flags::FENCE | flags::RING, ring, self.fences);
        }
        let submit = Submit { header, size: bytes.len() as u32, padding: 0 };
        self.vm.command(input, &[bytes_of(&submit), bytes].concat())
    }

    fn blob(
        &mut self,
        input: &mut Input<'_>,
        context: u32,
        blob: CreateBlob,
        pieces: &[MemEntry],
    ) -> Told {
        let header = Header { kind: message::RESOURCE_CREATE_BLOB, context, ..Default::default() };
        let size = pieces.iter().map(|piece| u64::from(piece.length)).sum::<u64>().max(blob.size);
        let blob = CreateBlob { header, entries: pieces.len() as u32, size, ..blob };
        self.vm.command(input, &[bytes_of(&blob), cast_slice(pieces)].concat())
    }

    fn image(&mut self, input: &mut Input<'_>, context: u32) {
        let side = |input: &mut Input<'_>| {
            if input.one_in(8) { input.number() } else { 1 + input.below(200) as u32 }
        };
        let header = wire::Header {
            command: command::GET_IMAGE_REQUIREMENTS,
            size: 24,
            ..Default::default()
        };
        let format = u32::from_le_bytes(input.pick(&[*b"XR24", *b"AR24", *b"R8  ", *b"NV12"]));
        let image = GetImageRequirements {
            header,
            width: side(input),
            height: side(input),
            format,
            flags: 0,
        };
        let told = self.execute(input, context, bytes_of(&image), Some(0));
        if told.code() == message::RESP_OK_NODATA
            && let Some(made) =
                read::<ImageRequirements>(&self.vm.read(place(query_ring(context)), 64))
        {
            self.images.push((made.blob_id, made.size));
        }
    }

    fn poll(&mut self, input: &mut Input<'_>, context: u32) {
        if self.polls.contains_key(&context) {
            return;
        }
        let poll = wire::Header { command: command::POLL, size: 16, ..Default::default() };
        let bytes = [bytes_of(&poll), &[0; 8]].concat();
        match self.execute(input, context, &bytes, Some(RING_CHANNEL)) {
            Told::Waits(slot) => drop(self.polls.insert(context, slot)),
            told if told.code() == message::RESP_OK_NODATA => self.event(context),
            _ => {}
        }
    }

    fn send(&mut self, input: &mut Input<'_>, context: u32) {
        let (bytes, fds) = match self.far.get_mut(&context) {
            Some(far) => far.to_send(input),
            None => (input.bytes(100).to_vec(), 0),
        };
        let count = if input.one_in(16) { input.below(MAX_FDS + 1) } else { fds.min(MAX_FDS) };
        let ids: Vec<_> = (0..count).map(|_| self.identifier(input)).collect();
        let files: Vec<_> = ids.iter().map(|id| self.file(id)).collect();
        let ring = input.one_in(2).then(|| input.below(4) as u8);
        let ring = ring.filter(|&ring| ids.is_empty() || self.is_free(context, ring));
        let told = self.execute(
            input,
            context,
            &Transfer { ids, bytes: &bytes }.encode(command::SEND),
            ring,
        );
        if let (&Told::Waits(slot), Some(ring)) = (&told, ring) {
            self.waits.insert((context, ring), slot);
        }
        if !matches!((&told, told.code()), (Told::Waits(_), _) | (_, message::RESP_OK_NODATA)) {
            return;
        }
        if let Some(far) = self.far.get_mut(&context) {
            far.send(&bytes, files);
        } else if self.opening.iter().any(|(of, _)| *of == context) {
            self.early.entry(context).or_default().push((bytes, files));
        }
    }

    /// Whether nothing waits on a ring: then a refusal doesn't, either, and is told from what was taken.
    fn is_free(&mut self, context: u32, ring: u8) -> bool {
        let last = self.waits.get(&(context, ring)).copied();
        ring != RING_CHANNEL && last.is_none_or(|slot| !self.vm.is_held(slot))
    }

    /// Takes what came into the contexts' rings by the last turn.
    fn listen(&mut self) {
        let polls = std::mem::take(&mut self.polls);
        for (context, slot) in polls {
            if self.vm.is_held(slot) {
                self.polls.insert(context, slot);
            } else {
                self.event(context);
            }
        }
    }

    fn event(&mut self, context: u32) {
        if self.vm.wild {
            return;
        }
        let bytes = self.vm.read(place(channel_ring(context)), 4096);
        match bytes[0] {
            command::RECEIVE => {
                let transfer = Transfer::parse(&bytes).expect("a whole event");
                let files: Vec<_> = transfer.ids.iter().map(|id| self.came(context, id)).collect();
                if let Some(far) = self.far.get_mut(&context) {
                    far.heard.extend(transfer.bytes);
                    far.heard_files.extend(files);
                }
            }
            command::READ => assert!(PipeTransfer::parse(&bytes).is_some(), "half an event"),
            other => panic!("event {other}"),
        }
    }
}

fn resource(input: &mut Input<'_>) -> u32 {
    if input.one_in(16) { input.number() } else { 1 + input.below(RESOURCES as usize) as u32 }
}

fn pipe(input: &mut Input<'_>) -> u32 {
    if input.one_in(16) { input.number() } else { GUEST_PIPE | input.below(6) as u32 }
}

fn piece(input: &mut Input<'_>) -> MemEntry {
    let address = match input.below(6) {
        0 => input.pick(&[RAM - 4096, RAM - 4095, RAM, 1 << 40, u64::MAX - 4095]),
        _ => place(input.below(RESOURCES as usize) as u32),
    };
    let length = if input.one_in(8) { input.number() } else { 4096 };
    MemEntry { address, length, padding: 0 }
}

fn blob() -> CreateBlob {
    CreateBlob { flags: 3, ..Default::default() }
}
