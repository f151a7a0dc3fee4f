//! The objects of one connection: who is what, and who may be asked what.
//!
//! Ids below [`SERVER_IDS`] are the client's: it makes them in order and may use one again when it saw
//! `wl_display.delete_id`. The compositor has forgotten an object as soon as it executed the destructor, so a proxy may
//! use its id again at once; events of the old one may still be on their way. So an id can have several *incarnations*:
//! requests concern the newest, events the oldest, and `delete_id` ends the oldest.

use super::globals::Globals;
use super::numbers::{self, First};
use super::wire::{self, Arg, Args, Message, WireError};
use super::{WL_DISPLAY, WL_DISPLAY_DELETE_ID, WL_DISPLAY_ERROR, tables};
use std::collections::VecDeque;
use std::ffi::CString;
use wayland_backend::protocol::{
    ANONYMOUS_INTERFACE, ArgumentType, Interface, MessageDesc, same_interface,
};

/// First id that the compositor gives out (libwayland, `WL_SERVER_ID_START`).
pub const SERVER_IDS: u32 = 0xff00_0000;

/// Most ids that one connection may have in use, on each side. Real clients have some hundreds, large ones thousands.
pub const MAX_OBJECTS: usize = 65_536;

/// Most incarnations of one id. A proxy re-makes a pool's id once per buffer; the compositor's answers are behind by
/// what fits into the buffers between.
const MAX_INCARNATIONS: usize = 65_536;

/// Who broke the protocol, where, and how. The connection ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{subject}: {reason}")]
pub struct Violation {
    /// The object whose error it is: `wl_display`, unless [`Violation::code`] is one of another interface.
    ///
    /// As in libwayland. A client that gets the error of an object that it doesn't know never sees the reason.
    pub object: u32,
    /// An error code of that object.
    pub code: u32,
    /// The object and the message, for people: `wl_surface@5.attach`.
    pub subject: String,
    /// What is wrong.
    pub reason: String,
}

/// `wl_display.error`: the object doesn't exist.
pub const INVALID_OBJECT: u32 = 0;
/// `wl_display.error`: the method doesn't exist, or its arguments are malformed.
pub const INVALID_METHOD: u32 = 1;
/// `wl_display.error`: out of memory.
pub const NO_MEMORY: u32 = 2;
/// `wl_display.error`: the compositor (or a proxy) failed.
pub const IMPLEMENTATION: u32 = 3;

impl Violation {
    /// A message that can't be told from the next one, of the object in its header.
    pub fn unreadable(object: u32, error: WireError) -> Self {
        Self::of_object(object, INVALID_METHOD, error.to_string())
    }

    /// More fds than the messages take: [`super::inbox::MAX_PENDING_FDS`] wait.
    pub fn stuffed() -> Self {
        let reason = "more file descriptors than messages take".to_owned();
        Self::of_display(INVALID_OBJECT, reason)
    }

    /// Something that no object of the client's but `wl_display` is concerned with.
    pub fn of_display(code: u32, reason: String) -> Self {
        Self { object: WL_DISPLAY, code, subject: format!("wl_display@{WL_DISPLAY}"), reason }
    }

    /// A `wl_display.error` about an object of which nothing is known.
    fn of_object(id: u32, code: u32, reason: impl Into<String>) -> Self {
        Self { object: WL_DISPLAY, code, subject: format!("object {id}"), reason: reason.into() }
    }

    /// The `wl_display.error` that tells the client.
    pub fn to_event(&self) -> Vec<u8> {
        // An interior NUL can't be: names come from the tables, reasons from us.
        let text = CString::new(self.to_string()).unwrap_or_default();
        let args = [Arg::Object(self.object), Arg::Uint(self.code), Arg::Str(Some(&text))];
        let mut event = Vec::new();
        wire::encode(WL_DISPLAY, WL_DISPLAY_ERROR, &args, &mut event);
        event
    }
}

/// A message that was understood and found to be right.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// The bytes, and whom they concern.
    pub message: Message<'a>,
    /// What the object is.
    pub interface: &'static Interface,
    /// The object's version.
    pub version: u32,
    /// What the message is.
    pub desc: &'static MessageDesc,
    /// Which of all [`numbers::messages`] it is.
    pub number: u16,
}

impl<'a> Call<'a> {
    /// The object.
    pub fn object(&self) -> u32 {
        self.message.object
    }

    /// The arguments, read anew: they were checked.
    pub fn args(&self) -> impl Iterator<Item = Arg<'a>> + use<'a> {
        Args::new(self.message, self.desc.signature).map_while(Result::ok)
    }

    /// How many fds travel beside the message.
    pub fn fds(&self) -> usize {
        self.desc.signature.iter().filter(|&&kind| kind == ArgumentType::Fd).count()
    }

    /// Interface and message by name, to match on.
    pub fn name(&self) -> (&'static str, &'static str) {
        (self.interface.name, self.desc.name)
    }

    /// A violation by this message, with a code of `wl_display`.
    pub fn violation(&self, code: u32, reason: impl Into<String>) -> Violation {
        let subject = format!("{}@{}.{}", self.interface.name, self.object(), self.desc.name);
        Violation { object: WL_DISPLAY, code, subject, reason: reason.into() }
    }
}

/// What to do with an event.
#[derive(Debug)]
pub enum Event<'a> {
    /// Pass it on.
    Pass(Call<'a>),
    /// A global that isn't offered: drop it.
    Hide(Call<'a>),
    /// A global that is offered with another version: pass these bytes on instead.
    Replace(Call<'a>, Vec<u8>),
}

#[derive(Debug, Clone, Copy)]
struct Object {
    interface: &'static Interface,
    version: u32,
    first: First,
}

impl Object {
    fn call<'a>(self, message: Message<'a>, first: u16, desc: &'static MessageDesc) -> Call<'a> {
        let Self { interface, version, .. } = self;
        Call { message, interface, version, desc, number: first + message.opcode }
    }
}

/// The incarnations of one id of the client's.
#[derive(Debug, Default)]
struct Slot {
    oldest: Option<Object>,
    /// Empty, and without memory of its own, for all ids but those that a proxy or a burst uses again.
    newer: VecDeque<Object>,
    /// Whether the newest has not been destroyed.
    alive: bool,
}

impl Slot {
    fn newest(&self) -> Option<Object> {
        self.newer.back().copied().or(self.oldest)
    }

    fn len(&self) -> usize {
        usize::from(self.oldest.is_some()) + self.newer.len()
    }

    fn delete_oldest(&mut self) {
        self.oldest = self.newer.pop_front();
        self.alive &= self.oldest.is_some();
        if self.newer.is_empty() {
            // A client may use each of its ids often once: their memory would add up.
            self.newer = VecDeque::new();
        }
    }
}

/// An object of the compositor's. Only the compositor says when its id is used again.
#[derive(Debug)]
struct ServerSlot {
    object: Object,
    alive: bool,
}

/// The objects of one connection, and the globals that its client may bind.
///
/// Feed it every request of the client with [`Objects::request`] and every event of the compositor with
/// [`Objects::event`], each stream in order.
#[derive(Debug)]
pub struct Objects {
    client: Vec<Slot>,
    server: Vec<ServerSlot>,
    /// Slots of both that are alive.
    count: usize,
    globals: Globals,
}

impl Default for Objects {
    fn default() -> Self {
        Self::with(Globals::default())
    }
}

impl Objects {
    /// A connection on which nothing was said, and whose client may bind anything that crosses.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same for a client that may bind what `globals` offers.
    pub fn with(globals: Globals) -> Self {
        let interface = tables::wl_display();
        let display = Object { interface, version: 1, first: numbers::of(interface) };
        let client = vec![
            Slot::default(),
            Slot { oldest: Some(display), newer: VecDeque::new(), alive: true },
        ];
        Self { client, server: Vec::new(), count: 1, globals }
    }

    /// A request of the client: checks it, and remembers what it makes and destroys.
    pub fn request<'a>(&mut self, message: Message<'a>) -> Result<Call<'a>, Violation> {
        let id = message.object;
        let Some(object) = self.live(id) else {
            return Err(unknown(id, "no such object"));
        };
        let Some(desc) = object.interface.requests.get(usize::from(message.opcode)) else {
            return Err(opcode(id, object, message.opcode));
        };
        let call = object.call(message, object.first.request, desc);
        if desc.since > object.version {
            let reason =
                format!("needs version {} of the object, which has {}", desc.since, object.version);
            return Err(call.violation(INVALID_METHOD, reason));
        }
        self.check(&call)?;
        if desc.is_destructor {
            self.destroy(id);
        }
        Ok(call)
    }

    /// An event of the compositor: remembers what it makes and ends.
    pub fn event<'a>(&mut self, message: Message<'a>) -> Result<Event<'a>, Violation> {
        let id = message.object;
        let object = match id.checked_sub(SERVER_IDS) {
            Some(at) => self.server.get(at as usize).map(|slot| slot.object),
            None => self.client.get(id as usize).and_then(|slot| slot.oldest),
        };
        let Some(object) = object else {
            return Err(unknown(id, "event of an unknown object"));
        };
        let Some(desc) = object.interface.events.get(usize::from(message.opcode)) else {
            return Err(opcode(id, object, message.opcode));
        };
        let call = object.call(message, object.first.event, desc);
        for arg in Args::new(message, desc.signature) {
            let arg = arg.map_err(|error| malformed(&call, error))?;
            if let (Arg::NewId(new), Some(interface)) = (arg, desc.child_interface) {
                let first = numbers::made_by(call.number).unwrap_or_default();
                self.insert_server(new, Object { interface, version: object.version, first })
                    .map_err(|reason| call.violation(IMPLEMENTATION, reason))?;
            }
        }
        if id == WL_DISPLAY && message.opcode == WL_DISPLAY_DELETE_ID {
            if let Some(Arg::Uint(deleted)) = call.args().next() {
                self.delete(deleted);
            }
        } else if desc.is_destructor && self.is_newest(id) {
            self.destroy(id);
        }
        Ok(if object.interface.name == "wl_registry" {
            self.registry_event(call)
        } else {
            Event::Pass(call)
        })
    }

    /// What an id of the client's is, if it lives.
    pub fn interface(&self, id: u32) -> Option<&'static Interface> {
        self.live(id).map(|object| object.interface)
    }

    /// Whether events of an id concern the newest object that was made of it.
    pub fn is_newest(&self, id: u32) -> bool {
        self.client.get(id as usize).is_none_or(|slot| slot.newer.is_empty())
    }

    /// Objects that exist now, `wl_display` included.
    pub fn count(&self) -> usize {
        self.count
    }

    fn live(&self, id: u32) -> Option<Object> {
        if let Some(at) = id.checked_sub(SERVER_IDS) {
            return self.server.get(at as usize).filter(|slot| slot.alive).map(|slot| slot.object);
        }
        self.client.get(id as usize).filter(|slot| slot.alive).and_then(Slot::newest)
    }

    /// Checks a request's arguments, and makes what it makes.
    fn check(&mut self, call: &Call<'_>) -> Result<(), Violation> {
        let mut interfaces = call.desc.arg_interfaces.iter();
        let mut made = None;
        // wl_registry.bind: the global's name, its interface and the version wanted.
        let (mut name, mut interface, mut version) = (None, None, 0);
        for arg in Args::new(call.message, call.desc.signature) {
            match arg.map_err(|error| malformed(call, error))? {
                Arg::Object(id) => {
                    let wanted = interfaces.next().copied().unwrap_or(&ANONYMOUS_INTERFACE);
                    if id != 0 {
                        self.check_object(call, id, wanted)?;
                    }
                }
                Arg::NewId(id) => made = Some(id),
                Arg::Str(value) => interface = value,
                Arg::Uint(value) => {
                    version = value;
                    name = name.or(Some(value));
                }
                _ => {}
            }
        }
        let Some(id) = made else { return Ok(()) };
        let object = match call.desc.child_interface {
            Some(interface) => {
                let first = numbers::made_by(call.number).unwrap_or_default();
                Object { interface, version: call.version, first }
            }
            // wl_registry.bind is the only request that makes an object of any interface.
            None => {
                let wanted = interface.map_or(&b""[..], |text| text.to_bytes());
                let bound = self.globals.bind(name.unwrap_or(0), wanted, version);
                let interface =
                    bound.map_err(|error| call.violation(INVALID_OBJECT, error.to_string()))?;
                Object { interface, version, first: numbers::of(interface) }
            }
        };
        self.insert_client(id, object).map_err(|reason| call.violation(INVALID_OBJECT, reason))
    }

    fn check_object(
        &self,
        call: &Call<'_>,
        id: u32,
        wanted: &'static Interface,
    ) -> Result<(), Violation> {
        let Some(object) = self.live(id) else {
            return Err(call.violation(INVALID_OBJECT, format!("object {id} doesn't exist")));
        };
        if !same_interface(wanted, &ANONYMOUS_INTERFACE)
            && !same_interface(wanted, object.interface)
        {
            let reason =
                format!("object {id} is a {}, not a {}", object.interface.name, wanted.name);
            return Err(call.violation(INVALID_OBJECT, reason));
        }
        Ok(())
    }

    fn insert_client(&mut self, id: u32, object: Object) -> Result<(), String> {
        let at = id as usize;
        if at > self.client.len() || id >= SERVER_IDS {
            return Err(format!(
                "new id {id} is out of order: the next unused one is {}",
                self.client.len()
            ));
        }
        if at >= MAX_OBJECTS {
            return Err(format!("more than {MAX_OBJECTS} objects"));
        }
        if at == self.client.len() {
            self.client.push(Slot::default());
        }
        let slot = &mut self.client[at];
        if slot.alive {
            return Err(format!("new id {id} is in use"));
        }
        if slot.len() >= MAX_INCARNATIONS {
            return Err(format!("new id {id} was used too often in too short a time"));
        }
        match slot.oldest {
            None => slot.oldest = Some(object),
            Some(_) => slot.newer.push_back(object),
        }
        slot.alive = true;
        self.count += 1;
        Ok(())
    }

    fn insert_server(&mut self, id: u32, object: Object) -> Result<(), String> {
        let Some(at) = id.checked_sub(SERVER_IDS).map(|at| at as usize) else {
            return Err(format!("the compositor makes object {id} in the client's range"));
        };
        if at > self.server.len() || at >= MAX_OBJECTS {
            return Err(format!("the compositor makes object {id} out of order"));
        }
        let slot = ServerSlot { object, alive: true };
        // The compositor may use an id again when it has destroyed the object, which only it knows.
        match self.server.get_mut(at) {
            Some(used) => {
                self.count += usize::from(!used.alive);
                *used = slot;
            }
            None => {
                self.count += 1;
                self.server.push(slot);
            }
        }
        Ok(())
    }

    fn destroy(&mut self, id: u32) {
        // The object stays known in both ranges: its events may be on their way.
        let alive = match id.checked_sub(SERVER_IDS) {
            Some(at) => self.server.get_mut(at as usize).map(|slot| &mut slot.alive),
            None => self.client.get_mut(id as usize).map(|slot| &mut slot.alive),
        };
        if let Some(alive) = alive {
            self.count -= usize::from(std::mem::take(alive));
        }
    }

    fn delete(&mut self, id: u32) {
        if let Some(slot) = self.client.get_mut(id as usize) {
            let before = slot.alive;
            slot.delete_oldest();
            self.count -= usize::from(before && !slot.alive);
        }
    }

    fn registry_event<'a>(&mut self, call: Call<'a>) -> Event<'a> {
        let mut args = call.args();
        match (call.desc.name, args.next(), args.next(), args.next()) {
            (
                "global",
                Some(Arg::Uint(name)),
                Some(Arg::Str(Some(interface))),
                Some(Arg::Uint(version)),
            ) => {
                // An interface name that isn't UTF-8 is in no table.
                let text = interface.to_str().unwrap_or_default();
                match self.globals.advertise(name, text, version) {
                    None => Event::Hide(call),
                    Some(offered) if offered == version => Event::Pass(call),
                    Some(offered) => {
                        let args = [Arg::Uint(name), Arg::Str(Some(interface)), Arg::Uint(offered)];
                        let mut bytes = Vec::new();
                        wire::encode(call.object(), call.message.opcode, &args, &mut bytes);
                        Event::Replace(call, bytes)
                    }
                }
            }
            ("global_remove", Some(Arg::Uint(name)), ..) if !self.globals.is_offered(name) => {
                Event::Hide(call)
            }
            _ => Event::Pass(call),
        }
    }
}

fn unknown(id: u32, reason: &str) -> Violation {
    Violation::of_object(id, INVALID_OBJECT, reason)
}

fn opcode(id: u32, object: Object, opcode: u16) -> Violation {
    let subject = format!("{}@{id}", object.interface.name);
    let reason = format!("no message has opcode {opcode}");
    Violation { object: WL_DISPLAY, code: INVALID_METHOD, subject, reason }
}

fn malformed(call: &Call<'_>, error: WireError) -> Violation {
    call.violation(INVALID_METHOD, error.to_string())
}

#[cfg(test)]
mod tests;
