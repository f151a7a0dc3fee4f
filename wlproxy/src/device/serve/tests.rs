//! The device behind a real vhost-user connection: the two threads, the start and stop of the rings.

use super::*;
use crate::counters::Counters;
use crate::device::opener::{Answer, Opened, Opener, Role, Target};
use crate::device::{Dialect, Side};
use crate::policy::{Current, Policy};
use std::fs::File;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
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
use wlproxy_protocol::virtio_wl::{
    F_TRANS_FLAGS, F_USE_SHMEM, Header, QUEUE_IN, QUEUE_OUT, VfdNew, message, read,
};

/// Longest that a whole test here may take, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(30);
const RAM: usize = 1 << 20;
/// Where this VM's window stands: a backend has to find out.
const WINDOW: u64 = 1 << 38;
const OUT: u64 = 0x8000;
const COMMAND: u64 = 0x4_0000;
const ANSWER: u64 = 0x5_0000;

/// Hands the other end of every stream to the test.
struct Streams(Sender<UnixStream>);

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

/// Keeps the vring worker with each open until it is let go.
struct Held {
    opens: Sender<()>,
    goes: Mutex<Receiver<()>>,
}

impl Opener for Held {
    fn open(&self, _: Target, _: Answer) {
        self.opens.send(()).unwrap();
        self.goes.lock().unwrap().recv().unwrap();
    }
}

/// Answers as QEMU does: maps at once, and announces the mapping as guest memory.
struct Window {
    frontend: Frontend,
    ram: GuestMemoryMmap,
    announce: bool,
    /// Region, place and length of each.
    maps: Mutex<Vec<(u8, u64, u64)>>,
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
        self.maps.lock().unwrap().push((request.shmid, request.shm_offset, request.len));
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
    kicks: [Event; 2],
    call: Event,
    sent: [u16; 2],
}

/// What a dialect has to say of its device.
struct Expected {
    config: [u8; 16],
    regions: [u64; 3],
}

impl Vmm {
    fn connect(path: &std::path::Path, features: u64, expected: &Expected) -> Self {
        let mut frontend = Frontend::connect(path, 2).unwrap();
        frontend.set_owner().unwrap();
        let offered = frontend.get_features().unwrap();
        let features = features | 1 << 32 | 1 << 30;
        assert_eq!(offered & features, features);
        frontend.set_features(features).unwrap();
        let offered = frontend.get_protocol_features().unwrap();
        assert!(!offered.contains(VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS));
        frontend.set_protocol_features(offered).unwrap();
        frontend.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
        let config = frontend.get_config(0, 16, VhostUserConfigFlags::empty(), &[0; 16]).unwrap();
        assert_eq!(config.1, expected.config);
        let regions = frontend.get_shmem_config().unwrap();
        assert_eq!((regions.nregions, &regions.memory_sizes[..3]), (1, &expected.regions[..]));

        let file = File::from(wlproxy_unix::memory::allocate("ram", RAM as u64).unwrap());
        let ram = GuestMemoryMmap::from_ranges_with_files([(
            GuestAddress(0),
            RAM,
            Some(FileOffset::new(file, 0)),
        )]);
        let announce = features & 1 << F_USE_SHMEM == 0;
        let window = Arc::new(Window {
            frontend: frontend.clone(),
            ram: ram.unwrap(),
            announce,
            maps: Mutex::default(),
        });
        let mut handler = FrontendReqHandler::new(window.clone()).unwrap();
        handler.set_reply_ack_flag(true);
        let fd = handler.get_tx_raw_fd();
        frontend.set_backend_request_fd(&fd).unwrap();
        let requests = thread::spawn(move || {
            while let Ok(_) | Err(VhostUserError::ReqHandlerError(_)) = handler.handle_request() {}
        });
        // Each queue has a kick fd of its own: an epoll takes each only once.
        let kicks = [0; 2].map(|_| Event::new(0).unwrap());
        let (requests, call) = (Some((fd, requests)), Event::new(0).unwrap());
        Self { frontend, window, requests, kicks, call, sent: [0; 2] }
    }

    fn start(&mut self) {
        self.window.set_mem_table(&[]).unwrap();
        self.window.ram.write_slice(&[0; RAM], GuestAddress(0)).unwrap();
        self.sent = [0; 2];
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
            self.frontend.set_vring_kick(queue, &self.kicks[queue]).unwrap();
            self.frontend.set_vring_enable(queue, true).unwrap();
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
        read(&self.answer(QUEUE_OUT)).unwrap()
    }

    /// One command on any queue.
    fn ask<T: bytemuck::Pod>(&mut self, queue: usize, command: &[u8]) -> T {
        self.put(queue, command);
        read(&self.answer(queue)).unwrap()
    }

    /// The answer to the last command, when it came.
    fn answer(&mut self, queue: usize) -> [u8; 64] {
        let (ram, table) = (&self.window.ram, OUT * (queue as u64 + 1));
        while ram.read_obj::<u16>(GuestAddress(table + 0x4002)).unwrap() != self.sent[queue] {
            let call = self.call.as_raw_fd();
            wait(call);
            self.call.read().unwrap();
        }
        let mut answer = [0; 64];
        ram.read_slice(&mut answer, GuestAddress(ANSWER)).unwrap();
        answer
    }

    /// One command.
    fn submit(&mut self, command: VfdNew) {
        self.put(QUEUE_OUT, bytemuck::bytes_of(&command));
    }

    fn put(&mut self, queue: usize, command: &[u8]) {
        let ram = &self.window.ram;
        let table = OUT * (queue as u64 + 1);
        ram.write_slice(command, GuestAddress(COMMAND)).unwrap();
        let pieces = [(COMMAND, command.len() as u32, 1u16), (ANSWER, 64, 2)];
        for (index, (address, length, flags)) in pieces.into_iter().enumerate() {
            let at = table + 16 * index as u64;
            ram.write_obj(address, GuestAddress(at)).unwrap();
            ram.write_obj(length, GuestAddress(at + 8)).unwrap();
            ram.write_obj([flags, 1], GuestAddress(at + 12)).unwrap();
        }
        self.sent[queue] += 1;
        // Every slot of the available ring names descriptor 0.
        ram.write_obj(self.sent[queue], GuestAddress(table + 0x2002)).unwrap();
        self.kicks[queue].write(1).unwrap();
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
    streams: Receiver<UnixStream>,
    panics: Receiver<()>,
    thread: JoinHandle<Vec<Ended>>,
}

fn host() -> Host {
    let (sender, streams) = channel();
    host_with(Arc::new(Streams(sender)), streams)
}

fn host_with(opener: Arc<dyn Opener>, streams: Receiver<UnixStream>) -> Host {
    host_of(Dialect::VirtioWl, opener, streams)
}

fn host_of(dialect: Dialect, opener: Arc<dyn Opener>, streams: Receiver<UnixStream>) -> Host {
    let dir = TempDir::new().unwrap();
    let (alarm, panics) = std::sync::mpsc::sync_channel(1);
    let (stop, counters) = (Stop::new().unwrap(), Arc::new(Counters::default()));
    let options = Options {
        vm: "test".into(),
        side: Side::Client,
        dialect,
        opener,
        traces: Arc::default(),
        neighbours: None,
        counters: counters.clone(),
        policy: Arc::new(Current::new(Policy::of("test"))),
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
        let expected = Expected { config: [0; 16], regions: [1 << 30, 0, 0] };
        let features = features | 1 << F_TRANS_FLAGS;
        Vmm::connect(&self.dir.path().join("device"), features, &expected)
    }
}

fn new(kind: u32, id: u32) -> VfdNew {
    VfdNew { header: Header::new(kind), id, size: 8192, ..Default::default() }
}

/// Runs a test that blocks on what the device does.
fn timed(test: impl FnOnce() + Send + 'static) {
    let (sender, ended) = channel();
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
fn a_virtio_gpu_is_what_mainline_needs() {
    use wlproxy_protocol::cross_domain::{self, GetImageRequirements, ImageRequirements, Init};
    use wlproxy_protocol::virtio_gpu::{
        self as gpu, CreateBlob, CtxCreate, MapBlob, MapInfo, MemEntry, QUEUE_CONTROL, Submit,
    };
    const RINGS: u64 = 0x6_0000;
    timed(|| {
        let (sender, streams) = channel();
        let host = host_of(Dialect::Virtgpu, Arc::new(Streams(sender)), streams);
        // One scanout, one capset.
        let config = [0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0];
        let expected = Expected { config, regions: [0, 1 << 30, 0] };
        let mut vmm = Vmm::connect(&host.dir.path().join("device"), 0b11101, &expected);
        for run in 0..2 {
            vmm.start();
            let header = |kind| gpu::Header { kind, context: 1, ..Default::default() };
            let done = |answer: gpu::Header| assert_eq!(answer.kind, gpu::message::RESP_OK_NODATA);
            let create = CtxCreate {
                header: header(gpu::message::CTX_CREATE),
                name_length: 0,
                context_init: 5,
                name: [0; 64],
            };
            done(vmm.ask(QUEUE_CONTROL, bytemuck::bytes_of(&create)));
            let blob = |resource, memory, entries, blob_id| CreateBlob {
                header: header(gpu::message::RESOURCE_CREATE_BLOB),
                resource,
                memory,
                flags: 0,
                entries,
                blob_id,
                size: 4096,
            };
            for ring in [1, 2] {
                let entry =
                    MemEntry { address: RINGS + 4096 * ring, length: 4096, ..Default::default() };
                let blob = blob(ring as u32, gpu::blob_mem::GUEST, 1, 0);
                let command = [bytemuck::bytes_of(&blob), bytemuck::bytes_of(&entry)].concat();
                done(vmm.ask(QUEUE_CONTROL, &command));
            }
            let mut execute = |bytes: &[u8]| {
                let header = header(gpu::message::SUBMIT_3D);
                let submit = Submit { header, size: bytes.len() as u32, padding: 0 };
                done(vmm.ask(QUEUE_CONTROL, &[bytemuck::bytes_of(&submit), bytes].concat()));
            };
            let says = |command| cross_domain::Header { command, ..Default::default() };
            let init = Init {
                header: says(cross_domain::command::INIT),
                query_ring: 1,
                channel_ring: 2,
                channel: 1,
            };
            execute(bytemuck::bytes_of(&init));
            let image = GetImageRequirements {
                header: says(cross_domain::command::GET_IMAGE_REQUIREMENTS),
                width: 10,
                height: 10,
                format: u32::from_le_bytes(*b"XR24"),
                flags: 0,
            };
            execute(bytemuck::bytes_of(&image));
            let mut image = [0; size_of::<ImageRequirements>()];
            vmm.window.ram.read_slice(&mut image, GuestAddress(RINGS + 4096)).unwrap();
            let image: ImageRequirements = read(&image).unwrap();
            assert_eq!((image.size, image.strides[0]), (4096, 64));
            let memory = blob(3, gpu::blob_mem::HOST3D, 0, image.blob_id.into());
            done(vmm.ask(QUEUE_CONTROL, bytemuck::bytes_of(&memory)));
            let map = MapBlob {
                header: header(gpu::message::RESOURCE_MAP_BLOB),
                resource: 3,
                padding: 0,
                offset: 1 << 20,
            };
            let mapped: MapInfo = vmm.ask(QUEUE_CONTROL, bytemuck::bytes_of(&map));
            assert_eq!(mapped.header.kind, gpu::message::RESP_OK_MAP_INFO, "run {run}");
            let maps = std::mem::take(&mut *vmm.window.maps.lock().unwrap());
            assert_eq!(maps, [(gpu::SHMID, 1 << 20, 4096)]);
            let stream = host.streams.recv().unwrap();
            vmm.stop();
            assert_closed(stream);
        }
        drop(vmm);
        host.stop.stop();
        host.thread.join().unwrap();
        let now = host.counters.snapshot();
        assert_eq!((now.vfds, now.contexts, now.allocation_bytes, now.window_bytes), (0, 0, 0, 0));
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
fn a_frontend_that_goes_while_a_device_with_much_is_cleared_away_is_noticed() {
    timed(|| {
        let host = host();
        for _ in 0..10 {
            let mut vmm = host.vmm(1 << F_USE_SHMEM);
            vmm.start();
            for id in 1..=200 {
                let made = vmm.command(new(message::VFD_NEW_CTX, id));
                assert_eq!(made.header.kind, message::RESP_VFD_NEW);
            }
            vmm.stop();
            drop(vmm);
            (0..200).for_each(|_| assert_closed(host.streams.recv().unwrap()));
        }
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
        let host = host_with(Arc::new(Broken), channel().1);
        let mut vmm = host.vmm(1 << F_USE_SHMEM);
        vmm.start();
        vmm.submit(new(message::VFD_NEW_CTX, 1));
        host.panics.recv().unwrap();
        host.stop.stop();
        assert_eq!(host.thread.join().unwrap(), [Ended::Stopped]);
    });
}

/// The file of a kick that was replaced while its ring ran stays in the epoll set, and nobody can take it out any more.
#[test]
fn a_kick_that_was_given_up_ends_the_device_and_does_not_keep_it_busy() {
    timed(|| {
        let host = host();
        let mut vmm = host.vmm(1 << F_USE_SHMEM);
        vmm.start();
        // Now the device waits by itself; or if it is slow, the crate is about to read that kick, and finds the other one.
        vmm.command(new(message::VFD_NEW_CTX, 1));
        let kick = Event::new(nix::libc::EFD_NONBLOCK).unwrap();
        vmm.frontend.set_vring_kick(QUEUE_OUT, &kick).unwrap();
        let before = std::mem::replace(&mut vmm.kicks[QUEUE_OUT], kick);
        before.write(1).unwrap();
        host.panics.recv().unwrap();
        host.stop.stop();
        assert_eq!(host.thread.join().unwrap(), [Ended::Stopped]);
    });
}

/// The crate has taken a kick from the poller, and the fd is another one when it reads it.
#[test]
fn a_vring_worker_that_the_crate_ends_is_told() {
    timed(|| {
        let ((opens, opened), (go, goes)) = (channel(), channel());
        let host = host_with(Arc::new(Held { opens, goes: Mutex::new(goes) }), channel().1);
        let mut vmm = host.vmm(1 << F_USE_SHMEM);
        vmm.start();
        // From now on the device waits by itself.
        for id in 1..=2 {
            assert_eq!(vmm.command(new(message::VFD_NEW, id)).header.kind, message::RESP_VFD_NEW);
        }
        vmm.submit(new(message::VFD_NEW_CTX, 3));
        opened.recv().unwrap();
        // While it is at that: a kick, and a ring to be told to the crate.
        vmm.submit(new(message::VFD_NEW_CTX, 4));
        vmm.frontend.set_vring_enable(QUEUE_IN, false).unwrap();
        vmm.frontend.set_vring_enable(QUEUE_IN, true).unwrap();
        go.send(()).unwrap();
        opened.recv().unwrap();
        // When it is done with this one it returns to the crate, which finds the ring, and behind it the next kick.
        vmm.submit(new(message::VFD_NEW_CTX, 5));
        go.send(()).unwrap();
        opened.recv().unwrap();
        let kick = Event::new(nix::libc::EFD_NONBLOCK).unwrap();
        vmm.frontend.set_vring_kick(QUEUE_OUT, &kick).unwrap();
        go.send(()).unwrap();
        host.panics.recv().unwrap();
        host.stop.stop();
        assert_eq!(host.thread.join().unwrap(), [Ended::Stopped]);
    });
}
