//! What the targets know of Wayland by themselves: who is what, and messages that are right or nearly.

use crate::input::Input;
use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use wlproxy_protocol::wayland::objects::SERVER_IDS;
use wlproxy_protocol::wayland::wire::encode;
use wlproxy_protocol::wayland::{Arg, ArgumentType, Interface, MessageDesc, tables};

/// Globals that are advertised and bound: what applications use, what can't cross, and what nobody knows.
pub const GLOBALS: [&CStr; 12] = [
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
];

/// Longest string or array that is made up, in bytes.
const MAX_COUNTED: usize = 24;

/// Who is what, as far as whoever makes up messages remembers. That may be wrong: it is only for messages that mostly
/// are right.
#[derive(Debug, Clone)]
pub struct Known(BTreeMap<u32, &'static Interface>);

impl Default for Known {
    fn default() -> Self {
        Self(BTreeMap::from([(1, tables::wl_display())]))
    }
}

/// A message that was made up.
#[derive(Debug)]
pub struct Made {
    /// All of it.
    pub bytes: Vec<u8>,
    /// How many fds it takes.
    pub fds: usize,
}

impl Known {
    /// What an object is.
    pub fn interface(&self, id: u32) -> Option<&'static Interface> {
        self.0.get(&id).copied()
    }

    /// A request, or an event if it isn't.
    pub fn message(&mut self, input: &mut Input<'_>, is_request: bool) -> Made {
        let ids: Vec<u32> = self.0.keys().copied().collect();
        let object =
            if input.one_in(16) { input.number() } else { ids[input.below(256) % ids.len()] };
        let messages = |interface: &'static Interface| {
            if is_request { interface.requests } else { interface.events }
        };
        let descs = self.interface(object).map_or(&[][..], messages);
        let opcode = match descs.len() {
            0 => input.below(8),
            _ if input.one_in(32) => input.below(32),
            count => input.below(256) % count,
        };
        let mut bytes = Vec::new();
        let Some(desc) = descs.get(opcode) else {
            encode(object, opcode as u16, &[Arg::Uint(input.number())], &mut bytes);
            return Made { bytes, fds: 0 };
        };
        let fds = self.fill(input, object, opcode as u16, desc, is_request, &mut bytes);
        match input.byte() {
            // Anything else somewhere.
            250 => {
                let at = input.below(bytes.len().min(256));
                bytes[at] ^= 1 << input.below(8);
            }
            251 => bytes.extend(input.word().to_le_bytes()),
            252 => bytes.truncate(input.below(bytes.len().min(256))),
            _ => {}
        }
        Made { bytes, fds }
    }

    fn fill(
        &mut self,
        input: &mut Input<'_>,
        object: u32,
        opcode: u16,
        desc: &'static MessageDesc,
        is_request: bool,
        bytes: &mut Vec<u8>,
    ) -> usize {
        let global = input.below(GLOBALS.len());
        let text =
            CString::new(input.bytes(MAX_COUNTED).iter().map(|b| b | 1).collect::<Vec<u8>>())
                .expect("no byte is 0");
        let array = input.bytes(MAX_COUNTED);
        let names_global = matches!(desc.name, "bind" | "global");
        let mut args = Vec::new();
        for kind in desc.signature {
            args.push(match kind {
                ArgumentType::Int => Arg::Int(input.number() as i32),
                ArgumentType::Uint if names_global => match args.len() {
                    0 => Arg::Uint(global as u32),
                    _ => Arg::Uint(1 + input.below(6) as u32),
                },
                ArgumentType::Uint => Arg::Uint(input.number()),
                ArgumentType::Fixed => Arg::Fixed(input.number() as i32),
                ArgumentType::Str(_) if names_global => Arg::Str(Some(GLOBALS[global])),
                ArgumentType::Str(_) if input.one_in(8) => Arg::Str(None),
                ArgumentType::Str(_) => Arg::Str(Some(&text)),
                ArgumentType::Object(_) => Arg::Object(self.argument(input, desc)),
                ArgumentType::NewId => Arg::NewId(self.fresh(input, is_request)),
                ArgumentType::Array => Arg::Array(array),
                ArgumentType::Fd => Arg::Fd,
            });
        }
        encode(object, opcode, &args, bytes);
        for arg in &args {
            match *arg {
                Arg::NewId(id) => {
                    let named = || tables::global(GLOBALS[global].to_str().ok()?);
                    let bound = || named().map(|global| global.interface);
                    if let Some(interface) = desc.child_interface.or_else(bound) {
                        self.0.insert(id, interface);
                    }
                }
                // wl_display.delete_id.
                Arg::Uint(id) if desc.name == "delete_id" && id > 1 => drop(self.0.remove(&id)),
                _ => {}
            }
        }
        desc.signature.iter().filter(|&&kind| kind == ArgumentType::Fd).count()
    }

    /// An object of the interface that the message wants, if there is one.
    fn argument(&self, input: &mut Input<'_>, desc: &MessageDesc) -> u32 {
        if input.one_in(16) {
            return input.number();
        }
        let wanted = |interface: &Interface| {
            desc.arg_interfaces.iter().any(|wanted| wanted.name == interface.name)
        };
        let fitting = self.0.iter().filter(|(_, interface)| wanted(interface)).map(|(&id, _)| id);
        let fitting: Vec<u32> = fitting.collect();
        if fitting.is_empty() { 0 } else { fitting[input.below(256) % fitting.len()] }
    }

    /// The next id that isn't in use, or seldom another.
    fn fresh(&self, input: &mut Input<'_>, is_request: bool) -> u32 {
        if input.one_in(24) {
            return input.number();
        }
        let first = if is_request { 2 } else { SERVER_IDS };
        (first..).find(|id| !self.0.contains_key(id)).unwrap_or(first)
    }
}
