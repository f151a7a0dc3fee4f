use super::*;
use crate::agent::Agent;
use crate::channel::fake::Fake;
use crate::channel::{PipeEnd, VfdId};
use crate::outbox::Outbox;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use wlproxy_unix::Stream;

mod lent;

const REGISTRY: u32 = 2;
const COMPOSITOR: u32 = 3;
const SHM: u32 = 4;
const SEAT: u32 = 5;
const ICONS: u32 = 6;
const COLORS: u32 = 7;
/// The first id that is free.
const FREE: u32 = 8;

const POOL_SIZE: i32 = 1 << 20;
const XRGB8888: u32 = 1;

/// A message, seen from the other end: object, opcode, arguments as words.
type Words = (u32, u16, Vec<u32>);

/// A client that has bound some globals, its connection, and the host.
struct Desk {
    agent: Agent,
    fake: Fake,
    client: Stream,
    context: VfdId,
    read: usize,
}

fn encode(object: u32, opcode: u16, args: &[Arg<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    wire::encode(object, opcode, args, &mut bytes);
    bytes
}

fn words(mut bytes: &[u8]) -> Vec<Words> {
    let mut messages = Vec::new();
    while let Some(message) = wire::split(&mut bytes, MAX_EVENT).unwrap() {
        let args = message.bytes[wire::HEADER..].chunks(4);
        let args = args.map(|word| u32::from_ne_bytes(word.try_into().unwrap())).collect();
        messages.push((message.object, message.opcode, args));
    }
    assert!(bytes.is_empty());
    messages
}

/// A file to draw in.
fn file() -> OwnedFd {
    let file = tempfile::tempfile().unwrap();
    file.set_len(POOL_SIZE as u64).unwrap();
    file.into()
}

impl Desk {
    fn new() -> Self {
        let fake = Fake::new();
        let mut agent = Agent::new(Box::new(fake.clone())).unwrap();
        let (client, local) = UnixStream::pair().unwrap();
        let context = agent.world.channel.connect().unwrap();
        let link = Link { local: Stream::new(local).unwrap(), out: Outbox::default() };
        let role = Box::new(Client::new("test"));
        agent.connect("test".into(), link, context, role).unwrap();
        let mut desk = Self { agent, fake, client: Stream::new(client).unwrap(), context, read: 0 };
        desk.request(WL_DISPLAY, 1, &[Arg::NewId(REGISTRY)]);
        let globals = [
            (c"wl_compositor", 4),
            (c"wl_shm", 2),
            (c"wl_seat", 5),
            (c"xdg_toplevel_icon_manager_v1", 1),
            (c"wp_color_manager_v1", 1),
        ];
        for (id, (interface, version)) in (COMPOSITOR..).zip(globals) {
            let interface = Arg::Str(Some(interface));
            desk.event(REGISTRY, 0, &[Arg::Uint(id), interface, Arg::Uint(version)], vec![]);
            let args = [Arg::Uint(id), interface, Arg::Uint(version), Arg::NewId(id)];
            desk.request(REGISTRY, 0, &args);
        }
        desk.received();
        desk.sent();
        desk
    }

    fn request(&mut self, object: u32, opcode: u16, args: &[Arg<'_>]) {
        self.request_with(object, opcode, args, []);
    }

    fn request_with(
        &mut self,
        object: u32,
        opcode: u16,
        args: &[Arg<'_>],
        fds: impl IntoIterator<Item = OwnedFd>,
    ) {
        self.client.queue(&encode(object, opcode, args), fds);
        let _ = self.client.flush();
        self.agent.dispatch(&mut Vec::new()).unwrap();
    }

    fn event(&mut self, object: u32, opcode: u16, args: &[Arg<'_>], vfds: Vec<Arrived>) {
        self.fake.deliver(self.context, &encode(object, opcode, args), vfds);
        self.agent.dispatch(&mut Vec::new()).unwrap();
    }

    /// What went to the host since it was asked last.
    fn sent(&mut self) -> Vec<Words> {
        let all = self.fake.bytes_to(self.context);
        words(&all[std::mem::replace(&mut self.read, all.len())..])
    }

    /// What reached the client since it was asked last.
    fn received(&mut self) -> (Vec<Words>, VecDeque<OwnedFd>) {
        let (mut bytes, mut fds) = (Vec::new(), VecDeque::new());
        while let Ok(wlproxy_unix::Read::Bytes(_)) = self.client.read(&mut bytes, &mut fds, 65_536)
        {
        }
        (words(&bytes), fds)
    }

    fn create_pool(&mut self, pool: u32) {
        let args = [Arg::NewId(pool), Arg::Fd, Arg::Int(POOL_SIZE)];
        self.request_with(SHM, 0, &args, [file()]);
    }

    /// A wl_buffer of 200 by 100 pixels.
    fn create_buffer(&mut self, pool: u32, buffer: u32, offset: i32) {
        let args = [
            Arg::NewId(buffer),
            Arg::Int(offset),
            Arg::Int(200),
            Arg::Int(100),
            Arg::Int(800),
            Arg::Uint(XRGB8888),
        ];
        self.request(pool, 0, &args);
    }

    fn delete_id(&mut self, id: u32) {
        self.event(WL_DISPLAY, WL_DISPLAY_DELETE_ID, &[Arg::Uint(id)], vec![]);
    }

    /// The error that ended the connection: object and code.
    fn error(&mut self) -> (u32, u32) {
        self.agent.dispatch(&mut Vec::new()).unwrap();
        assert_eq!(self.agent.connections(), 0, "the connection is still there");
        assert!(!self.fake.is_open(self.context));
        let (received, _) = self.received();
        match received.last() {
            Some((WL_DISPLAY, 0, args)) => (args[0], args[1]),
            other => panic!("{other:?} instead of an error"),
        }
    }
}

#[test]
fn a_pool_is_a_page_until_it_has_a_buffer() {
    let mut desk = Desk::new();
    desk.create_pool(FREE);
    desk.create_pool(FREE + 1);
    assert_eq!(desk.sent(), [(SHM, 0, vec![FREE, 4096]), (SHM, 0, vec![FREE + 1, 4096])]);
    let vfds = desk.fake.vfds_to(desk.context);
    assert_eq!(vfds[0], vfds[1], "the page is shared");
}

#[test]
fn a_buffer_makes_its_pool_anew_over_a_shadow() {
    let mut desk = Desk::new();
    let (pool, buffer) = (FREE, FREE + 1);
    desk.create_pool(pool);
    desk.sent();
    desk.create_buffer(pool, buffer, 4096);
    let shadow = 81_920;
    let expected = [
        (pool, 1, vec![]),
        (SHM, 0, vec![pool, shadow]),
        (pool, 0, vec![buffer, 0, 200, 100, 800, XRGB8888]),
    ];
    assert_eq!(desk.sent(), expected);
    let vfd = desk.fake.vfds_to(desk.context)[1];
    assert_eq!(desk.fake.state.borrow().open[&vfd], u64::from(shadow));
}

#[test]
fn delete_ids_that_are_ours_are_swallowed_and_the_clients_pass() {
    let mut desk = Desk::new();
    let pool = FREE;
    desk.create_pool(pool);
    desk.create_buffer(pool, FREE + 1, 0);
    desk.create_buffer(pool, FREE + 2, 80_000);
    desk.request(pool, 1, &[]);
    for expected in [vec![], vec![], vec![(WL_DISPLAY, 1, vec![pool])]] {
        desk.delete_id(pool);
        assert_eq!(desk.received().0, expected);
    }
    // The id now stands for a callback, whose end is the client's business.
    desk.sent();
    desk.request(WL_DISPLAY, 0, &[Arg::NewId(pool)]);
    assert_eq!(desk.sent(), [(WL_DISPLAY, 0, vec![pool])]);
    desk.event(pool, 0, &[Arg::Uint(5)], vec![]);
    desk.delete_id(pool);
    assert_eq!(desk.received().0, [(pool, 0, vec![5]), (WL_DISPLAY, 1, vec![pool])]);
    // And then for a pool again.
    desk.create_pool(pool);
    desk.create_buffer(pool, FREE + 3, 0);
    desk.delete_id(pool);
    assert_eq!(desk.received().0, []);
    assert_eq!(desk.agent.connections(), 1);
}

#[test]
fn an_id_that_is_reused_before_its_delete_id_is_counted_right() {
    let mut desk = Desk::new();
    let pool = FREE;
    for buffer in [FREE + 1, FREE + 2] {
        desk.create_pool(pool);
        desk.create_buffer(pool, buffer, 0);
        desk.request(pool, 1, &[]);
    }
    desk.request(WL_DISPLAY, 0, &[Arg::NewId(pool)]);
    (0..4).for_each(|_| desk.delete_id(pool));
    desk.event(pool, 0, &[Arg::Uint(5)], vec![]);
    let deleted = (WL_DISPLAY, 1, vec![pool]);
    assert_eq!(desk.received().0, [deleted.clone(), deleted, (pool, 0, vec![5])]);
}

#[test]
fn a_wl_shm_is_released_after_its_last_pool() {
    let mut desk = Desk::new();
    let (one, other, buffer) = (FREE, FREE + 1, FREE + 2);
    desk.create_pool(one);
    desk.create_pool(other);
    desk.sent();
    desk.request(SHM, 1, &[]);
    assert_eq!(desk.sent(), []);
    desk.create_buffer(one, buffer, 0);
    assert_eq!(desk.sent()[1], (SHM, 0, vec![one, 81_920]));
    desk.request(other, 1, &[]);
    assert_eq!(desk.sent(), [(other, 1, vec![])]);
    desk.request(one, 1, &[]);
    assert_eq!(desk.sent(), [(one, 1, vec![]), (SHM, 1, vec![])]);
    // From here on all is as without us.
    desk.delete_id(one);
    desk.delete_id(one);
    desk.delete_id(SHM);
    let deleted = |id| (WL_DISPLAY, 1, vec![id]);
    assert_eq!(desk.received().0, [deleted(one), deleted(SHM)]);
    desk.request(WL_DISPLAY, 0, &[Arg::NewId(SHM)]);
    assert_eq!((desk.sent(), desk.agent.connections()), (vec![(WL_DISPLAY, 0, vec![SHM])], 1));
}

#[test]
fn a_wl_shm_without_pools_is_released_at_once() {
    let mut desk = Desk::new();
    desk.create_pool(FREE);
    desk.request(FREE, 1, &[]);
    desk.sent();
    desk.request(SHM, 1, &[]);
    assert_eq!(desk.sent(), [(SHM, 1, vec![])]);
}

#[test]
fn a_keymap_becomes_a_constant_file() {
    let mut desk = Desk::new();
    let keyboard = FREE;
    desk.request(SEAT, 1, &[Arg::NewId(keyboard)]);
    for size in [6u32, 0] {
        let memory = desk.fake.arriving_memory(b"keymap");
        let vfd = memory.vfd();
        desk.event(keyboard, 0, &[Arg::Uint(1), Arg::Fd, Arg::Uint(size)], vec![memory]);
        let (received, mut fds) = desk.received();
        assert_eq!(received, [(keyboard, 0, vec![1, size])]);
        let mut text = String::new();
        File::from(fds.pop_front().unwrap()).read_to_string(&mut text).unwrap();
        assert_eq!(text, "keymap"[..size as usize]);
        assert!(!desk.fake.is_open(vfd));
    }
}

#[test]
fn the_pipes_of_one_client_end_none_of_another() {
    let mut desk = Desk::new();
    let pipe = desk.fake.arriving_pipe(PipeEnd::Read);
    let vfd = pipe.vfd();
    let keyboard = FREE;
    desk.request(SEAT, 1, &[Arg::NewId(keyboard)]);
    desk.event(keyboard, 0, &[Arg::Uint(1), Arg::Fd, Arg::Uint(9)], vec![pipe]);
    let other = Client::new("another");
    let (read, _write) = std::io::pipe().unwrap();
    for _ in 0..100 {
        let read = read.try_clone().unwrap();
        desk.agent.world.carry_out(read.into(), other.peer()).unwrap();
    }
    assert!(desk.agent.world.stats.pipes < 100);
    assert!(desk.agent.world.pump_of(vfd).is_some());
}

#[test]
fn only_formats_that_can_be_copied_are_offered() {
    let mut desk = Desk::new();
    let nv12 = 0x3231_564e;
    for format in [XRGB8888, nv12, 0] {
        desk.event(SHM, 0, &[Arg::Uint(format)], vec![]);
    }
    assert_eq!(desk.received().0, [(SHM, 0, vec![XRGB8888]), (SHM, 0, vec![0])]);
}

#[test]
fn a_compositor_takes_no_icc_profiles() {
    let mut desk = Desk::new();
    let (icc, parametric) = (0, 1);
    for feature in [icc, parametric] {
        desk.event(COLORS, 1, &[Arg::Uint(feature)], vec![]);
    }
    assert_eq!(desk.received().0, [(COLORS, 1, vec![parametric])]);
    desk.request(COLORS, 5, &[Arg::NewId(FREE)]);
    assert_eq!(desk.sent(), [(COLORS, 5, vec![FREE])], "the parametric creator");
    desk.request(COLORS, 4, &[Arg::NewId(FREE + 1)]);
    assert_eq!(desk.error(), (COLORS, 0), "wp_color_manager_v1.error.unsupported_feature");
}

#[test]
fn memory_that_the_compositor_released_is_used_again() {
    for released in [false, true] {
        let mut desk = Desk::new();
        let (surface, pool, buffer) = (FREE, FREE + 1, FREE + 2);
        desk.request(COMPOSITOR, 0, &[Arg::NewId(surface)]);
        desk.create_pool(pool);
        desk.create_buffer(pool, buffer, 0);
        let shadow = *desk.fake.vfds_to(desk.context).last().unwrap();
        desk.request(surface, 1, &[Arg::Object(buffer), Arg::Int(0), Arg::Int(0)]);
        desk.request(surface, 6, &[]);
        assert_eq!(desk.agent.world.stats.copied_bytes, 80_000);
        if released {
            desk.event(buffer, 0, &[], vec![]);
        }
        desk.request(surface, 1, &[Arg::Object(0), Arg::Int(0), Arg::Int(0)]);
        desk.request(surface, 6, &[]);
        desk.request(buffer, 0, &[]);
        desk.request(pool, 1, &[]);
        assert_eq!(desk.fake.is_open(shadow), released);
        desk.create_pool(FREE + 3);
        desk.create_buffer(FREE + 3, FREE + 4, 0);
        let again = *desk.fake.vfds_to(desk.context).last().unwrap();
        assert_eq!(again == shadow, released);
    }
}

#[test]
fn a_client_that_has_much_copied_leaves_others_their_turn() {
    const FRAMES: usize = 40;
    const SIDE: i32 = 1024;
    let frame_size = 4 * SIDE * SIDE;
    let mut desk = Desk::new();
    let (surface, pool, buffer) = (FREE, FREE + 1, FREE + 2);
    desk.request(COMPOSITOR, 0, &[Arg::NewId(surface)]);
    let file = tempfile::tempfile().unwrap();
    file.set_len(frame_size as u64).unwrap();
    desk.request_with(SHM, 0, &[Arg::NewId(pool), Arg::Fd, Arg::Int(frame_size)], [file.into()]);
    let format = [SIDE, SIDE, 4 * SIDE, XRGB8888 as i32].map(Arg::Int);
    desk.request(pool, 0, &[&[Arg::NewId(buffer), Arg::Int(0)], &format[..]].concat());
    desk.request(surface, 1, &[Arg::Object(buffer), Arg::Int(0), Arg::Int(0)]);
    desk.sent();
    let (quiet, local) = UnixStream::pair().unwrap();
    let context = desk.agent.world.channel.connect().unwrap();
    let link = Link { local: Stream::new(local).unwrap(), out: Outbox::default() };
    desk.agent.connect("quiet".into(), link, context, Box::new(Client::default())).unwrap();
    desk.agent.dispatch(&mut Vec::new()).unwrap();

    let all = [0, 0, i32::MAX, i32::MAX].map(Arg::Int);
    let frame = [encode(surface, 9, &all), encode(surface, 6, &[])].concat();
    desk.client.queue(&frame.repeat(FRAMES), []);
    assert!(desk.client.flush().unwrap());
    (&quiet).write_all(&encode(WL_DISPLAY, 1, &[Arg::NewId(REGISTRY)])).unwrap();
    desk.agent.dispatch(&mut Vec::new()).unwrap();
    let state = desk.fake.state.borrow();
    let before = state.sent.iter().take_while(|sent| sent.to != context);
    let first = before.map(|sent| sent.bytes.len()).sum::<usize>() - desk.read;
    drop(state);
    assert!(first <= 8 * frame.len(), "{first} bytes of requests went first");
    assert_eq!(desk.sent().len(), 2 * FRAMES);
    assert_eq!(desk.agent.world.stats.copied_bytes, FRAMES as u64 * frame_size as u64);
}

#[test]
fn a_buffer_that_becomes_an_icon_is_copied_at_once() {
    let mut desk = Desk::new();
    let (pool, buffer, icon) = (FREE, FREE + 1, FREE + 2);
    desk.create_pool(pool);
    desk.create_buffer(pool, buffer, 0);
    desk.request(ICONS, 1, &[Arg::NewId(icon)]);
    assert_eq!(desk.agent.world.stats.copied_bytes, 0);
    desk.request(icon, 2, &[Arg::Object(buffer), Arg::Int(1)]);
    assert_eq!(desk.agent.world.stats.copied_bytes, 80_000);
}

#[test]
fn bad_requests_end_the_connection_with_an_error() {
    let (invalid_object, invalid_method) = (0, 1);
    let mut desk = Desk::new();
    desk.request(99, 0, &[]);
    assert_eq!(desk.error(), (WL_DISPLAY, invalid_object));

    let mut desk = Desk::new();
    desk.request(SHM, 9, &[]);
    assert_eq!(desk.error(), (WL_DISPLAY, invalid_method));

    let mut desk = Desk::new();
    desk.request(SHM, 0, &[Arg::NewId(FREE), Arg::Fd, Arg::Int(POOL_SIZE)]);
    assert_eq!(desk.error(), (WL_DISPLAY, invalid_method), "the fd is missing");

    let mut desk = Desk::new();
    desk.request_with(SHM, 0, &[Arg::NewId(FREE), Arg::Fd, Arg::Int(0)], [file()]);
    assert_eq!(desk.error(), (SHM, 1), "wl_shm.error.invalid_stride");

    let mut desk = Desk::new();
    desk.create_pool(FREE);
    desk.create_buffer(FREE, FREE + 1, POOL_SIZE);
    assert_eq!(desk.error().0, FREE);
    assert_eq!(desk.agent.world.stats.violations, 1);

    let mut desk = Desk::new();
    desk.client.queue(&[1, 0, 0, 0, 0, 0, 2, 0], []);
    desk.client.flush().unwrap();
    assert_eq!(desk.error(), (WL_DISPLAY, invalid_method), "a size that can't be");
}

#[test]
fn a_truncated_pool_is_an_error_of_its_buffer() {
    let file = File::from(file());
    for commit in [true, false] {
        let mut desk = Desk::new();
        file.set_len(POOL_SIZE as u64).unwrap();
        let args = [Arg::NewId(FREE), Arg::Fd, Arg::Int(POOL_SIZE)];
        desk.request_with(SHM, 0, &args, [file.try_clone().unwrap().into()]);
        let (buffer, user) = (FREE + 1, FREE + 2);
        desk.create_buffer(FREE, buffer, 0);
        file.set_len(0).unwrap();
        if commit {
            desk.request(COMPOSITOR, 0, &[Arg::NewId(user)]);
            desk.request(user, 1, &[Arg::Object(buffer), Arg::Int(0), Arg::Int(0)]);
            desk.request(user, 6, &[]);
        } else {
            desk.request(ICONS, 1, &[Arg::NewId(user)]);
            desk.request(user, 2, &[Arg::Object(buffer), Arg::Int(1)]);
        }
        assert_eq!(desk.error(), (buffer, 2), "wl_shm.error.invalid_fd");
    }
}

#[test]
fn stuffed_fds_end_the_connection() {
    let mut desk = Desk::new();
    for _ in 0..30 {
        let null = || OwnedFd::from(File::open("/dev/null").unwrap());
        desk.request_with(COMPOSITOR, 1, &[Arg::NewId(FREE)], (0..10).map(|_| null()));
        if desk.agent.connections() == 0 {
            break;
        }
        desk.request(FREE, 0, &[]);
        desk.delete_id(FREE);
    }
    assert_eq!(desk.agent.connections(), 0);
}

#[test]
fn when_the_host_has_no_more_memory_the_client_learns_why() {
    let mut desk = Desk::new();
    desk.create_pool(FREE);
    desk.fake.state.borrow_mut().refusals.push_back(Error::OutOfMemory);
    desk.create_buffer(FREE, FREE + 1, 0);
    assert_eq!(desk.error(), (WL_DISPLAY, NO_MEMORY));
}

#[test]
fn nothing_is_left_of_a_client_but_what_is_shared() {
    let mut desk = Desk::new();
    desk.create_pool(FREE);
    desk.create_buffer(FREE, FREE + 1, 0);
    // A vfd whose event never comes.
    let pipe = desk.fake.arriving_pipe(PipeEnd::Read);
    desk.fake.deliver(desk.context, &[1, 0, 0, 0], vec![pipe]);
    desk.agent.dispatch(&mut Vec::new()).unwrap();
    let Desk { mut agent, fake, client, .. } = desk;
    drop(client);
    agent.dispatch(&mut Vec::new()).unwrap();
    // The placeholder, and the shadow's memory for the next one.
    assert_eq!((agent.connections(), fake.open().len()), (0, 2));
    assert_eq!(agent.world.stats.allocations, 2);
}
