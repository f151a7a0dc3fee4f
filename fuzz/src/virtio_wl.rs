//! The virtio_wl device: whatever its driver says, nothing is lost, changed or left behind.

use crate::device::{RAM, Told, Vm, open_fds};
use crate::input::Input;
use crate::stream::Far;
use bytemuck::bytes_of;
use std::collections::BTreeMap;
use wlproxy::device::opener::Answer;
use wlproxy::device::{Dialect, Side};
use wlproxy_protocol::limits::{CONTEXT_NAME, MAX_FDS};
use wlproxy_protocol::virtio_wl::{
    HOST_ID, Header, QUEUE_OUT, Transfer, Vfd, VfdNew, message, read,
};

/// Most streams at once. The oldest hangs up.
const STREAMS: usize = 6;

/// Ids that a driver mostly uses.
const IDS: usize = 12;

/// Size of a page, as pfns have it.
const PAGE: u64 = 4096;

/// Most steps that the guest doesn't read. Events that wait longer than its buffers last are joined, where they may be.
const MOST_ASLEEP: usize = 64;

/// Most bytes of a SEND's payload that are made up.
const MOST: usize = 2000;

struct Target {
    vm: Vm,
    is_client: bool,
    /// By the context's id.
    far: BTreeMap<u32, Far>,
    /// Contexts whose stream was asked for and not answered.
    opening: Vec<(u32, Answer)>,
    /// Ids that host and guest have given to something, oldest first.
    ids: Vec<u32>,
    /// By id: the inode of what is mapped.
    files: BTreeMap<u32, u64>,
    /// Steps during which nothing is taken out of the receive buffers.
    asleep: usize,
}

/// One input.
pub fn run(data: &[u8]) {
    let fds = open_fds();
    let mut input = Input::new(data);
    let is_client = !input.one_in(4);
    let side = if is_client { Side::Client } else { Side::Compositor };
    let vm = Vm::new(&mut input, Dialect::VirtioWl, side, QUEUE_OUT, true);
    let counters = vm.counters();
    let mut target = Target {
        vm,
        is_client,
        far: BTreeMap::new(),
        opening: Vec::new(),
        ids: Vec::new(),
        files: BTreeMap::new(),
        asleep: 0,
    };
    while !input.is_empty() {
        target.step(&mut input);
        target.asleep = target.asleep.saturating_sub(1);
        if target.asleep == 0 {
            target.listen();
        }
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

impl Target {
    fn step(&mut self, input: &mut Input<'_>) {
        match input.below(17) {
            0 | 1 => self.open(input),
            2 => {
                let size =
                    if input.one_in(8) { input.number() } else { 4096 * (input.below(8) as u32) };
                self.new_vfd(input, VfdNew { size, ..new(message::VFD_NEW) });
            }
            3 => {
                let flags =
                    if input.one_in(8) { input.number() } else { 1 + input.below(2) as u32 };
                self.new_vfd(input, VfdNew { flags, ..new(message::VFD_NEW_PIPE) });
            }
            4 | 5 => {
                let id = self.id(input);
                let close = Vfd { header: Header::new(message::VFD_CLOSE), id };
                let told = self.vm.command(input, bytes_of(&close));
                if told.code() == message::RESP_OK {
                    self.close(id);
                }
            }
            6 if !self.vm.right => {
                let kind = 0xfe + input.below(16) as u32;
                let bytes = [bytes_of(&Header::new(kind)), input.bytes(80)].concat();
                self.vm.wild = true;
                self.vm.command(input, &bytes);
            }
            7 => {
                if !self.opening.is_empty() {
                    let (id, answer) = self.opening.remove(0);
                    self.connect(input, id, answer);
                }
            }
            8..11 => {
                if let Some(far) = pick(&mut self.far, input) {
                    far.say(input);
                    self.vm.device.turn();
                }
            }
            11 => {
                if let Some(far) = pick(&mut self.far, input) {
                    far.hang_up();
                    self.vm.device.turn();
                }
            }
            16 => self.asleep = input.below(MOST_ASLEEP),
            _ => self.send(input),
        }
    }

    fn id(&self, input: &mut Input<'_>) -> u32 {
        match input.byte() {
            0..12 => input.number(),
            byte if self.ids.is_empty() => 1 + u32::from(byte) % IDS as u32,
            byte => self.ids[usize::from(byte) % self.ids.len()],
        }
    }

    fn new_vfd(&mut self, input: &mut Input<'_>, command: VfdNew) {
        let id = if input.one_in(16) { input.number() } else { 1 + input.below(IDS) as u32 };
        let told = self.vm.command(input, bytes_of(&VfdNew { id, ..command }));
        if let (message::RESP_VFD_NEW, Told::Answer(bytes)) = (told.code(), &told) {
            self.ids.push(id);
            if let Some(made) = read::<VfdNew>(bytes) {
                assert!(self.vm.wild || made.id == id, "another vfd was made");
                self.know(&made);
            }
        }
    }

    /// What is behind an id.
    fn know(&mut self, made: &VfdNew) {
        match self.vm.device.file_at(made.pfn * PAGE) {
            Some(file) if made.size > 0 => self.files.insert(made.id, file),
            _ => self.files.remove(&made.id),
        };
    }

    fn open(&mut self, input: &mut Input<'_>) {
        let id = if input.one_in(16) { input.number() } else { 1 + input.below(IDS) as u32 };
        let named = input.one_in(4);
        let kind = if named { message::VFD_NEW_CTX_NAMED } else { message::VFD_NEW_CTX };
        let mut command = VfdNew { id, ..new(kind) };
        if named {
            let name = input.bytes(CONTEXT_NAME);
            command.name[..name.len()].copy_from_slice(name);
        }
        self.vm.command(input, bytes_of(&command));
        while let Some((_, answer)) = self.vm.device.asked() {
            if input.one_in(4) {
                self.opening.push((id, answer));
            } else {
                self.connect(input, id, answer);
            }
        }
    }

    fn connect(&mut self, input: &mut Input<'_>, id: u32, answer: Answer) {
        if let Some(far) = Far::answer(input, self.is_client, answer) {
            self.ids.push(id);
            if let Some(mut before) = self.far.insert(id, far) {
                before.read();
                before.check(true);
            }
        }
        while self.far.len() > STREAMS {
            if let Some((_, mut far)) = self.far.pop_first() {
                far.read();
                far.check(true);
            }
        }
        self.vm.device.turn();
    }

    fn close(&mut self, id: u32) {
        // What is in the buffers is of this one. The next may get its id.
        self.listen();
        self.files.remove(&id);
        self.ids.retain(|&other| other != id);
        if let Some(mut far) = self.far.remove(&id) {
            far.read();
            far.check(self.vm.wild);
        }
    }

    fn send(&mut self, input: &mut Input<'_>) {
        let id = self.id(input);
        let (bytes, fds) = match self.far.get_mut(&id) {
            Some(far) => far.to_send(input),
            None => (input.bytes(100).to_vec(), 0),
        };
        let bytes = &bytes[..bytes.len().min(MOST)];
        let count = if input.one_in(16) { input.below(MAX_FDS + 1) } else { fds.min(MAX_FDS) };
        let vfds: Vec<u32> = (0..count).map(|_| self.id(input)).collect();
        let files: Vec<_> = vfds.iter().map(|vfd| self.files.get(vfd).copied()).collect();
        let mut command = Vec::new();
        Transfer { id, vfds, bytes }.encode(message::VFD_SEND, &mut command);
        let told = self.vm.command(input, &command);
        if let Some(far) = self.far.get_mut(&id)
            && matches!((&told, told.code()), (Told::Waits(_), _) | (_, message::RESP_OK))
        {
            far.send(bytes, files);
        }
    }

    /// Takes what came into the guest's buffers.
    fn listen(&mut self) {
        for event in self.vm.received() {
            let Some(header) = read::<Header>(&event) else { continue };
            match header.kind {
                message::VFD_NEW => {
                    let made: VfdNew = read(&event).expect("a whole event");
                    assert!(self.vm.wild || made.id & HOST_ID != 0, "it isn't the host's to name");
                    self.ids.push(made.id);
                    self.know(&made);
                }
                message::VFD_RECV => {
                    let Transfer { id, vfds, bytes } =
                        Transfer::parse(&event).expect("a whole event");
                    assert!(
                        self.vm.wild || vfds.iter().all(|vfd| self.ids.contains(vfd)),
                        "an unknown vfd"
                    );
                    if let Some(far) = self.far.get_mut(&id) {
                        far.heard.extend(bytes);
                        let files = vfds.iter().map(|vfd| self.files.get(vfd).copied());
                        far.heard_files.extend(files);
                    }
                }
                message::VFD_HUP => {}
                other => assert!(self.vm.wild, "event of kind {other:#x}"),
            }
        }
        if self.ids.len() > 200 {
            self.ids.drain(..100);
            self.vm.wild = true;
        }
    }
}

fn pick<'a>(far: &'a mut BTreeMap<u32, Far>, input: &mut Input<'_>) -> Option<&'a mut Far> {
    let at = input.below(STREAMS + 1);
    far.values_mut().nth(at)
}

fn new(kind: u32) -> VfdNew {
    VfdNew { header: Header::new(kind), ..Default::default() }
}

const _: () = assert!(16 + 4 * MAX_FDS as u64 + (MOST as u64) < RAM);
