use super::*;
use crate::device::Dialect;
use calloop::EventLoop;
use nix::sys::socket::{setsockopt, sockopt};
use std::os::unix::net::UnixListener;
use std::time::Duration;
use wlproxy_protocol::accept::{Answer, Hello, Record, Refusal, Way, Ways};

/// Longest that a read may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// An event loop with nothing but links in it.
struct Host {
    links: Links<Self>,
}

impl HasLinks for Host {
    fn links(&mut self) -> &mut Links<Self> {
        &mut self.links
    }
}

struct Rig {
    events: EventLoop<'static, Host>,
    host: Host,
    ways: Ways,
}

impl Rig {
    fn new(compositor: Compositor) -> Self {
        Self::of(compositor, Kind::Virtio(Dialect::VirtioWl))
    }

    fn of(compositor: Compositor, device: Kind) -> Self {
        let events = EventLoop::try_new().unwrap();
        let host = Host { links: Links::new(compositor, device, events.handle()) };
        Self { events, host, ways: device.ways() }
    }

    fn with_vm() -> Self {
        Self::new(Compositor::Vm("gui".into()))
    }

    /// Handles all that is ready now.
    fn run(&mut self) {
        for _ in 0..4 {
            self.events.dispatch(Duration::ZERO, &mut self.host).unwrap();
        }
    }

    fn client(&mut self) -> Result<(UnixStream, u64), OpenError> {
        self.client_of("work")
    }

    fn client_of(&mut self, vm: &str) -> Result<(UnixStream, u64), OpenError> {
        let opened = self.host.links.open(vm, Side::Client, Target::Default)?;
        let Role::Link { connection } = opened.role else { panic!("{:?}", opened.role) };
        opened.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Ok((opened.stream, connection))
    }

    /// A main context after both hellos.
    fn main(&mut self) -> UnixStream {
        let opened = self.host.links.open("gui", Side::Compositor, Target::Default).unwrap();
        assert_eq!(opened.role, Role::Main);
        opened.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut hello = [0; 12];
        (&opened.stream).read_exact(&mut hello).unwrap();
        let ways = Hello::decode(&mut &hello[..]).unwrap().unwrap().ways;
        assert_eq!(ways, self.ways);
        (&opened.stream).write_all(&hello).unwrap();
        self.run();
        opened.stream
    }

    fn pull(&mut self, token: Token) -> Result<UnixStream, OpenError> {
        let opened = self.host.links.open("gui", Side::Compositor, Target::Accepted(token))?;
        assert!(matches!(opened.role, Role::Accepted { token: t, .. } if t == token));
        opened.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Ok(opened.stream)
    }

    fn watched(&self) -> usize {
        self.host.links.pending() + self.host.links.mains.len()
    }
}

fn record(mut main: &UnixStream) -> Record {
    let mut bytes = vec![0; 36 + "work".len()];
    main.read_exact(&mut bytes).unwrap();
    Record::decode(&mut &bytes[..]).unwrap().unwrap()
}

fn is_closed(mut stream: &UnixStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    matches!(stream.read(&mut [0; 64]), Ok(0))
}

#[test]
fn a_client_reaches_the_compositor_vm() {
    let mut rig = Rig::with_vm();
    let main = rig.main();
    assert!(rig.host.links.is_ready());
    let (mut client, connection) = rig.client().unwrap();
    client.write_all(b"get_registry").unwrap();
    let record = record(&main);
    assert_eq!((record.vm.as_str(), record.connection), ("work", connection));
    let mut compositor = rig.pull(record.token).unwrap();
    let mut bytes = [0; 12];
    compositor.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"get_registry", "what was sent before is not lost");
    compositor.write_all(b"globals").unwrap();
    client.read_exact(&mut bytes[..7]).unwrap();
    assert_eq!(rig.pull(record.token).unwrap_err(), OpenError::Unknown);
    drop(compositor);
    assert!(is_closed(&client), "wlproxy kept no copy");
}

#[test]
fn a_channel_type_reaches_the_client_of_its_record() {
    let mut rig = Rig::of(Compositor::Vm("gui".into()), Kind::Virtio(Dialect::Virtgpu));
    let main = rig.main();
    let (mut client, connection) = rig.client().unwrap();
    let record = record(&main);
    let Way::ChannelType(channel) = record.way else { panic!("{record:?}") };
    let links = &mut rig.host.links;
    for side in [Side::Client, Side::Compositor] {
        let wrong = links.open("gui", side, Target::Channel(channel + 1));
        assert_eq!(wrong.unwrap_err(), OpenError::Unknown);
    }
    let stolen = links.open("work", Side::Client, Target::Channel(channel));
    assert_eq!(stolen.unwrap_err(), OpenError::Unknown);
    let opened = links.open("gui", Side::Compositor, Target::Channel(channel)).unwrap();
    assert_eq!(opened.role, Role::Accepted { connection, vm: 0, token: record.token });
    (&opened.stream).write_all(b"globals").unwrap();
    client.read_exact(&mut [0; 7]).unwrap();
    let again = links.open("gui", Side::Compositor, Target::Channel(channel));
    assert_eq!(again.unwrap_err(), OpenError::Unknown);
}

/// By that the compositor VM's device tells whose clients have much.
#[test]
fn clients_of_one_vm_have_its_number() {
    let mut rig = Rig::with_vm();
    let main = rig.main();
    let [work, other, again] = ["work", "play", "work"].map(|vm| {
        let _client = rig.client_of(vm).unwrap();
        let target = Target::Accepted(record(&main).token);
        match rig.host.links.open("gui", Side::Compositor, target).unwrap().role {
            Role::Accepted { vm, .. } => vm,
            role => panic!("{role:?}"),
        }
    });
    assert!(work == again && work != other, "{work}, {other}, {again}");
}

#[test]
fn a_compositor_vm_with_somebody_elses_device_dials_back() {
    let mut rig = Rig::of(Compositor::Vm("gui".into()), Kind::Socket);
    let main = rig.main();
    let (mut client, connection) = rig.client().unwrap();
    let record = record(&main);
    assert_eq!((record.connection, record.way), (connection, Way::DialBack));
    rig.pull(record.token).unwrap().write_all(b"globals").unwrap();
    client.read_exact(&mut [0; 7]).unwrap();
}

#[test]
fn clients_that_come_first_wait_and_survive_a_reset() {
    let mut rig = Rig::with_vm();
    let (_client, connection) = rig.client().unwrap();
    let first = rig.main();
    let old = record(&first).token;
    drop(first);
    rig.run();
    assert_eq!(rig.pull(old).unwrap_err(), OpenError::Unknown);
    let second = rig.main();
    let third = rig.main();
    assert_eq!(record(&second).connection, connection);
    assert!(is_closed(&second), "superseded");
    let fresh = record(&third);
    assert!(fresh.connection == connection && fresh.token != old);
    rig.pull(fresh.token).unwrap();
    assert_eq!(rig.watched(), 1);
}

#[test]
fn a_client_that_dies_while_it_waits_is_noticed() {
    let mut rig = Rig::with_vm();
    let main = rig.main();
    let (client, _) = rig.client().unwrap();
    rig.run();
    assert_eq!(rig.host.links.pending(), 1);
    (&client).write_all(b"unread").unwrap();
    drop(client);
    rig.run();
    assert_eq!(rig.host.links.pending(), 0);
    assert_eq!(rig.pull(record(&main).token).unwrap_err(), OpenError::Unknown);
}

#[test]
fn a_refusal_reaches_the_client() {
    let mut rig = Rig::with_vm();
    let main = rig.main();
    let (client, _) = rig.client().unwrap();
    let mut bytes = Vec::new();
    Answer { token: record(&main).token, outcome: Err(Refusal::NoCompositor) }.encode(&mut bytes);
    (&main).write_all(&bytes).unwrap();
    rig.run();
    assert!(is_closed(&client));
}

#[test]
fn nobody_waits_for_ever() {
    let mut rig = Rig::with_vm();
    let (client, _) = rig.client().unwrap();
    let deadline = rig.host.links.deadline().unwrap();
    assert_eq!(rig.host.links.tick(deadline), None);
    assert!(is_closed(&client));
}

#[test]
fn garbage_closes_the_main_context_alone() {
    let mut rig = Rig::with_vm();
    let main = rig.main();
    let (_client, _) = rig.client().unwrap();
    record(&main);
    (&main).write_all(b"garbage!").unwrap();
    rig.run();
    assert!(is_closed(&main));
    assert_eq!((rig.host.links.pending(), rig.host.links.is_ready()), (1, false));
    let main = rig.main();
    rig.pull(record(&main).token).unwrap();
}

#[test]
fn a_stranger_on_the_default_socket_disturbs_nobody() {
    let mut rig = Rig::with_vm();
    let main = rig.main();
    let (_client, _) = rig.client().unwrap();
    let open = |rig: &mut Rig| {
        rig.host.links.open("gui", Side::Compositor, Target::Default).unwrap().stream
    };
    let silent = open(&mut rig);
    let wayland = open(&mut rig);
    // wl_display.get_registry
    (&wayland).write_all(&[1, 0, 0, 0, 1, 0, 12, 0, 2, 0, 0, 0]).unwrap();
    rig.run();
    for stranger in [&silent, &wayland] {
        (&*stranger).read_exact(&mut [0; 12]).unwrap();
        assert!(is_closed(stranger));
    }
    rig.pull(record(&main).token).unwrap();
    assert_eq!(rig.watched(), 1);
}

#[test]
fn a_client_vm_can_not_take_another_vms_client() {
    let mut rig = Rig::with_vm();
    let main = rig.main();
    let (_client, _) = rig.client().unwrap();
    let token = record(&main).token;
    let stolen = rig.host.links.open("hostile", Side::Client, Target::Accepted(token));
    assert_eq!(stolen.unwrap_err(), OpenError::Unknown);
    rig.pull(token).unwrap();
}

#[test]
fn the_limit_is_told() {
    let mut rig = Rig::with_vm();
    let clients: Vec<_> = (0..100).map_while(|_| rig.client().ok()).collect();
    assert_eq!(clients.len(), crate::accept::MAX_PENDING_PER_VM);
    assert_eq!(rig.client().unwrap_err(), OpenError::Limit);
    drop(clients);
    rig.run();
    assert_eq!(rig.host.links.pending(), 0);
}

#[test]
fn clients_that_come_and_go_end_no_main_context() {
    let mut rig = Rig::with_vm();
    let main = rig.main();
    let mut come_and_go = || {
        let came = rig.client_of("hostile");
        rig.run();
        came.is_ok()
    };
    let served = (0..10_000).filter(|_| come_and_go()).count();
    assert_eq!(served, crate::accept::MAX_PENDING_PER_VM, "and they are refused then");
    let (_client, connection) = rig.client().unwrap();
    rig.run();
    let mut bytes = vec![0; 36 + "hostile".len()];
    for _ in 0..served {
        (&main).read_exact(&mut bytes).unwrap();
    }
    let record = record(&main);
    assert_eq!((record.vm.as_str(), record.connection), ("work", connection));
    rig.pull(record.token).unwrap();
}

#[test]
fn a_main_context_that_reads_nothing_ends() {
    let mut rig = Rig::with_vm();
    let _main = rig.main();
    // It would take some minutes, as few records are out at a time.
    rig.host.links.mains[0].unsent = vec![0; 16 * MAX_UNSENT];
    let _client = rig.client().unwrap();
    assert!(!rig.host.links.is_ready(), "records pile up");
}

/// As many clients as can wait, before there is a main context.
fn crowd(rig: &mut Rig) -> Vec<UnixStream> {
    let vms = MAX_PENDING / crate::accept::MAX_PENDING_PER_VM;
    let names = (0..vms).map(|vm| format!("vm_{vm}"));
    let each = |vm: String| vec![vm; crate::accept::MAX_PENDING_PER_VM];
    let clients: Vec<_> = names.flat_map(each).map(|vm| rig.client_of(&vm).unwrap().0).collect();
    assert_eq!((clients.len(), rig.host.links.pending()), (MAX_PENDING, MAX_PENDING));
    clients
}

#[test]
fn all_who_can_wait_are_announced_at_once() {
    let mut rig = Rig::with_vm();
    let _clients = crowd(&mut rig);
    let main = rig.main();
    let tokens: Vec<_> = (0..MAX_PENDING).map(|_| record(&main).token).collect();
    for token in tokens {
        rig.pull(token).unwrap();
    }
    assert!(rig.host.links.is_ready());
}

#[test]
fn records_wait_for_room_in_the_socket() {
    let mut rig = Rig::with_vm();
    let clients = crowd(&mut rig);
    let opened = rig.host.links.open("gui", Side::Compositor, Target::Default).unwrap();
    let main = opened.stream;
    main.set_read_timeout(Some(PATIENCE)).unwrap();
    // A few records, of which the kernel makes twice as many.
    setsockopt(&rig.host.links.mains[0].stream, sockopt::SndBuf, &500).unwrap();
    let mut hello = [0; 12];
    (&main).read_exact(&mut hello).unwrap();
    (&main).write_all(&hello).unwrap();
    rig.run();
    let mut connections = Vec::new();
    for _ in 0..MAX_PENDING {
        let now = Instant::now();
        let due = rig.host.links.tick(now).unwrap();
        assert!(due <= now + RETRY_PAUSE || rig.host.links.mains[0].unsent.is_empty());
        connections.push(record(&main).connection);
    }
    assert_eq!(connections, (1..=MAX_PENDING as u64).collect::<Vec<_>>());
    drop(clients);
}

#[test]
fn a_thousand_accepts_in_a_row_leave_nothing() {
    let mut rig = Rig::with_vm();
    let main = rig.main();
    for _ in 0..1000 {
        let (client, _) = rig.client().unwrap();
        let token = record(&main).token;
        let compositor = rig.pull(token).unwrap();
        let mut bytes = Vec::new();
        Answer { token, outcome: Ok(()) }.encode(&mut bytes);
        (&main).write_all(&bytes).unwrap();
        rig.run();
        drop(compositor);
        assert!(is_closed(&client));
    }
    assert_eq!(rig.watched(), 1);
    rig.host.links.compositor_worker_ended();
    assert_eq!(rig.watched(), 0);
}

#[test]
fn a_compositor_on_the_host_is_connected_at_once() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("wayland-0");
    let mut rig = Rig::new(Compositor::Socket(path.clone()));
    assert_eq!(rig.client().unwrap_err(), OpenError::Failed);
    let listener = UnixListener::bind(&path).unwrap();
    let (mut client, _) = rig.client().unwrap();
    listener.set_nonblocking(true).unwrap();
    let (mut compositor, _) = listener.accept().unwrap();
    compositor.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(b"x").unwrap();
    compositor.read_exact(&mut [0]).unwrap();
    assert_eq!(rig.watched(), 0);
}
