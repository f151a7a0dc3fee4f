mod fake;

use super::*;
use crate::channel::scenarios::{self, Lab as _, test_scenarios};
use fake::{Fake, Offers, silent};
use nix::poll::{PollFd, PollFlags, poll};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::sync::Mutex;
use std::thread;
use vhost::vhost_user::VhostUserProtocolFeatures as Protocol;
use vhost_user_backend::VhostUserDaemon;
use wlproxy_protocol::virtio_wl::{MAX_DRIVER_ID, QUEUE_SIZE};
use wlproxy_unix::memory;

/// A driver as today's.
const TODAY: Options = Options { use_shmem: false, trans_flags: true };
/// Drivers of every kind.
const DRIVERS: [Options; 3] = [
    Options { use_shmem: true, trans_flags: true },
    TODAY,
    Options { use_shmem: true, trans_flags: false },
];

/// Between two looks at what nobody tells of, in milliseconds.
const LOOK: u16 = 10;

/// A VM, its device, and what it was told.
struct Lab {
    channel: ProcessChannel,
    fake: Arc<Fake>,
    daemon: VhostUserDaemon<Arc<Fake>>,
    events: Vec<Event>,
}

fn connect(offers: Offers, options: Options) -> Result<Lab, Error> {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("device");
    let fake = Fake::new(offers);
    let listening = fake.listen(&socket);
    let channel = ProcessChannel::connect(&socket, options);
    let mut daemon = listening.join().unwrap();
    match channel {
        Ok(channel) => Ok(Lab { channel, fake, daemon, events: Vec::new() }),
        Err(error) => {
            let _ = daemon.wait();
            Err(error)
        }
    }
}

impl Lab {
    fn new(options: Options) -> Self {
        connect(Offers::default(), options).unwrap()
    }

    /// Waits until the device has closed `count` vfds.
    fn closed(&mut self, count: usize) -> Vec<u32> {
        let deadline = Instant::now() + Duration::from_millis(scenarios::PATIENCE.into());
        while self.fake.closed().len() < count {
            assert!(Instant::now() < deadline, "only {:?} were closed", self.fake.closed());
            // The channel isn't told of each.
            let mut fds = [PollFd::new(self.channel.poll_fd(), PollFlags::POLLIN)];
            poll(&mut fds, LOOK).unwrap();
            self.channel.dispatch(&mut self.events).unwrap();
        }
        self.fake.closed()
    }
}

impl crate::channel::scenarios::Lab for Lab {
    fn channel(&mut self) -> &mut dyn Channel {
        &mut self.channel
    }

    fn events(&mut self) -> &mut Vec<Event> {
        &mut self.events
    }
}

test_scenarios!(DRIVERS.map(Lab::new));

#[test]
fn without_event_idx_it_works_as_well() {
    let virtio = Offers::default().virtio & !(1 << VIRTIO_RING_F_EVENT_IDX);
    let mut lab = connect(Offers { virtio, ..Offers::default() }, Options::default()).unwrap();
    let context = lab.context();
    for _ in 0..2 * QUEUE_SIZE {
        lab.echo(context);
    }
}

#[test]
fn allocations_are_the_memory_that_the_device_mapped() {
    for options in [Options::default(), TODAY] {
        let mut lab = Lab::new(options);
        let context = lab.context();
        // More than a memory table has room for.
        for round in 0..20u64 {
            let allocation = lab.channel.allocate(round * 4096 + 1).unwrap();
            assert_eq!(allocation.size, (round + 1) * 4096);
            assert!(lab.fake.has_file(&allocation.fd));
            let file = File::from(allocation.fd);
            file.write_all_at(b"pixels", round).unwrap();

            lab.send(context, b"back", &[allocation.vfd]);
            let (bytes, mut arrived) = lab.receive(context).unwrap();
            assert_eq!((&bytes[..], arrived.len()), (&b"back"[..], 1));
            let Some(Arrived::Allocation(back)) = arrived.pop() else {
                panic!("{arrived:?}");
            };
            assert_eq!(back.size, allocation.size);
            assert_ne!(back.vfd, allocation.vfd);
            assert!(memory::same_file(&back.fd, &file));
            let before = lab.fake.closed().len();
            lab.channel.close(allocation.vfd);
            if round % 2 == 0 {
                lab.channel.close(back.vfd);
                assert_eq!(lab.closed(before + 2)[before..], [allocation.vfd.0, back.vfd.0]);
            } else {
                assert_eq!(lab.closed(before + 1)[before..], [allocation.vfd.0]);
            }
        }
    }
}

#[test]
fn a_refused_mapping_leaves_the_channel_usable() {
    let mut lab = Lab::new(Options::default());
    let context = lab.context();
    lab.send(context, b"overlap", &[]);
    lab.echo(context);
    lab.channel.allocate(4096).unwrap();
}

#[test]
fn a_full_ring_makes_everyone_wait_and_forgets_nobody() {
    let mut lab = Lab::new(Options::default());
    let contexts: Vec<_> = (0..=QUEUE_SIZE / 2).map(|_| lab.channel.connect().unwrap()).collect();
    let [slow @ .., last, starved] = &contexts[..] else { unreachable!() };
    for context in slow {
        assert_eq!(lab.channel.send(*context, b"keep", &[]).unwrap(), Sent::Accepted);
    }
    // From here on the device answers, and sends nothing by itself: it has to be asked to tell.
    let frozen = lab.fake.freeze();
    lab.channel.dispatch(&mut lab.events).unwrap();
    assert_eq!(lab.channel.send(*last, b"release", &[]).unwrap(), Sent::Accepted);
    assert_eq!(lab.channel.send(*starved, b"echo", &[]).unwrap(), Sent::Busy);
    drop(frozen);
    lab.wait(Event::Writable(*starved));
    lab.echo(*starved);
    lab.channel.close(slow[0]);
    assert_eq!(lab.closed(1), [slow[0].0]);
}

#[test]
fn only_the_first_of_many_messages_is_an_event() {
    let mut lab = Lab::new(Options::default());
    let (context, other) = (lab.context(), lab.context());
    lab.send(context, b"one", &[]);
    lab.wait(Event::Readable(context));
    lab.send(context, b"two", &[]);
    // The answer to this comes after the answer to that.
    lab.echo(other);
    assert!(!lab.events.contains(&Event::Readable(context)));
    assert_eq!(lab.receive(context).unwrap().0, b"one");
    assert_eq!(lab.receive(context).unwrap().0, b"two");
}

#[test]
fn an_event_that_came_up_elsewhere_wakes_the_next_dispatch() {
    let mut lab = Lab::new(Options::default());
    let context = lab.context();
    lab.send(context, b"message", &[]);
    // This takes the message in on the way: the device sent it before it answered.
    let other = lab.channel.connect().unwrap();
    lab.wait(Event::Readable(context));
    lab.channel.close(other);
}

#[test]
fn what_nobody_can_receive_is_dropped_and_closed() {
    let mut lab = Lab::new(Options::default());
    let context = lab.context();
    // More often than there are buffers.
    for _ in 0..2 * QUEUE_SIZE {
        lab.send(context, b"orphan", &[]);
    }
    lab.echo(context);
    let count = usize::from(2 * QUEUE_SIZE);
    assert_eq!(lab.closed(count).len(), count, "the pipes that would have come along");
}

#[test]
fn what_arrives_for_a_closed_vfd_is_closed() {
    let mut lab = Lab::new(Options::default());
    let (context, other) = (lab.context(), lab.context());
    let allocation = lab.channel.allocate(4096).unwrap();
    lab.send(context, b"back", &[allocation.vfd]);
    lab.wait(Event::Readable(context));
    lab.send(context, b"back", &[allocation.vfd]);
    lab.channel.close(context);
    let closed = lab.closed(3);
    let host = closed.iter().filter(|id| **id & wlproxy_protocol::virtio_wl::HOST_ID != 0);
    assert_eq!(host.count(), 2, "{closed:x?}");
    lab.echo(other);
}

/// Bytes may be on their way while their vfd is closed. Nobody is to blame for that, and nobody is blamed.
#[test]
fn what_the_device_sent_before_it_heard_of_a_close_is_no_reason_to_warn() {
    crate::alone::run("channel::process::tests::warnings_are_for_orphans");
}

/// [`what_the_device_sent_before_it_heard_of_a_close_is_no_reason_to_warn`] runs it.
#[test]
#[ignore = "reads what is logged, and what is shown of that other threads have a say in: it needs a process of its own"]
fn warnings_are_for_orphans() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, || {
        let mut lab = Lab::new(Options::default());
        // The driver may also look in between.
        for round in 1..=100 {
            let context = lab.context();
            lab.send(context, b"message", &[]);
            lab.channel.close(context);
            lab.closed(round);
        }
        let context = lab.context();
        lab.send(context, b"orphan", &[]);
        lab.closed(101);
    });
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let warnings: Vec<_> = log.lines().filter(|line| line.contains("WARN")).collect();
    // Those of the orphan.
    assert_eq!(warnings.len(), 2, "{warnings:#?}");
}

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn pipes_have_a_direction() {
    let mut lab = Lab::new(Options::default());
    let read = lab.channel.pipe(PipeEnd::Read).unwrap();
    assert_eq!(lab.receive(read).unwrap().0, b"from the pipe");
    assert!(lab.receive(read).is_none());
    assert!(matches!(lab.channel.send(read, b"no", &[]), Err(Error::Refused(_))));
    let write = lab.channel.pipe(PipeEnd::Write).unwrap();
    lab.send(write, b"one, ", &[]);
    lab.send(write, b"two", &[]);
    lab.context();
    assert_eq!(lab.fake.written(), b"one, two");
}

#[test]
fn ids_run_out_and_come_back() {
    let mut lab = Lab::new(Options::default());
    let mut contexts: Vec<_> = (0..MAX_DRIVER_ID).map(|_| lab.channel.connect().unwrap()).collect();
    assert!(matches!(lab.channel.connect(), Err(Error::OutOfMemory)));
    let closed = contexts.swap_remove(1000);
    lab.channel.close(closed);
    lab.channel.close(closed);
    // Waits for the answer to the CLOSE.
    assert_eq!(lab.channel.connect().unwrap(), closed);
    lab.echo(closed);
    assert_eq!(lab.fake.closed(), [closed.0]);
}

#[test]
fn the_last_ids_are_left_for_contexts() {
    let mut lab = Lab::new(Options::default());
    let pipes = (0..).take_while(|_| lab.channel.pipe(PipeEnd::Write).is_ok()).count();
    assert!(matches!(lab.channel.allocate(4096), Err(Error::OutOfMemory)));
    let contexts = (0..).take_while(|_| lab.channel.connect().is_ok()).count();
    assert!(contexts >= 64 && pipes + contexts == MAX_DRIVER_ID as usize, "{pipes} + {contexts}");
}

#[test]
fn a_reset_ends_everything_but_the_device() {
    for options in [Options::default(), TODAY] {
        let mut lab = Lab::new(options);
        for _ in 0..3 {
            let context = lab.context();
            let allocation = lab.channel.allocate(1 << 20).unwrap();
            lab.send(context, b"flood", &[]);
            lab.wait(Event::Readable(context));
            lab.send(context, b"hold", &[]);
            lab.channel.reset().unwrap();
            assert!(matches!(lab.channel.send(context, b"x", &[]), Err(Error::NotFound)));
            assert!(matches!(lab.channel.receive(context, &mut Vec::new()), Err(Error::NotFound)));
            let size = lab.channel.vmm.window().size();
            assert!(
                (0..size)
                    .step_by(4096)
                    .take(1000)
                    .all(|offset| { !lab.channel.vmm.window().contains(offset, allocation.size) })
            );
            lab.events.clear();
        }
        lab.context();
        lab.channel.allocate(4096).unwrap();
    }
}

/// Waits for what ends the channel; a call of before may be told first.
fn end_of(lab: &mut Lab) -> Error {
    loop {
        if let Err(error) = lab.turn() {
            return error;
        }
    }
}

#[test]
fn a_device_that_ends_is_noticed() {
    let mut lab = Lab::new(Options::default());
    let context = lab.context();
    lab.daemon.request_shutdown();
    assert!(matches!(end_of(&mut lab), Error::Lost(_)));
    assert!(matches!(lab.turn(), Err(Error::Lost(_))), "and stays");
    assert!(matches!(lab.channel.send(context, b"x", &[]), Err(Error::Lost(_))));
    assert!(matches!(lab.channel.connect(), Err(Error::Lost(_))));
    assert!(matches!(lab.channel.allocate(4096), Err(Error::Lost(_))));
    assert!(matches!(lab.channel.reset(), Err(Error::Lost(_))));
    lab.channel.close(context);
}

#[test]
fn a_device_that_ends_ends_the_wait_for_its_answer() {
    let mut lab = Lab::new(Options::default());
    let end = lab.daemon.shutdown_handle().unwrap();
    let (send, receive) = std::sync::mpsc::channel();
    let waiting = thread::spawn(move || {
        send.send(()).unwrap();
        lab.channel.open(Way::Name, silent()).map(|vfd| vfd.0)
    });
    receive.recv().unwrap();
    end.shutdown();
    assert!(matches!(waiting.join().unwrap(), Err(Error::Lost(_))));
}

#[test]
fn a_device_that_does_not_answer_is_lost() {
    let mut lab = Lab::new(Options::default());
    lab.context();
    lab.channel.patience = Duration::from_millis(20);
    let Err(Error::Lost(why)) = lab.channel.open(Way::Name, silent()) else {
        panic!("it never answers");
    };
    assert!(why.contains("wlproxy"), "{why}");
    assert!(matches!(lab.channel.connect(), Err(Error::Lost(_))), "and stays");
}

#[test]
fn what_a_device_lacks_is_named() {
    let refused = |offers, options| match connect(offers, options) {
        Err(Error::Refused(why)) => why,
        other => panic!("{:?}", other.err()),
    };
    let with = Offers::default();
    let protocol = with.protocol - Protocol::SHMEM;
    assert!(refused(Offers { protocol, ..with }, Options::default()).contains("SHMEM"));
    let protocol = with.protocol - Protocol::BACKEND_SEND_FD;
    assert!(refused(Offers { protocol, ..with }, TODAY).contains("BACKEND_SEND_FD"));
    assert!(refused(Offers { window: 0, ..with }, TODAY).contains("shared memory region 0"));
    let virtio = with.virtio & !(1 << F_USE_SHMEM);
    assert!(refused(Offers { virtio, ..with }, Options::default()).contains("0x8"));
    assert!(connect(Offers { virtio, ..with }, TODAY).is_ok());
    let virtio = with.virtio & !(1 << 32);
    assert!(refused(Offers { virtio, ..with }, TODAY).contains("0x100000000"));
}

#[test]
fn nobody_at_the_socket_is_a_lost_channel() {
    let nowhere = tempfile::tempdir().unwrap().path().join("device");
    let Err(Error::Lost(why)) = ProcessChannel::connect(&nowhere, Options::default()) else {
        panic!("nobody listens");
    };
    assert!(why.contains(nowhere.to_str().unwrap()), "{why}");
}

#[test]
fn a_device_that_serves_another_frontend_is_not_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("device");
    let _busy = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let Err(Error::Lost(why)) = ProcessChannel::connect(&socket, Options::default()) else {
        panic!("nobody answers");
    };
    assert!(why.contains(socket.to_str().unwrap()) && why.contains("another agent"), "{why}");
}

/// fds and threads of this process.
fn held() -> (usize, usize) {
    let count = |directory| fs::read_dir(directory).unwrap().count();
    (count("/proc/self/fd"), count("/proc/self/task"))
}

/// Counts only if it is alone in its process: [`nothing_is_left`] runs it.
#[test]
#[ignore = "counts what its process holds, so it needs one of its own"]
fn counts_what_is_left() {
    let live = |options| {
        let mut lab = Lab::new(options);
        let context = lab.context();
        let allocation = lab.channel.allocate(1 << 20).unwrap();
        lab.send(context, b"back", &[allocation.vfd]);
        lab.wait(Event::Readable(context));
        lab.channel.reset().unwrap();
        lab.context();
        lab.channel.allocate(4096).unwrap();
        lab
    };
    let end = |lab| {
        let Lab { channel, mut daemon, fake, .. } = lab;
        drop(channel);
        let _ = daemon.wait();
        drop((daemon, fake));
    };
    // Whatever is made once per process is made here.
    end(live(Options::default()));
    let before = held();
    for round in 0..6 {
        let mut lab = live(if round % 2 == 0 { Options::default() } else { TODAY });
        if round >= 4 {
            lab.daemon.request_shutdown();
            assert!(matches!(end_of(&mut lab), Error::Lost(_)));
        }
        assert!(held().0 > before.0, "the count sees a channel");
        end(lab);
        // Of each fake backend, vhost-user-backend 0.24 leaves the exit event's consumer open.
        let expected = (before.0 + round + 1, before.1);
        // A thread that was joined stands in /proc for a moment longer.
        let deadline = Instant::now() + Duration::from_millis(scenarios::PATIENCE.into());
        while held() != expected && Instant::now() < deadline {
            thread::yield_now();
        }
        assert_eq!(held(), expected, "round {round}");
    }
}

#[test]
fn a_set_that_was_joined_tells_of_each_call_once_and_of_the_end() {
    let mut lab = Lab::new(Options::default());
    let context = lab.context();
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
    lab.channel.join(&epoll, 7).unwrap();
    let told = |patience: u16| {
        let mut ready = [EpollEvent::empty(); 2];
        let count = epoll.wait(&mut ready, EpollTimeout::from(patience)).unwrap();
        assert!(ready[..count].iter().all(|event| event.data() == 7));
        count
    };
    let mut bytes = Vec::new();
    // What came before, and calls that a wait for an answer has left.
    while told(0) > 0 {
        lab.channel.dispatch(&mut lab.events).unwrap();
    }
    for round in 0..3 {
        assert_eq!(lab.channel.send(context, b"echo", &[]).unwrap(), Sent::Accepted);
        lab.events.clear();
        while lab.events.is_empty() {
            assert_eq!(told(scenarios::PATIENCE), 1, "round {round}");
            lab.channel.dispatch(&mut lab.events).unwrap();
        }
        assert_eq!(lab.events, [Event::Readable(context)]);
        assert!(matches!(lab.channel.receive(context, &mut bytes), Ok(Received::Message(_))));
        // Somebody waits meanwhile, for whom calls have to count.
        lab.channel.allocate(4096).unwrap();
    }
    assert_eq!(bytes, b"echoechoecho");
    let Lab { mut channel, daemon, .. } = lab;
    drop(daemon);
    let ended = loop {
        assert!(told(scenarios::PATIENCE) > 0);
        if let Err(error) = channel.dispatch(&mut Vec::new()) {
            break error;
        }
    };
    assert!(matches!(ended, Error::Lost(_)), "{ended}");
}

#[test]
fn nothing_is_left() {
    crate::alone::run("channel::process::tests::counts_what_is_left");
}

#[test]
fn nobody_is_woken_by_the_answer_to_a_send_that_nobody_waits_for() {
    let mut lab = Lab::new(Options::default());
    // The first answer is always told of: a fresh ring asks for it.
    let pipe = lab.channel.pipe(PipeEnd::Write).unwrap();
    lab.channel.dispatch(&mut lab.events).unwrap();
    for round in 1..=3 {
        assert_eq!(lab.channel.send(pipe, b"x", &[]).unwrap(), Sent::Accepted);
        // Who sees the bytes sees the answer: the device holds its state until it has answered.
        while lab.fake.written().len() < round {
            thread::yield_now();
        }
        let mut fds = [PollFd::new(lab.channel.poll_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut fds, 0u8).unwrap(), 0, "woken in round {round}");
    }
    assert_eq!(lab.fake.written(), b"xxx");
}
