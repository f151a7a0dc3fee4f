use super::*;
use crate::channel::Allocation;
use crate::memory::Mapping;
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};

mod lent;
mod model;

const XRGB: u32 = wl_shm::Format::Xrgb8888 as u32;
/// What tests call their wl_shm, their pool and surfaces.
const SHM: u32 = 2;
const POOL: u32 = 3;
const X: u32 = 10;
const Y: u32 = 11;

/// A host that grants up to `limit` allocations at a time, and can look into them.
pub(super) struct Host {
    limit: usize,
    made: u32,
    pub(super) discarded: usize,
    given_back: usize,
    /// What clients draw into.
    lent: BTreeMap<VfdId, File>,
    held: BTreeMap<VfdId, File>,
}

impl Default for Host {
    fn default() -> Self {
        Self::granting(usize::MAX)
    }
}

impl Host {
    pub(super) fn granting(limit: usize) -> Self {
        let (held, lent) = (BTreeMap::new(), BTreeMap::new());
        Self { limit, made: 0, held, discarded: 0, given_back: 0, lent }
    }

    /// An allocation for a client's file of `size` bytes, and the same as a file to draw into.
    fn lend(&mut self, size: u64) -> (Rc<Lent>, File) {
        self.made += 1;
        let vfd = VfdId(self.made);
        let pages = size.next_multiple_of(4096);
        let fd = wlproxy_unix::memory::allocate("wlproxy-test", pages).unwrap();
        let file = File::from(fd.try_clone().unwrap());
        self.lent.insert(vfd, file.try_clone().unwrap());
        let lent = Lent::new(Allocation { vfd, fd, size: pages }, size).unwrap();
        (Rc::new(lent), file)
    }

    /// Allocations that clients have.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    fn read(&self, at: Placement, offset: usize, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        let file = self.held.get(&at.vfd).or(self.lent.get(&at.vfd)).expect("an allocation");
        file.read_exact_at(&mut bytes, (at.offset as usize + offset) as u64).unwrap();
        bytes
    }
}

impl Memory for Host {
    fn allocate(&mut self, size: u64) -> Result<Mapped, Error> {
        if self.held.len() >= self.limit {
            return Err(Error::OutOfMemory);
        }
        self.made += 1;
        let vfd = VfdId(self.made);
        let fd = wlproxy_unix::memory::allocate("wlproxy-test", size).unwrap();
        let mapping = Mapping::new(&fd, size).unwrap();
        self.held.insert(vfd, fd.into());
        Ok(Mapped { vfd, mapping })
    }

    fn reuse(&mut self, allocation: Mapped) {
        let known = self.held.remove(&allocation.vfd);
        assert!(known.is_some(), "{} was given back before", allocation.vfd);
    }

    fn discard(&mut self, allocation: Mapped) {
        self.reuse(allocation);
        self.discarded += 1;
    }

    fn give_back(&mut self, lent: Rc<Lent>) {
        drop(lent);
        self.given_back += 1;
    }
}

fn file(name: &str, size: usize) -> File {
    let file = File::from(memfd_create(name, MFdFlags::MFD_CLOEXEC).unwrap());
    file.set_len(size as u64).unwrap();
    file
}

/// A client with one pool of a file that it draws into, and its agent.
struct Client {
    file: File,
    shadows: Shadows,
    host: Host,
}

impl Client {
    fn new(size: usize) -> Self {
        Self::on(Host::default(), size)
    }

    fn on(host: Host, size: usize) -> Self {
        let mut client =
            Self { file: file("wlproxy-test", size), shadows: Shadows::default(), host };
        client.pool(POOL, size as i32).unwrap();
        client
    }

    fn pool(&mut self, id: u32, size: i32) -> Result<(), ClientError> {
        self.pool_of(id, self.file.try_clone().unwrap(), size)
    }

    fn pool_of(&mut self, id: u32, file: File, size: i32) -> Result<(), ClientError> {
        let seen = self.shadows.create_pool(SHM, id, PoolFile::Own(file.into()), size)?;
        assert_eq!(seen, None, "the compositor isn't to see a client's file");
        Ok(())
    }

    fn buffer(&mut self, id: u32, offset: i32, (width, height): (i32, i32)) -> Placement {
        self.try_buffer(POOL, id, [offset, width, height, 4 * width], XRGB).unwrap()
    }

    fn try_buffer(
        &mut self,
        pool: u32,
        id: u32,
        n: [i32; 4],
        format: u32,
    ) -> Result<Placement, ClientError> {
        self.made(pool, id, n, format).map(|placement| placement.expect("a shadow"))
    }

    fn made(
        &mut self,
        pool: u32,
        id: u32,
        [offset, width, height, stride]: [i32; 4],
        format: u32,
    ) -> Result<Option<Placement>, ClientError> {
        let (shadows, host) = (&mut self.shadows, &mut self.host);
        shadows.create_buffer(pool, id, offset, width, height, stride, format, host)
    }

    /// Makes a pool anew over an allocation of `size` bytes, and draws into that from now on.
    fn draw_in_lent(&mut self, pool: u32, size: u64) -> Rc<Lent> {
        let (lent, file) = self.host.lend(size);
        self.shadows.destroy_pool(pool, &mut self.host);
        let seen = self.shadows.create_pool(SHM, pool, PoolFile::Lent(lent.clone()), size as i32);
        assert_eq!(seen, Ok(Some(lent.vfd())));
        self.file = file;
        lent
    }

    /// Draws into a file of its own from now on, as an interposer arranges it.
    fn demote(&mut self, lent: &Lent) {
        let own = file("wlproxy-test", lent.size() as usize);
        own.write_all_at(&lent.content().unwrap(), 0).unwrap();
        lent.demote(own.try_clone().unwrap().into());
        self.file = own;
    }

    fn resize(&mut self, id: u32, size: i32) -> Result<(), ClientError> {
        let told = self.shadows.resize_pool(id, size, &mut self.host)?;
        assert!(!told, "the compositor doesn't have this pool");
        Ok(())
    }

    fn refresh(&mut self, buffer: u32) -> Copied {
        self.shadows.refresh(buffer, &mut self.host).unwrap()
    }

    fn draw(&self, offset: usize, len: usize, byte: u8) {
        self.file.write_all_at(&vec![byte; len], offset as u64).unwrap();
    }

    fn attach(&mut self, surface: u32, buffer: u32) {
        self.shadows.attach(surface, Some(buffer), 0, 0, &mut self.host);
    }

    /// Bytes that are copied.
    fn commit(&mut self, surface: u32) -> u64 {
        self.shadows.commit(surface, &mut self.host).unwrap().copied
    }

    fn show(&mut self, surface: u32, buffer: u32) -> u64 {
        self.attach(surface, buffer);
        self.commit(surface)
    }

    fn destroy_buffer(&mut self, id: u32) {
        self.shadows.destroy_buffer(id, &mut self.host);
    }

    /// Ends the connection: all is given back.
    fn end(mut self) {
        self.shadows.release_all(&mut self.host);
        assert_eq!(self.host.held(), 0);
    }
}

#[test]
fn what_is_stale_is_copied_and_no_more() {
    let mut client = Client::new(1 << 20);
    let at = client.buffer(5, 0, (256, 256));
    client.draw(0, 4 * 256 * 256, 7);
    assert_eq!(client.show(X, 5), 4 * 256 * 256);
    assert_eq!(client.host.read(at, 0, 4 * 256 * 256), vec![7; 4 * 256 * 256]);
    assert_eq!(client.show(X, 5), 0);
    client.draw(1024, 1024, 9);
    client.shadows.damage(X, Rect::new(8, 1, 2, 1));
    client.shadows.damage_buffer(X, Rect::new(9, 1, 3, 1));
    let copied = client.shadows.commit(X, &mut client.host).unwrap();
    assert_eq!(copied, Copied { copied: 16, damaged: 16, seen: false });
    assert_eq!(client.host.read(at, 1024, 52), [vec![7; 32], vec![9; 16], vec![7; 4]].concat());
    assert_eq!(client.commit(X), 0);
    client.end();
}

#[test]
fn two_buffers_in_turn_copy_the_damage_of_both_frames() {
    let mut client = Client::new(8 << 20);
    client.buffer(5, 0, (1000, 1000));
    client.buffer(6, 4 << 20, (1000, 1000));
    let frame = |client: &mut Client, buffer, row| {
        client.shadows.damage(X, Rect::new(0, row, i32::MAX, 1));
        client.show(X, buffer)
    };
    assert_eq!(frame(&mut client, 5, 0), 4_000_000);
    assert_eq!(frame(&mut client, 6, 1), 4_000_000);
    for row in 2..20 {
        assert_eq!(frame(&mut client, 5 + row as u32 % 2, row), 8000);
    }
    client.end();
}

#[test]
fn a_buffer_on_two_surfaces() {
    let mut client = Client::new(8 << 20);
    client.buffer(5, 0, (100, 100));
    client.buffer(6, 4 << 20, (100, 100));
    assert_eq!(client.show(X, 5), 40_000);
    assert_eq!(client.show(Y, 5), 40_000);
    // Both show it, so what one commits is known to the other.
    client.shadows.damage(X, Rect::new(0, 0, 1, 1));
    assert_eq!(client.commit(X), 4);
    assert_eq!(client.commit(Y), 0);
    // Y shows another; when X changes the first one, nothing is known about it on Y.
    assert_eq!(client.show(Y, 6), 40_000);
    assert_eq!(client.commit(X), 0);
    assert_eq!(client.show(Y, 5), 40_000);
    client.end();
}

#[test]
fn equal_buffers_have_one_shadow_also_later() {
    let mut client = Client::new(1 << 20);
    let at = client.buffer(5, 4096, (200, 200));
    assert_eq!(client.buffer(6, 4096, (200, 200)), at);
    assert_ne!(client.buffer(7, 8192, (200, 200)), at);
    client.show(X, 5);
    assert_eq!(client.show(X, 6), 0);
    client.destroy_buffer(5);
    client.destroy_buffer(6);
    client.shadows.attach(X, None, 0, 0, &mut client.host);
    client.commit(X);
    assert_eq!(client.buffer(8, 4096, (200, 200)), at);
    client.end();
}

#[test]
fn few_idle_shadows_are_kept_and_go_with_their_pool() {
    let mut client = Client::new(1 << 24);
    for size in 200..240 {
        client.buffer(5, 0, (size, 200));
        client.show(X, 5);
        client.destroy_buffer(5);
    }
    // Four idle ones, and what the surface shows.
    assert_eq!(client.host.held(), 5);
    client.shadows.destroy_pool(POOL, &mut client.host);
    assert_eq!(client.host.held(), 1);
    client.shadows.destroy_surface(X, &mut client.host);
    assert_eq!(client.host.held(), 0);
    client.end();
}

#[test]
fn what_is_shown_stays_when_buffer_and_pool_are_gone() {
    let mut client = Client::new(1 << 20);
    let at = client.buffer(5, 0, (200, 200));
    client.draw(0, 160_000, 3);
    client.attach(X, 5);
    // Also if they go before the commit.
    client.destroy_buffer(5);
    client.shadows.destroy_pool(POOL, &mut client.host);
    assert_eq!(client.commit(X), 160_000);
    client.draw(0, 160_000, 4);
    client.shadows.damage(X, Rect::new(0, 0, 9, 9));
    assert_eq!(client.commit(X), 0, "nobody wants the pool to be read any more");
    client.pool(POOL, 1 << 20).unwrap();
    let other = client.buffer(5, 0, (200, 200));
    assert_ne!(other.vfd, at.vfd, "it is still shown");
    assert_eq!(client.host.read(at, 0, 160_000), vec![3; 160_000]);
    assert_eq!(client.show(X, 5), 160_000);
    assert!(!client.host.held.contains_key(&at.vfd));
    client.end();
}

#[test]
fn a_destroyed_buffer_is_not_read_but_its_damage_is_remembered() {
    let mut client = Client::new(1 << 20);
    client.buffer(5, 0, (100, 100));
    client.show(X, 5);
    client.show(Y, 5);
    client.destroy_buffer(5);
    for surface in [X, Y] {
        client.shadows.damage(surface, Rect::new(0, 0, 10, 1));
        assert_eq!(client.commit(surface), 0);
    }
    client.buffer(6, 0, (100, 100));
    assert_eq!(client.commit(X), 40);
    assert_eq!(client.commit(Y), 0, "the surfaces show the same");
    client.end();
}

#[test]
fn a_shadow_that_came_back_is_not_idle() {
    let mut client = Client::new(1 << 20);
    client.buffer(5, 0, (100, 100));
    client.destroy_buffer(5);
    client.buffer(5, 0, (100, 100));
    for width in 1..10 {
        client.buffer(6, 0, (width, 100));
        client.destroy_buffer(6);
    }
    assert_eq!(client.show(X, 5), 40_000);
    client.end();
}

#[test]
fn ids_that_are_used_again_know_nothing() {
    let mut client = Client::new(1 << 20);
    client.buffer(5, 0, (100, 100));
    client.show(X, 5);
    client.shadows.set_scale(X, 2);
    client.shadows.damage(X, Rect::new(0, 0, 100, 100));
    client.shadows.destroy_surface(X, &mut client.host);
    assert_eq!(client.show(X, 5), 40_000);
    client.shadows.damage(X, Rect::new(0, 0, 1, 1));
    assert_eq!(client.commit(X), 4);
    client.destroy_buffer(5);
    assert!(!client.shadows.is_buffer(5));
    client.attach(X, 5);
    assert_eq!(client.commit(X), 0);
    client.buffer(5, 4096, (100, 100));
    assert_eq!(client.show(X, 5), 40_000);
    client.end();
}

#[test]
fn other_mappings_make_everything_stale() {
    let changes: [fn(&mut Client); 7] = [
        |client| client.shadows.set_scale(X, 2),
        |client| client.shadows.set_transform(X, 3),
        |client| client.shadows.set_viewport_source(X, Some([0, 0, 256, 256])),
        |client| client.shadows.set_viewport_destination(X, Some((9, 9))),
        |client| client.shadows.offset(X, 0, -1),
        |client| client.shadows.attach(X, Some(5), 1, 0, &mut client.host),
        |client| {
            client.shadows.attach(X, None, 0, 0, &mut client.host);
            client.commit(X);
            client.attach(X, 5);
        },
    ];
    for change in changes {
        let mut client = Client::new(1 << 20);
        client.buffer(5, 0, (100, 100));
        client.show(X, 5);
        change(&mut client);
        assert_eq!(client.commit(X), 40_000);
        assert_eq!(client.commit(X), 0);
        client.end();
    }
}

#[test]
fn other_requests_refresh_all_of_a_buffer() {
    let mut client = Client::new(1 << 20);
    let at = client.buffer(5, 100, (32, 32));
    client.draw(100, 4096, 8);
    assert_eq!(client.refresh(5), Copied { copied: 4096, damaged: 0, seen: false });
    assert_eq!(client.host.read(at, 0, 4096), vec![8; 4096]);
    assert_eq!(client.refresh(77), Copied::default());
    client.end();
}

#[test]
fn many_buffers_on_one_surface_stay_right() {
    let mut client = Client::new(1 << 20);
    for i in 0..40 {
        client.buffer(100 + i, 4096 * i as i32, (32, 32));
    }
    for _ in 0..2 {
        assert_eq!((0..40).map(|i| client.show(X, 100 + i)).sum::<u64>(), 40 * 4096);
    }
    assert_eq!((24..40).map(|i| client.show(X, 100 + i)).sum::<u64>(), 0);
    client.end();
}

#[test]
fn a_truncated_file_ends_only_its_client() {
    let (mut bad, mut good) = (Client::new(1 << 20), Client::new(1 << 20));
    bad.buffer(5, 0, (256, 256));
    good.buffer(5, 0, (256, 256));
    bad.file.set_len(1 << 17).unwrap();
    bad.attach(X, 5);
    let expected =
        ClientError { object: 5, code: 2, reason: "error accessing SHM buffer".to_owned() };
    assert_eq!(bad.shadows.commit(X, &mut bad.host), Err(expected.clone()));
    assert_eq!(bad.shadows.refresh(5, &mut bad.host), Err(expected));
    assert_eq!(good.show(X, 5), 1 << 18);
    bad.end();
    good.end();
}

#[test]
fn a_sparse_pool_stays_sparse() {
    let mut client = Client::new(512 << 20);
    let at = client.buffer(5, 300 << 20, (64, 64));
    client.draw(300 << 20, 256, 5);
    assert_eq!(client.show(X, 5), 16_384);
    assert_eq!(client.host.read(at, 0, 256), [5; 256]);
    let blocks = client.file.metadata().unwrap().blocks();
    assert!(blocks * 512 <= 16_384, "{blocks} blocks");
    client.end();
}

#[test]
fn a_pool_grows_under_its_buffers() {
    let mut client = Client::new(1 << 20);
    let first = client.buffer(5, 0, (100, 100));
    for mib in 2..=64 {
        client.file.set_len(mib << 20).unwrap();
        client.resize(POOL, (mib << 20) as i32).unwrap();
        let offset = ((mib as usize) << 20) - 40_000;
        let last = client.buffer(6, offset as i32, (100, 100));
        client.draw(0, 40_000, mib as u8);
        client.draw(offset, 40_000, !mib as u8);
        client.shadows.damage(X, Rect::new(0, 0, 100, 100));
        assert_eq!(client.show(X, 5), 40_000);
        assert_eq!(client.show(Y, 6), 40_000);
        assert_eq!(client.host.read(first, 0, 40_000), vec![mib as u8; 40_000]);
        assert_eq!(client.host.read(last, 0, 40_000), vec![!mib as u8; 40_000]);
        client.destroy_buffer(6);
    }
    client.end();
}

#[test]
fn thousands_of_pools_hold_no_fd_and_have_a_limit() {
    let name = "wlproxy-many-pools";
    let mut client =
        Client { file: file(name, 4096), shadows: Shadows::default(), host: Host::default() };
    let limit = MAX_POOLS as u32;
    (0..limit).for_each(|id| client.pool(id, 4096).unwrap());
    let refused = client.pool(limit, 4096).unwrap_err();
    assert_eq!((refused.object, refused.code), (DISPLAY, 2));
    let fds = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let links = fds.filter_map(|fd| std::fs::read_link(fd.path()).ok());
    assert_eq!(links.filter(|link| link.to_string_lossy().contains(name)).count(), 1);
    let mapped = || std::fs::read_to_string("/proc/self/maps").unwrap().matches(name).count();
    assert_eq!(mapped(), MAX_POOLS);
    client.shadows.destroy_pool(0, &mut client.host);
    client.pool(limit, 4096).unwrap();
    client.end();
    assert_eq!(mapped(), 0);
}

#[test]
fn a_client_has_so_many_allocations_and_idle_ones_make_room() {
    // Each is a file of the host that the test plays.
    wlproxy_unix::fd_limit::raise().unwrap();
    let mut client = Client::new(1 << 20);
    // Too large to share one.
    let size = |number| (130 + number, 130);
    let limit = arena::MAX_BLOCKS as i32;
    for number in 0..limit {
        client.buffer(10 + number as u32, 0, size(number));
    }
    assert_eq!(client.host.held(), arena::MAX_BLOCKS);
    let refused = client.try_buffer(POOL, 9, [0, 8, 8, 32], XRGB).unwrap_err();
    assert_eq!((refused.object, refused.code), (DISPLAY, 2));
    assert!(refused.reason.contains("512 allocations"), "{refused}");
    // Two go, and wait to come back.
    client.destroy_buffer(10);
    client.destroy_buffer(11);
    assert_eq!(client.host.held(), arena::MAX_BLOCKS);
    client.try_buffer(POOL, 9, [0, 8, 8, 32], XRGB).unwrap();
    client.try_buffer(POOL, 10, [0, 9, 9, 36], XRGB).unwrap();
    client.buffer(11, 0, size(limit));
    assert_eq!(client.host.held(), arena::MAX_BLOCKS);
    client.end();
}

#[test]
fn bad_requests_name_object_code_and_reason() {
    let mut client = Client::on(Host::granting(1), 65_536);
    let mut table: Vec<(Result<(), ClientError>, u32, u32, &str)> = vec![
        (client.pool(9, 0), SHM, 1, "invalid size (0)"),
        (client.pool(9, -1), SHM, 1, "invalid size (-1)"),
        (client.pool_of(9, File::open("/").unwrap(), 1), SHM, 2, "failed mmap: "),
        (client.pool(POOL, 4096), DISPLAY, 0, "invalid object 3"),
        (client.resize(POOL, 65_535), POOL, 2, "shrinking pool invalid"),
        (client.resize(POOL, 0), POOL, 2, "shrinking pool invalid"),
        (client.resize(POOL, -1), POOL, 2, "shrinking pool invalid"),
        (client.resize(8, 1), DISPLAY, 0, "invalid object 8"),
    ];
    let mut buffer =
        |id, pool, numbers, format| client.try_buffer(pool, id, numbers, format).map(drop);
    table.extend([
        (
            buffer(5, POOL, [0, 8, 8, 31], XRGB),
            POOL,
            1,
            "invalid width, height or stride (8x8, 31)",
        ),
        (buffer(5, POOL, [0, 8, 8, 32], 0x3231_564e), POOL, 0, "invalid format 0x3231564e"),
        (buffer(5, 8, [0, 8, 8, 32], XRGB), DISPLAY, 0, "invalid object 8"),
        (
            buffer(5, POOL, [0, 8, 8, 32], XRGB).and(buffer(5, POOL, [0, 8, 8, 32], XRGB)),
            DISPLAY,
            0,
            "invalid object 5",
        ),
    ]);
    client.resize(POOL, 1 << 20).unwrap();
    let refused = client.try_buffer(POOL, 6, [0, 256, 256, 1024], XRGB).map(drop);
    table.push((refused, DISPLAY, 2, "no memory for a wl_buffer: the host grants no more"));
    for (result, object, code, reason) in table {
        let error = result.expect_err(reason);
        assert_eq!((error.object, error.code), (object, code), "{reason}");
        assert!(error.reason.starts_with(reason), "{error}");
    }
    assert!(client.shadows.is_buffer(5) && !client.shadows.is_buffer(6));
    client.end();
}

#[test]
fn memory_is_used_again_only_after_the_compositor_released_it() {
    for (release, discarded) in [(true, 0), (false, 1)] {
        let (mut shadows, mut host) = (Shadows::default(), Host::default());
        let file = PoolFile::Own(file("pool", 1 << 20).into());
        shadows.create_pool(SHM, 3, file, 1 << 20).unwrap();
        shadows.create_buffer(3, 4, 0, 256, 256, 1024, 0, &mut host).unwrap();
        shadows.attach(5, Some(4), 0, 0, &mut host);
        shadows.commit(5, &mut host).unwrap();
        if release {
            shadows.released(4);
        }
        shadows.destroy_buffer(4, &mut host);
        shadows.destroy_pool(3, &mut host);
        shadows.destroy_surface(5, &mut host);
        assert_eq!((host.held(), host.discarded), (0, discarded));
    }
}
