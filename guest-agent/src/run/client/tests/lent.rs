//! Clients whose pools are allocations that they were lent.

use super::*;
use crate::lend::tests::App;

/// Neither a whole number of pages nor of rows.
const SIZE: i32 = 200_001;

impl Desk {
    fn lent_pool(&mut self, pool: u32, fd: &OwnedFd, size: i32) {
        let args = [Arg::NewId(pool), Arg::Fd, Arg::Int(size)];
        self.request_with(SHM, 0, &args, [fd.try_clone().unwrap()]);
    }

    fn show(&mut self, surface: u32, buffer: u32) {
        self.request(surface, 1, &[Arg::Object(buffer), Arg::Int(0), Arg::Int(0)]);
        let all = [0, 0, i32::MAX, i32::MAX].map(Arg::Int);
        self.request(surface, 9, &all);
        self.request(surface, 6, &[]);
    }
}

#[test]
fn the_compositor_gets_the_pool_as_it_is() {
    let mut desk = Desk::new();
    let app = App::join(&mut desk.agent);
    let (id, fd) = app.borrow(&mut desk.agent, SIZE as u64);
    let (pool, buffer, surface) = (FREE, FREE + 1, FREE + 2);
    desk.lent_pool(pool, &fd, SIZE);
    let vfd = desk.fake.vfds_to(desk.context)[0];
    assert_eq!(desk.fake.state.borrow().open[&vfd], 200_704);
    desk.create_buffer(pool, buffer, 4096);
    desk.request(pool, 2, &[Arg::Int(SIZE + 1)]);
    let expected = [
        (SHM, 0, vec![pool, SIZE as u32]),
        (pool, 0, vec![buffer, 4096, 200, 100, 800, XRGB8888]),
        (pool, 2, vec![SIZE as u32 + 1]),
    ];
    assert_eq!(desk.sent(), expected);
    desk.request(COMPOSITOR, 0, &[Arg::NewId(surface)]);
    desk.show(surface, buffer);
    desk.show(surface, buffer);
    let stats = &desk.agent.world.stats;
    assert_eq!((stats.frames, stats.seen_frames), (2, 2));
    assert_eq!((stats.damaged_bytes, stats.copied_bytes), (160_000, 0));
    assert_eq!((stats.lent, desk.fake.vfds_to(desk.context).len()), (1, 1));
    // All pass as they are, and no delete_id is swallowed.
    desk.request(pool, 1, &[]);
    desk.delete_id(pool);
    assert_eq!(desk.received().0, [(WL_DISPLAY, 1, vec![pool])]);
    drop(fd);
    app.close(&mut desk.agent, id, 1);
    desk.request(buffer, 0, &[]);
    assert!(desk.fake.is_open(vfd), "it is shown");
    desk.request(surface, 0, &[]);
    assert!(!desk.fake.is_open(vfd));
    assert_eq!(desk.agent.world.stats.lent, 0);
}

#[test]
fn a_demoted_client_has_shadows_from_then_on() {
    let mut desk = Desk::new();
    let app = App::join(&mut desk.agent);
    let (id, fd) = app.borrow(&mut desk.agent, SIZE as u64);
    let (pool, buffer, surface, new) = (FREE, FREE + 1, FREE + 2, FREE + 3);
    desk.lent_pool(pool, &fd, SIZE);
    desk.create_buffer(pool, buffer, 0);
    desk.request(COMPOSITOR, 0, &[Arg::NewId(surface)]);
    desk.show(surface, buffer);
    app.demote(&mut desk.agent, (id, &fd), 1, &file());
    drop(fd);
    desk.sent();
    desk.request(pool, 2, &[Arg::Int(POOL_SIZE)]);
    assert_eq!(desk.sent(), [], "how large the client's file is, is the client's business");
    desk.show(surface, buffer);
    let stats = &desk.agent.world.stats;
    assert_eq!((stats.copied_bytes, stats.seen_frames, stats.demotions), (80_000, 1, 1));
    desk.sent();
    desk.create_buffer(pool, new, POOL_SIZE - 80_000);
    let expected = [
        (pool, 1, vec![]),
        (SHM, 0, vec![pool, 81_920]),
        (pool, 0, vec![new, 0, 200, 100, 800, XRGB8888]),
    ];
    assert_eq!(desk.sent(), expected);
    desk.delete_id(pool);
    assert_eq!(desk.received().0, []);
    assert_eq!(desk.agent.connections(), 1);
}

#[test]
fn a_demotion_overtakes_the_pool() {
    let mut desk = Desk::new();
    let app = App::join(&mut desk.agent);
    let (id, fd) = app.borrow(&mut desk.agent, SIZE as u64);
    app.demote(&mut desk.agent, (id, &fd), 1, &file());
    assert_eq!(desk.agent.world.stats.lent, 1);
    desk.lent_pool(FREE, &fd, SIZE);
    assert_eq!(desk.sent(), [(SHM, 0, vec![FREE, 4096])], "a placeholder");
    assert_eq!(desk.agent.world.stats.lent, 0);
}

#[test]
fn growth_without_a_file_is_an_error() {
    let mut desk = Desk::new();
    let app = App::join(&mut desk.agent);
    let (_, fd) = app.borrow(&mut desk.agent, SIZE as u64);
    desk.lent_pool(FREE, &fd, SIZE);
    desk.request(FREE, 2, &[Arg::Int(POOL_SIZE)]);
    assert_eq!(desk.error(), (FREE, 2), "wl_shm.error.invalid_fd");
}

#[test]
fn a_client_that_leaves_uses_nothing_any_more() {
    let mut desk = Desk::new();
    let app = App::join(&mut desk.agent);
    let (id, fd) = app.borrow(&mut desk.agent, SIZE as u64);
    desk.lent_pool(FREE, &fd, SIZE);
    desk.create_buffer(FREE, FREE + 1, 0);
    app.close(&mut desk.agent, id, 1);
    assert_eq!(desk.agent.world.stats.lent, 1);
    let Desk { mut agent, fake, client, .. } = desk;
    drop(client);
    agent.dispatch(&mut Vec::new()).unwrap();
    agent.dispatch(&mut Vec::new()).unwrap();
    assert_eq!((agent.connections(), agent.world.stats.lent, fake.open()), (0, 0, vec![]));
}

/// What other requests carry is a file's content, whatever the interposer took it for.
#[test]
fn what_is_no_pool_is_read() {
    let mut desk = Desk::new();
    let app = App::join(&mut desk.agent);
    let (id, fd) = app.borrow(&mut desk.agent, SIZE as u64);
    let mut mapping = crate::memory::Mapping::new(&fd, 200_704).unwrap();
    mapping.write(0, &[7; 200_704]);
    app.close(&mut desk.agent, id, 1);
    let peer = Peer { vm: "", account: "test" };
    let vfd = desk.agent.world.carry_out(fd, peer).unwrap();
    assert_eq!(desk.fake.state.borrow().open[&vfd], 200_704);
    assert_eq!(desk.agent.world.stats.lent, 0);
}

/// An application that sends an fd and then has a mistake, or sends it to be written to, doesn't keep the allocation so.
#[test]
fn what_is_sent_and_not_used_is_not_waited_for() {
    let mut desk = Desk::new();
    let app = App::join(&mut desk.agent);
    let (id, fd) = app.borrow(&mut desk.agent, SIZE as u64);
    app.close(&mut desk.agent, id, 1);
    let _ = desk.agent.world.carry_target(fd, Peer { vm: "", account: "test" });
    assert_eq!(desk.agent.world.stats.lent, 0);
    let (id, fd) = app.borrow(&mut desk.agent, SIZE as u64);
    app.close(&mut desk.agent, id, 1);
    // Half a request.
    let request = encode(SHM, 0, &[Arg::NewId(FREE), Arg::Fd, Arg::Int(SIZE)]);
    desk.client.queue(&request[..8], [fd]);
    desk.client.flush().unwrap();
    desk.agent.dispatch(&mut Vec::new()).unwrap();
    assert_eq!(desk.agent.world.stats.lent, 1);
    let Desk { mut agent, client, .. } = desk;
    drop(client);
    agent.dispatch(&mut Vec::new()).unwrap();
    agent.dispatch(&mut Vec::new()).unwrap();
    assert_eq!((agent.connections(), agent.world.stats.lent), (0, 0));
}
