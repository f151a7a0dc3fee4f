use super::*;
use crate::limits::{MAX_EVENT, MAX_REQUEST};

const REGISTRY: u32 = 2;
const COMPOSITOR: u32 = 3;
const SHM: u32 = 4;

/// Messages are made from names, so that no opcode is typed in.
struct Connection {
    objects: Objects,
}

fn opcode_of(messages: &[MessageDesc], name: &str) -> u16 {
    messages.iter().position(|message| message.name == name).expect("a message of that name") as u16
}

fn message(object: u32, opcode: u16, args: &[Arg<'_>]) -> &'static [u8] {
    let mut bytes = Vec::new();
    wire::encode(object, opcode, args, &mut bytes);
    bytes.leak()
}

impl Connection {
    fn new() -> Self {
        let mut connection = Self { objects: Objects::new() };
        connection.request(WL_DISPLAY, "get_registry", &[Arg::NewId(REGISTRY)]).unwrap();
        connection.advertise(1, c"wl_compositor", 4);
        connection.advertise(2, c"wl_shm", 1);
        connection.bind(1, c"wl_compositor", 4, COMPOSITOR).unwrap();
        connection.bind(2, c"wl_shm", 1, SHM).unwrap();
        connection
    }

    fn raw(
        &mut self,
        object: u32,
        opcode: u16,
        args: &[Arg<'_>],
    ) -> Result<Call<'static>, Violation> {
        let mut bytes = message(object, opcode, args);
        self.objects.request(wire::split(&mut bytes, MAX_REQUEST).unwrap().unwrap())
    }

    fn request(
        &mut self,
        object: u32,
        name: &str,
        args: &[Arg<'_>],
    ) -> Result<Call<'static>, Violation> {
        let interface = self.objects.interface(object).expect("a live object");
        self.raw(object, opcode_of(interface.requests, name), args)
    }

    fn bind(
        &mut self,
        name: u32,
        interface: &std::ffi::CStr,
        version: u32,
        id: u32,
    ) -> Result<(), Violation> {
        let args = [Arg::Uint(name), Arg::Str(Some(interface)), Arg::Uint(version), Arg::NewId(id)];
        self.request(REGISTRY, "bind", &args).map(drop)
    }

    fn event(
        &mut self,
        object: u32,
        interface: &str,
        name: &str,
        args: &[Arg<'_>],
    ) -> Result<Event<'static>, Violation> {
        let interface = match interface {
            "wl_display" => tables::wl_display(),
            _ => self.known(interface),
        };
        let mut bytes = message(object, opcode_of(interface.events, name), args);
        self.objects.event(wire::split(&mut bytes, MAX_EVENT).unwrap().unwrap())
    }

    fn known(&self, name: &str) -> &'static Interface {
        let mut all: Vec<_> = vec![tables::wl_display()];
        all.extend(
            ["wl_compositor", "wl_shm", "wl_data_device_manager", "wl_seat"]
                .map(|n| tables::global(n).unwrap().interface),
        );
        let mut at = 0;
        while at < all.len() {
            for message in all[at].requests.iter().chain(all[at].events) {
                if let Some(child) = message.child_interface
                    && all.iter().all(|other| other.name != child.name)
                {
                    all.push(child);
                }
            }
            at += 1;
        }
        all.into_iter().find(|interface| interface.name == name).expect("a reachable interface")
    }

    fn advertise(&mut self, name: u32, interface: &std::ffi::CStr, version: u32) -> Event<'static> {
        let args = [Arg::Uint(name), Arg::Str(Some(interface)), Arg::Uint(version)];
        self.event(REGISTRY, "wl_registry", "global", &args).unwrap()
    }

    fn delete(&mut self, id: u32) {
        self.event(WL_DISPLAY, "wl_display", "delete_id", &[Arg::Uint(id)]).unwrap();
    }
}

#[test]
fn objects_that_do_not_exist_are_refused_by_name() {
    let mut connection = Connection::new();
    let error = connection.raw(99, 0, &[]).unwrap_err();
    assert_eq!((error.object, error.code), (WL_DISPLAY, INVALID_OBJECT));
    assert_eq!(error.to_string(), "object 99: no such object");
    connection.request(COMPOSITOR, "create_surface", &[Arg::NewId(5)]).unwrap();
    let error =
        connection.request(5, "attach", &[Arg::Object(77), Arg::Int(0), Arg::Int(0)]).unwrap_err();
    assert_eq!(error.to_string(), "wl_surface@5.attach: object 77 doesn't exist");
    let error =
        connection.request(5, "attach", &[Arg::Object(SHM), Arg::Int(0), Arg::Int(0)]).unwrap_err();
    assert_eq!(error.to_string(), "wl_surface@5.attach: object 4 is a wl_shm, not a wl_buffer");
}

#[test]
fn opcodes_and_versions_are_checked() {
    let mut connection = Connection::new();
    let error = connection.raw(COMPOSITOR, 50, &[]).unwrap_err();
    assert_eq!((error.object, error.code), (WL_DISPLAY, INVALID_METHOD));
    connection.request(COMPOSITOR, "create_surface", &[Arg::NewId(5)]).unwrap();
    let error = connection.request(5, "offset", &[Arg::Int(0), Arg::Int(0)]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "wl_surface@5.offset: needs version 5 of the object, which has 4"
    );
}

#[test]
fn new_ids_are_dense_and_not_in_use() {
    let mut connection = Connection::new();
    for (id, reason) in [(SHM, "in use"), (7, "out of order"), (SERVER_IDS, "out of order")] {
        let error =
            connection.request(COMPOSITOR, "create_surface", &[Arg::NewId(id)]).unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
    }
    connection.request(COMPOSITOR, "create_surface", &[Arg::NewId(5)]).unwrap();
}

#[test]
fn a_connection_has_a_limit_of_objects() {
    let mut connection = Connection::new();
    for id in 5..MAX_OBJECTS as u32 {
        connection.request(COMPOSITOR, "create_region", &[Arg::NewId(id)]).unwrap();
    }
    let error = connection
        .request(COMPOSITOR, "create_region", &[Arg::NewId(MAX_OBJECTS as u32)])
        .unwrap_err();
    assert!(error.to_string().contains("more than 65536 objects"), "{error}");
}

#[test]
fn an_id_can_be_used_again_before_the_compositor_deleted_it() {
    let mut connection = Connection::new();
    let pool = [Arg::NewId(5), Arg::Fd, Arg::Int(4096)];
    connection.request(SHM, "create_pool", &pool).unwrap();
    connection.request(5, "destroy", &[]).unwrap();
    assert_eq!(
        connection.raw(5, 0, &[]).unwrap_err().code,
        INVALID_OBJECT,
        "a destroyed object takes no requests"
    );
    connection.request(COMPOSITOR, "create_surface", &[Arg::NewId(5)]).unwrap();
    // An event now concerns the pool, which has none; after delete_id it concerns the surface.
    assert!(connection.event(5, "wl_surface", "enter", &[Arg::Object(9)]).is_err());
    connection.delete(5);
    assert!(connection.event(5, "wl_surface", "enter", &[Arg::Object(9)]).is_ok());
    connection.request(5, "commit", &[]).unwrap();
}

/// An id that was used often in a short time costs no more afterwards than one that wasn't.
#[test]
fn a_burst_of_one_id_leaves_no_memory_behind() {
    const TIMES: usize = 3000;
    let mut connection = Connection::new();
    for _ in 0..TIMES {
        connection.request(COMPOSITOR, "create_region", &[Arg::NewId(5)]).unwrap();
        connection.request(5, "destroy", &[]).unwrap();
    }
    assert_eq!(connection.objects.client[5].len(), TIMES);
    (0..TIMES).for_each(|_| connection.delete(5));
    assert_eq!(connection.objects.client[5].newer.capacity(), 0);
}

#[test]
fn events_that_end_an_object_end_it() {
    let mut connection = Connection::new();
    connection.request(WL_DISPLAY, "sync", &[Arg::NewId(5)]).unwrap();
    connection.event(5, "wl_callback", "done", &[Arg::Uint(0)]).unwrap();
    connection.delete(5);
    assert!(connection.event(5, "wl_callback", "done", &[Arg::Uint(0)]).is_err());
    connection.request(WL_DISPLAY, "sync", &[Arg::NewId(5)]).unwrap();
}

#[test]
fn events_that_end_an_object_leave_the_one_that_was_made_of_its_id() {
    let mut connection = Connection::new();
    connection.request(WL_DISPLAY, "sync", &[Arg::NewId(5)]).unwrap();
    connection.event(5, "wl_callback", "done", &[Arg::Uint(0)]).unwrap();
    connection.request(COMPOSITOR, "create_surface", &[Arg::NewId(5)]).unwrap();
    connection.event(5, "wl_callback", "done", &[Arg::Uint(0)]).unwrap();
    connection.request(5, "commit", &[]).unwrap();
}

#[test]
fn objects_of_the_compositor_live_until_it_uses_their_id_again() {
    let mut connection = Connection::new();
    connection.advertise(3, c"wl_data_device_manager", 3);
    connection.advertise(4, c"wl_seat", 5);
    connection.bind(3, c"wl_data_device_manager", 3, 5).unwrap();
    connection.bind(4, c"wl_seat", 5, 6).unwrap();
    connection.request(5, "get_data_device", &[Arg::NewId(7), Arg::Object(6)]).unwrap();
    let offer = [Arg::NewId(SERVER_IDS)];
    connection.event(7, "wl_data_device", "data_offer", &offer).unwrap();
    let mime = [Arg::Str(Some(c"text/plain"))];
    connection.event(SERVER_IDS, "wl_data_offer", "offer", &mime).unwrap();
    assert_eq!(connection.objects.count(), 8);
    connection.event(7, "wl_data_device", "data_offer", &offer).unwrap();
    assert_eq!(connection.objects.count(), 8, "the compositor has destroyed the one before");
    connection.request(SERVER_IDS, "destroy", &[]).unwrap();
    assert_eq!(connection.objects.count(), 7);
    connection.event(SERVER_IDS, "wl_data_offer", "offer", &mime).unwrap();
    assert_eq!(connection.raw(SERVER_IDS, 2, &[]).unwrap_err().code, INVALID_OBJECT);
    connection.event(7, "wl_data_device", "data_offer", &offer).unwrap();
    connection.request(SERVER_IDS, "destroy", &[]).unwrap();
    assert!(
        connection.event(7, "wl_data_device", "data_offer", &[Arg::NewId(SERVER_IDS + 5)]).is_err()
    );
    assert!(connection.event(7, "wl_data_device", "data_offer", &[Arg::NewId(50)]).is_err());
}

#[test]
fn globals_are_hidden_capped_or_passed() {
    let mut connection = Connection::new();
    assert!(matches!(connection.advertise(10, c"zwp_linux_dmabuf_v1", 4), Event::Hide(_)));
    assert!(matches!(connection.advertise(11, c"wl_output", 4), Event::Pass(_)));
    let Event::Replace(_, bytes) = connection.advertise(12, c"wl_seat", 1000) else {
        panic!("not capped")
    };
    assert!(bytes.len() > 8);
    let removed = |connection: &mut Connection, name| {
        connection.event(REGISTRY, "wl_registry", "global_remove", &[Arg::Uint(name)]).unwrap()
    };
    assert!(matches!(removed(&mut connection, 10), Event::Hide(_)));
    assert!(matches!(removed(&mut connection, 11), Event::Pass(_)));
    let error = connection.bind(10, c"zwp_linux_dmabuf_v1", 1, 5).unwrap_err();
    assert_eq!(
        error.to_string(),
        "wl_registry@2.bind: global 10, zwp_linux_dmabuf_v1, was not offered"
    );
}

#[test]
fn the_client_is_told_what_it_did() {
    let mut connection = Connection::new();
    let error = connection.raw(COMPOSITOR, 50, &[]).unwrap_err();
    let event = error.to_event();
    let mut bytes = &event[..];
    let message = wire::split(&mut bytes, MAX_EVENT).unwrap().unwrap();
    let args: Vec<_> =
        Args::new(message, tables::wl_display().events[0].signature).map(Result::unwrap).collect();
    assert_eq!(args[..2], [Arg::Object(WL_DISPLAY), Arg::Uint(INVALID_METHOD)]);
    assert!(
        matches!(args[2], Arg::Str(Some(text)) if text.to_str().unwrap().contains("wl_compositor@3"))
    );
}
