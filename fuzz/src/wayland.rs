//! What the targets know of Wayland by themselves: who is what, and messages that are right or nearly.

use crate::input::Input;
use std::ffi::{CStr, CString};
use std::sync::Arc;
use wayland_backend::protocol::{ANONYMOUS_INTERFACE, AllowNull, same_interface};
use wlproxy_protocol::wayland::objects::SERVER_IDS;
use wlproxy_protocol::wayland::wire::encode;
use wlproxy_protocol::wayland::{Arg, ArgumentType, Interface, MessageDesc, Offer, tables};

/// Globals that are advertised and bound: what applications use, what has a way of its own through the relay, what can't
/// cross, and what nobody knows.
pub const GLOBALS: [&CStr; 18] = [
    c"wl_compositor",
    c"wl_shm",
    c"wl_data_device_manager",
    c"wl_seat",
    c"wl_output",
    c"wl_subcompositor",
    c"xdg_wm_base",
    c"zwp_text_input_manager_v3",
    c"wp_viewporter",
    c"zwlr_layer_shell_v1",
    c"zwp_linux_dmabuf_v1",
    c"nobody_knows_v1",
    c"zwp_primary_selection_device_manager_v1",
    c"ext_data_control_manager_v1",
    c"zwp_relative_pointer_manager_v1",
    c"zwp_tablet_manager_v2",
    c"xdg_toplevel_tag_manager_v1",
    c"xdg_activation_v1",
];

/// Longest string or array that is made up, in bytes.
const MAX_COUNTED: usize = 24;

/// How often another object is looked for, that has something to say.
const TRIES: usize = 4;

#[derive(Debug, Clone, Copy)]
struct Object {
    id: u32,
    interface: &'static Interface,
    version: u32,
    /// Whether it has not been destroyed.
    alive: bool,
}

/// A global that the client may bind.
#[derive(Debug, Clone, Copy)]
struct Bindable {
    name: u32,
    interface: &'static Interface,
    version: u32,
}

/// Who is what, as far as whoever makes up messages remembers.
#[derive(Debug, Clone)]
pub struct Known {
    /// Whether all messages are right.
    right: bool,
    offer: Arc<Offer>,
    /// Strings that are used beside any.
    words: &'static [&'static CStr],
    /// Of those with the same id, the oldest is first.
    objects: Vec<Object>,
    bindable: Vec<Bindable>,
    advertised: usize,
    /// First id that was never used, of each side.
    next: [u32; 2],
    /// Ids that the client may use again.
    free: Vec<u32>,
    /// Object and opcode of the last request, and of the last event.
    last: [Option<(u32, u16)>; 2],
}

/// What somebody says next.
struct Said {
    object: u32,
    opcode: u16,
    desc: &'static MessageDesc,
    interface: &'static Interface,
    version: u32,
    /// The global that is bound, where that isn't chosen yet.
    bound: Option<Bindable>,
}

impl Said {
    /// The message of that number of `descs`, which are the object's requests or its events.
    fn of(object: &Object, descs: &'static [MessageDesc], opcode: usize) -> Self {
        Self {
            object: object.id,
            opcode: opcode as u16,
            desc: &descs[opcode],
            interface: object.interface,
            version: object.version,
            bound: None,
        }
    }
}

impl Known {
    /// A client that just came, and may bind what is in `offer`. If it isn't `right`, some messages are wrong, and what is
    /// known may be so from then on.
    pub fn new(offer: Arc<Offer>, right: bool) -> Self {
        let display = Object { id: 1, interface: tables::wl_display(), version: 1, alive: true };
        Self {
            right,
            offer,
            words: &[],
            objects: vec![display],
            bindable: Vec::new(),
            advertised: 0,
            next: [2, SERVER_IDS],
            free: Vec::new(),
            last: [None; 2],
        }
    }

    /// The same with words that are in half of all strings.
    pub fn with_words(self, words: &'static [&'static CStr]) -> Self {
        Self { words, ..self }
    }

    /// Whether all messages are right.
    pub fn is_right(&self) -> bool {
        self.right
    }

    /// What an object is whose events come now.
    pub fn interface(&self, id: u32) -> Option<&'static Interface> {
        self.object(id).map(|object| object.interface)
    }

    /// The oldest of this id: that of events.
    fn object(&self, id: u32) -> Option<Object> {
        self.objects.iter().find(|object| object.id == id).copied()
    }

    /// `true` once in `times`, but never if all is to be right.
    fn errs(&self, input: &mut Input<'_>, times: usize) -> bool {
        input.one_in(times) && !self.right
    }

    /// Appends a request, or an event if it isn't one. Returns how many fds it takes.
    pub fn message(
        &mut self,
        input: &mut Input<'_>,
        is_request: bool,
        bytes: &mut Vec<u8>,
    ) -> usize {
        let start = bytes.len();
        if self.errs(input, 16) {
            let (object, opcode) = (input.number(), input.below(8) as u16);
            encode(object, opcode, &[Arg::Uint(input.number())], bytes);
            return 0;
        }
        let fds = match self.choose(input, is_request) {
            Some(said) => self.fill(input, &said, is_request, bytes),
            None => None,
        };
        let Some(fds) = fds else {
            // What is always right: a sync, and an error, after which clients go on as they like.
            if is_request {
                let callback = tables::wl_display().requests[0].child_interface;
                let id = self.fresh(input, true);
                encode(1, 0, &[Arg::NewId(id)], bytes);
                self.make(id, callback.expect("a sync makes a callback"), 1);
            } else {
                let args = [Arg::Object(1), Arg::Uint(input.number()), Arg::Str(Some(c"none"))];
                encode(1, 0, &args, bytes);
            }
            return 0;
        };
        if !self.right {
            let made = &mut bytes[start..];
            match input.byte() {
                // Anything else somewhere.
                250 => {
                    let at = input.below(made.len().min(256));
                    made[at] ^= 1 << input.below(8);
                }
                251 => bytes.extend(input.word().to_le_bytes()),
                252 => {
                    let length = input.below(made.len().min(256));
                    bytes.truncate(start + length);
                }
                _ => {}
            }
        }
        fds
    }

    /// Appends this message, of the newest object of that interface. Returns how many fds it takes; `None` if there is no such
    /// object, or not what the message needs.
    pub fn particular(
        &mut self,
        input: &mut Input<'_>,
        (is_request, interface, name): (bool, &str, &str),
        bytes: &mut Vec<u8>,
    ) -> Option<usize> {
        let is_it = |object: &&Object| object.alive && object.interface.name == interface;
        let object = *self.objects.iter().rev().find(is_it)?;
        // Events are the oldest's of an id.
        let oldest = self.object(object.id)?;
        let is_oldest = oldest.alive && same_interface(oldest.interface, object.interface);
        if !is_request && !is_oldest {
            return None;
        }
        let descs = if is_request { object.interface.requests } else { object.interface.events };
        let opcode = descs.iter().position(|desc| desc.name == name)?;
        let said = Said::of(&object, descs, opcode);
        if said.desc.since > said.version {
            return None;
        }
        self.fill(input, &said, is_request, bytes)
    }

    /// Appends a request that binds the newest global of this interface. `None` if there is none that may be.
    pub fn bind(
        &mut self,
        input: &mut Input<'_>,
        interface: &str,
        bytes: &mut Vec<u8>,
    ) -> Option<usize> {
        let is_it = |bindable: &&Bindable| bindable.interface.name == interface;
        let bound = *self.bindable.iter().rev().find(is_it)?;
        let registry = *self.objects.iter().find(|it| it.interface.name == "wl_registry")?;
        let said = Said {
            object: registry.id,
            opcode: 0,
            desc: &registry.interface.requests[0],
            interface: registry.interface,
            version: registry.version,
            bound: Some(bound),
        };
        self.fill(input, &said, true, bytes)
    }

    /// Who says what. `None` if there is nothing to be said.
    fn choose(&mut self, input: &mut Input<'_>, is_request: bool) -> Option<Said> {
        let last = self.last[usize::from(is_request)];
        for _ in 0..TRIES {
            let again = last.filter(|_| input.below(4) < 2);
            let registry = || self.objects.iter().find(|it| it.interface.name == "wl_registry");
            let object = match (registry(), again) {
                (None, _) if is_request && input.one_in(2) => self.object(1)?,
                (Some(registry), _) if input.below(8) < self.registry_urge(is_request) => *registry,
                (_, Some((id, _))) if self.object(id).is_some() => self.object(id)?,
                _ => self.objects[input.below(256) % self.objects.len()],
            };
            // Requests concern the newest of an id, events the oldest.
            let object = if is_request {
                self.objects.iter().rev().find(|other| other.id == object.id).copied()?
            } else {
                self.object(object.id)?
            };
            if is_request && !object.alive && !self.errs(input, 4) {
                continue;
            }
            let descs =
                if is_request { object.interface.requests } else { object.interface.events };
            if descs.is_empty() {
                continue;
            }
            let mut opcode = match again {
                Some((id, opcode)) if id == object.id && input.one_in(2) => usize::from(opcode),
                _ => input.below(256),
            } % descs.len();
            // Most objects live on for a while.
            let unfit = |desc: &MessageDesc, spared| {
                is_request && (desc.since > object.version || spared && desc.is_destructor)
            };
            let spared = !input.one_in(8);
            if !self.errs(input, 16) {
                let mut left = descs.len();
                while left > 0 && unfit(&descs[opcode], spared) {
                    opcode = (opcode + 1) % descs.len();
                    left -= 1;
                }
                if left == 0 {
                    continue;
                }
            }
            self.last[usize::from(is_request)] = Some((object.id, opcode as u16));
            return Some(Said::of(&object, descs, opcode));
        }
        None
    }

    /// How many times in eight it is the registry's turn.
    fn registry_urge(&self, is_request: bool) -> usize {
        match is_request {
            true if self.bindable.is_empty() => 0,
            true => 2,
            false if self.advertised < GLOBALS.len() => 5,
            false => 0,
        }
    }

    /// Writes the message. `None` if there isn't what it needs.
    fn fill(
        &mut self,
        input: &mut Input<'_>,
        said: &Said,
        is_request: bool,
        bytes: &mut Vec<u8>,
    ) -> Option<usize> {
        let desc = said.desc;
        let has = |wanted: fn(&ArgumentType) -> bool| desc.signature.iter().any(wanted);
        let text = match has(|kind| matches!(kind, ArgumentType::Str(_))) {
            true => self.text(input),
            false => CString::default(),
        };
        let array = match has(|kind| matches!(kind, ArgumentType::Array)) {
            true => input.bytes(MAX_COUNTED),
            false => &[],
        };
        let is_global = said.interface.name == "wl_registry" && desc.name == "global";
        let is_bind = said.interface.name == "wl_registry" && desc.name == "bind";
        let is_delete = said.interface.name == "wl_display" && desc.name == "delete_id";
        let bound = match self.bindable.len() {
            _ if said.bound.is_some() => said.bound,
            count if is_bind && count > 0 => Some(self.bindable[input.below(256) % count]),
            _ => None,
        };
        if is_bind && bound.is_none() && self.right {
            return None;
        }
        let deleted = match is_delete {
            true => self.dead().nth(input.below(4)).or_else(|| self.dead().next()),
            false => None,
        };
        if is_delete && deleted.is_none() && self.right {
            return None;
        }
        let global = match is_global {
            true if self.advertised < GLOBALS.len() => self.advertised,
            _ => input.below(GLOBALS.len()),
        };
        let mut wanted = desc.arg_interfaces.iter();
        let mut new_id = None;
        let mut args = Vec::with_capacity(desc.signature.len());
        for kind in desc.signature {
            args.push(match kind {
                ArgumentType::Int => Arg::Int(self.int(input)),
                ArgumentType::Uint if is_bind && !self.errs(input, 32) => {
                    let bound = bound.unwrap_or(Bindable {
                        name: 0,
                        interface: said.interface,
                        version: 1,
                    });
                    match args.len() {
                        0 => Arg::Uint(bound.name),
                        _ => Arg::Uint(1 + input.below(256) as u32 % bound.version.max(1)),
                    }
                }
                ArgumentType::Uint if is_global => match args.len() {
                    0 => {
                        Arg::Uint(if self.errs(input, 16) { input.number() } else { global as u32 })
                    }
                    _ => Arg::Uint(1 + input.below(12) as u32),
                },
                ArgumentType::Uint if is_delete && !self.errs(input, 16) => {
                    Arg::Uint(deleted.unwrap_or(0))
                }
                ArgumentType::Uint => Arg::Uint(input.number()),
                ArgumentType::Fixed => Arg::Fixed(input.number() as i32),
                ArgumentType::Str(_) if is_global => Arg::Str(Some(GLOBALS[global])),
                ArgumentType::Str(_) if is_bind => {
                    let name = bound.map_or("wl_shm", |bound| bound.interface.name);
                    Arg::Str(
                        GLOBALS.into_iter().find(|global| global.to_bytes() == name.as_bytes()),
                    )
                }
                ArgumentType::Str(allowed) => {
                    let may = *allowed == AllowNull::Yes || !self.right;
                    Arg::Str(if input.one_in(8) && may { None } else { Some(&text) })
                }
                ArgumentType::Object(allowed) => {
                    let wanted = wanted.next().copied();
                    Arg::Object(self.argument(input, wanted, *allowed)?)
                }
                ArgumentType::NewId => {
                    let id = self.fresh(input, is_request);
                    new_id = Some(id);
                    Arg::NewId(id)
                }
                ArgumentType::Array => Arg::Array(array),
                ArgumentType::Fd => Arg::Fd,
            });
        }
        encode(said.object, said.opcode, &args, bytes);
        if desc.is_destructor {
            self.destroy(said.object, is_request);
        }
        if let Some(id) = new_id {
            let version = args.iter().rev().find_map(|arg| match arg {
                Arg::Uint(version) if is_bind => Some(*version),
                _ => None,
            });
            let interface = desc.child_interface.or(bound.map(|bound| bound.interface));
            if let Some(interface) = interface {
                self.make(id, interface, version.unwrap_or(said.version));
            }
        }
        match (&args[..], is_global, is_delete) {
            ([Arg::Uint(name), _, Arg::Uint(version)], true, _) => {
                self.advertise(*name, GLOBALS[global], *version);
                self.advertised += 1;
            }
            ([Arg::Uint(id)], _, true) => self.delete(*id),
            _ => {}
        }
        Some(desc.signature.iter().filter(|&&kind| kind == ArgumentType::Fd).count())
    }

    /// A string: one that can be seen, if all is to be right.
    fn text(&self, input: &mut Input<'_>) -> CString {
        if !self.words.is_empty() && input.one_in(2) {
            return input.pick(self.words).to_owned();
        }
        let letter = |&byte: &u8| if self.right { b'a' + byte % 26 } else { byte | 1 };
        let text: Vec<u8> = input.bytes(MAX_COUNTED).iter().map(letter).collect();
        CString::new(text).expect("no byte is 0")
    }

    /// A number: one that could be a size, if all is to be right.
    fn int(&self, input: &mut Input<'_>) -> i32 {
        if self.right { 1 + input.below(100) as i32 } else { input.number() as i32 }
    }

    /// An object of the interface that the message wants. `None` if there is none.
    fn argument(
        &self,
        input: &mut Input<'_>,
        wanted: Option<&'static Interface>,
        allowed: AllowNull,
    ) -> Option<u32> {
        if self.errs(input, 16) {
            return Some(input.number());
        }
        if allowed == AllowNull::Yes && input.one_in(8) {
            return Some(0);
        }
        let fits = |object: &&Object| {
            object.alive
                && wanted.is_none_or(|wanted| {
                    same_interface(wanted, object.interface)
                        || same_interface(wanted, &ANONYMOUS_INTERFACE)
                })
        };
        let count = self.objects.iter().filter(fits).count();
        if count == 0 {
            return (allowed == AllowNull::Yes || !self.right).then_some(0);
        }
        self.objects.iter().filter(fits).nth(input.below(256) % count).map(|object| object.id)
    }

    /// Ids of the client's whose oldest object is destroyed.
    fn dead(&self) -> impl Iterator<Item = u32> {
        let is_oldest = |object: &&Object| {
            let oldest = self.objects.iter().find(|other| other.id == object.id);
            oldest.is_some_and(|oldest| std::ptr::eq(oldest, *object))
        };
        let dead = self.objects.iter().filter(|object| !object.alive && object.id < SERVER_IDS);
        dead.filter(is_oldest).map(|object| object.id)
    }

    /// An id that isn't in use: never used, or that of something that is over.
    fn fresh(&self, input: &mut Input<'_>, is_client: bool) -> u32 {
        if self.errs(input, 24) {
            return input.number();
        }
        let choice = input.below(16);
        if is_client {
            // As a proxy may, without waiting for delete_id.
            let dead = || {
                let newest = |id| self.objects.iter().rev().find(|object| object.id == id);
                self.dead().find(|&id| newest(id).is_some_and(|object| !object.alive))
            };
            if let Some(id) = (choice < 4).then(dead).flatten() {
                return id;
            }
            if let Some(id) = self.free.last().filter(|_| choice < 12) {
                return *id;
            }
        } else {
            let dead = |object: &&Object| !object.alive && object.id >= SERVER_IDS;
            if let Some(object) = self.objects.iter().find(dead).filter(|_| choice < 8) {
                return object.id;
            }
        }
        self.next[usize::from(!is_client)]
    }

    fn make(&mut self, id: u32, interface: &'static Interface, version: u32) {
        if id >= SERVER_IDS {
            self.objects.retain(|object| object.id != id);
        }
        self.free.retain(|&free| free != id);
        if let Some(next) = self.next.iter_mut().find(|next| **next == id) {
            *next += 1;
        }
        self.objects.push(Object { id, interface, version, alive: true });
    }

    fn destroy(&mut self, id: u32, is_request: bool) {
        let mut of_id = self.objects.iter_mut().filter(|object| object.id == id);
        let object = if is_request { of_id.next_back() } else { of_id.next() };
        if let Some(object) = object {
            object.alive = false;
        }
    }

    fn delete(&mut self, id: u32) {
        if id > 1
            && let Some(at) = self.objects.iter().position(|object| object.id == id)
        {
            self.objects.remove(at);
            if self.objects.iter().all(|object| object.id != id) && !self.free.contains(&id) {
                self.free.push(id);
            }
        }
    }

    fn advertise(&mut self, name: u32, interface: &CStr, version: u32) {
        self.bindable.retain(|bindable| bindable.name != name);
        let text = interface.to_str().unwrap_or_default();
        if let (Some(highest), Some(global)) = (self.offer.version(text), tables::global(text)) {
            let (interface, version) = (global.interface, version.min(highest));
            self.bindable.push(Bindable { name, interface, version });
        }
    }
}

impl Default for Known {
    fn default() -> Self {
        Self::new(Offer::everything(), false)
    }
}
