use super::*;
use crate::control::{self, HostControl, MAX_OUTSTANDING};
use crate::device::opener::{OpenError, Opened, Opener, Role, Target};
use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::sync::mpsc;

/// Longest that anything here may take.
const PATIENCE: Duration = Duration::from_secs(10);

type Answers = mpsc::Receiver<Result<Opened, OpenError>>;

fn open(broker: &Broker, target: Target) -> Answers {
    let (send, receive) = mpsc::channel();
    broker.open(target, Box::new(move |result| send.send(result).unwrap()));
    receive
}

fn pair() -> (UnixStream, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_read_timeout(Some(PATIENCE)).unwrap();
    (ours, theirs)
}

fn request(host: &HostControl) -> Request {
    assert!(wait(host, PATIENCE).unwrap(), "no request came");
    match host.receive().unwrap() {
        Received::Message(request, None) => request,
        other => panic!("{other:?}"),
    }
}

#[test]
fn answers_find_their_tickets() {
    let (host, worker) = control::pair().unwrap();
    let broker = Broker::new("work", Arc::new(worker));
    let first = open(&broker, Target::Default);
    let second = open(&broker, Target::Default);
    let Request::Open { ticket, target: Target::Default } = request(&host) else { panic!() };
    let Request::Open { ticket: other, .. } = request(&host) else { panic!() };
    assert_ne!(ticket, other);
    broker.refused(other, OpenError::Unknown);
    assert_eq!(second.try_recv().unwrap().unwrap_err(), OpenError::Unknown);
    let (mut ours, theirs) = pair();
    broker.opened(ticket, theirs.into(), Role::Main);
    let mut opened = first.try_recv().unwrap().unwrap();
    assert_eq!(opened.role, Role::Main);
    opened.stream.write_all(b"x").unwrap();
    ours.read_exact(&mut [0]).unwrap();
    // An answer to nothing is ignored, and its stream closed.
    let (mut ours, theirs) = pair();
    broker.opened(ticket, theirs.into(), Role::Main);
    assert_eq!(ours.read(&mut [0]).unwrap(), 0);
}

#[test]
fn opens_without_wlproxy_fail_at_once() {
    let (host, worker) = control::pair().unwrap();
    let broker = Broker::new("work", Arc::new(worker));
    drop(host);
    let answer = open(&broker, Target::Default).try_recv().unwrap();
    assert_eq!(answer.unwrap_err(), OpenError::Failed);
}

#[test]
fn outstanding_opens_are_bounded() {
    let (_host, worker) = control::pair().unwrap();
    let broker = Broker::new("work", Arc::new(worker));
    let waiting: Vec<_> = (0..MAX_OUTSTANDING).map(|_| open(&broker, Target::Default)).collect();
    assert!(waiting.iter().all(|answer| answer.try_recv().is_err()));
    let answer = open(&broker, Target::Default).try_recv().unwrap();
    assert_eq!(answer.unwrap_err(), OpenError::Limit);
    broker.refused(1, OpenError::Failed);
    assert!(open(&broker, Target::Default).try_recv().is_err(), "a place is free again");
}

#[test]
fn no_wait_is_cut_short() {
    let millis = |nanos| rounded_up(Duration::from_nanos(nanos)).as_millis();
    assert_eq!([0, 1, 999_999, 1_000_000, 1_000_001].map(millis), [0, 1, 1, 1, 2].map(Some));
    assert_eq!(rounded_up(Duration::MAX), PollTimeout::MAX);
}

/// A worker on a thread, as `isolation = "none"` has it.
struct Rig {
    host: HostControl,
    socket: std::path::PathBuf,
    ended: mpsc::Receiver<Result<()>>,
    _temp: tempfile::TempDir,
}

impl Rig {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let socket = temp.path().join("work.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let (host, worker) = control::pair().unwrap();
        let settings = Settings {
            vm: "work".to_owned(),
            side: Side::Client,
            window: 1 << 30,
            device: Default::default(),
        };
        let (send, ended) = mpsc::channel();
        thread::spawn(move || send.send(run(settings, listener, worker, None)).unwrap());
        Self { host, socket, ended, _temp: temp }
    }

    fn end(self) -> Result<()> {
        self.ended.recv_timeout(PATIENCE).expect("the worker ends")
    }

    /// The next news about the frontend.
    fn connected(&self) -> bool {
        loop {
            if let Request::Connected(connected) = request(&self.host) {
                return connected;
            }
        }
    }
}

#[test]
fn a_vm_may_come_and_go_and_come_again() {
    let rig = Rig::new();
    for _ in 0..2 {
        let frontend = UnixStream::connect(&rig.socket).unwrap();
        assert!(rig.connected());
        drop(frontend);
        assert!(!rig.connected());
    }
    rig.host.send(&Order::Shutdown, None).unwrap();
    rig.end().unwrap();
}

#[test]
fn a_worker_ends_with_wlproxy() {
    let rig = Rig::new();
    let frontend = UnixStream::connect(&rig.socket).unwrap();
    assert!(rig.connected());
    rig.host.shutdown();
    rig.end().unwrap();
    drop(frontend);
}

#[test]
fn an_order_without_its_fd_ends_the_worker() {
    let rig = Rig::new();
    rig.host.send(&Order::Opened { ticket: 1, role: Role::Main }, None).unwrap();
    assert!(rig.end().is_err());
}

#[test]
fn a_trace_without_a_vm_is_refused_and_taken() {
    let rig = Rig::new();
    let (mut reader, theirs) = pair();
    rig.host.send(&Order::Trace { connection: 1 }, Some(theirs.as_fd())).unwrap();
    drop(theirs);
    while request(&rig.host) != Request::TraceTaken {}
    let mut answer = String::new();
    reader.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("\"error\"") && answer.contains("isn't connected"), "{answer}");
    rig.host.send(&Order::Trace { connection: 1 }, None).unwrap();
    assert!(rig.end().is_err(), "where is the reader?");
}

#[test]
fn a_policy_is_taken_and_one_that_is_none_ends_the_worker() {
    let rig = Rig::new();
    rig.host.send(&Order::Policy(Policy::of("work")), None).unwrap();
    while request(&rig.host) != Request::PolicyTaken {}
    rig.host.send(&Order::Policy(Policy::nothing()), None).unwrap();
    while request(&rig.host) != Request::PolicyTaken {}
    let null = std::fs::File::open("/dev/null").unwrap();
    rig.host.send(&Order::Policy(Policy::of("work")), Some(null.as_fd())).unwrap();
    assert!(rig.end().is_err(), "what is the fd for?");
}
