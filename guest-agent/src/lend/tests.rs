use super::*;
use crate::agent::Agent;
use crate::channel::VfdId;
use crate::channel::fake::Fake;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use std::fs::File;
use wlproxy_protocol::lend::MIN_LENT;

/// An application, as far as it borrows.
pub(crate) struct App(OwnedFd);

/// What an answer says, and what came with it.
type Answered = (Answer, Option<OwnedFd>);

impl App {
    pub(crate) fn join(agent: &mut Agent) -> Self {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let pair = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags);
        let (app, socket) = pair.unwrap();
        agent.world.lend_to(socket).unwrap();
        agent.dispatch(&mut Vec::new()).unwrap();
        Self(app)
    }

    pub(crate) fn tell(&self, agent: &mut Agent, bytes: &[u8], fds: &[&OwnedFd]) {
        let fds: Vec<_> = fds.iter().map(|fd| fd.as_raw_fd()).collect();
        let rights = [ControlMessage::ScmRights(&fds)];
        let rights = if fds.is_empty() { &[][..] } else { &rights[..] };
        let bytes = [IoSlice::new(bytes)];
        let _ = sendmsg::<()>(self.0.as_raw_fd(), &bytes, rights, MsgFlags::MSG_NOSIGNAL, None);
        agent.dispatch(&mut Vec::new()).unwrap();
    }

    /// `None` if nothing is said, or the connection is over.
    fn answer(&self) -> Option<Answered> {
        let (mut bytes, mut fds) = ([0; RECORD], Vec::new());
        match wlproxy_unix::receive(&self.0, &mut bytes, &mut fds) {
            Ok(RECORD) => Some((Answer::from_bytes(&bytes).unwrap(), fds.pop())),
            _ => None,
        }
    }

    fn is_over(&self) -> bool {
        let end = wlproxy_unix::receive(&self.0, &mut [0; RECORD], &mut Vec::new());
        // It is a reset if something of ours wasn't read.
        matches!(end, Ok(0) | Err(Errno::ECONNRESET))
    }

    pub(crate) fn ask(&self, agent: &mut Agent, request: Request) -> Option<Answered> {
        self.tell(agent, &request.to_bytes(), &[]);
        self.answer()
    }

    /// Its number and its fd.
    pub(crate) fn borrow(&self, agent: &mut Agent, size: u64) -> (u32, OwnedFd) {
        match self.ask(agent, Request::Lend { size }) {
            Some((Answer::Lent { id }, Some(fd))) => (id, fd),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn close(&self, agent: &mut Agent, id: u32, sent: u32) {
        self.tell(agent, &Request::Close(Parting { id, sent }).to_bytes(), &[]);
    }

    pub(crate) fn demote(
        &self,
        agent: &mut Agent,
        (id, lent): (u32, &OwnedFd),
        sent: u32,
        file: &OwnedFd,
    ) {
        self.tell(agent, &Request::Demote(Parting { id, sent }).to_bytes(), &[lent, file]);
        assert_eq!(self.answer().map(|(answer, _)| answer), Some(Answer::Demoted { id }));
    }
}

fn parts() -> (Agent, Fake) {
    let fake = Fake::new();
    (Agent::new(Box::new(fake.clone())).unwrap(), fake)
}

fn file() -> OwnedFd {
    let file = tempfile::tempfile().unwrap();
    file.set_len(1 << 20).unwrap();
    file.into()
}

/// The only allocation that is open.
fn only(fake: &Fake) -> VfdId {
    match fake.open()[..] {
        [vfd] => vfd,
        ref all => panic!("{all:?}"),
    }
}

#[test]
fn what_is_lent_is_as_large_as_the_file_in_pages_and_zeroed() {
    let (mut agent, fake) = parts();
    let app = App::join(&mut agent);
    let (first, fd) = app.borrow(&mut agent, 100_001);
    assert_eq!(File::from(fd).metadata().unwrap().len(), 102_400);
    assert_eq!(fake.state.borrow().open[&only(&fake)], 102_400);
    let (second, _) = app.borrow(&mut agent, MIN_LENT);
    assert_ne!(first, second);
    let stats = &agent.world.stats;
    assert_eq!((stats.lent, stats.allocations, stats.allocation_bytes), (2, 2, 167_936));
}

/// What comes back isn't used again: the application may have it mapped.
#[test]
fn what_was_closed_goes_back_to_the_host_when_all_that_was_sent_has_arrived() {
    let (mut agent, fake) = parts();
    let app = App::join(&mut agent);
    let (id, fd) = app.borrow(&mut agent, MIN_LENT);
    app.close(&mut agent, id, 2);
    let vfd = only(&fake);
    let used = agent.world.lender.arrived(&fd).unwrap();
    assert_eq!(used.vfd(), vfd);
    drop(used);
    agent.world.sweep_lent();
    assert_eq!(agent.world.stats.lent, 1, "it is still on its way");
    let used = agent.world.lender.arrived(&fd).unwrap();
    agent.world.sweep_lent();
    assert_eq!(agent.world.stats.lent, 1, "it is used");
    drop(used);
    agent.world.sweep_lent();
    let stats = &agent.world.stats;
    assert_eq!((stats.lent, stats.allocations, stats.allocation_bytes), (0, 0, 0));
    assert!(agent.world.lender.arrived(&fd).is_none());
    // The next one to have something to do closes what was given back.
    let (id, _) = app.borrow(&mut agent, MIN_LENT);
    assert!(!fake.is_open(vfd));
    app.close(&mut agent, id, 0);
    assert_eq!(fake.open(), []);
}

#[test]
fn what_was_demoted_is_another_file_when_it_arrives() {
    let (mut agent, fake) = parts();
    let app = App::join(&mut agent);
    let (id, fd) = app.borrow(&mut agent, MIN_LENT);
    app.demote(&mut agent, (id, &fd), 1, &file());
    let arrived = agent.world.lender.arrived(&fd).unwrap();
    assert!(arrived.is_demoted());
    drop(arrived);
    agent.world.sweep_lent();
    assert_eq!((agent.world.stats.lent, agent.world.stats.demotions), (0, 1));
    let (id, fd) = app.borrow(&mut agent, MIN_LENT);
    app.demote(&mut agent, (id, &fd), 0, &file());
    assert_eq!(fake.open(), [], "nothing was sent, so nothing is waited for");
}

/// The connection may be lost where the application isn't.
#[test]
fn what_was_lent_over_another_connection_is_demoted_over_this() {
    let (mut agent, _fake) = parts();
    let app = App::join(&mut agent);
    let (id, fd) = app.borrow(&mut agent, MIN_LENT);
    let used = agent.world.lender.arrived(&fd).unwrap();
    drop(app);
    agent.dispatch(&mut Vec::new()).unwrap();
    let app = App::join(&mut agent);
    app.demote(&mut agent, (id, &fd), 2, &file());
    assert!(used.is_demoted());
    drop(used);
    agent.world.sweep_lent();
    assert!(agent.world.lender.arrived(&fd).is_some(), "it was sent twice");
    // What nobody uses any more is nothing to anybody.
    agent.world.sweep_lent();
    app.demote(&mut agent, (id, &fd), 2, &file());
    assert_eq!((agent.world.stats.lent, agent.world.stats.demotions), (0, 1));
}

#[test]
fn when_an_application_ends_all_goes_but_what_is_used() {
    let (mut agent, fake) = parts();
    let (app, other) = (App::join(&mut agent), App::join(&mut agent));
    let (_, fd) = app.borrow(&mut agent, MIN_LENT);
    let _unsent = app.borrow(&mut agent, MIN_LENT);
    let _others = other.borrow(&mut agent, MIN_LENT);
    let used = agent.world.lender.arrived(&fd).unwrap();
    drop(app);
    agent.dispatch(&mut Vec::new()).unwrap();
    assert_eq!((agent.world.stats.lent, fake.open().len()), (2, 2));
    assert!(fake.is_open(used.vfd()));
    drop(used);
    agent.world.sweep_lent();
    assert_eq!(agent.world.stats.lent, 1);
}

#[test]
fn too_much_is_refused() {
    let (mut agent, fake) = parts();
    // The test's own fds are the application's.
    wlproxy_unix::fd_limit::raise().unwrap();
    let refused = Some(Answer::Refused);
    let ask = |agent: &mut Agent, app: &App, size| {
        app.ask(agent, Request::Lend { size }).map(|(answer, _)| answer)
    };
    let large = App::join(&mut agent);
    let _held = [256, 255].map(|mib| large.borrow(&mut agent, mib << 20));
    assert_eq!(ask(&mut agent, &large, 2 << 20), refused, "too many bytes");
    let _held = large.borrow(&mut agent, 1 << 20);
    // What the application has closed and wl_buffers use counts as well.
    let apps: Vec<_> = (0..4).map(|_| App::join(&mut agent)).collect();
    for app in &apps[..3] {
        let held: Vec<_> = (0..MAX_OF_ONE).map(|_| app.borrow(&mut agent, MIN_LENT)).collect();
        let (id, _) = &held[0];
        app.close(&mut agent, *id, 1);
        assert_eq!(ask(&mut agent, app, MIN_LENT), refused, "too many of one");
    }
    let left = MAX_LENT - 3 - 3 * MAX_OF_ONE;
    (0..left).for_each(|_| drop(apps[3].borrow(&mut agent, MIN_LENT)));
    assert_eq!(ask(&mut agent, &apps[3], MIN_LENT), refused, "too many in all");
    drop(large);
    agent.dispatch(&mut Vec::new()).unwrap();
    fake.state.borrow_mut().refusals.push_back(Error::OutOfMemory);
    assert_eq!(ask(&mut agent, &apps[3], MIN_LENT), refused, "what the host doesn't grant");
    apps[3].borrow(&mut agent, MIN_LENT);
}

#[test]
fn one_application_too_many_is_not_taken() {
    let (mut agent, _fake) = parts();
    wlproxy_unix::fd_limit::raise().unwrap();
    let apps: Vec<_> = (0..MAX_BORROWERS).map(|_| App::join(&mut agent)).collect();
    assert!(App::join(&mut agent).is_over());
    drop(apps);
    agent.dispatch(&mut Vec::new()).unwrap();
    App::join(&mut agent).borrow(&mut agent, MIN_LENT);
}

#[test]
fn bad_records_end_one_connection() {
    let close = |id| Request::Close(Parting { id, sent: 0 }).to_bytes().to_vec();
    let demote = |id| Request::Demote(Parting { id, sent: 0 }).to_bytes().to_vec();
    let lend = Request::Lend { size: MIN_LENT }.to_bytes().to_vec();
    let table = [
        (vec![0; RECORD], 0, "no magic"),
        (lend[1..].to_vec(), 0, "too short"),
        ([&lend[..], &[0]].concat(), 0, "too long"),
        (lend.clone(), 1, "an fd with a question"),
        (close(1), 1, "an fd with a closing"),
        (demote(1), 0, "a demotion without an fd"),
        (demote(1), 1, "a demotion without a file"),
        (demote(1), 3, "a demotion with two"),
        (close(2), 0, "an unknown number"),
    ];
    for (bytes, fds, what) in table {
        let (mut agent, fake) = parts();
        let (app, other) = (App::join(&mut agent), App::join(&mut agent));
        app.borrow(&mut agent, MIN_LENT);
        let file = file();
        app.tell(&mut agent, &bytes, &vec![&file; fds]);
        assert!(app.is_over(), "{what}");
        assert_eq!(fake.open(), [], "{what}");
        other.borrow(&mut agent, MIN_LENT);
    }
}

#[test]
fn nobody_parts_twice_or_from_what_another_has() {
    for twice in [false, true] {
        let (mut agent, _fake) = parts();
        let (app, other) = (App::join(&mut agent), App::join(&mut agent));
        let (id, _) = app.borrow(&mut agent, MIN_LENT);
        if twice {
            // It stays, since it was sent once.
            app.close(&mut agent, id, 1);
            app.close(&mut agent, id, 1);
            assert!(app.is_over());
        } else {
            other.close(&mut agent, id, 0);
            assert!(other.is_over());
            app.close(&mut agent, id, 0);
            assert_eq!(agent.world.stats.lent, 0);
        }
    }
}

/// Its answers would wait here without a bound.
#[test]
fn who_does_not_take_its_answers_is_left() {
    let (mut agent, fake) = parts();
    let app = App::join(&mut agent);
    fake.state.borrow_mut().refusals.extend((0..10_000).map(|_| Error::OutOfMemory));
    for _ in 0..10_000 {
        app.tell(&mut agent, &Request::Lend { size: MIN_LENT }.to_bytes(), &[]);
        if agent.world.lender.borrowers.is_empty() {
            return;
        }
    }
    panic!("all answers are kept somewhere");
}

#[test]
fn an_application_that_asks_much_leaves_others_their_turn() {
    let (mut agent, fake) = parts();
    let app = App::join(&mut agent);
    let request = Request::Lend { size: MIN_LENT }.to_bytes();
    for _ in 0..=BURST {
        let sent = sendmsg::<()>(
            app.0.as_raw_fd(),
            &[IoSlice::new(&request)],
            &[],
            MsgFlags::empty(),
            None,
        );
        assert_eq!(sent, Ok(RECORD));
    }
    let key = *agent.world.lender.borrowers.keys().next().unwrap();
    assert_eq!(agent.world.run_borrower(key).unwrap(), Progress::More);
    assert_eq!(fake.open().len(), BURST);
    assert_eq!(agent.world.run_borrower(key).unwrap(), Progress::Waiting);
    assert_eq!(fake.open().len(), BURST + 1);
}

#[test]
fn a_lost_channel_is_told() {
    let (mut agent, fake) = parts();
    let app = App::join(&mut agent);
    fake.lose();
    let request = Request::Lend { size: MIN_LENT }.to_bytes();
    let bytes = [IoSlice::new(&request)];
    sendmsg::<()>(app.0.as_raw_fd(), &bytes, &[], MsgFlags::empty(), None).unwrap();
    assert!(matches!(agent.dispatch(&mut Vec::new()), Err(Error::Lost(_))));
    drop(agent);
    assert!(app.is_over());
}

/// An application that connects.
fn connect(path: &std::path::Path) -> App {
    let flags = SockFlag::SOCK_CLOEXEC;
    let app =
        nix::sys::socket::socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).unwrap();
    let address = nix::sys::socket::UnixAddr::new(path).unwrap();
    nix::sys::socket::connect(app.as_raw_fd(), &address).unwrap();
    App(app)
}

#[test]
fn the_socket_is_for_its_owner_and_goes() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lend");
    std::fs::write(&path, "a leftover").unwrap();
    let mut socket = LendSocket::bind(&path).unwrap();
    let mode = std::fs::metadata(socket.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(socket.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    let _app = connect(&path);
    socket.accept().unwrap();
    drop(socket);
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
}

/// It doesn't wait for an answer that never comes.
#[test]
fn who_can_not_be_taken_is_turned_away() {
    crate::alone::run("lend::tests::an_application_comes_where_fds_are_used_up");
}

#[test]
#[ignore = "in a process of its own, by who_can_not_be_taken_is_turned_away"]
fn an_application_comes_where_fds_are_used_up() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lend");
    let mut socket = LendSocket::bind(&path).unwrap();
    let apps = [connect(&path), connect(&path)];
    let next = File::open("/dev/null").unwrap().as_raw_fd() as u64;
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, next, hard).unwrap();
    for app in &apps {
        assert_eq!(socket.accept().unwrap_err().raw_os_error(), Some(Errno::EMFILE as i32));
        assert!(app.is_over());
    }
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let app = connect(&path);
    let _taken = socket.accept().unwrap();
    assert!(!app.is_over());
}
