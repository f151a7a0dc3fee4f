//! What other compositors offer, newer or older than those that the tests run: here the test plays the compositor.

use guest_agent::channel::{Arrived, PipeEnd, VfdId};
use std::thread;
use wlproxy_tests::{
    Arg, DATA_CONTROL, Desk, Doorway, Flood, Paste, Plan, Puppet, Raw, memfd, message, until,
};

/// Objects of the client below.
const REGISTRY: u32 = 2;
const SHM: u32 = 3;
const POOL: u32 = 4;
const BUFFER: u32 = 5;

/// wl_shm version 2: released while a pool is there, which goes on being used.
#[test]
fn a_wl_shm_that_is_released_before_its_pool() {
    const SIDE: i32 = 16;
    const SIZE: i32 = SIDE * SIDE * 4;
    let mut desk = Desk::gui_by_hand(Plan::default());
    desk.ready("work");
    let mut gui = desk.puppet("gui");
    let mut door = Doorway::open(&mut gui);
    let mut raw = Raw::connect(&desk.through("work"));
    let record = door.record(&mut gui);
    let context = door.accept(&mut gui, &record);

    let get_registry = message(1, 1, &[Arg::Uint(REGISTRY)]);
    assert_eq!(gui.read(context, get_registry.len()).0, get_registry);
    let global = [Arg::Uint(1), Arg::Text("wl_shm"), Arg::Uint(2)];
    gui.send(context, &message(REGISTRY, 0, &global), &[]);
    assert_eq!(raw.event().map(|event| event.object), Some(REGISTRY));
    assert_eq!((raw.bind("wl_shm", 2), raw.id(), raw.id()), (SHM, POOL, BUFFER));
    let bind = message(REGISTRY, 0, &[global[0], global[1], global[2], Arg::Uint(SHM)]);
    let create_pool = |size| message(SHM, 0, &[Arg::Uint(POOL), Arg::Int(size)]);
    raw.send(&create_pool(SIZE), [memfd(SIZE as u64).into()]);
    let (bytes, arrived) = gui.read(context, bind.len() + 16);
    assert_eq!(bytes, [bind, create_pool(4096)].concat());
    assert!(matches!(arrived[..], [Arrived::Allocation(_)]), "{arrived:?}");

    let release = message(SHM, 1, &[]);
    let format = [Arg::Int(0), Arg::Int(SIDE), Arg::Int(SIDE), Arg::Int(4 * SIDE), Arg::Uint(1)];
    let create_buffer = message(POOL, 0, &[&[Arg::Uint(BUFFER)], &format[..]].concat());
    raw.send(&[release.clone(), create_buffer.clone()].concat(), []);
    let destroy = message(POOL, 1, &[]);
    let anew = [destroy.clone(), create_pool(1 << 20), create_buffer].concat();
    let (bytes, arrived) = gui.read(context, anew.len());
    assert_eq!(bytes, anew, "the pool is made anew, by the wl_shm that is still there");
    assert!(matches!(arrived[..], [Arrived::Allocation(_)]), "{arrived:?}");

    raw.send(&destroy, []);
    let last = [destroy, release].concat();
    assert_eq!(gui.read(context, last.len()).0, last);
}

/// Objects of a client that copies or pastes.
const SEAT: u32 = 3;
const MANAGER: u32 = 4;
const SOURCE: u32 = 5;
const DEVICE: u32 = 6;
/// The first id of a compositor's (Wayland).
const OFFER: u32 = 0xff00_0000;

const KIND: &str = "application/x-test";

/// A client in a VM, and its context at the compositor that the test plays.
struct Exchanger {
    raw: Raw,
    context: VfdId,
}

impl Exchanger {
    /// It has bound a seat and `interface`, and made a device.
    fn new(desk: &Desk, vm: &str, gui: &mut Puppet, door: &mut Doorway, interface: &str) -> Self {
        let raw = Raw::connect(&desk.through(vm));
        let record = door.record(gui);
        let mut this = Self { raw, context: door.accept(gui, &record) };
        this.arrives(gui, &message(1, 1, &[Arg::Uint(REGISTRY)]));
        for (name, global) in [(1, "wl_seat"), (2, interface)] {
            let args = [Arg::Uint(name), Arg::Text(global), Arg::Uint(1)];
            gui.send(this.context, &message(REGISTRY, 0, &args), &[]);
            this.raw.event().expect("the connection stays open");
            let id = this.raw.bind(global, 1);
            let bind = [args[0], args[1], args[2], Arg::Uint(id)];
            this.arrives(gui, &message(REGISTRY, 0, &bind));
        }
        this.request(gui, &message(MANAGER, 0, &[Arg::Uint(SOURCE)]));
        this.request(gui, &message(SOURCE, 0, &[Arg::Text(KIND)]));
        this.request(gui, &message(MANAGER, 1, &[Arg::Uint(DEVICE), Arg::Uint(SEAT)]));
        this
    }

    fn request(&mut self, gui: &mut Puppet, bytes: &[u8]) {
        self.raw.send(bytes, []);
        self.arrives(gui, bytes);
    }

    fn arrives(&self, gui: &mut Puppet, bytes: &[u8]) {
        let (got, arrived) = gui.read(self.context, bytes.len());
        assert!(got == bytes && arrived.is_empty(), "{got:?} with {arrived:?}");
    }

    /// An event, as the client gets it.
    fn event(&mut self, gui: &mut Puppet, bytes: &[u8], vfds: &[VfdId]) {
        gui.send(self.context, bytes, vfds);
        let event = self.raw.event().expect("the connection stays open");
        assert_eq!(message(event.object, event.opcode, &[]).len() + event.body.len(), bytes.len());
    }
}

/// gtk_primary_selection and ext_data_control are built like each other: what one client of them copies, one in
/// another VM pastes.
#[test]
fn selections_of_other_protocols() {
    for interface in ["gtk_primary_selection_device_manager", "ext_data_control_manager_v1"] {
        let (vms, allow) = (&["work", "untrusted"], DATA_CONTROL);
        let plan = Plan { vms, allow, ..Plan::default() };
        let mut desk = Desk::gui_by_hand(plan);
        let mut gui = desk.puppet("gui");
        let mut door = Doorway::open(&mut gui);
        desk.ready("work");
        desk.ready("untrusted");
        let mut source = Exchanger::new(&desk, "work", &mut gui, &mut door, interface);
        let mut destination = Exchanger::new(&desk, "untrusted", &mut gui, &mut door, interface);
        let serial: &[Arg] = if interface.starts_with("gtk") { &[Arg::Uint(1)] } else { &[] };
        let copy = message(DEVICE, 0, &[&[Arg::Uint(SOURCE)], serial].concat());
        source.request(&mut gui, &copy);

        for event in [
            message(DEVICE, 0, &[Arg::Uint(OFFER)]),
            message(OFFER, 0, &[Arg::Text(KIND)]),
            message(DEVICE, 1, &[Arg::Uint(OFFER)]),
        ] {
            destination.event(&mut gui, &event, &[]);
        }
        let (reader, theirs) = Paste::pipe().unwrap();
        let receive = message(OFFER, 0, &[Arg::Text(KIND)]);
        destination.raw.send(&receive, [theirs]);
        let (bytes, arrived) = gui.read(destination.context, receive.len());
        assert_eq!(bytes, receive);
        let [Arrived::Pipe(to, PipeEnd::Write)] = arrived[..] else { panic!("{arrived:?}") };

        let from = gui.pipe(PipeEnd::Read);
        source.event(&mut gui, &message(SOURCE, 0, &[Arg::Text(KIND)]), &[from]);
        let writer = Paste::new(source.raw.fd().expect("it came along")).unwrap();
        let content = Flood::new(1).take(300_000);
        thread::scope(|scope| {
            scope.spawn(|| {
                writer.write(&content).unwrap();
                drop(writer);
            });
            let read = scope.spawn(|| reader.read_to_end().unwrap());
            // What a compositor's pipe would do.
            while let Some((bytes, _)) = gui.receive(from) {
                gui.send(to, &bytes, &[]);
            }
            gui.close(to);
            assert!(read.join().unwrap() == content, "other bytes arrived");
        });
        for vm in ["work", "untrusted"] {
            until("the end of all pipes", || (desk.vm(vm).stats("pipes") == 0).then_some(()));
        }
    }
}
