//! The device behind a real vhost-user connection: the two threads, the start and stop of the rings.

use super::*;
use crate::counters::Counters;
use crate::device::opener::{Answer, Opened, Opener, Role, Target};
use crate::device::{Dialect, Side};
use std::fs::File;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::RecvTimeoutError;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tempfile::TempDir;
use vhost::vhost_user::message::{
    VhostUserConfigFlags, VhostUserHeaderFlag, VhostUserMMap, VhostUserProtocolFeatures,
    VhostUserSharedMsg,
};
use vhost::vhost_user::{
    Frontend, FrontendReqHandler, HandlerResult, VhostUserFrontend, VhostUserFrontendReqHandler,
};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use vm_memory::{Bytes, FileOffset, GuestAddress, GuestMemoryBackend};
use vmm_sys_util::eventfd::EventFd as Event;
use wlproxy_protocol::virtio_wl::{F_TRANS_FLAGS, F_USE_SHMEM, Header, VfdNew, message, read};

/// Longest that a whole test here may take, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(30);
const RAM: usize = 1 << 20;
/// Where this VM's window stands: a backend has to find out.
const WINDOW: u64 = 1 << 38;
const OUT: u64 = 0x8000;
const COMMAND: u64 = 0x4_0000;
const ANSWER: u64 = 0x5_0000;

/// Hands the other end of every stream to the test.
struct Streams(std::sync::mpsc::Sender<UnixStream>);

impl Opener for Streams {
    fn open(&self, _: Target, answer: Answer) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        self.0.send(theirs).unwrap();
        answer(Ok(Opened { stream: ours, role: Role::Main }));
    }
}

/// Breaks the vring worker.
struct Broken;

impl Opener for Broken {
    fn open(&self, _: Target, _: Answer) {
        panic!("on purpose");
    }
}

/// Answers as QEMU does: maps at once, and announces the mapping as guest memory.
struct Window {
    frontend: Frontend,
    ram: GuestMemoryMmap,
    announce: bool,
}

impl Window {
    fn set_mem_table(&self, more: &[VhostUserMemoryRegionInfo]) -> vhost::Result<()> {
        let ram = self
            .ram
            .iter()
            .map(|region| VhostUserMemoryRegionInfo::from_guest_region(region).unwrap());
        self.frontend.set_mem_table(&ram.chain(more.iter().cloned()).collect::<Vec<_>>()).map(drop)
    }
}

impl VhostUserFrontendReqHandler for Window {
    fn shmem_map(&self, request: &VhostUserMMap, fd: &dyn AsRawFd) -> HandlerResult<u64> {
        let region = VhostUserMemoryRegionInfo {
            guest_phys_addr: WINDOW + request.shm_offset,
            memory_size: request.len,
            userspace_addr: 1 << 46,
            mmap_offset: 0,
            mmap_handle: fd.as_raw_fd(),
        };
        if self.announce {
            // Before the answer: a backend must take this while it waits.
            self.set_mem_table(&[region]).map_err(io::Error::other)?;
        }
        Ok(0)
    }

    fn shared_object_remove(&self, _: &VhostUserSharedMsg) -> HandlerResult<u64> {
        Err(io::ErrorKind::NotFound.into())
    }
}

struct Vmm {
    frontend: Frontend,
    window: Arc<Window>,
    requests: Option<(i32, JoinHandle<()>)>,
    kick: Event,
    call: Event,
    sent: u16,
}

impl Vmm {
    fn connect(path: &std::path::Path, features: u64) -> Self {
        let mut frontend = Frontend::connect(path, 2).unwrap();
        frontend.set_owner().unwrap();
        let offered = frontend.get_features().unwrap();
        let features = features | 1 << 32 | 1 << 30 | 1 << F_TRANS_FLAGS;
        assert_eq!(offered & features, features);
        frontend.set_features(features).unwrap();
        let offered = frontend.get_protocol_features().unwrap();
        assert!(!offered.contains(VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS));
        frontend.set_protocol_features(offered).unwrap();
        frontend.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
        let config = frontend.get_config(0, 8, VhostUserConfigFlags::empty(), &[0; 8]).unwrap();
        assert_eq!(config.1, [0; 8]);
        assert_eq!(frontend.get_shmem_config().unwrap().memory_sizes[..2], [1 << 30, 0]);

        let file = File::from(wlproxy_unix::memory::allocate("ram", RAM as u64).unwrap());
        let ram = GuestMemoryMmap::from_ranges_with_files([(
            GuestAddress(0),
            RAM,
            Some(FileOffset::new(file, 0)),
        )]);
        let announce = features & 1 << F_USE_SHMEM == 0;
        let window = Arc::new(Window { frontend: frontend.clone(), ram: ram.unwrap(), announce });
        let mut handler = FrontendReqHandler::new(window.clone()).unwrap();
        handler.set_reply_ack_flag(true);
        let fd = handler.get_tx_raw_fd();
        frontend.set_backend_request_fd(&fd).unwrap();
        let requests = thread::spawn(move || {
            while let Ok(_) | Err(VhostUserError::ReqHandlerError(_)) = handler.handle_request() {}
        });
        let (kick, call) = (Event::new(0).unwrap(), Event::new(0).unwrap());
        Self { frontend, window, requests: Some((fd, requests)), kick, call, sent: 0 }
    }

    fn start(&mut self) {
        self.window.set_mem_table(&[]).unwrap();
        self.window.ram.write_slice(&[0; RAM], GuestAddress(0)).unwrap();
        self.sent = 0;
        let base = self.window.ram.iter().next().unwrap().as_ptr() as u64;
        for queue in 0..2 {
            let table = base + OUT * (queue as u64 + 1);
            let config = VringConfigData {
                queue_max_size: 256,
                queue_size: 256,
                flags: 0,
                desc_table_addr: table,
                avail_ring_addr: table + 0x2000,
                used_ring_addr: table + 0x4000,
                log_addr: None,
            };
            self.frontend.set_vring_num(queue, 256).unwrap();
            self.frontend.set_vring_base(queue, 0).unwrap();
            self.frontend.set_vring_addr(queue, &config).unwrap();
            self.frontend.set_vring_call(queue, &self.call).unwrap();
            self.frontend.set_vring_kick(queue, &self.kick).unwrap();
            self.frontend.set_vring_enable(queue, true).unwrap();
            if queue == 0 {
                // A kick fd of its own: an epoll takes each only once.
                self.kick = Event::new(0).unwrap();
            }
        }
    }

    fn stop(&self) {
        for queue in 0..2 {
            self.frontend.get_vring_base(queue).unwrap();
        }
    }

    /// One command and its answer.
    fn command(&mut self, command: VfdNew) -> VfdNew {
        self.submit(command);
        let (ram, table) = (&self.window.ram, OUT * 2);
        while ram.read_obj::<u16>(GuestAddress(table + 0x4002)).unwrap() != self.sent {
            let call = self.call.as_raw_fd();
            wait(call);
            self.call.read().unwrap();
        }
        let mut answer = [0; 64];
        ram.read_slice(&mut answer, GuestAddress(ANSWER)).unwrap();
        read(&answer).unwrap()
    }

    /// One command.
    fn submit(&mut self, command: VfdNew) {
        let ram = &self.window.ram;
        let table = OUT * 2;
        ram.write_slice(bytemuck::bytes_of(&command), GuestAddress(COMMAND)).unwrap();
        for (index, (address, flags)) in [(COMMAND, 1u16), (ANSWER, 2)].into_iter().enumerate() {
            let at = table + 16 * index as u64;
            ram.write_obj(address, GuestAddress(at)).unwrap();
            ram.write_obj(64u32, GuestAddress(at + 8)).unwrap();
            ram.write_obj([flags, 1], GuestAddress(at + 12)).unwrap();
        }
        self.sent += 1;
        // Every slot of the available ring names descriptor 0.
        ram.write_obj(self.sent, GuestAddress(table + 0x2002)).unwrap();
        self.kick.write(1).unwrap();
    }
}

#[expect(unsafe_code, reason = "an EventFd of vmm-sys-util has an fd, but doesn't lend it out")]
fn wait(fd: i32) {
    // SAFETY: the caller's EventFd is open.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    let ready = poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], 10_000u16).unwrap();
    assert_eq!(ready, 1, "no answer within 10 s");
}

impl Drop for Vmm {
    fn drop(&mut self) {
        if let Some((fd, thread)) = self.requests.take() {
            nix::sys::socket::shutdown(fd, nix::sys::socket::Shutdown::Both).unwrap();
            thread.join().unwrap();
        }
    }
}

struct Host {
    dir: TempDir,
    stop: Stop,
    counters: Arc<Counters>,
    streams: std::sync::mpsc::Receiver<UnixStream>,
    panics: std::sync::mpsc::Receiver<()>,
    thread: JoinHandle<Vec<Ended>>,
}

fn host() -> Host {
    let (sender, streams) = std::sync::mpsc::channel();
    host_with(Arc::new(Streams(sender)), streams)
}

fn host_with(opener: Arc<dyn Opener>, streams: std::sync::mpsc::Receiver<UnixStream>) -> Host {
    let dir = TempDir::new().unwrap();
    let (alarm, panics) = std::sync::mpsc::sync_channel(1);
    let (stop, counters) = (Stop::new().unwrap(), Arc::new(Counters::default()));
    let options = Options {
        vm: "test".into(),
        side: Side::Client,
        dialect: Dialect::VirtioWl,
        opener,
        traces: Arc::default(),
        neighbours: None,
        counters: counters.clone(),
        window_size: 1 << 30,
        on_panic: Arc::new(move || alarm.send(()).unwrap()),
    };
    let mut listener = Listener::new(dir.path().join("device"), false).unwrap();
    let stopper = stop.clone();
    let thread = thread::spawn(move || {
        let mut ends = Vec::new();
        while ends.last() != Some(&Ended::Stopped) {
            ends.push(serve(&mut listener, &options, &stopper).unwrap());
        }
        ends
    });
    Host { dir, stop, counters, streams, panics, thread }
}

impl Host {
    fn vmm(&self, features: u64) -> Vmm {
        Vmm::connect(&self.dir.path().join("device"), features)
    }
}

fn new(kind: u32, id: u32) -> VfdNew {
    VfdNew { header: Header::new(kind), id, size: 8192, ..Default::default() }
}

/// Runs a test that blocks on what the device does.
fn timed(test: impl FnOnce() + Send + 'static) {
    let (sender, ended) = std::sync::mpsc::channel();
    let thread = thread::spawn(move || {
        // Dropped also by a panic.
        let _sender = sender;
        test();
    });
    let result = ended.recv_timeout(PATIENCE);
    assert_eq!(result, Err::<(), _>(RecvTimeoutError::Disconnected), "not within {PATIENCE:?}");
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Blocks until the device has let go of a stream.
fn assert_closed(mut stream: UnixStream) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    match stream.read(&mut [0]) {
        Ok(0) => {}
        // It was closed with bytes of ours unread.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn resets_and_reconnections_leave_nothing_behind() {
    timed(|| {
        let host = host();
        for _ in 0..2 {
            let mut vmm = host.vmm(1 << F_USE_SHMEM);
            let mut streams = Vec::new();
            for run in 0..3 {
                vmm.start();
                assert_eq!(
                    vmm.command(new(message::VFD_NEW_CTX, 1)).header.kind,
                    message::RESP_VFD_NEW,
                    "run {run}"
                );
                let made = vmm.command(new(message::VFD_NEW, 2));
                assert_eq!(
                    (made.header.kind, made.pfn),
                    (message::RESP_VFD_NEW, 1),
                    "the window is empty again"
                );
                streams.push(host.streams.recv().unwrap());
                if run < 2 {
                    vmm.stop();
                    assert_closed(streams.pop().unwrap());
                }
            }
            drop(vmm);
            assert_closed(streams.pop().unwrap());
        }
        host.stop.stop();
        // A third `Disconnected` would be a frontend that nobody was.
        assert_eq!(
            host.thread.join().unwrap(),
            [Ended::Disconnected, Ended::Disconnected, Ended::Stopped]
        );
        let now = host.counters.snapshot();
        assert_eq!((now.vfds, now.contexts, now.allocation_bytes, now.window_bytes), (0, 0, 0, 0));
        assert_eq!((now.contexts_opened, now.maps), (6, 6));
    });
}

#[test]
fn the_window_is_found_by_its_announcement() {
    timed(|| {
        let host = host();
        let mut vmm = host.vmm(0);
        for _ in 0..2 {
            vmm.start();
            let made = [1, 2].map(|id| vmm.command(new(message::VFD_NEW, id)));
            assert_eq!(made.map(|new| new.pfn * 4096), [WINDOW + 4096, WINDOW + 3 * 4096]);
            vmm.stop();
        }
        drop(vmm);
        host.stop.stop();
        host.thread.join().unwrap();
    });
}

#[test]
fn a_stop_ends_a_connection_that_is_served() {
    timed(|| {
        let host = host();
        let mut vmm = host.vmm(1 << F_USE_SHMEM);
        vmm.start();
        assert_eq!(vmm.command(new(message::VFD_NEW_CTX, 1)).header.kind, message::RESP_VFD_NEW);
        host.stop.stop();
        assert_eq!(host.thread.join().unwrap(), [Ended::Stopped]);
        assert_closed(host.streams.recv().unwrap());
    });
}

#[test]
fn a_frontend_that_talks_nonsense_is_dropped() {
    timed(|| {
        use std::io::Write;
        let host = host();
        let mut stream = UnixStream::connect(host.dir.path().join("device")).unwrap();
        stream.write_all(&[0xff; 64]).unwrap();
        assert_closed(stream);
        drop(UnixStream::connect(host.dir.path().join("device")).unwrap());
        let mut vmm = host.vmm(1 << F_USE_SHMEM);
        vmm.start();
        assert_eq!(vmm.command(new(message::VFD_NEW, 1)).header.kind, message::RESP_VFD_NEW);
        host.stop.stop();
        assert_eq!(
            host.thread.join().unwrap(),
            [Ended::Disconnected, Ended::Disconnected, Ended::Stopped]
        );
    });
}

#[test]
fn a_panic_of_the_vring_worker_is_told() {
    timed(|| {
        let host = host_with(Arc::new(Broken), std::sync::mpsc::channel().1);
        let mut vmm = host.vmm(1 << F_USE_SHMEM);
        vmm.start();
        vmm.submit(new(message::VFD_NEW_CTX, 1));
        host.panics.recv().unwrap();
        host.stop.stop();
        assert_eq!(host.thread.join().unwrap(), [Ended::Stopped]);
    });
}
